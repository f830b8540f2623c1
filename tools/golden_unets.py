#!/usr/bin/env python3
"""Writes the goldens of UNets that SD 1 and 2 do not have: tests/golden/net_<config>.{txt,safetensors}.

    python tools/golden_unets.py [--config NAME] [--out tests/golden]

The configurations are those of tools/synth.py that have a UNet alone; the files are like make_golden.py's. Inputs:
`latents`, `context`, `timesteps`, and of the following what the UNet has: `pooled` and `ids` (SDXL's text_embeds and
time_ids), `labels` (class_labels), `time_cond` (timestep_cond).
"""
import argparse
import contextlib
import math
import os
import types

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from safetensors.numpy import save_file

import make_golden
import oracle
import synth
import wrong_twins

CONFIGS = [name for name, c in synth.CONFIGS.items() if "vae" not in c]
# Height, width, crop top, left, target height, width; the refiner has an aesthetic score in place of the last two.
IDS = {6: [[1024, 960, 16, 0, 768, 512], [512, 640, 0, 8, 256, 1024]], 5: [[1024, 960, 16, 0, 6], [512, 640, 0, 8, 2.5]]}
LABELS = [3, 7]


class Inputs:
    """specs: name -> gain, shape of what comes from a formula; more: name -> numbers; arguments: for the UNet."""

    def __init__(self, config):
        c, unit = synth.CONFIGS[config]["unet"], np.float32(math.sqrt(3))
        self.specs = {"latents": (unit, (2, c["in_channels"], 9, 14)),
                      "context": (unit, (2, 77, c["cross_attention_dim"]))}
        self.more, self.arguments = {"timesteps": torch.tensor(make_golden.TIMESTEPS)}, {}
        if "addition_embed_type" in c:
            ids = {60: 6, 52: 5}[c["projection_class_embeddings_input_dim"]]
            self.specs["pooled"] = unit, (2, c["projection_class_embeddings_input_dim"] - 8 * ids)
            self.more["ids"] = torch.tensor(IDS[ids], dtype=torch.float32)
        if "num_class_embeds" in c:
            self.more["labels"] = torch.tensor(LABELS, dtype=torch.float32)
        if "time_cond_proj_dim" in c:
            self.specs["time_cond"] = unit, (2, c["time_cond_proj_dim"])
        for name, (gain, shape) in self.specs.items():
            value = synth.fill("input." + name, math.prod(shape), gain, 0).reshape(shape)
            setattr(self, name, torch.from_numpy(value))
        for name, value in self.more.items():
            setattr(self, name, value)


def run(pipe, x, emit=None, **other):
    """other: inputs in place of x's."""
    of = lambda name: other.get(name, getattr(x, name, None))   # noqa: E731
    dtype, more = pipe.unet.dtype, {}
    if of("pooled") is not None:
        more["added_cond_kwargs"] = dict(text_embeds=of("pooled").to(dtype), time_ids=of("ids").to(dtype))
    if of("labels") is not None:
        more["class_labels"] = of("labels").long()
    if of("time_cond") is not None:
        more["timestep_cond"] = of("time_cond").to(dtype)
    return oracle.unet(pipe, of("latents"), x.timesteps, of("context"), emit, **more)


@contextlib.contextmanager
def concatenated_backwards(pipe):
    """The time ids' sinusoids before the pooled vector."""
    right = pipe.unet.add_embedding.forward

    def forward(v):
        return right(torch.cat((v[:, 12:], v[:, :12]), 1))
    with wrong_twins.changed((pipe.unet.add_embedding, "forward", forward)):
        yield


@contextlib.contextmanager
def without_last_block(pipe):
    """The deepest attention has one transformer block less."""
    deepest = max((m for m in pipe.unet.modules() if hasattr(m, "transformer_blocks")),
                  key=lambda m: len(m.transformer_blocks))
    last = deepest.transformer_blocks[-1]
    forward = types.MethodType(lambda self, h, *args, **kwargs: h, last)
    with wrong_twins.changed((last, "forward", forward)):
        yield


@contextlib.contextmanager
def self_attention(pipe):
    """attn1 looks at the first columns of its own tokens where it should look at the context."""
    def twin(block):
        width, right = block.attn1.to_k.in_features, block.attn1.forward

        def forward(h, encoder_hidden_states=None, **kwargs):
            own = torch.nn.functional.pad(h, (0, max(0, width - h.shape[-1])))[..., :width]
            return right(h, encoder_hidden_states=own, **kwargs)
        return block.attn1, "forward", forward
    blocks = [m for m in pipe.unet.modules() if isinstance(m, BasicTransformerBlock) and m.only_cross_attention]
    with wrong_twins.changed(*[twin(b) for b in blocks]):
        yield


def mistakes(pipe, x, right):
    """unet.NAME -> rel-L2 error."""
    wrong = {}

    def note(name, y):
        wrong["unet." + name] = oracle.rel_l2(y, right)
    for name, twin in wrong_twins.TWINS["unet"].items():
        if wrong_twins.applies(pipe, name):
            with oracle.float64(), twin(pipe):
                note(name, run(pipe, x))
    note("context_swapped", run(pipe, x, context=x.context.flip(0)))
    twins = {}
    if "ids" in x.more:
        note("ids_in_another_order", run(pipe, x, ids=x.ids.roll(2, 1)))
        note("no_pooled", run(pipe, x, pooled=torch.zeros_like(x.pooled)))
        twins["ids_before_pooled"] = concatenated_backwards
    if "labels" in x.more:
        note("next_label", run(pipe, x, labels=x.labels + 1))
        twins["self_attention"] = self_attention
    if "time_cond" in x.specs:
        note("no_time_cond", run(pipe, x, time_cond=torch.zeros_like(x.time_cond)))
    if pipe.unet.config.transformer_layers_per_block != 1:
        twins["one_block_less"] = without_last_block
    for name, twin in twins.items():
        with twin(pipe):
            note(name, run(pipe, x))
    return wrong


def load(config, dtype):
    unet = UNet2DConditionModel(**{k: v for k, v in synth.CONFIGS[config]["unet"].items() if not k.startswith("_")})
    unet.load_state_dict({k: torch.from_numpy(v) for k, v in synth.tensors(config, "unet")})
    return types.SimpleNamespace(unet=unet.to(dtype).eval().requires_grad_(False))


def results(pipe, x, checked=contextlib.nullcontext):
    out = {}
    with checked():
        run(pipe, x, oracle.once(out, "unet."))
    return out


def make(config, out):
    print(config)
    x, pipe32, pipe64 = Inputs(config), load(config, torch.float32), load(config, torch.float64)
    truth = results(pipe64, x)
    again = results(pipe64, x, make_golden.independent)
    worst = max((oracle.rel_l2(again[k], v), k) for k, v in truth.items())
    print("  a second computation in float64 differs by at most %.1e (%s)" % worst)
    assert worst[0] < 1e-12
    single = results(pipe32, x, oracle.exact_sinusoid)
    wrong = mistakes(pipe64, x, truth["unet.conv_out"])
    make_golden.check_mistakes(wrong, {"unet": oracle.rel_l2(single["unet.conv_out"], truth["unet.conv_out"])})
    truth.update(x.more)
    single.update(x.more)
    golden = make_golden.stored(truth, single)
    golden.update({"wrong." + k: np.array([v], np.float32) for k, v in wrong.items()})
    path = os.path.join(out, "net_" + config)
    with open(path + ".txt", "w", encoding="utf-8", newline="\n") as f:
        f.write("# made by tools/golden_unets.py, which explains it\n")
        make_golden.write_files(f, config)
        make_golden.write_parts(f, config)
        for name, (gain, shape) in x.specs.items():
            make_golden.write_input(f, name, gain, shape)
    save_file(dict(sorted(golden.items())), path + ".safetensors")
    os.chmod(path + ".safetensors", 0o644)
    print("  %d tensors, %d bytes" % (len(truth), os.path.getsize(path + ".safetensors")))


def main():
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", choices=CONFIGS, action="append")
    parser.add_argument("--out", default="tests/golden")
    a = parser.parse_args()
    for config in a.config or CONFIGS:
        make(config, a.out)


if __name__ == "__main__":
    main()

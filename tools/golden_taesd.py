#!/usr/bin/env python3
"""Writes the goldens of a TAESD: tests/golden/net_taesd-small.{txt,safetensors}.

    python tools/golden_taesd.py [--out tests/golden]

The files are like make_golden.py's: vae.* is one pass over the inputs `vae_latents` and `picture` through diffusers'
AutoencoderTiny (mean: its latents). run.KIND.* are whole runs of diffusers' pipelines with it in the place of their
VAE, of two models of tools/synth.py: sd1-small draws text to image, img2img and inpainting (draw, img2img, inpaint),
inpaint-small what its 9 channels are for (inpaint9). wrong.* is the rel-L2 error when a known mistake is made.
tests/test_taesd.c has the same runs.
"""
import argparse
import contextlib
import math
import os
import tempfile

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from diffusers.models.autoencoders.vae import DecoderTiny, EncoderTiny
from diffusers.models.unets.unet_2d_blocks import AutoencoderTinyBlock
from safetensors.numpy import save_file

import golden_edit
import golden_sampler
import make_golden
import oracle
import synth
import wrong_twins

CONFIG = "taesd-small"
KINDS = {"draw": "sd1-small", "img2img": "sd1-small", "inpaint": "sd1-small", "inpaint9": "inpaint-small"}
STRENGTH = 0.6
INPUTS = {"vae_latents": (np.float32(4), (2, 4, 3, 5)), "picture": (np.float32(1), (2, 3, 24, 40))}


def inputs(name):
    gain, shape = INPUTS[name]
    return torch.from_numpy(synth.fill("input." + name, math.prod(shape), gain, 0).reshape(shape))


def load(dtype):
    """The TAESD, and both models with it."""
    pipes = {}
    with tempfile.TemporaryDirectory() as directory:
        synth.write_model(CONFIG, os.path.join(directory, "taesd"))
        tiny = AutoencoderTiny.from_pretrained(os.path.join(directory, "taesd", "vae"), torch_dtype=dtype)
        tiny.eval().requires_grad_(False)
        for config in sorted(set(KINDS.values())):
            synth.write_model(config, os.path.join(directory, config))
            pipes[config] = oracle.load(os.path.join(directory, config), double=dtype == torch.float64)
            pipes[config].vae = tiny
    return tiny, pipes


class Recorder(oracle.Recorder):
    """Without what `./sd --trace` has no names for: sequences, the activations within a block (diffusers has one object
    for both), the sum's ReLU and shortcut, and the enlarged picture, which is never made."""

    def __init__(self, tiny, emit):
        self.handles = []
        for name, m in tiny.named_modules():
            within = any(name.startswith(b + ".") and not name.startswith(b + ".conv.")
                         for b, of in tiny.named_modules() if isinstance(of, AutoencoderTinyBlock))
            silent = isinstance(m, (torch.nn.Sequential, torch.nn.Upsample)) or name.endswith((".conv.1", ".conv.3"))
            if not (within or silent or name in ("", "encoder", "decoder")):
                self.handles.append(m.register_forward_hook(lambda m_, a, out, name=name: emit("vae." + name, out)))


def encode(tiny):
    return tiny.encode(inputs("picture").to(tiny.dtype)).latents


def decode(tiny, factor=1.0):
    return tiny.decode(inputs("vae_latents").to(tiny.dtype) * factor).sample


def halves(tiny):
    return {"vae.mean": encode(tiny), "vae.picture": decode(tiny)}


def run(pipes, kind, sink=None, draw=golden_sampler.float32_noise):
    """Returns the picture [1,3,H,W]."""
    pipe, sink = pipes[KINDS[kind]], sink or (lambda *_: None)
    generator = torch.Generator().manual_seed(golden_edit.SEED)
    if kind == "draw":
        keep = {}
        out = oracle.text_to_image(pipe, keep.__setitem__, make_golden.PROMPT, make_golden.NEGATIVE, 72, 88, steps=3,
                                   seed=20, sampler="ddim", modules=False)
        sink("latents.3", keep["latents.3"])
        sink("image", out)
        return out

    def end(p, i, t, given):
        if i + 1 == p.num_timesteps:
            sink("latents.%d" % (i + 1), given["latents"])
        return given

    def keep_latents(name, x):
        if name.startswith("latents."):
            sink(name, x)
    more = {} if kind == "img2img" else dict(mask_image=golden_edit.mask(), height=golden_edit.HEIGHT,
                                             width=golden_edit.WIDTH)
    saved = pipe.scheduler
    p = golden_edit.pipeline(oracle.with_sampler(pipe, "ddim"), kind)
    drawers = wrong_twins.changed(*[(m, "randn_tensor", draw) for m in golden_edit.DRAWERS])
    try:
        with torch.no_grad(), oracle.context_of(p), oracle.Watch(p, keep_latents, False).watching(), drawers:
            out = p(make_golden.PROMPT, negative_prompt=make_golden.NEGATIVE, image=golden_edit.picture(),
                    strength=STRENGTH, num_inference_steps=golden_edit.STEPS, guidance_scale=golden_edit.GUIDANCE,
                    generator=generator, output_type="pt", callback_on_step_end=end, **more).images
    finally:
        pipe.scheduler = saved
    sink("image", out)
    return out


def everything(tiny, pipes):
    out = {}
    with torch.no_grad(), Recorder(tiny, oracle.once(out)):
        out.update(halves(tiny))
    for kind in KINDS:
        run(pipes, kind, oracle.once(out, "run.%s." % kind))
    return out


# ------------------------------------------------------------------------------------------------ mistakes

def forward_of(cls, forward):
    return wrong_twins.changed((cls, "forward", forward))


def silu():
    """SiLU for ReLU wherever there is one."""
    return wrong_twins.changed((torch.nn.ReLU, "forward", lambda self, x: F.silu(x)))


def relu_before_the_sum():
    return forward_of(AutoencoderTinyBlock, lambda self, x: F.relu(self.conv(x)) + x)


def no_relu_after_the_sum():
    return forward_of(AutoencoderTinyBlock, lambda self, x: self.conv(x) + x)


@contextlib.contextmanager
def padded_after(tiny):
    """Convolutions with a stride padded right and bottom only, as those of the VAE."""
    def forward(self, x):
        if self.stride == (2, 2):
            return F.conv2d(F.pad(x, (0, 1, 0, 1)), self.weight, self.bias, 2)
        return self._conv_forward(x, self.weight, self.bias)
    with wrong_twins.changed((torch.nn.Conv2d, "forward", forward)):
        yield


class DrawsFirst:
    """Noise for a posterior is drawn, as with a VAE, before the run's."""
    calls = 0

    def __call__(self, shape, generator=None, device=None, dtype=None):
        self.calls += 1
        if self.calls == 1:
            golden_sampler.float32_noise(shape, generator, device, dtype)
        return golden_sampler.float32_noise(shape, generator, device, dtype)


def mistakes_of_halves(tiny, truth):
    wrong = {}

    def note(name, right, twin, what, *args):
        with torch.no_grad(), twin:
            wrong[name] = oracle.rel_l2(what(tiny, *args), truth[right])
    nothing = contextlib.nullcontext
    factor = 0.18215
    for half, right, what in (("encoder", "vae.mean", encode), ("decoder", "vae.picture", decode)):
        note(half + ".silu", right, silu(), what)
        note(half + ".relu_before_the_sum", right, relu_before_the_sum(), what)
        note(half + ".no_relu_after_the_sum", right, no_relu_after_the_sum(), what)
    note("encoder.range_of_the_vae", "vae.mean", forward_of(EncoderTiny, lambda self, x: self.layers(x)), encode)
    note("encoder.padded_after", "vae.mean", padded_after(tiny), encode)
    wrong["encoder.times_the_scaling_factor"] = oracle.rel_l2(truth["vae.mean"] * factor, truth["vae.mean"])
    note("decoder.over_the_scaling_factor", "vae.picture", nothing(), decode, 1 / factor)
    note("decoder.not_clamped", "vae.picture", forward_of(
        DecoderTiny, lambda self, x: self.layers(x).mul(2).sub(1)), decode)
    note("decoder.cut_at_3", "vae.picture", forward_of(
        DecoderTiny, lambda self, x: self.layers(x.clamp(-3, 3)).mul(2).sub(1)), decode)
    note("decoder.range_of_taesd", "vae.picture", forward_of(
        DecoderTiny, lambda self, x: self.layers(torch.tanh(x / 3) * 3)), decode)
    return wrong


def mistakes(tiny, pipes, truth):
    wrong = mistakes_of_halves(tiny, truth)
    for kind in ("img2img", "inpaint", "inpaint9"):
        wrong[kind + ".noise_for_a_posterior"] = oracle.rel_l2(run(pipes, kind, draw=DrawsFirst()),
                                                               truth["run.%s.image" % kind])
    return wrong


def main():
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="tests/golden")
    out = parser.parse_args().out
    tiny64, pipes64 = load(torch.float64)
    truth = everything(tiny64, pipes64)
    with make_golden.independent():
        again = everything(tiny64, pipes64)
    worst = max((oracle.rel_l2(again[k], v), k) for k, v in truth.items())
    print("a second computation in float64 differs by at most %.1e (%s)" % worst)
    assert worst[0] < 1e-11
    with oracle.exact_sinusoid():
        single = everything(*load(torch.float32))
    e32 = {half: oracle.rel_l2(single[name], truth[name]) for half, name in
           dict(encoder="vae.mean", decoder="vae.picture", **{k: "run.%s.image" % k for k in KINDS}).items()}
    wrong = mistakes(tiny64, pipes64, truth)
    make_golden.check_mistakes(wrong, e32)
    golden = make_golden.stored(truth, single)
    golden.update({"wrong." + k: np.array([v], np.float32) for k, v in wrong.items()})
    path = os.path.join(out, "net_" + CONFIG)
    with open(path + ".txt", "w", encoding="utf-8", newline="\n") as f:
        f.write("# made by tools/golden_taesd.py, which explains it\n")
        make_golden.write_files(f, CONFIG)
        make_golden.write_parts(f, CONFIG)
        for name, (gain, shape) in INPUTS.items():
            make_golden.write_input(f, name, gain, shape)
    save_file(dict(sorted(golden.items())), path + ".safetensors")
    os.chmod(path + ".safetensors", 0o644)
    print("%d tensors, %d bytes" % (len(truth), os.path.getsize(path + ".safetensors")))


if __name__ == "__main__":
    main()

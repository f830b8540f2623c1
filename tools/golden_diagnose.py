#!/usr/bin/env python3
"""Traces of diffusers with a mistake made in it, for tests/test_diagnose.c.

    python tools/golden_diagnose.py [ID ...]

Writes tests/golden/diagnose/ID.safetensors for each mistake of tools/wrong_twins.py that `sd wrong` has under that id,
and some under names that begin with "none", whose mistakes it has not. weights/tiny in float32 at 32x32 pixels. A file
has the few tensors around the one that the mistake changes first, and what the run began from.
"""
import contextlib
import os
import sys

import torch
from safetensors.torch import save_file

import oracle
import wrong_twins

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
OUT = os.path.join(ROOT, "tests/golden/diagnose")
BEFORE, BEHIND = 3, 3   # tensors around the first that differs
KEPT = ("tokens", "noise", "timestep.0", "latents.0")

# id of `sd wrong`: (table of wrong_twins, name there)
CASES = {
    "resnet-norm-eps-1e-6": ("unet", "resnet_norm_eps_1e-6"),
    "transformer-norm-eps-1e-5": ("unet", "transformer_norm_eps_1e-5"),
    "layer-norm-eps-1e-6": ("unet", "layer_norm_eps_1e-6"),
    "geglu-tanh": ("unet", "geglu_tanh"),
    "geglu-gate-first": ("unet", "geglu_gate_first"),
    "heads-as-columns": ("unet", "heads_as_columns"),
    "one-head": ("unet", "one_head"),
    "attention-scale-of-all-columns": ("unet", "attention_scale_of_all_columns"),
    "sinusoid-sin-first": ("unet", "sinusoid_sin_first"),
    "sinusoid-half-minus-1": ("unet", "sinusoid_half_minus_1"),
    "time-without-silu": ("unet", "time_without_silu"),
    "downsample-pads-after": ("unet", "downsample_pads_after"),
    "skip-first": ("unet", "skip_first"),
    "residual-is-normed": ("unet", "transformer_residual_is_normed"),
    "vae-norm-eps-1e-5": ("decoder", "norm_eps_1e-5"),
    "vae-attention-two-heads": ("decoder", "attention_two_heads"),
    "residual-left-out": ("decoder", "attention_without_residual"),
    "text-gelu": ("text", "gelu"),
    "text-norm-eps-1e-6": ("text", "layer_norm_eps_1e-6"),
    "not-causal": ("text", "not_causal"),
}


# Of tools/foreign_mistakes.py.
FOREIGN = ("pad-token-0", "convolution-wraps", "latents-not-divided")


def louder_query(pipe):
    """Queries of one attention are 3% too large."""
    a = pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn1
    return wrong_twins.changed((a.to_q, "weight", torch.nn.Parameter(a.to_q.weight * 1.03)))


def rolled_picture(pipe):
    """A resnet's input is moved by a pixel."""
    r = pipe.unet.up_blocks[1].resnets[0]
    right = r.conv2.forward
    return wrong_twins.changed((r.conv2, "forward", lambda x: right(torch.roll(x, 1, dims=2))))


def rounded(x, bits):
    """x with so many bits behind the point; to nearest, ties to even."""
    drop = 23 - bits
    u = x.contiguous().view(torch.int32).long() & 0xFFFFFFFF
    u = (u + (1 << (drop - 1)) - 1 + ((u >> drop) & 1)) >> drop << drop
    return torch.where(u >= 1 << 31, u - (1 << 32), u).int().view(torch.float32)


def rounded_products(bits):
    """What the VAE's linear layers and convolutions multiply is rounded."""
    def forward(m):
        right = type(m).forward

        def wrong(x, *args, **kwargs):
            with wrong_twins.changed((m, "weight", torch.nn.Parameter(rounded(m.weight, bits)))):
                return right(m, rounded(x, bits), *args, **kwargs)
        return wrong
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    return lambda pipe: wrong_twins.changed(*[(m, "forward", forward(m)) for m in wrong_twins.modules(pipe.vae, kinds)])


ROUNDED = {"products-in-tf32": rounded_products(10), "products-in-bfloat16": rounded_products(7)}
NONE = {"none-query": louder_query, "none-moved": rolled_picture, "clean": lambda pipe: contextlib.nullcontext()}


def trace(pipe, twin):
    store = {}
    with twin(pipe):
        oracle.text_to_image(pipe, lambda name, x: store.setdefault(name, x.detach().clone()), "a red apple",
                             width=32, height=32, steps=2, seed=1)
    return store


def around(store, right):
    """The tensors to keep: those around the first that differs, and what the run began from."""
    names = list(store)
    differ = [i for i, k in enumerate(names) if oracle.rel_l2(store[k], right[k]) > 0]
    first = differ[0] if differ else len(names) // 2
    keep = names[max(0, first - BEFORE):first + BEHIND]
    return {k: x.contiguous() if x.dtype == torch.int64 else x.float().contiguous()
            for k, x in store.items() if k in keep or k in KEPT}


def main():
    torch.set_num_threads(1)
    os.makedirs(OUT, exist_ok=True)
    pipe = oracle.load(os.path.join(ROOT, "weights/tiny"))
    right = trace(pipe, NONE["clean"])
    cases = {k: wrong_twins.TWINS[part][name] for k, (part, name) in CASES.items()}
    import foreign_mistakes   # which has the mistakes above, too
    cases.update({name: foreign_mistakes.MADE[name] for name in FOREIGN})
    for name, twin in {**cases, **ROUNDED, **NONE}.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        save_file(around(trace(pipe, twin), right), os.path.join(OUT, name + ".safetensors"))


if __name__ == "__main__":
    main()

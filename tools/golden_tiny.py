#!/usr/bin/env python3
"""Writes what tests/test_tiny.c compares with, as diffusers draws it in float64, and how far float32 is from that: one
picture of the model in the box (tests/golden/net_tiny.safetensors), one of its distilled sibling (net_tiny-lcm), and
what its small autoencoder decodes and encodes (net_tiny-taesd; inputs and mistakes are tools/golden_taesd.py's).
Layout: tools/make_golden.py.

    python tools/golden_tiny.py [--out tests/golden] [--only tiny-lcm]
"""
import argparse
import os

import diffusers
import numpy as np
import torch
from safetensors.numpy import save_file

import golden_few
import golden_taesd
import make_golden
import oracle
import wrong_twins

PROMPT, NEGATIVE, STEPS, GUIDANCE, SEED = "a red apple on a blue background", "", 25, 5.0, 7
LCM_STEPS, LCM_GUIDANCE = 4, 2.5                                     # weights/tiny-lcm's own


def draw_tiny(double):
    found = {}
    oracle.text_to_image(oracle.load("weights/tiny", double=double),
                         lambda name, x: found.__setitem__(name, x.detach().clone()), PROMPT, NEGATIVE, steps=STEPS,
                         guidance=GUIDANCE, seed=SEED, modules=False)
    return found, ("latents.1", f"latents.{STEPS + 1}", "image")     # PNDM evaluates once more than it has steps


def draw_lcm(double):
    found = {}
    pipe = diffusers.LatentConsistencyModelPipeline.from_pretrained(
        "weights/tiny-lcm", dtype=torch.float64 if double else torch.float32, local_files_only=True)
    for part in (pipe.text_encoder, pipe.unet, pipe.vae):
        part.eval().requires_grad_(False)
    more = dict(num_inference_steps=LCM_STEPS, guidance_scale=LCM_GUIDANCE)
    own = (golden_few, "PROMPT", PROMPT), (golden_few, "SEED", SEED), (golden_few, "SIDES", (128, 128))
    with wrong_twins.changed(*own):
        golden_few.run(pipe, more, oracle.once(found))
    return found, ("latents.1", f"latents.{LCM_STEPS}", "image")


def drawn(draw):
    (exact, names), (single, _) = draw(True), draw(False)
    return make_golden.stored(*({"run." + name: found[name] for name in names} for found in (exact, single)))


def taesd(double):
    tiny = diffusers.AutoencoderTiny.from_pretrained("weights/tiny-taesd", local_files_only=True,
                                                     torch_dtype=torch.float64 if double else torch.float32)
    return tiny.eval().requires_grad_(False)


def coded():
    exact, single = (golden_taesd.halves(taesd(double)) for double in (True, False))
    golden = make_golden.stored(exact, single)
    for name, error in golden_taesd.mistakes_of_halves(taesd(True), exact).items():
        golden["wrong." + name] = np.array([error], np.float32)
    return golden


GOLDENS = {"tiny": lambda: drawn(draw_tiny), "tiny-lcm": lambda: drawn(draw_lcm), "tiny-taesd": coded}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="tests/golden")
    parser.add_argument("--only", choices=GOLDENS, help="one of them")
    a = parser.parse_args()
    for model, make in GOLDENS.items():
        if a.only not in (None, model):
            continue
        golden = make()
        save_file(dict(sorted(golden.items())), os.path.join(a.out, f"net_{model}.safetensors"))
        for name in golden:
            if name.endswith(".e32"):
                print(f"{model} {name}: float32's own error {golden[name][0]:.1e}")


if __name__ == "__main__":
    main()

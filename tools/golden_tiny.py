#!/usr/bin/env python3
"""Writes tests/golden/net_tiny.safetensors, what tests/test_tiny.c compares with: one picture of the model in the box as
diffusers draws it in float64, and how far float32 is from that. Layout: tools/make_golden.py.

    python tools/golden_tiny.py [--model weights/tiny] [--out tests/golden/net_tiny.safetensors]
"""
import argparse

from safetensors.numpy import save_file

import make_golden
import oracle

PROMPT, NEGATIVE, STEPS, GUIDANCE, SEED = "a red apple on a blue background", "", 25, 5.0, 7
NAMES = ("latents.1", f"latents.{STEPS + 1}", "image")     # PNDM evaluates once more than it has steps


def draw(model, double):
    found = {}
    oracle.text_to_image(oracle.load(model, double=double), lambda name, x: found.__setitem__(name, x.detach().clone()),
                         PROMPT, NEGATIVE, steps=STEPS, guidance=GUIDANCE, seed=SEED, modules=False)
    return {"run." + name: found[name] for name in NAMES}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="weights/tiny")
    parser.add_argument("--out", default="tests/golden/net_tiny.safetensors")
    a = parser.parse_args()
    golden = make_golden.stored(draw(a.model, True), draw(a.model, False))
    save_file(dict(sorted(golden.items())), a.out)
    for name in NAMES:
        print(f"{name}: float32's own error {golden[f'run.{name}.e32'][0]:.1e}")


if __name__ == "__main__":
    main()

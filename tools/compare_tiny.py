#!/usr/bin/env python3
"""Pictures of the default model: this program against diffusers in float32, the same prompts, seeds and steps.

    python tools/compare_tiny.py [--model weights/tiny] [--program ./sd] [--steps 25]

Prints the largest difference of each picture in steps of 1/255. The exit code is 0 if none is larger than 1.
"""
import argparse
import os
import subprocess
import sys
import tempfile

import numpy as np

PROMPTS = [
    "a red apple on a white background", "a red apple on a blue background", "a banana on a blue background",
    "a cactus in the desert", "a cat on grass", "a rocket in the night sky", "a penguin on snow",
    "a yellow car on a street", "a green tree on a hill", "a pink flower on a black background",
    "a blue fish under water", "an orange pumpkin on a purple background", "a house at sunset",
    "a purple umbrella in the rain",
    "a turquoise butterfly on a yellow background", "a dog on a beach", "", "apple", "an elephant, a mouse!",
    "a picture of a very small green frog that sits on a large grey stone beside a lake in the mountains",
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="weights/tiny")
    parser.add_argument("--program", default="./sd")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--cfg-scale", type=float, default=7.5)
    parser.add_argument("--sampling-method", default=None, help="the model's own unless given")
    parser.add_argument("--seed", type=int, default=100, help="of the first picture; the next has the next")
    parser.add_argument("--count", type=int, default=len(PROMPTS))
    parser.add_argument("--out", help="keep the pictures here")
    a = parser.parse_args()
    import oracle
    from PIL import Image
    pipe, worst = oracle.load(a.model), 0
    with tempfile.TemporaryDirectory() as temporary:
        out = a.out or temporary
        os.makedirs(out, exist_ok=True)
        for i, prompt in enumerate(PROMPTS[:a.count]):
            seed, ours = a.seed + i, os.path.join(out, "%02d.png" % i)
            picture = oracle.text_to_image(pipe, None, prompt, "", steps=a.steps, guidance=a.cfg_scale, seed=seed,
                                           sampler=a.sampling_method, modules=False)
            theirs = oracle.to_uint8(picture)[0]
            more = ["--sampling-method", a.sampling_method] if a.sampling_method else []
            subprocess.run([a.program, "-m", a.model, "-p", prompt, "--seed", str(seed), "--steps", str(a.steps),
                            "--cfg-scale", str(a.cfg_scale), "-q", "-o", ours, *more],
                           check=True, stdout=subprocess.DEVNULL)
            if a.out:
                Image.fromarray(theirs).save(os.path.join(out, "%02d-diffusers.png" % i))
            d = np.abs(np.asarray(Image.open(ours).convert("RGB")).astype(int) - theirs)
            worst = max(worst, d.max())
            print("seed %d  largest difference %d/255, %5d of %d bytes differ  %s" % (
                seed, d.max(), (d > 0).sum(), d.size, prompt), flush=True)
    print("largest difference of all: %d/255" % worst)
    sys.exit(0 if worst <= 1 else 1)


if __name__ == "__main__":
    main()

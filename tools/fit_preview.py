#!/usr/bin/env python3
"""Fits the linear map from latents to colours by which large pictures are previewed, and writes it into a model.

    python tools/fit_preview.py [MODEL] [--program ./sd] [--steps 12] [--dry-run]

The program draws a few pictures; least squares takes their final latents to the means of the 8x8 pixels that the
decoder makes of each. The key "_latent_rgb" of MODEL/vae/config.json (diffusers passes over what begins with an
underscore) holds red, green and blue in [-1,1] of each of the four latents, and a constant.
"""
import argparse
import json
import os
import subprocess
import tempfile

import numpy as np
from safetensors.numpy import load_file

from compare_tiny import PROMPTS


def draw(a, prompt, seed, folder):
    """latents [h*w,4], colours [h*w,3]"""
    trace = os.path.join(folder, "trace.safetensors")
    subprocess.run([a.program, "-m", a.model, "-p", prompt, "-s", str(seed), "--steps", str(a.steps), "-q",
                    "--sampling-method", "ddim", "--trace", trace, "--trace-filter", "latents.%d,image" % a.steps,
                    "-o", os.path.join(folder, "picture.ppm")], check=True, stdout=subprocess.DEVNULL)
    tensors = load_file(trace)
    z, picture = tensors["latents.%d" % a.steps][0], 2 * tensors["image"][0] - 1
    _, h, w = z.shape
    side = picture.shape[1] // h
    means = picture.reshape(3, h, side, w, side).mean((2, 4))
    return z.reshape(len(z), -1).T, means.reshape(3, -1).T


def explained(x, y, table):
    """The share of the colours' variance."""
    return 1 - ((x @ table - y) ** 2).sum() / ((y - y.mean(0)) ** 2).sum()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", nargs="?", default=os.path.join("weights", "tiny"))
    parser.add_argument("--program", default="./sd")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--dry-run", action="store_true", help="write nothing")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        drawn = [draw(a, prompt, i, folder) for i, prompt in enumerate(PROMPTS)]
    held_out = len(drawn) // 4   # pictures for the figure alone
    x, y = [np.concatenate([d[k] for d in drawn[held_out:]]).astype(np.float64) for k in (0, 1)]
    u, v = [np.concatenate([d[k] for d in drawn[:held_out]]).astype(np.float64) for k in (0, 1)]
    x, u = [np.concatenate([m, np.ones((len(m), 1))], 1) for m in (x, u)]
    table = np.linalg.lstsq(x, y, rcond=None)[0].round(4)
    print(table)
    print("explains %.3f of the colours' variance, in pictures that it was not fitted to %.3f" % (
        explained(x, y, table), explained(u, v, table)))
    path = os.path.join(a.model, "vae", "config.json")
    with open(path, encoding="utf-8") as f:
        config = json.load(f)
    if config.get("_latent_rgb"):
        print("the map that is there: %.3f" % explained(u, v, np.array(config["_latent_rgb"])))
    if not a.dry_run:
        config["_latent_rgb"] = table.tolist()
        with open(path, "w", encoding="utf-8") as f:
            f.write(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    main()

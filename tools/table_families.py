#!/usr/bin/env python3
"""The README's table of what runs: measures a family, and writes the table.

    python tools/table_families.py --measure sd15 [--model DIR] [--only seconds|memory|proof=FILE.json]
    python tools/table_families.py --markdown README.md

What was measured is kept in docs/families.json, one entry for each family; the rest of a row is what `sd plan` says.

seconds: the passes of one step with guidance (of families without, one pass) at the family's own size, once the model
is in memory; memory: the program's peak while it draws one picture in one step, by --residency map and stream, from
files of F16; proof: what tools/test_families.py --json wrote. Weights are synthetic (tools/synth.py).
"""
import argparse
import contextlib
import json
import os
import re
import subprocess
import tempfile
import time

import numpy as np

import families
import synth
from bindings import sd_reference

synth.CONFIGS.update(families.FAMILIES)
KEPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "docs", "families.json")
BEGIN, END = "<!-- families -->", "<!-- end of families -->"
# Families whose networks are another's, but for the first convolution of the UNet, and their passes in a step.
AS = {"sd15-inpaint": ("sd15", 2), "instruct-pix2pix": ("sd15", 3), "lcm": ("lcm", 1), "sd21-inpaint": ("sd21-base", 2),
      "sd2-depth": ("sd21-base", 2), "sd-turbo": ("sd21-base", 1), "sdxl-inpaint": ("sdxl", 2),
      "sdxl-lightning": ("sdxl", 1), "sdxl-turbo": ("sdxl-turbo", 1)}


def plan(program, name):
    out = subprocess.run([program, "plan", "--config", name, "--json"], check=True, capture_output=True, text=True).stdout
    return json.loads(out)


def kept():
    with contextlib.suppress(FileNotFoundError), open(KEPT, encoding="ascii") as f:
        return json.load(f)
    return {}


def passes(family):
    return AS.get(family, (family, 2))[1]


# ------------------------------------------------------------------------------------------------ measuring

def seconds(a, model):
    """Of one evaluation with so many passes, after one of a smaller picture that reads the weights."""
    import test_families
    c, n = families.FAMILIES[a.measure]["unet"], passes(a.measure)
    a.family, a.config = a.measure, families.FAMILIES[a.measure]
    a.scale = 1 << (len(a.config["vae"]["block_out_channels"]) - 1)
    sd = sd_reference.Model(model, a.library, parts="unet")
    for side in (c["sample_size"] // 2, c["sample_size"]):
        a.size = a.scale * side
        x = test_families.unet_inputs(a, np.zeros((2, 77, c["cross_attention_dim"]), np.float32),
                                      np.zeros((2, 1280), np.float32))
        x = {k: np.ascontiguousarray(np.concatenate([v, v])[:n]) for k, v in x.items()}
        start = time.perf_counter()
        sd.unet(**x)
        took = time.perf_counter() - start
    return took


def more_options(a, folder):
    """What a family needs besides a prompt: a picture, a mask, a depth map."""
    from PIL import Image
    channels, size = families.FAMILIES[a.measure]["unet"]["in_channels"], plan(a.program, a.measure)["size"]
    side = size[0] // 4 if channels == 7 else size[0]
    path = os.path.join(folder, "picture.png")
    Image.fromarray((np.arange(3 * side * side) % 251).astype(np.uint8).reshape(side, side, 3)).save(path)
    options = {5: ["-i", path, "--depth", path, "--strength", "1"], 7: ["-i", path], 8: ["-i", path],
               9: ["-i", path, "--mask", path, "--strength", "1"]}.get(channels, [])
    return ["-i", path, "--strength", "1"] if a.measure == "sdxl-refiner" else options


def peak(a, model, residency):
    """GB of the program's peak."""
    with tempfile.TemporaryDirectory() as folder:
        command = [a.program, "-m", model, "-p", "a lighthouse", "-s", "1", "--steps", "1", "--residency", residency, "-q",
                   "--timings", "json", "-o", os.path.join(folder, "x.png"), *more_options(a, folder)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(out.strip().splitlines()[-1])["peak_rss_mb"] * 1024 * 1024 / 1e9


def measure(a):
    with tempfile.TemporaryDirectory() as folder:
        model = a.model or os.path.join(folder, a.measure)
        if not os.path.exists(model):
            synth.write_model(a.measure, model, "F16")
        entry = {}
        if a.only in (None, "seconds"):
            entry["seconds"] = round(seconds(a, model), 2)
        if a.only in (None, "memory"):
            entry["map"], entry["stream"] = [round(peak(a, model, r), 2) for r in ("map", "stream")]
    return entry


# ------------------------------------------------------------------------------------------------ the table

def table(a):
    figures = kept()
    lines = ["| family | `--config` | pixels | steps, guidance | UNet, parameters | memory, GB: `map`, `stream` | a step, s | "
             "share of the bound |", "|---" * 8 + "|"]
    for name in families.FAMILIES:
        p, own = plan(a.program, name), figures.get(name, {})
        like = {**figures.get(AS.get(name, (name,))[0], {}), **own}
        memory = "%.2f, %.2f" % (like["map"], like["stream"]) if "map" in like else ""
        second = like.get("seconds")
        if second and "seconds" not in own and passes(name) != 2:
            second *= passes(name) / 2
        lines.append("| %s | `%s` | %d | %d, %s | %.2f G | %s | %s | %s |" % (
            p["title"], name, p["size"][0], p["steps"], "%g" % p["guidance"] if p["guidance"] else "none",
            p["unet"]["parameters"] / 1e9, memory, "%.1f" % second if second else "",
            "%.2f" % own["share"] if "share" in own else ""))
    return lines


def write_markdown(a):
    with open(a.markdown, encoding="utf-8") as f:
        text = f.read()
    block = "\n".join([BEGIN, *table(a), END])
    with open(a.markdown, "w", encoding="utf-8") as f:
        f.write(re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: block, text, flags=re.S))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", choices=families.FAMILIES)
    parser.add_argument("--model", metavar="DIR", help="its files (default: made, and removed)")
    parser.add_argument("--only", choices=("seconds", "memory"))
    parser.add_argument("--proof", nargs="+", default=[], metavar="FILE", help="what tools/test_families.py --json wrote")
    parser.add_argument("--markdown", metavar="FILE")
    parser.add_argument("--program", default="./sd")
    parser.add_argument("--library", default="./libsd.so")
    a = parser.parse_args()
    entry = measure(a) if a.measure else None   # takes minutes, in which another may write its own
    figures = kept()
    if entry:
        figures.setdefault(a.measure, {}).update(entry)
    for path in a.proof:
        with open(path, encoding="ascii") as f:
            result = json.load(f)
        figures.setdefault(result["family"], {})["share"] = round(max(r[2] for r in result["rows"].values()), 2)
    if entry or a.proof:
        with open(KEPT, "w", encoding="ascii") as f:
            json.dump({name: figures[name] for name in families.FAMILIES if name in figures}, f, indent=1)
            f.write("\n")
    if a.markdown:
        write_markdown(a)


if __name__ == "__main__":
    main()

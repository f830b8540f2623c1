#!/usr/bin/env python3
"""Judges the floors that `sd --floor` makes: by those of foreign pairs, by clean pairs, by mistakes.

    python tools/judge_floors.py [--sd ./sd] [--model weights/tiny] [--out DIR] [--prompts 4] [--faults 24]

For each of several prompts and seeds the program makes floors by itself. Then

    - diffusers runs the same, in five ways that are right: by how many floors is the farthest away, tensor by tensor?
      With the run's own floors, and with those of the other prompts' runs.
    - `sd compare REF THEIRS --floor F` may not raise an alarm for any of them, nor for TF32 or NHWC dumps where these
      are float32.
    - mistakes of tools/seeded_faults.py, at random places: how many does it find, without floors and with them, and how
      often is the first tensor that it names the guilty module's?
"""
import argparse
import json
import random

import numpy as np
import torch

import oracle
import seeded_faults as faults

RIGHT = [k for k in faults.CLEAN if k not in ("dumped as NHWC .npy", "like TF32")]
RUNS = [("a red apple on a white background", 401), ("two cats on a table", 402), ("", 403),
        ("a blue car in the rain, a photo", 404), ("a green tree", 405), ("a purple flower in a vase", 406)]


def floors_of(lab, prompt, seed):
    path = lab.path("own-%d.floor" % seed)
    lab.draw(prompt, seed, "--floor", path)
    return path


def ratios(lab, ref, theirs, floors):
    """Each tensor's error in floors."""
    answer = json.loads(lab.run("compare", ref, theirs, "--json", "--floor", floors, codes=(0, 1)))["compared"][0]
    return [t["times"] for t in answer["tensors"] if "floor" in t], answer["first"]


def judge_pairs(lab, runs):
    """Ratios with the run's own floors and with another run's; alarms of each."""
    own, other, alarms = [], [], {"own": [], "other": []}
    floors = [floors_of(lab, *r) for r in runs]
    for i, (prompt, seed) in enumerate(runs):
        precise = lab.path("precise.safetensors")
        lab.draw(prompt, seed, "--precise", "--trace", precise)
        for kind in RIGHT:
            pipe = oracle.load(lab.model)
            with faults.CLEAN[kind](pipe):
                theirs = lab.theirs(pipe, prompt, seed, "right")
            for k, f in enumerate(floors):
                times, _ = ratios(lab, precise, theirs, f)
                (own if k == i else other).extend(times)
                _, first = ratios(lab, lab.ours(prompt, seed), theirs, f)
                alarms["own" if k == i else "other"].append(first)
    return own, other, alarms


def judge_faults(lab, floors, each, seed):
    """Of each mistake: guilty module, what is named first without floors, with its run's own, with another run's."""
    rng, found = random.Random(seed), []
    for table in (faults.TRAPS, faults.OTHERS):
        names, before = rng.sample(sorted(table), len(table)), len(found)
        for name in names:
            if len(found) - before == each:
                break
            prompt, number = faults.PROMPTS[len(found) % len(faults.PROMPTS)], 500 + len(found)
            try:
                guilty, wrong, size, _ = faults.spoil(lab, table[name][0], prompt, number,
                                                      random.Random("%d %s" % (seed, name)))
            except faults.NoPlace:
                continue
            theirs, ref = lab.path("case.safetensors"), lab.ours(prompt, number)
            oracle.write_trace(wrong, theirs)
            own = floors_of(lab, prompt, number)
            found.append((name, guilty, size, lab.compare(ref, theirs), ratios(lab, ref, theirs, own)[1],
                          ratios(lab, ref, theirs, floors)[1]))
            print("%-32s %-60s %.1e  %s" % (name, guilty, size, "  ".join(
                "right" if faults.is_at(x, guilty) else "missed" if x is None else faults.plain(x)
                for x in found[-1][3:])), flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sd", default="./sd")
    parser.add_argument("--model", default="weights/tiny")
    parser.add_argument("--out", default="build/floors")
    parser.add_argument("--prompts", type=int, default=4, choices=range(2, len(RUNS) + 1))
    parser.add_argument("--faults", type=int, default=12, help="so many of the list and so many others")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3)
    a = parser.parse_args()
    torch.set_num_threads(1)   # tensors are small
    lab = faults.Lab(a.sd, a.model, a.out, a.steps)
    own, other, alarms = judge_pairs(lab, RUNS[:a.prompts])
    for name, times in (("own", own), ("another run's", other)):
        print("diffusers' errors in floors, %s: " % name + ", ".join(
            "%d %%: %.2f" % (q, np.percentile(times, q)) for q in (5, 50, 95, 99, 100)), flush=True)
    for name, list_ in alarms.items():
        raised = [x for x in list_ if x]
        print("floors of %s run: %d of %d clean pairs raised an alarm %s" % (name, len(raised), len(list_), raised))
    found = judge_faults(lab, lab.path("own-%d.floor" % RUNS[0][1]), a.faults, a.seed)
    for i, name in enumerate(("without floors", "with the run's own", "with another run's")):
        print("%s: %d of %d mistakes found, %d at the guilty module" % (
            name, sum(f[3 + i] is not None for f in found), len(found),
            sum(faults.is_at(f[3 + i], f[1]) for f in found)))


if __name__ == "__main__":
    main()

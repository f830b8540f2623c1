#!/usr/bin/env python3
"""Draws docs/samplers.png: how the samplers' error falls with the number of UNet evaluations.

    make build/tests/test_solvers && python tools/plot_samplers.py [--program PROGRAM] [--out docs/samplers.png]

Samplers that draw noise solve the equation without it here. The numbers are this program's: test_solvers --errors prints them for the problem whose exact solution it knows
(normally distributed data, the best UNet for them, the probability flow ODE). Needs matplotlib.
"""
import argparse
import subprocess

import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt

GROUPS = (
    ("first order", ("ddim", "euler", "edm_euler", "tcd", "ddim_inverse", "ipndm 4", "gradient_estimation")),
    ("second order, single-step", ("heun", "dpm2", "dpm++2s_a", "dpm++sde", "dpm++2s 2", "pndm")),
    ("multi-step", ("dpm++2m 1", "dpm++2m 2", "dpm++2m 3", "deis 2", "deis 3", "sa_solver 2", "sa_solver 3",
                    "res_multistep", "res_multistep_a")),
    ("higher order", ("dpm_fast", "dpm++2s 3", "lms 3", "lms 4", "unipc 1", "unipc 2", "unipc 3")),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--program", default="build/tests/test_solvers")
    parser.add_argument("--out", default="docs/samplers.png")
    args = parser.parse_args()
    curves, stated = {}, {}
    printed = subprocess.run([args.program, "--errors"], capture_output=True, text=True, check=True).stdout
    for line in printed.splitlines():
        name, order, states, _, evaluations, error = line.split()
        key = name if order == "0" else name + " " + order
        curves.setdefault(key, []).append((int(evaluations), float(error)))
        stated[key] = int(states)
    figure, axes = plt.subplots(2, 2, figsize=(11, 8.5), sharex=True, sharey=True)
    for axis, (title, names) in zip(axes.flat, GROUPS):
        for name in names:
            points = sorted(curves[name])
            axis.loglog(*zip(*points), marker="o", markersize=3, label="%s: order %d" % (name, stated[name]))
        for order in (1, 2, 3, 4):
            axis.loglog((10, 640), (1, 64.0**-order), color="0.85", linewidth=1, zorder=0)
        axis.set_title(title)
        axis.set_ylim(1e-8, 3)
        axis.grid(True, which="major", color="0.93")
        axis.legend(fontsize=7, loc="lower left")
    for axis in axes[1]:
        axis.set_xlabel("UNet evaluations")
    for axis in axes[:, 0]:
        axis.set_ylabel("error at the end of the run")
    figure.suptitle("Error of the samplers on normally distributed data; grey: slopes 1 to 4; below 1e-7 float32 ends")
    figure.tight_layout()
    figure.savefig(args.out, dpi=80)
    print(args.out)


if __name__ == "__main__":
    main()

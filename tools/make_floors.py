#!/usr/bin/env python3
"""Makes share/floors/NAME.txt, what float32 itself does to each tensor of published models: `sd compare --floor NAME`.

    python tools/make_floors.py [tiny sd15 sd21 sdxl ...] [--size 256] [--sd ./sd] [--workdir build/floors]

tiny: weights/tiny, four prompts, ten steps each. The others: the published configuration (tools/families.py) with
weights from a formula (tools/synth.py) as F16; one guided step at --size, else at the published size, and four steps of
128x128 pixels, since later steps inherit the errors of those before. Of all steps and runs the largest counts; steps
become *, but for what is far less in the first step. `make floors` runs this; on two cores SDXL at 1024x1024 takes an
hour. A model or a measurement that is in the working directory is used again.
"""
import argparse
import os
import re
import subprocess

# (pixels, steps) of each run, starts, prompts
ASTRONAUT = ["a photograph of an astronaut riding a horse"]
TABLES = {"tiny": ([(128, 10)], 8, ["a red apple", "two cats on a table", "", "a blue car in the rain, a photo"]),
          "sd15": ([(512, 1), (128, 4)], 2, ASTRONAUT),
          "sd21": ([(768, 1), (128, 4)], 2, ASTRONAUT),
          "sdxl": ([(1024, 1), (128, 4)], 2, ASTRONAUT)}
NEGATIVE = "blurry, low quality"


def model_of(name, workdir):
    if name == "tiny":
        return os.path.join("weights", "tiny")
    path = os.path.join(workdir, name)
    if not os.path.exists(os.path.join(path, "complete")):
        import families
        import synth
        synth.CONFIGS.update(families.FAMILIES)
        synth.write_model(name, path, "F16")
        open(os.path.join(path, "complete"), "w").close()
    return path


def measure(sd, model, path, size, steps, starts, prompt, seed):
    if not os.path.exists(path):
        subprocess.run([sd, "-m", model, "-p", prompt, "-n", NEGATIVE, "-s", str(seed), "--steps", str(steps),
                        "--sampling-method", "euler", "--cfg-scale", "7.5", "-W", str(size), "-H", str(size), "-q",
                        "--floor", path, "--floor-starts", str(starts), "-o", path + ".png"], check=True)
    return [line.split() for line in open(path) if not line.startswith("#")]


def starred(name):
    return re.sub(r"^(step|latents)\.\d+", r"\1.*", name)


def table(name, a):
    runs, starts, prompts = TABLES[name]
    runs = [(a.size or runs[0][0], runs[0][1])] + runs[1:]
    model, worst = model_of(name, a.workdir), {}
    for size, steps in runs:
        for seed, prompt in enumerate(prompts, 1):
            path = os.path.join(a.workdir, "%s-%dx%d-%d.txt" % (name, size, steps, seed))
            for value, tensor in measure(a.sd, model, path, size, steps, starts, prompt, seed):
                for key in (tensor, starred(tensor)) if tensor.startswith("step.0.") else (starred(tensor),):
                    worst[key] = max(worst.get(key, 0), float(value))
    worst = {k: v for k, v in worst.items() if k == starred(k) or 1.5 * v < worst[starred(k)]}
    weights = "weights/tiny" if name == "tiny" else "the published configuration, weights of tools/synth.py as F16"
    version = subprocess.run([a.sd, "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]
    with open(os.path.join(a.out, name + ".txt"), "w", encoding="ascii") as f:
        f.write("# What float32 itself does to each tensor: relative L2 errors, by tools/make_floors.py and %s.\n"
                "# %s: %s; guided steps of euler: %s; prompts: %d, starts: %d.\n" % (
                    version, name, weights, ", ".join("%d of %dx%d" % (n, size, size) for size, n in runs),
                    len(prompts), starts))
        f.writelines("%.1e %s\n" % (v, k) for k, v in worst.items())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(TABLES))
    parser.add_argument("--sd", default="./sd")
    parser.add_argument("--size", type=int, help="pixels, if not the published ones")
    parser.add_argument("--workdir", default="build/floors")
    parser.add_argument("--out", default="share/floors")
    a = parser.parse_args()
    for directory in (a.workdir, a.out):
        os.makedirs(directory, exist_ok=True)
    for name in a.names or TABLES:
        if name not in TABLES:
            parser.error("%s is none of %s" % (name, ", ".join(TABLES)))
        table(name, a)


if __name__ == "__main__":
    main()

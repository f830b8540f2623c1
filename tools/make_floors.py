#!/usr/bin/env python3
"""Makes share/floors/NAME.txt, what float32 itself does to each tensor of published models: `sd compare --floor NAME`.

    python tools/make_floors.py [tiny sd15 sd21 sdxl ...] [--sd ./sd] [--workdir build/floors] [--out share/floors]

tiny: weights/tiny, four prompts, three steps each. The others: the published configuration (tools/families.py) with
weights from a formula (tools/synth.py) as F16, one guided step at the published size. Of all steps and runs the largest
counts; steps become *. `make floors` runs this; on two cores SDXL takes an hour and 15 GB of memory. A model or a
measurement that is in the working directory is used again.
"""
import argparse
import os
import re
import subprocess

# pixels, steps, starts, prompts
TABLES = {"tiny": (128, 3, 8, ["a red apple", "two cats on a table", "", "a blue car in the rain, a photo"]),
          "sd15": (512, 1, 2, ["a photograph of an astronaut riding a horse"]),
          "sd21": (768, 1, 2, ["a photograph of an astronaut riding a horse"]),
          "sdxl": (1024, 1, 2, ["a photograph of an astronaut riding a horse"])}
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
    size, steps, starts, prompts = TABLES[name]
    size = a.size or size
    model, worst = model_of(name, a.workdir), {}
    for seed, prompt in enumerate(prompts, 1):
        for value, tensor in measure(a.sd, model, os.path.join(a.workdir, "%s-%d-%d.txt" % (name, size, seed)), size, steps,
                                     starts, prompt, seed):
            worst[starred(tensor)] = max(worst.get(starred(tensor), 0), float(value))
    weights = "weights/tiny" if name == "tiny" else "the published configuration, weights of tools/synth.py as F16"
    version = subprocess.run([a.sd, "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]
    with open(os.path.join(a.out, name + ".txt"), "w", encoding="ascii") as f:
        f.write("# What float32 itself does to each tensor: relative L2 errors, by tools/make_floors.py and %s.\n"
                "# %s, %s: %dx%d, guided steps: %d, prompts: %d, starts: %d; euler.\n" % (
                    version, name, weights, size, size, steps, len(prompts), starts))
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

#!/usr/bin/env python3
"""A model of full size against diffusers in float32 and in float64, tensor by tensor. `make test-full` runs it.

    python tools/test_full.py [--config sd15|sd21|sd1-small|...] [--size 512] [--steps 4] [--program ./sd]
    python tools/test_full.py --task img2img|inpaint --strength 0.2 0.5 0.8 1 --size 256 --steps 5
    python tools/test_full.py --config sd15-inpaint --task inpaint9 --strength 0.5 1 --size 256 --steps 5

Writes a model with synthetic weights (tools/synth.py) to a working directory, draws one picture with guidance in
float64, in float32 and with the program, and prints for each traced tensor: our rel-L2 error against float64,
torch-float32's, their ratio, and whether ours is within max(3 * torch-float32's, 2e-6); then the pictures' largest
difference in steps of 1/255. The exit code is 0 if all is well. SD 1.5 at 512x512 with 4 steps takes about 30 GB on
disk, 14 GB of memory, and most of an hour on two cores.

Image to image and inpainting begin from a drawn picture and mask, once for each strength, against diffusers' pipelines
of those names.

With --speed also times one guided step of diffusers (contiguous and channels_last) and of the program, in turn.
"""
import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

import synth

FACTOR, FLOOR = 3, 2e-6
PROMPT, NEGATIVE = "a photograph of an astronaut riding a horse", "blurry, low quality"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", choices=synth.CONFIGS, default="sd15")
    parser.add_argument("--size", type=int, default=512, help="pixels, width and height")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--sampling-method", default="ddim")
    parser.add_argument("--cfg-scale", type=float, default=7.5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--task", choices=("txt2img", "img2img", "inpaint", "inpaint9"), default="txt2img")
    parser.add_argument("--strength", type=float, nargs="+", default=[1.0], help="for tasks that begin from a picture")
    parser.add_argument("--program", default="./sd")
    parser.add_argument("--option", action="append", default=[], help="one more for the program: --option=--precise")
    parser.add_argument("--workdir", help="where the model and the traces go; a model that is there is used again")
    parser.add_argument("--keep", action="store_true", help="leave the working directory's files")
    parser.add_argument("--torch-only", action="store_true", help="only the two runs of diffusers")
    parser.add_argument("--no-truth", action="store_true", help="use diffusers' runs that are in the working directory")
    parser.add_argument("--brief", action="store_true", help="not the whole table, only the worst of it")
    parser.add_argument("--speed", action="store_true", help="time one guided step as well")
    parser.add_argument("--only-speed", action="store_true")
    parser.add_argument("--rounds", type=int, default=3, help="of timing")
    a = parser.parse_args()
    if a.task != "txt2img" and (a.task == "inpaint9") != (synth.CONFIGS[a.config]["unet"]["in_channels"] == 9):
        parser.error("inpaint9 and a configuration with 9 channels belong together")
    if min(int(a.steps * s) for s in a.strength) < 1:
        parser.error("a strength must leave one step at least")
    return a


# ------------------------------------------------------------------------------------------------ traces on disk

class Writer:
    """Tensors one after the other as float32 (tokens: int64) in one file; where each is in another."""

    def __init__(self, path):
        self.path, self.file, self.index, self.at = path, open(path, "wb"), {}, 0

    def __call__(self, name, x):
        x = x.detach().contiguous().numpy()
        x = x if x.dtype == np.int64 else x.astype(np.float32)
        assert name not in self.index, name
        self.index[name] = [self.at, list(x.shape), x.dtype.str]
        self.file.write(x.tobytes() if x.size < 1 << 20 else memoryview(x).cast("B"))
        self.at += x.nbytes

    def close(self):
        self.file.close()
        with open(self.path + ".json", "w", encoding="ascii") as f:
            json.dump(self.index, f)


class Reader:
    def __init__(self, path):
        with open(path + ".json", encoding="ascii") as f:
            self.index = json.load(f)
        self.data = np.memmap(path, np.uint8, "r")

    def __call__(self, name):
        at, shape, dtype = self.index[name]
        n = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        return self.data[at:at + n].view(dtype).reshape(shape)


def rel_l2(x, truth):
    """In pieces, for the largest tensors have 67 million numbers."""
    x, truth, difference, norm = x.reshape(-1), truth.reshape(-1), 0.0, 0.0
    for i in range(0, x.size, 1 << 22):
        t = truth[i:i + (1 << 22)].astype(np.float64)
        d = x[i:i + (1 << 22)].astype(np.float64) - t
        difference += float(d @ d)
        norm += float(t @ t)
    return (difference / norm) ** 0.5 if norm else difference ** 0.5


# ------------------------------------------------------------------------------------------------ the runs

def model_directory(a):
    return os.path.join(a.workdir, "model")


def truth_path(a):
    return os.path.join(a.workdir, "truth.bin")


def init_path(a):
    return os.path.join(a.workdir, "init.png")


def mask_path(a):
    return os.path.join(a.workdir, "mask.png")


def draw_inputs(a):
    """A picture with slopes and edges in it, and a disc, white within, with a rim of 128 (repainted) and of 127."""
    from PIL import Image
    y, x, k = np.mgrid[0:a.size, 0:a.size, 0:3]
    Image.fromarray(((x + 2 * y + 70 * k + x * y // 64) % 256).astype(np.uint8)).save(init_path(a))
    d = ((x - 0.55 * a.size) ** 2 + (y - 0.45 * a.size) ** 2)[..., 0] ** 0.5 / a.size
    Image.fromarray(np.select([d < 0.2, d < 0.25, d < 0.3], [255, 128, 127], 0).astype(np.uint8)).save(mask_path(a))


def edit_picture(pipe, a, sink):
    """StableDiffusionImg2ImgPipeline or StableDiffusionInpaintPipeline, as oracle.text_to_image runs its own."""
    import golden_edit
    import golden_sampler
    import oracle
    import torch
    import wrong_twins
    from PIL import Image
    p = golden_edit.pipeline(oracle.with_sampler(pipe, a.sampling_method), a.task)
    masking = []   # not empty while the kept part is encoded, which for 4 channels nobody uses

    def emit(name, x):
        if not masking:
            sink(name, x)
        elif a.task == "inpaint9" and name.startswith("vae."):
            sink("masked_image." + name, x)

    def noise(*args, **kwargs):   # the posterior's is drawn by the autoencoder's module
        x = golden_sampler.float32_noise(*args, **kwargs)
        emit("noise", x)
        return x

    def encoded(retrieve):
        def wrapped(*args, **kwargs):
            z = retrieve(*args, **kwargs)
            emit("image_latents", z * p.vae.config.scaling_factor)
            return z
        return wrapped

    def end(p_, i, t, given):
        if i + 1 == p_.num_timesteps:
            emit("latents.%d" % (i + 1), given["latents"])
        return given
    changes = [(golden_edit.vae_module, "randn_tensor", golden_sampler.float32_noise)]
    for module in golden_edit.DRAWERS[1:]:
        changes += [(module, "randn_tensor", noise), (module, "retrieve_latents", encoded(module.retrieve_latents))]
    more = dict(image=Image.open(init_path(a)).convert("RGB"), strength=a.now)
    if a.task != "img2img":
        more.update(mask_image=Image.open(mask_path(a)), height=a.size, width=a.size)
        prepare = p.prepare_mask_latents

        def mask_latents(*args, **kwargs):
            masking.append(True)
            mask, kept = prepare(*args, **kwargs)
            masking.pop()
            emit("mask", mask[:1])
            if a.task == "inpaint9":
                emit("masked_image_latents", kept[:1])
            return mask, kept
        changes.append((p, "prepare_mask_latents", mask_latents))
    with torch.no_grad(), oracle.context_of(p), oracle.Watch(p, emit, True).watching(), wrong_twins.changed(*changes):
        picture = p(PROMPT, negative_prompt=NEGATIVE, num_inference_steps=a.steps, guidance_scale=a.cfg_scale,
                    generator=torch.Generator().manual_seed(a.seed), output_type="pt", callback_on_step_end=end,
                    **more).images
    emit("image", picture)
    return picture


def diffusers_run(a, double):
    """In a process of its own, which gives its memory back."""
    import oracle
    start = time.time()
    pipe = oracle.load(model_directory(a), double)
    if double:
        sink = Writer(truth_path(a))
    else:
        truth, errors = Reader(truth_path(a)), {}

        def sink(name, x):
            errors[name] = rel_l2(x.detach().contiguous().numpy(), truth(name))
    if a.task == "txt2img":
        picture = oracle.text_to_image(pipe, sink, PROMPT, NEGATIVE, a.size, a.size, a.steps, a.cfg_scale, a.seed,
                                       sampler=a.sampling_method)
    else:
        picture = edit_picture(pipe, a, sink)
    name = os.path.join(a.workdir, "float64" if double else "float32")
    np.save(name + ".npy", oracle.to_uint8(picture)[0])
    if double:
        sink.close()
    else:
        with open(name + ".json", "w", encoding="ascii") as f:
            json.dump(errors, f)
    print("diffusers in %s: %.0f s" % ("float64" if double else "float32", time.time() - start), flush=True)


def in_own_process(function, *args):
    p = multiprocessing.get_context("spawn").Process(target=function, args=args)
    p.start()
    p.join()
    if p.exitcode:
        sys.exit("a run of diffusers failed")


def program_command(a, *more):
    return [a.program, "-m", model_directory(a), "-p", PROMPT, "-n", NEGATIVE, "-W", str(a.size), "-H", str(a.size),
            "--cfg-scale", str(a.cfg_scale), "--seed", str(a.seed), "--sampling-method", a.sampling_method, *a.option,
            *more]


def program_run(a):
    start = time.time()
    trace, picture = [os.path.join(a.workdir, "ours" + ending) for ending in (".safetensors", ".png")]
    edit = [] if a.task == "txt2img" else ["-i", init_path(a), "--strength", str(a.now), "--paste-back", "false"]
    if a.task.startswith("inpaint"):
        edit += ["--mask", mask_path(a)]
    command = program_command(a, *edit, "--steps", str(a.steps), "--trace", trace, "-o", picture, "-q")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    print("%s: %.0f s" % (a.program, time.time() - start), flush=True)


# ------------------------------------------------------------------------------------------------ the table

def compare(a):
    from PIL import Image
    from safetensors import safe_open
    truth = Reader(truth_path(a))
    with open(os.path.join(a.workdir, "float32.json"), encoding="ascii") as f:
        e32 = json.load(f)
    rows, failures = [], []
    with safe_open(os.path.join(a.workdir, "ours.safetensors"), "np") as ours:
        names = set(ours.keys())
        failures += ["%s is not traced by the program" % n for n in truth.index if n not in names]
        failures += ["%s is traced by the program only" % n for n in sorted(names) if n not in truth.index]
        for name in truth.index:
            if name not in names:
                continue
            x, t = ours.get_tensor(name), truth(name)
            if x.shape != t.shape:
                failures.append("%s is %s, not %s" % (name, list(x.shape), list(t.shape)))
            elif t.dtype == np.int64:
                if not np.array_equal(x, t):
                    failures.append("%s differ" % name)
            else:
                error, bound = rel_l2(x, t), max(FACTOR * e32[name], FLOOR)
                rows.append((name, error, e32[name], error / bound))
                if not error <= bound:
                    failures.append("%s: error %.2e, bound %.2e" % (name, error, bound))
    print_table(a, rows)
    ours = np.asarray(Image.open(os.path.join(a.workdir, "ours.png")).convert("RGB")).astype(int)
    for name in ("float64", "float32"):
        d = np.abs(ours - np.load(os.path.join(a.workdir, name + ".npy")).astype(int))
        print("picture, against %s: largest difference %d/255, %d of %d bytes differ" % (
            name, d.max(), (d > 0).sum(), d.size))
        if d.max() > 1:
            failures.append("the picture differs by %d/255 from that in %s" % (d.max(), name))
    name, error, single, _ = [r for r in rows if r[0].startswith("latents.")][-1]
    print("final %s: error %.2e, that of torch's float32 %.2e" % (name, error, single))
    print("%d tensors compared, %d failures" % (len(rows), len(failures)))
    for f in failures[:50]:
        print("FAILED " + f)
    return not failures


def group(name):
    """What the summary lists: the part of the model and the step."""
    parts = name.split(".")
    return ".".join(parts[:3]) if parts[0] == "step" else parts[0]


def print_table(a, rows):
    head = "%-88s %9s %9s %8s" % ("tensor", "ours", "float32", "/float32")

    def show(r):
        name, error, e32, of_bound = r
        print("%-88s %9.2e %9.2e %8.2f %6s" % (
            name, error, e32, error / e32 if e32 else 0, "ok" if of_bound <= 1 else "FAILED"))
    print(head)
    if not a.brief:
        for r in rows:
            show(r)
        print("\nthe worst, by share of the bound\n" + head)
    for r in sorted(rows, key=lambda r: -r[3])[:20]:
        show(r)
    print("\n%-24s %8s %12s %14s" % ("part", "tensors", "worst/bound", "median/float32"))
    groups = {}
    for r in rows:
        groups.setdefault(group(r[0]), []).append(r)
    for name, rs in groups.items():
        ratios = [r[1] / r[2] for r in rs if r[2]]
        print("%-24s %8d %12.2f %14.2f" % (
            name, len(rs), max(r[3] for r in rs), statistics.median(ratios) if ratios else 0))
    print()


# ------------------------------------------------------------------------------------------------ speed

def program_step(a):
    """Seconds of the second step; the first one warms up."""
    command = program_command(a, "--steps", "2", "--timings", "json", "-q", "-o", os.path.join(a.workdir, "speed.png"))
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(out.strip().split("\n")[-1])["steps"][1]


def speed(a):
    import oracle
    import torch
    from diffusers import UNet2DConditionModel
    unet = UNet2DConditionModel.from_pretrained(os.path.join(model_directory(a), "unet")).eval().requires_grad_(False)
    h = a.size // 8
    x, context = torch.randn(2, 4, h, h), torch.randn(2, 77, unet.config.cross_attention_dim)
    steps = {"diffusers": [], "diffusers, channels_last": [], "this program": []}

    def diffusers_step(layout):
        unet.to(memory_format=layout)
        y = x.contiguous(memory_format=layout)
        with torch.no_grad():
            unet(y, 501, context)
            start = time.time()
            unet(y, 501, context)
        return time.time() - start
    for i in range(a.rounds):
        steps["diffusers"].append(diffusers_step(torch.contiguous_format))
        steps["diffusers, channels_last"].append(diffusers_step(torch.channels_last))
        if not a.torch_only:
            steps["this program"].append(program_step(a))
    print("one guided step of %s at %dx%d, %d threads, torch uses %s" % (
        a.config, a.size, a.size, torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()))
    if not a.torch_only:
        print(subprocess.run([a.program, "--version"], capture_output=True, text=True).stdout.strip())
    best = min(statistics.median(v) for k, v in steps.items() if k.startswith("diffusers"))
    for name, seconds in steps.items():
        if seconds:
            median = statistics.median(seconds)
            print("%-26s median %7.2f s  (%s)  %.2f x the best of diffusers" % (
                name, median, " ".join("%.2f" % s for s in seconds), median / best))


def one_comparison(a):
    print("%s, %s%s" % (a.config, a.task, "" if a.task == "txt2img" else ", strength %g" % a.now), flush=True)
    if not a.no_truth:
        in_own_process(diffusers_run, a, True)
        in_own_process(diffusers_run, a, False)
    if a.torch_only:
        return True
    program_run(a)
    return compare(a)


def main():
    a = arguments()
    made = a.workdir is None
    a.workdir = a.workdir or tempfile.mkdtemp(prefix="sd-test-full-")
    os.makedirs(a.workdir, exist_ok=True)
    good = True
    try:
        done = os.path.join(a.workdir, "model", "complete")
        if not os.path.exists(done):
            start = time.time()
            synth.write_model(a.config, model_directory(a))
            open(done, "w").close()
            print("%s with synthetic weights: %.0f s" % (a.config, time.time() - start), flush=True)
        if not a.only_speed:
            draw_inputs(a)
            for a.now in a.strength if a.task != "txt2img" else [1.0]:
                good = one_comparison(a) and good
        if a.speed or a.only_speed:
            in_own_process(speed, a)
    finally:
        if not a.keep:
            for name in ("truth.bin", "truth.bin.json", "ours.safetensors", "ours.png", "speed.png", "float32.json",
                         "float32.npy", "float64.npy", "init.png", "mask.png"):
                if os.path.exists(os.path.join(a.workdir, name)):
                    os.remove(os.path.join(a.workdir, name))
            if made:
                shutil.rmtree(a.workdir, ignore_errors=True)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()

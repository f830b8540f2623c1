#!/usr/bin/env python3
"""Writes the reference numbers of tests/test_rng.c, test_scheduler.c and test_sampler.c from torch and diffusers.

    python tools/golden_sampler.py [--out tests/golden]

rng.txt             torch.randn on the CPU: whole short draws, samples and sums of long ones.
scheduler.txt       what diffusers makes of scheduler_config.json files, for their own class and for each of the others.
sampler_tables.txt  timesteps, sigmas, counts and init_noise_sigma of diffusers' schedulers; checksums of their
                    alphas_cumprod.
sampler_runs.txt    the latents after every step of small runs, in float64, with torch-float32's own error.

Only lines beginning with a word are data; # begins a comment. Floats whose bits matter are hexadecimal words.

How a float64 run is made: the scheduler is diffusers' own, and its float32 table alphas_cumprod keeps its VALUES, cast
to double; so does final_alpha_cumprod. The arithmetic of step() and scale_model_input() then runs in double because
every operand is double. Two things would fall back to float32 and are changed for the run (see Float64):
  - the Euler classes compute their sigmas in float32: they are recomputed in double, with the same np.interp at the
    same float32 timesteps; and their step() casts the sample to torch.float32: in these modules, torch.float32 means
    float64;
  - noise is drawn as float32 (the dtype of the draw changes the stream) and cast to double.
The timesteps stay the float32 or integer values that the classes make. Latents are not rounded between the steps. The
float32 run is diffusers unchanged; e32 is its largest difference from the float64 run at that step.
"""
import argparse
import json
import math
import os
import struct
import tempfile

import numpy as np
import torch
from diffusers import (DDIMScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler, PNDMScheduler,
                       StableDiffusionPipeline)
from diffusers.schedulers import scheduling_ddim, scheduling_euler_ancestral_discrete, scheduling_euler_discrete

CLASSES = {"ddim": DDIMScheduler, "pndm": PNDMScheduler, "euler": EulerDiscreteScheduler,
           "euler_a": EulerAncestralDiscreteScheduler}
SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


def bits(x):
    return "%08x" % struct.unpack("<I", struct.pack("<f", float(x)))[0]


def fnv1a(values):
    """64-bit FNV-1a over the little-endian bytes of float32 values."""
    h = 0xCBF29CE484222325
    for byte in np.asarray(values, dtype="<f4").tobytes():
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return "%016x" % h


def keyword_arguments(method, spacing="leading", offset=1, alpha_one=0, clip=0, skip_prk=1, zero_snr=0,
                      prediction="epsilon"):
    kw = dict(SD, timestep_spacing=spacing, steps_offset=offset, prediction_type=prediction)
    if method in ("ddim", "pndm"):
        kw["set_alpha_to_one"] = bool(alpha_one)
    if method == "ddim":
        kw["clip_sample"] = bool(clip)
    if method == "pndm":
        kw["skip_prk_steps"] = bool(skip_prk)
    else:
        kw["rescale_betas_zero_snr"] = bool(zero_snr)
    return kw


# --------------------------------------------------------------------------------------------------- random numbers

def write_rng(f):
    f.write("# draw SEED N: the N numbers of one torch.randn(N) with a fresh generator, as float32 bits\n")
    seeds = [0, 1, 42, 2**32 - 1, 2**32, 2**32 + 42, 2**63 + 7, 2**64 - 1]
    for seed in seeds:
        for n in (1, 2, 15, 16, 17, 20) if seed in (0, 42) else (3, 18):
            x = torch.randn(n, generator=torch.Generator().manual_seed(seed))
            f.write("draw %d %d %s\n" % (seed, n, " ".join(bits(v) for v in x)))
    f.write("# mixed SEED K N1..NK: consecutive draws from one generator; the cached normal survives the long ones\n")
    for seed, sizes in ((5, (3, 16, 1, 17, 2, 31)), (6, (1, 1, 32, 15, 16, 4)), (7, (20, 20, 5, 48, 5))):
        g = torch.Generator().manual_seed(seed)
        x = torch.cat([torch.randn(n, generator=g) for n in sizes])
        f.write("mixed %d %d %s %s\n" % (seed, len(sizes), " ".join(map(str, sizes)), " ".join(bits(v) for v in x)))
    f.write("# long SEED N HASH: fnv1a of the bits; then the first and last 4\n")
    # the last one has a uniform of exactly 0 in its block 123, whose normals are 0 and not -0
    for seed, n in ((42, 4 * 64 * 64), (0, 2 * 4 * 64 * 64), (123456789, 1000003), (2**32 + 1, 65537), (102011, 2048)):
        x = torch.randn(n, generator=torch.Generator().manual_seed(seed)).numpy()
        ends = " ".join(bits(v) for v in np.concatenate([x[:4], x[-4:]]))
        f.write("long %d %d %s %s\n" % (seed, n, fnv1a(x), ends))


# ---------------------------------------------------------------------------------------------- scheduler_config.json

PUBLISHED = dict(SD, num_train_timesteps=1000, trained_betas=None, set_alpha_to_one=False, steps_offset=1,
                 clip_sample=False, skip_prk_steps=True, _diffusers_version="0.6.0")
CONFIGS = [
    {"_class_name": "DDIMScheduler"}, {"_class_name": "PNDMScheduler"}, {"_class_name": "EulerDiscreteScheduler"},
    {"_class_name": "EulerAncestralDiscreteScheduler"},
    dict(PUBLISHED, _class_name="PNDMScheduler"),                                        # SD 1.5
    dict(PUBLISHED, _class_name="DDIMScheduler"),                                        # SD 1.5 inpainting
    dict(PUBLISHED, _class_name="DDIMScheduler", prediction_type="v_prediction"),        # SD 2.1
    dict(PUBLISHED, _class_name="EulerDiscreteScheduler", timestep_spacing="leading", interpolation_type="linear",
         use_karras_sigmas=False, sample_max_value=1.0, prediction_type="epsilon"),      # SDXL
    dict(PUBLISHED, _class_name="EulerAncestralDiscreteScheduler", prediction_type="epsilon", lower_order_final=True,
         algorithm_type="dpmsolver++", solver_order=2, thresholding=False),              # instruct-pix2pix
    dict(_class_name="DDIMScheduler", clip_sample=None, set_alpha_to_one=True, clip_sample_range=2.5,
         rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="sample"),
    dict(_class_name="PNDMScheduler", beta_schedule="squaredcos_cap_v2", num_train_timesteps=100, steps_offset=0,
         rescale_betas_zero_snr=True, clip_sample=True),
    dict(_class_name="LMSDiscreteScheduler", beta_start=0.001, timestep_spacing="linspace", steps_offset=2),
]


def settings(s, method):
    """The fields of sd_sched_config in its order; what a class does not have is 0."""
    c = s.config
    known = CLASSES[method]._get_init_keys(CLASSES[method])

    def flag(name):
        return int(bool(c[name])) if name in known else 0

    return "%s %s %s %.17g %.17g %d %d %d %d %d %d %.17g" % (
        c.prediction_type, c.timestep_spacing, c.beta_schedule, c.beta_start, c.beta_end, c.num_train_timesteps,
        c.steps_offset, flag("set_alpha_to_one"), flag("clip_sample"), flag("skip_prk_steps"),
        flag("rescale_betas_zero_snr"), c.clip_sample_range if method == "ddim" else 1)


def write_scheduler(f):
    f.write("# config JSON: the file\n"
            "# as METHOD PREDICTION SPACING BETAS START END TRAIN OFFSET ALPHA_ONE CLIP SKIP_PRK ZERO_SNR CLIP_RANGE\n"
            "#   METHOD own: the class of the file; others: Other.from_config(own.config)\n"
            "# pipeline OFFSET CLIP: of the file's own class after StableDiffusionPipeline took it\n")
    for config in CONFIGS:
        f.write("config %s\n" % json.dumps(config))
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "scheduler_config.json"), "w", encoding="ascii") as file:
                json.dump(config, file)
            own = [m for m, c in CLASSES.items() if c.__name__ == config["_class_name"]]
            old = CLASSES[own[0]].from_pretrained(folder) if own else None
            for method, cls in CLASSES.items():
                new = cls.from_pretrained(folder)
                if old is not None:  # going by way of the file's own class makes no difference
                    assert settings(cls.from_config(old.config), method) == settings(new, method)
                f.write("as %s %s\n" % (method, settings(new, method)))
            if old is not None:
                f.write("as own %s %s\n" % (own[0], settings(old, own[0])))
                pipe = StableDiffusionPipeline(vae=None, text_encoder=None, tokenizer=None, unet=None, scheduler=old,
                                               safety_checker=None, feature_extractor=None,
                                               requires_safety_checker=False)
                changed = pipe.scheduler.config
                f.write("pipeline %d %d\n" % (changed.steps_offset,
                                              bool(changed.clip_sample) if own == ["ddim"] else 0))


# ----------------------------------------------------------------------------------------------------------- tables

def table_lines(method, spacing, offset, steps, **more):
    """One case: every evaluation of short runs; the ends and every 97th of long ones, with sums over all."""
    kw = keyword_arguments(method, spacing, offset, **more)
    s = CLASSES[method](**kw)
    s.set_timesteps(steps)
    t = [float(v) for v in s.timesteps]
    assert min(t) >= 0, "this number of steps makes numpy.arange overshoot"
    n = len(t)
    if method in ("ddim", "pndm"):
        a = [float(s.alphas_cumprod[int(v)]) for v in t if v < 1000]
        last = int(t[-1]) - 1000 // steps
        a.append(float(s.alphas_cumprod[last] if last >= 0 else s.final_alpha_cumprod))
        sigma = [math.sqrt((1 - v) / v) for v in a]
    else:
        sigma = [float(v) for v in s.sigmas]
    rows = [i for i in range(n + 1) if n <= 60 or i < 4 or i > n - 3 or i % 97 == 0]
    out = ["table %s %s %d %d %d %d %d %d %.9g %.12g %.12g %d" % (
        method, spacing, offset, steps, more.get("alpha_one", 0), more.get("skip_prk", 1), more.get("zero_snr", 0), n,
        float(s.init_noise_sigma), sum(t), sum(i * v for i, v in enumerate(t)), len(rows))]
    for i in rows:
        out.append("row %d %.9g %.9g" % (i, t[i] if i < n else -1, sigma[i]))
    return out


def write_tables(f):
    f.write("# alphas SCHEDULE BETA_START BETA_END TRAIN ZERO_SNR HASH FIRST MIDDLE LAST: alphas_cumprod of DDIM\n"
            "#   HASH: fnv1a of the float32 bits\n")
    schedules = [("linear", 0.0001, 0.02), ("scaled_linear", 0.00085, 0.012), ("squaredcos_cap_v2", 0.0001, 0.02),
                 ("linear", 0.01, 0.02), ("scaled_linear", 0.0001, 0.02)]
    for name, start, end in schedules:
        for train in (1, 2, 7, 10, 100, 999, 1000, 1100, 4000):
            for zero in (0, 1):
                if zero and train == 1:
                    continue
                a = DDIMScheduler(num_train_timesteps=train, beta_start=start, beta_end=end, beta_schedule=name,
                                  rescale_betas_zero_snr=bool(zero)).alphas_cumprod
                f.write("alphas %s %.17g %.17g %d %d %s %s %s %s\n" % (
                    name, start, end, train, zero, "-" if zero else fnv1a(a), bits(a[0]), bits(a[train // 2]),
                    bits(a[-1])))
    a = DDIMScheduler(**SD).alphas_cumprod
    f.write("# sd: the whole table of Stable Diffusion\nsd %s\n" % " ".join(bits(v) for v in a))
    f.write("# table METHOD SPACING OFFSET STEPS ALPHA_ONE SKIP_PRK ZERO_SNR COUNT INIT_SIGMA SUM_T SUM_I_T ROWS\n"
            "# row I TIMESTEP SIGMA; the row I = COUNT is where the last step ends\n")
    for method in CLASSES:
        for spacing, offset in (("leading", 1), ("leading", 0), ("trailing", 1), ("linspace", 1)):
            for steps in (1, 2, 3, 5, 7, 20, 25, 50, 999, 1000):
                if steps == 1000 and spacing == "leading" and offset == 1 and method in ("ddim", "pndm"):
                    continue  # diffusers raises an IndexError at timestep 1000
                for line in table_lines(method, spacing, offset, steps):
                    f.write(line + "\n")
    for steps in (4, 5, 20, 50, 999):
        for spacing in ("leading", "trailing", "linspace"):
            for line in table_lines("pndm", spacing, 1, steps, skip_prk=0):
                f.write(line + "\n")
    for method in ("ddim", "pndm"):
        for line in table_lines(method, "leading", 1, 20, alpha_one=1):
            f.write(line + "\n")
    for method in ("euler", "euler_a"):
        for spacing in ("trailing", "linspace", "leading"):
            for line in table_lines(method, spacing, 1, 20, zero_snr=1):
                f.write(line + "\n")


# ------------------------------------------------------------------------------------------------------------- runs

class Float64Torch:
    """torch, but float32 means float64: for the cast in the Euler classes' step()."""
    float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


def float32_noise(shape, generator=None, device=None, dtype=None):
    return torch.randn(shape, generator=generator, dtype=torch.float32).to(dtype)


class Float64:
    """While active, the scheduler modules compute in double; see the head of this file."""
    modules = (scheduling_ddim, scheduling_euler_discrete, scheduling_euler_ancestral_discrete)

    def __enter__(self):
        self.saved = [(m, m.torch, m.randn_tensor) for m in self.modules]
        for m in self.modules:
            m.torch, m.randn_tensor = Float64Torch(), float32_noise

    def __exit__(self, *exception):
        for m, t, r in self.saved:
            m.torch, m.randn_tensor = t, r


def to_float64(s):
    """To be called after set_timesteps. Classes that this file does not know are left to golden_solvers.py."""
    if type(s) not in CLASSES.values():
        return
    s.alphas_cumprod = s.alphas_cumprod.double()
    if hasattr(s, "final_alpha_cumprod"):
        s.final_alpha_cumprod = s.final_alpha_cumprod.double()
    if hasattr(s, "sigmas"):
        a = s.alphas_cumprod.numpy()
        table = ((1 - a) / a) ** 0.5
        sigmas = np.interp(s.timesteps.numpy().astype(np.float64), np.arange(len(table)), table)
        assert np.allclose(sigmas, s.sigmas[:-1].numpy(), rtol=1e-6, atol=0)
        s.sigmas = torch.from_numpy(np.concatenate([sigmas, [0.0]]))


def model(x, t):
    """Stands for the UNet: smooth, bounded, different for every element. tests/test_sampler.c has the same."""
    k = torch.arange(x.numel(), dtype=x.dtype)
    return 0.9 * torch.sin(1.3 * x + 0.2 * k) + 0.05 * math.cos(0.02 * float(t))


def predicted_x0(s, x, output, t):
    """PNDM predicts no x0 itself: the definition, at the latents and the timestep of the evaluation."""
    a = s.alphas_cumprod[t]
    if s.config.prediction_type == "epsilon":
        return (x - (1 - a) ** 0.5 * output) / a**0.5
    return a**0.5 * x - (1 - a) ** 0.5 * output


SIZE, SHOWN, SEED = 20, 5, 77


def run(method, steps, eta, dtype, kw):
    s = CLASSES[method](**kw)
    s.set_timesteps(steps)
    if dtype == torch.float64:
        to_float64(s)
    g = torch.Generator().manual_seed(SEED)
    x = torch.randn(SIZE, generator=g).to(dtype) * s.init_noise_sigma
    more = {"generator": g} if method != "pndm" else {}
    if method == "ddim":
        more["eta"] = eta
    trajectory = []
    for t in s.timesteps:
        seen = s.scale_model_input(x, t)
        output = model(seen, t)
        result = s.step(output, t, x, **more)
        x0 = predicted_x0(s, x, output, t) if method == "pndm" else result.pred_original_sample
        x = result.prev_sample
        assert x.dtype == dtype
        trajectory.append((float(t), x, x0))
    return trajectory, float(torch.randn(1, generator=g))


def run_lines(method, spacing="leading", offset=1, steps=5, eta=0.0, **more):
    kw = keyword_arguments(method, spacing, offset, **more)
    with Float64():
        true, following = run(method, steps, eta, torch.float64, kw)
    single, _ = run(method, steps, eta, torch.float32, kw)
    out = ["run %s %s %d %s %d %d %d %d %d %g %d %.9g" % (
        method, spacing, offset, kw["prediction_type"], more.get("alpha_one", 0), more.get("clip", 0),
        more.get("skip_prk", 1), more.get("zero_snr", 0), steps, eta, len(true), following)]
    for (t, x, x0), (_, x_single, x0_single) in zip(true, single):
        if steps > 5 and t != true[-1][0] and len(out) > 2:
            continue  # of long runs the first two and the last
        out.append("after %.9g %s %.3g %s %.3g" % (
            t, " ".join("%.12g" % v for v in x[:SHOWN]), (x - x_single).abs().max(),
            " ".join("%.12g" % v for v in x0[:SHOWN]), (x0 - x0_single).abs().max()))
    return out


def write_runs(f):
    f.write("# run METHOD SPACING OFFSET PREDICTION ALPHA_ONE CLIP SKIP_PRK ZERO_SNR STEPS ETA COUNT NEXT\n"
            "#   NEXT: the generator's next normal after the run\n"
            "# after TIMESTEP X.. E32 X0.. E32: latents after the evaluation at TIMESTEP, and predicted x0,\n"
            "#   %d of %d numbers\n" % (SHOWN, SIZE))
    spacings = (("leading", 1), ("trailing", 1), ("linspace", 1))
    cases = []
    for spacing, offset in spacings:
        for prediction in ("epsilon", "v_prediction", "sample"):
            for method in CLASSES:
                if prediction == "sample" and method in ("pndm", "euler_a"):
                    continue  # the classes refuse it
                cases.append(dict(method=method, spacing=spacing, offset=offset, prediction=prediction))
                if method == "pndm":
                    cases.append(dict(cases[-1], skip_prk=0))
                if method == "ddim":
                    cases.append(dict(cases[-1], eta=0.7))
    cases += [dict(method="ddim", eta=1.0, prediction=p, alpha_one=1, clip=1)
              for p in ("epsilon", "v_prediction", "sample")]
    cases += [dict(method=m, offset=0, alpha_one=a) for m in ("ddim", "pndm") for a in (0, 1)]
    cases += [dict(method=m, spacing="trailing", prediction="v_prediction", zero_snr=1)
              for m in ("ddim", "euler", "euler_a")]
    cases += [dict(method=m, steps=n, **({"offset": 0} if n == 1000 else {})) for m in CLASSES for n in (1, 2, 20, 50)]
    cases += [dict(method="pndm", skip_prk=0, steps=n) for n in (4, 20, 50)]
    cases += [dict(method="euler", steps=1000), dict(method="euler_a", steps=1000)]
    for case in cases:
        for line in run_lines(**case):
            f.write(line + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="tests/golden")
    out = parser.parse_args().out
    for name, write in (("rng.txt", write_rng), ("scheduler.txt", write_scheduler),
                        ("sampler_tables.txt", write_tables), ("sampler_runs.txt", write_runs)):
        path = os.path.join(out, name)
        with open(path, "w", encoding="ascii", newline="\n") as f:
            f.write("# made by tools/golden_sampler.py\n")
            write(f)
        print(path, os.path.getsize(path))


if __name__ == "__main__":
    main()

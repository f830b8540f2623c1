#!/usr/bin/env python3
"""Writes sampler_parts.txt: runs of diffusers' schedulers in parts, as an ensemble of experts cuts them.

    python tools/golden_parts.py [--out tests/golden]

A run is that of golden_solvers.py: 20 latents, and a model of sines in the UNet's place. Each part has a scheduler of
its own, as each of two pipelines has; which timesteps it takes is asked of StableDiffusionXLImg2ImgPipeline
(denoising_start), and for denoising_end counted as both pipelines count it. One generator draws for all parts.
tests/test_parts.c compares.
"""
import argparse
import importlib
import inspect
import os
import types

import diffusers
import torch

from golden_solvers import SD, SEED, SHOWN, SIZE, CLASSES, CURVES, DrawnNoise, Patched, first_latents, model

CUT = {**{k: v for k, v in CLASSES.items() if k not in ("ipndm", "edm_euler", "ddim_inverse")},
       "ddim": "DDIMScheduler", "euler_a": "EulerAncestralDiscreteScheduler"}


def arguments(name, spacing, curve, prediction, offset, prk):
    kw = dict(SD, timestep_spacing=spacing, prediction_type=prediction, steps_offset=offset, clip_sample=False)
    if curve:
        kw[CURVES[curve]] = True
    if name.endswith("m_sde"):
        kw.update(algorithm_type="sde-dpmsolver++", solver_order=int(name[5]))
    if name == "pndm":
        kw["skip_prk_steps"] = not prk
    known = inspect.signature(getattr(diffusers, CUT[name]).__init__).parameters
    return {k: v for k, v in kw.items() if k in known}


def timesteps_of(s, steps, start, end):
    """What StableDiffusionXLPipeline (start None) and StableDiffusionXLImg2ImgPipeline do."""
    if start is None:
        timesteps = s.timesteps
        if hasattr(s, "set_begin_index"):
            s.set_begin_index(0)
    else:
        get = diffusers.StableDiffusionXLImg2ImgPipeline.get_timesteps
        timesteps, _ = get(types.SimpleNamespace(scheduler=s), steps, 0.3, "cpu", denoising_start=start)
    if end is not None:
        train = s.config.num_train_timesteps
        timesteps = timesteps[:sum(bool(t >= int(round(train - end * train))) for t in timesteps)]
    return timesteps


def chain(name, steps, shares, double, **more):
    """For each part: its timesteps, and the latents after it."""
    cls, kw, out = getattr(diffusers, CUT[name]), arguments(name, **more), []
    g = torch.Generator().manual_seed(SEED)
    DrawnNoise.generator = g
    dtype, x = torch.float64 if double else torch.float32, None
    bounds = [None, *shares, None]
    for start, end in zip(bounds[:-1], bounds[1:]):
        s, plain = cls(**kw), cls(**kw)
        plain.set_timesteps(steps)
        with Patched(importlib.import_module(cls.__module__), double):
            if double:
                s.alphas_cumprod = s.alphas_cumprod.double()
                if hasattr(s, "final_alpha_cumprod"):
                    s.final_alpha_cumprod = s.final_alpha_cumprod.double()
            s.set_timesteps(steps)
            if double and name not in ("dpm2", "dpm2_a"):
                s.timesteps = plain.timesteps.double() if plain.timesteps.is_floating_point() else plain.timesteps
            if x is None:
                x = first_latents(g, SIZE, range(1), s.init_noise_sigma, dtype)
            takes = {"generator": g} if "generator" in inspect.signature(s.step).parameters else {}
            taken = timesteps_of(s, steps, start, end)
            for t in taken:
                seen = s.scale_model_input(x, t)
                x = s.step(model(seen.flatten(), t).reshape(x.shape), t, x, **takes).prev_sample
                assert x.dtype == dtype, (name, x.dtype)
        out.append(([float(t) for t in taken], x.flatten()))
    return out


def lines(name, steps, shares, spacing="leading", curve=None, prediction="epsilon", offset=1, prk=0):
    more = dict(spacing=spacing, curve=curve, prediction=prediction, offset=offset, prk=prk)
    true, single = [chain(name, steps, shares, double, **more) for double in (True, False)]
    if not all(t for t, _ in true):
        return []   # a part without a step
    out = ["chain %s %s %s %s %d %d %d %d" % (name, spacing, curve or "-", prediction, offset, prk, steps, len(true))]
    for end, (t, x), (_, y) in zip([*shares, 1], true, single):
        out.append("part %g %d %.10g %.10g %s %.2g" % (
            end, len(t), sum(t), sum(i * v for i, v in enumerate(t)), " ".join("%.8g" % v for v in x[:SHOWN]),
            float((x - y).abs().max())))
    return out


def cases():
    for name in CUT:
        few = name in ("lcm", "tcd")
        for steps in (5, 10) if not few else (4, 8):
            for shares in ((0.8,), (0.5,), (0.37,), (0.43, 0.77)):
                yield dict(name=name, steps=steps, shares=shares)
        if name == "dpm++2s" or few:
            continue   # they have one spacing
        yield dict(name=name, steps=10, shares=(0.5,), offset=0)   # a timestep at the cutoff itself
        for spacing in ("trailing", "linspace") if name != "ddim" else ("trailing",):
            yield dict(name=name, steps=9, shares=(0.66,), spacing=spacing)
        yield dict(name=name, steps=10, shares=(0.7,), prediction="v_prediction")
    for name in ("euler", "heun", "dpm2", "dpm2_a", "lms", "dpm++2m", "unipc", "deis", "sa_solver", "dpm++sde"):
        for shares in ((0.8,), (0.6,), (0.4,), (0.3, 0.6)):   # timesteps with fractions
            yield dict(name=name, steps=8, shares=shares, curve="karras")
    for shares in ((0.8,), (0.5,), (0.9,)):
        yield dict(name="pndm", steps=10, shares=shares, prk=1)


def main():
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="tests/golden")
    diffusers.utils.logging.set_verbosity_error()
    with open(os.path.join(parser.parse_args().out, "sampler_parts.txt"), "w", encoding="ascii", newline="\n") as f:
        f.write("# made by tools/golden_parts.py, which explains it\n"
                "# chain NAME SPACING CURVE PREDICTION OFFSET PRK STEPS PARTS\n"
                "# part END COUNT SUM_T SUM_I_T X.. E32: a part that ends at this share of the run\n")
        for case in cases():
            for line in lines(**case):
                f.write(line + "\n")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Every sampler through a UNet: the latents of every step against diffusers and k-diffusion. `make test-samplers`.

    python tools/test_samplers.py [--library ./libsd.so] [--only euler,heun@kdiffusion] [--steps 1,2,5] [--part 0/2]

Writes a model with a few thousand synthetic weights (tools/synth.py), or takes --model. Each case is a sampler, a
schedule, a prediction type and a number of steps, with classifier-free guidance: the library draws a picture through
its public interface (bindings/python) with a trace of its latents; the oracle runs the schedulers' own classes and
functions around diffusers' UNet in float64 and in float32 (golden_solvers.py says how a class is made to compute in
double). Noise comes from the same seed of torch's generator on both sides. What has no option is written into the
model's scheduler_config.json ("file" behind the row).

The error of a run is the worst of its tensors' rel-L2 errors, each in units of max(FACTOR * e32, FLOOR). e32 is what
rounding can do to the same tensor: the largest error of 8 float32 runs that begin one rounding apart, and of 64 where
8 leave a doubt. One float32 run alone says too little where a UNet magnifies its input's rounding, as one with random
weights and guidance does.

Rows called `twin` do what a known mistake would do and must fail. The exit code is 0 if all is as it should be.
"""
import argparse
import contextlib
import io
import json
import math
import os
import sys
import tempfile
import time
import warnings

import numpy as np
import torch
import diffusers

import golden_sampler
import golden_solvers
import oracle
import synth
from bindings import sd_reference

FACTOR, FLOOR, COPIES, SCALE = 2, 2e-6, (8, 64), 7.5
LOST = 1e-2   # a bound above this proves little: float32 runs of the oracle itself are that far apart
PROMPT, NEGATIVE = "a red fox in the snow", "blurry"
STEPS = (1, 2, 5, 20, 50)

synth.CONFIGS["sampler-tiny"] = dict(
    unet=synth.unet_config("C", (8,), 1, 2, 8, 4, 8), vae=synth.vae_config((4, 4, 4, 4), 1, 2, 64),
    text_encoder=synth.clip_config(8, 1, 2, 16, "quick_gelu", 49407), scheduler=synth.PUBLISHED_PNDM,
    pad="<|endoftext|>", round_to="f32")
golden_solvers.CLASSES.update({k: v.__name__ for k, v in golden_sampler.CLASSES.items()})


# ------------------------------------------------------------------------------------------------ the library

class Library(sd_reference.Model):
    """One open model; run() gives {name: latents or timestep}."""

    def __init__(self, path, directory):
        super().__init__(directory, path, threads=1)

    def run(self, sigmas=None, **settings):
        found = self.generate(PROMPT, NEGATIVE, trace="latents.*,timestep.*", seed=golden_solvers.SEED, sigmas=sigmas,
                              **settings).trace
        return {name: x.ravel() for name, x in found.items()}

    def sigmas(self, **settings):
        return list(self.schedule(**settings)["sigmas"])


# ------------------------------------------------------------------------------------------------ the oracle

class Plain(torch.nn.Module):
    """A UNet that takes and returns tensors alone, so that torch can trace it: half the time goes into Python."""

    def __init__(self, unet):
        super().__init__()
        self.unet = unet

    def forward(self, x, t, context):
        return self.unet(x, t, context, return_dict=False)[0]


class Guided:
    """diffusers' UNet with guidance, in the place of golden_solvers.model."""

    def __init__(self, directory):
        self.unets, self.contexts, self.traced = {}, {}, {}
        for double in (False, True):
            pipe = oracle.load(directory, double)
            dtype = pipe.unet.dtype
            self.unets[dtype] = Plain(pipe.unet)
            self.contexts[dtype] = oracle.encode_text(pipe, [NEGATIVE, PROMPT])[1].detach()
        side = pipe.unet.config.sample_size
        self.shape = (-1, pipe.unet.config.in_channels, side, side)
        self.size = math.prod(self.shape[1:])

    def unet(self, x, t, context):
        key = x.dtype, x.shape[0]
        if key not in self.traced:
            self.traced[key] = torch.jit.trace(self.unets[x.dtype], (x, t, context), check_trace=False)
        return self.traced[key](x, t, context)

    def with_scale(self, scale, rescale, told=None):
        """told: the timesteps that the UNet is given in the places of those of the run, which are close to them."""
        told = iter(told or ())

        def model(x, t):
            t = next(told, t)
            negative, prompt = self.contexts[x.dtype].split(1)
            x = x.reshape(self.shape)
            t = torch.as_tensor(t, dtype=torch.float64 if x.dtype == torch.float64 else torch.float32)
            with torch.no_grad():
                n = len(x)
                if scale <= 1:
                    return self.unet(x, t, prompt.repeat(n, 1, 1)).flatten()
                both = torch.cat([negative.repeat(n, 1, 1), prompt.repeat(n, 1, 1)])
                unconditional, conditional = self.unet(torch.cat([x, x]), t, both).chunk(2)
            out = unconditional + scale * (conditional - unconditional)
            if rescale:
                out = diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion.rescale_noise_cfg(
                    out, conditional, rescale)
            return out.flatten()
        return model


class Libraries:
    """The model, and the same with another scheduler_config.json."""

    def __init__(self, path, directory, scratch):
        self.path, self.directory, self.scratch, self.open = path, os.path.abspath(directory), scratch, {}

    def get(self, config=None):
        text = json.dumps(config, sort_keys=True) if config else ""
        if text not in self.open:
            directory = self.directory
            if config:
                directory = os.path.join(self.scratch, "file%d" % len(self.open))
                os.makedirs(os.path.join(directory, "scheduler"))
                for name in os.listdir(self.directory):
                    if name != "scheduler":
                        os.symlink(os.path.join(self.directory, name), os.path.join(directory, name))
                with open(os.path.join(directory, "scheduler", "scheduler_config.json"), "w", encoding="utf-8") as f:
                    f.write(text)
            self.open[text] = Library(self.path, directory)
        return self.open[text]


# ------------------------------------------------------------------------------------------------ cases

def grid():
    """Samplers, schedules, prediction types that the two programs have."""
    every, two = ("epsilon", "v_prediction", "sample"), ("epsilon", "v_prediction")
    spacings = ("linspace", "leading", "trailing")
    curves = ("karras", "exponential", "beta")
    for name in golden_solvers.VE:
        for prediction in every if name in ("euler", "heun", "lms") else two:
            yield from (dict(name=name, prediction=prediction, spacing=v) for v in spacings)
            yield from (dict(name=name, prediction=prediction, curve=v) for v in curves)
    for name in golden_solvers.MULTI:
        kw = dict(algorithm_type="sde-dpmsolver++") if name.endswith("m_sde") else {}
        if name == "dpm++3m_sde":
            kw["solver_order"] = 3
        for prediction in every:
            for v in spacings if name != "dpm++2s" else spacings[:1]:
                yield dict(name=name, prediction=prediction, spacing=v, **kw)
            for v in curves + (("lu_lambdas",) if name == "dpm++2m" else ()):
                yield dict(name=name, prediction=prediction, curve=v, **kw)
    for v in spacings:
        for prediction in every:
            for eta in (0.0, 0.7):
                yield dict(name="ddim", prediction=prediction, spacing=v, eta=eta, options={"eta": eta},
                           clip_sample=False, set_alpha_to_one=False)
            yield dict(name="ddpm", prediction=prediction, spacing=v, clip_sample=False)
        for prediction in two:
            yield dict(name="pndm", prediction=prediction, spacing=v, skip_prk_steps=True, set_alpha_to_one=False)
            yield dict(name="euler_a", prediction=prediction, spacing=v)
    for prediction in every:
        for name in ("lcm", "tcd"):
            yield dict(name=name, prediction=prediction, spacing="leading", clip_sample=False, set_alpha_to_one=False)
        for eta in (0.0, 0.5):
            yield dict(name="sa_solver", prediction=prediction, spacing="leading", options={"eta": eta},
                       tau_func=golden_solvers.tau(eta))
    yield dict(name="ipndm", prediction="v_prediction")
    for prediction in two:
        yield dict(name="edm_euler", prediction=prediction)
    for name in golden_solvers.KSAMPLERS:
        curves = ["spaced", "karras@kdiffusion", "exponential@kdiffusion", "polyexponential", "vp"]
        calm = dict(scale=2.0) if name == "dpm_adaptive" else {}   # else roundings soon decide which steps it takes
        for curve in curves if name not in ("dpm_fast", "dpm_adaptive") else curves[:1]:
            for prediction in two:
                yield dict(name=name + "@kdiffusion", curve=curve, prediction=prediction, **calm)


    for name in golden_solvers.COMFY:
        for curve in ("spaced", "karras@kdiffusion", "exponential@kdiffusion"):
            for prediction in two:
                yield dict(name=name + "@comfy", curve=curve, prediction=prediction)


def filed():
    """What has no option of its own: settings in scheduler_config.json."""
    every, two = ("epsilon", "v_prediction", "sample"), ("epsilon", "v_prediction")
    for prediction in two:
        for v in ("leading", "trailing"):
            yield dict(name="pndm", prediction=prediction, spacing=v, skip_prk_steps=False)
    for order in (1, 2, 3):
        for name in golden_solvers.MULTI:
            if name == "dpm++3m_sde":
                continue
            kw = dict(algorithm_type="sde-dpmsolver++") if name.endswith("m_sde") else {}
            if name == "sa_solver":
                kw.update(predictor_order=order, corrector_order=order)
            else:
                kw["solver_order"] = order
            yield dict(name=name, **kw)
            if name in ("dpm++2m", "dpm++2m_sde", "dpm++2s") and order > 1:
                yield dict(name=name, solver_type="heun", **kw)
            if name in ("dpm++2m", "deis"):
                yield dict(name=name, lower_order_final=False, **kw)
            if name == "unipc":   # to sigma 0 the class says NaN with bh1
                for solver in ("bh1", "bh2"):
                    yield dict(name=name, solver_type=solver, final_sigmas_type="sigma_min", **kw)
    for predictor, corrector in ((3, 1), (1, 3), (3, 2)):
        yield dict(name="sa_solver", predictor_order=predictor, corrector_order=corrector)
    for name in ("ddpm", "lcm", "tcd", "ddim", "dpm++2m", "dpm++2s", "unipc", "deis", "sa_solver"):
        for prediction in every:
            yield dict(name=name, prediction=prediction, spacing="leading", thresholding=True, sample_max_value=1.5,
                       **(dict(clip_sample=False) if name in ("ddpm", "lcm", "tcd", "ddim") else {}))
    for name in ("euler", "dpm++2m", "unipc", "edm_euler"):
        for curve in ("spaced", "karras") if name != "edm_euler" else ("spaced", "exponential"):
            yield dict(name=name, curve=curve, final_sigmas_type="sigma_min")
    yield dict(name="dpm++2m", euler_at_final=True, final_sigmas_type="sigma_min")
    yield dict(name="dpm++2s", lower_order_final=False, solver_order=1, final_sigmas_type="sigma_min")
    for name in ("ddim", "ddpm", "lcm", "tcd", "euler", "euler_a", "dpm++2m", "unipc"):
        kw = dict(clip_sample=False) if name in ("ddim", "ddpm", "lcm", "tcd") else {}
        for v in ("leading", "trailing"):
            yield dict(name=name, prediction="v_prediction", spacing=v, rescale_betas_zero_snr=True, **kw)
    for name in ("ddim", "euler", "dpm++2m", "unipc"):
        for betas in ("linear", "squaredcos_cap_v2"):
            kw = dict(clip_sample=False) if name == "ddim" else {}
            yield dict(name=name, prediction="v_prediction", spacing="leading", beta_schedule=betas, **kw)
    for prediction in every:
        yield dict(name="ddpm", prediction=prediction, spacing="leading", variance_type="fixed_large",
                   clip_sample=False)


def kdiffusion_options():
    """Arguments of k-diffusion's functions."""
    churn = {"s_churn": 3.0, "s_tmin": 0.1, "s_tmax": 8.0, "s_noise": 1.01}
    for prediction in ("epsilon", "v_prediction"):
        for name in ("euler", "heun", "dpm2"):
            yield dict(name=name + "@kdiffusion", curve="karras@kdiffusion", prediction=prediction, options=churn)
            yield dict(name=name + "@kdiffusion", prediction=prediction, options={"s_churn": 1.0})
        for name in ("euler_a", "dpm2_a", "dpm++2s_a", "dpm++sde", "dpm++2m_sde", "dpm++3m_sde", "dpm_fast"):
            yield dict(name=name + "@kdiffusion", prediction=prediction, options={"eta": 0.5, "s_noise": 1.02})
        yield dict(name="dpm++2m_sde@kdiffusion", prediction=prediction, options={"solver_type": "heun"})
        for order in (2, 3):
            yield dict(name="dpm_adaptive@kdiffusion", prediction=prediction, options={"order": order, "eta": 0.5},
                       scale=2.0)
        yield dict(name="dpm_adaptive@kdiffusion", prediction=prediction, options={"order": 2}, scale=2.0)
        yield dict(name="restart@kdiffusion", curve="karras@kdiffusion", prediction=prediction)


def everything():
    yield from grid()
    for case in filed():
        yield dict(case, file=True)
    for case in kdiffusion_options():
        yield dict(case, file=True) if "solver_type" in case.get("options", {}) else case


def has(case, steps):
    """Can the oracle make so many steps?"""
    name = case["name"]
    if name == "dpm_adaptive@kdiffusion" and steps > 1:
        return False   # it chooses them itself
    if name == "pndm" and not case["skip_prk_steps"] and steps < 4:
        return False
    return steps > 1 or name not in ("dpm++2m_sde@kdiffusion", "dpm++3m_sde@kdiffusion")   # the functions fail


def cases():
    """Short runs of everything first, so that a run that is cut off has seen all names."""
    for steps in STEPS:
        for case in everything():
            if has(case, steps):
                wild = steps >= 20 and case.get("prediction") == "sample"
                yield dict(dict(scale=2.0) if wild else {}, **case, steps=steps)   # float32 runs would part for good
    for steps in (5, 20):
        for name in ("ddim", "euler", "dpm++2m"):
            base = dict(name=name, spacing="leading", steps=steps, set_alpha_to_one=False, clip_sample=False)
            yield dict(base, scale=1.0)
            for prediction in ("epsilon", "v_prediction"):
                yield dict(base, prediction=prediction, rescale=0.7)
                yield dict(base, prediction=prediction, rescale=1.0)
    # Known mistakes.
    for name in ("euler", "dpm++2m", "heun", "unipc"):
        yield dict(name=name, steps=5, twin="sigmas one training step off")
    yield dict(name="euler", curve="karras", steps=5, twin="another schedule", wrong={"schedule": "exponential"})
    yield dict(name="ddim", spacing="leading", steps=5, clip_sample=False, set_alpha_to_one=False,
               twin="steps_offset 0", wrong={"steps_offset": 0})
    yield dict(name="ddim", spacing="leading", steps=5, clip_sample=False, set_alpha_to_one=False,
               twin="set_alpha_to_one", wrong={"set_alpha_to_one": 1})
    yield dict(name="euler", steps=5, rescale=0.7, twin="no rescale", wrong={"guidance_rescale": 0.0})
    yield dict(name="euler_a", steps=5, twin="draws from a generator of their own", wrong={"sampler_rng": "torch-cpu"})
    yield dict(name="dpm++3m_sde@kdiffusion", curve="karras@kdiffusion", steps=5, twin="two points",
               wrong={"order": 2})


def settings_of(case):
    """The case in the words of sd_params."""
    name, curve = case["name"], case.get("curve", "spaced")
    kdiffusion = "@" in name
    out = dict(sampler=name, steps=case["steps"], prediction=case.get("prediction", "epsilon"),
               guidance_scale=case.get("scale", SCALE), guidance_rescale=case.get("rescale", 0.0),
               spacing=case.get("spacing", "linspace"))
    if curve != "spaced":
        out["schedule"] = curve
    elif kdiffusion and name.split("@")[0] not in ("dpm_fast", "dpm_adaptive"):   # they make their own levels
        out["schedule"] = "linspace@kdiffusion"
    if case.get("eta") is not None:
        out["eta"] = case["eta"]
    out.update({k: v for k, v in case.get("options", {}).items() if k != "solver_type"})
    if case.get("file") and not kdiffusion:
        for key in ("sampler", "schedule", "prediction", "spacing"):
            out.pop(key, None)
    return out


def file_of(case):
    """The scheduler_config.json that says the same to the library as the case to the oracle; None: the model's."""
    if not case.get("file"):
        return None
    name = case["name"]
    if "@" in name:
        return dict(golden_solvers.SD, _class_name="EulerDiscreteScheduler", **case["options"])
    more = {k: v for k, v in case.items() if k not in ("name", "curve", "spacing", "prediction", *OURS)}
    arguments = golden_solvers.class_arguments(name, case.get("curve", "spaced"), case.get("spacing", "linspace"),
                                               case.get("prediction", "epsilon"), **more)
    return dict(arguments, _class_name=golden_solvers.CLASSES[name])


def shifted(sigmas):
    """The levels one training timestep lower."""
    a = diffusers.DDIMScheduler(**golden_solvers.SD).alphas_cumprod.double().numpy()
    table = np.log(np.sqrt((1 - a) / a))
    t = np.interp(np.log(sigmas), table, np.arange(len(table)))
    return list(np.exp(np.interp(np.maximum(t - 1, 0), np.arange(len(table)), table)))


def rel_l2(x, truth):
    norm = np.linalg.norm(truth)
    return float(np.linalg.norm(np.asarray(x, np.float64) - truth) / norm) if norm else float(np.linalg.norm(x))


OURS = ("steps", "scale", "rescale", "twin", "wrong", "file", "options", "eta")   # not settings of a class


def oracle_runs(guided, case, copies, told=None):
    """(true, singles): the run in double, and in single precision copies of it; a list of (timestep, latents [n, size])
    of every evaluation and of the end."""
    known = {k: v for k, v in case.items() if k not in ("scale", "rescale", "twin", "wrong", "file")}
    groups = [range(copies)]
    if case["name"].startswith("dpm_adaptive"):   # its steps depend on the whole batch
        groups = [range(k, k + 1) for k in range(copies)]
    runs = []
    with oracle.exact_sinusoid(), contextlib.redirect_stdout(io.StringIO()):
        for double, group in [(True, range(1))] + [(False, g) for g in groups]:
            model = guided.with_scale(case.get("scale", SCALE), case.get("rescale", 0.0), told)
            seen, end, _ = golden_solvers.case_run(double, model=model, size=guided.size, copies=group, **known)
            runs.append([(t, x.reshape(-1, guided.size).numpy()) for t, _, x in seen + [(None, None, end)]])
    return runs[0], runs[1:]


def error_and_bound(found, truth, singles):
    e32 = max(rel_l2(x, truth[0]) for x in singles)
    error = rel_l2(found, truth[0])
    return error if math.isfinite(error) else math.inf, max(FACTOR * e32, FLOOR)


def library_run(libraries, case):
    """The latents of every evaluation and of the end, and the timesteps."""
    library, settings = libraries.get(file_of(case)), dict(settings_of(case), **case.get("wrong", {}))
    if case.get("twin", "").startswith("sigmas"):
        plain = library.sigmas(**{k: v for k, v in settings.items() if k not in ("guidance_scale", "guidance_rescale")})
        levels = sorted({v for v in plain if v > 0}, reverse=True)
        del settings["spacing"]
        settings["sigmas"] = shifted(levels) + [0.0]
    got = library.run(**settings)
    count = sum(name.startswith("timestep.") for name in got)
    return [got["latents.%d" % i] for i in range(count + 1)], [float(got["timestep.%d" % i][0]) for i in range(count)]


def compare(libraries, guided, case, copies):
    """(error, bound, note) of the tensor that is worst by its bound; a wrong count or timestep is infinitely wrong.

    Timesteps with fractions follow from float32 tables of sqrt and log, which neither torch nor NumPy rounds correctly:
    they need to agree to 1e-6, and then the oracle's UNet is told the library's, for one ulp of 999 moves its output by
    more than all other roundings."""
    latents, timesteps = library_run(libraries, case)
    true, singles = oracle_runs(guided, case, copies, timesteps if "twin" not in case else None)
    if len(latents) != len(true):
        return math.inf, FLOOR, "%d evaluations instead of %d" % (len(timesteps), len(true) - 1)
    for i, t in enumerate(timesteps):
        if "twin" not in case and abs(t - true[i][0]) > 1e-6 * max(1, abs(t)):
            return math.inf, FLOOR, "timestep.%d is %g, not %g" % (i, t, true[i][0])
    worst, single = (0.0, FLOOR, ""), singles[0]
    if len(single) != len(true):   # an ancestral step that goes down to 0 in float32 alone
        single = single[:-1]
    for i in range(min(len(true), len(single))):
        truth = true[i][1]
        error, bound = error_and_bound(latents[i], truth, single[i][1])
        if error * worst[1] >= worst[0] * bound:
            worst = error, bound, "latents.%d" % i
    return worst


def compare_adaptive(libraries, guided, case, copies):
    """dpm_adaptive, as long as the oracle's own float32 runs take the steps of its double run; then roundings decide."""
    latents, timesteps = library_run(libraries, case)
    true, singles = oracle_runs(guided, case, copies)
    worst, compared = (0.0, FLOOR, ""), 0
    for i in range(min(len(run) for run in (latents, true, *singles))):
        t, truth = true[i]
        here = [run[i] for run in singles]
        if any(rel_l2(x[0], truth[0]) > 1e-3 or (s is None) != (t is None) for s, x in here):
            break
        error, bound = error_and_bound(latents[i], truth, [x[0] for _, x in here])
        if error * worst[1] >= worst[0] * bound:
            worst = error, bound, "latents.%d" % i
        error, bound = (abs(timesteps[i] - t), max(1e-3, FACTOR * max(abs(s - t) for s, _ in here))) if t else (0, 1)
        if error * worst[1] >= worst[0] * bound:
            worst = error, bound, "timestep.%d" % i
        compared += t is not None
    note = " (%d of %d evaluations; float32 %s, ours %d)" % (
        compared, len(true) - 1, "/".join(str(len(run) - 1) for run in singles), len(timesteps))
    return (*worst[:2], worst[2] + note) if compared >= 12 else (math.inf, FLOOR, "too few to compare" + note)


SHOWN = ("name", "curve", "spacing", "prediction", "clip_sample", "algorithm_type", *OURS)


def row_name(case):
    more = ["%s %g" % (k, case[k]) for k in ("eta", "scale", "rescale") if k in case]
    more += ["%s %s" % kv for kv in case.get("options", {}).items() if kv[0] != "eta" or "eta" not in case]
    if case.get("file") and "@" not in case["name"]:
        more += ["file: " + " ".join("%s=%s" % (k, v) for k, v in case.items() if k not in SHOWN)]
    if "twin" in case:
        more.append("twin: " + case["twin"])
    where = case.get("curve") or case.get("spacing", "linspace" if "@" not in case["name"] else "spaced")
    return "%-24s %-22s %-12s %2d  %s" % (case["name"], where, case.get("prediction", "epsilon"), case["steps"],
                                          ", ".join(more))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--library", default="./libsd.so")
    parser.add_argument("--only", help="these samplers alone (a comma list)")
    parser.add_argument("--steps", help="these numbers of steps alone (a comma list)")
    parser.add_argument("--model", help="a model directory with an own UNet, in the synthetic one's place")
    parser.add_argument("--part", default="0/1", help="I/N: every N-th run beginning with the I-th")
    parser.add_argument("--brief", action="store_true", help="only what fails, twins and the sums")
    a = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    golden_solvers.KDIFFUSION = golden_solvers.load_kdiffusion()
    first, parts = map(int, a.part.split("/"))
    wanted = [c for c in cases() if (not a.only or c["name"] in a.only.split(",")) and
              (not a.steps or str(c["steps"]) in a.steps.split(","))][first::parts]
    runs = failed = lost = again = 0
    top, begun = (0.0, ""), time.time()
    print("%-24s %-22s %-12s %2s  %s" % ("sampler", "schedule", "prediction", "n", "worst error, bound, ratio"))
    with tempfile.TemporaryDirectory() as directory:
        model = a.model or os.path.join(directory, "model")
        if not a.model:
            synth.write_model("sampler-tiny", model)
        libraries, guided = Libraries(a.library, model, directory), Guided(model)
        for case in wanted:
            judge = compare_adaptive if case["name"].startswith("dpm_adaptive") else compare
            try:
                error, bound, where = judge(libraries, guided, case, COPIES[0])
                if "twin" not in case and bound < error < 10 * bound:
                    again += 1   # dpm_adaptive's copies cannot share a batch and are slow
                    error, bound, where = judge(libraries, guided, case, COPIES[1] if judge is compare else 24)
            except Exception as e:
                error, bound, where = math.inf, FLOOR, "%s: %s" % (type(e).__name__, e)
            twin = "twin" in case
            ok = error > bound and "Error" not in where if twin else error <= bound
            runs, failed, lost = runs + 1, failed + (not ok), lost + (bound > LOST)
            if not twin and error / bound > top[0]:
                top = (error / bound, row_name(case))
            if twin or not ok or not a.brief:
                print("%s %.2g %.2g %.2f %s %s" % (row_name(case), error, bound, error / bound, where,
                                                   "" if ok else "FAILED"), flush=True)
    print("%d runs, %d failed, worst %.2f of its bound (%s), %d asked again with more copies, %d bounds above %g, "
          "%.0f s" % (runs, failed, *top, again, lost, LOST, time.time() - begun))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

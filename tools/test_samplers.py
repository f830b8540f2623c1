#!/usr/bin/env python3
"""Every sampler through a UNet: the latents of every step against diffusers and k-diffusion. `make test-samplers`.

    python tools/test_samplers.py [--library ./libsd.so] [--only euler,heun@kdiffusion] [--steps 1,2,5] [--part 0/2]

Writes a model with a few thousand synthetic weights (tools/synth.py). Each case is a sampler, a schedule, a prediction
type and a number of steps, with classifier-free guidance: the library draws a picture through its public interface
(sd_library.py) with a trace of its latents; the oracle runs the schedulers' own classes and functions around
diffusers' UNet in float64 and in float32 (golden_solvers.py says how a class is made to compute in double). Noise comes
from the same seed of torch's generator on both sides. The error of a run is the worst of its tensors' rel-L2 errors,
each in units of max(3 * e32, 2e-6), e32 being the float32 run's error of the same tensor. All other timesteps and
noise levels are in tests/test_solvers.c.

Rows called `twin` do what a known mistake would do and must fail. The exit code is 0 if all is as it should be.
"""
import argparse
import contextlib
import ctypes as C
import io
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
import sd_library
import oracle
import synth

FACTOR, FLOOR, SCALE = 3, 2e-6, 2.0   # more guidance makes a random UNet chaotic: e32 then says nothing
PROMPT, NEGATIVE = "a red fox in the snow", "blurry"
STEPS = (1, 2, 5, 20, 50)
CHANNELS, SIDE = 4, 8
SIZE = CHANNELS * SIDE * SIDE

synth.CONFIGS["sampler-tiny"] = dict(
    unet=synth.unet_config("C", (8,), 1, 2, 8, 4, SIDE), vae=synth.vae_config((4, 4, 4, 4), 1, 2, 8 * SIDE),
    text_encoder=synth.clip_config(8, 1, 2, 16, "quick_gelu", 49407), scheduler=synth.PUBLISHED_PNDM,
    pad="<|endoftext|>", round_to="f32")
golden_solvers.CLASSES.update({k: v.__name__ for k, v in golden_sampler.CLASSES.items()})


# ------------------------------------------------------------------------------------------------ the library

class Traced(C.Structure):
    _fields_ = [("name", C.c_char_p), ("dtype", C.c_int), ("nd", C.c_int), ("dim", C.c_int64 * 4),
                ("data", C.POINTER(C.c_float))]


class Image(C.Structure):
    _fields_ = [("width", C.c_int), ("height", C.c_int), ("rgb", C.c_void_p), ("alpha", C.c_void_p)]


def of(kind, names):
    return [(name, kind) for name in names.split()]


class Params(C.Structure):
    """sd_params."""
    _fields_ = (of(C.c_char_p, "prompt negative_prompt") + of(C.c_int, "width height steps") +
                of(C.c_double, "cfg_scale") + of(C.c_uint64, "seed") + of(C.c_char_p, "rng sampler_rng") +
                of(C.c_int, "seed_per_image batch") + of(C.c_char_p, "sampler schedule") +
                [("sigmas", C.POINTER(C.c_double)), ("sigma_count", C.c_int),
                 ("timesteps", C.POINTER(C.c_double)), ("timestep_count", C.c_int)] +
                of(C.c_int, "order") + of(C.c_double, "s_churn s_tmin s_tmax s_noise guidance_rescale") +
                of(C.c_char_p, "spacing prediction") + of(C.c_double, "eta") +
                of(C.c_int, "clip_skip steps_offset set_alpha_to_one clip_sample") +
                [("noise", C.c_void_p), ("noise_count", C.c_size_t), ("init", C.c_void_p)] +
                of(C.c_double, "strength") + [("mask", C.c_void_p)] + of(C.c_int, "invert_mask") +
                of(C.c_double, "mask_blur") + of(C.c_int, "paste_back inpaint_crop") +
                [("outpaint", C.c_int * 4), ("resize", C.c_char_p)])


ON_TRACE = C.CFUNCTYPE(None, C.c_void_p, C.POINTER(Traced))


class Library(sd_library.Context):
    """One open model; run() gives {name: latents or timestep}."""

    def __init__(self, path, directory):
        super().__init__(path, directory, threads=1)
        self.got, self.callback = {}, ON_TRACE(self.on_trace)
        self.call("sd_set_trace", b"latents.*,timestep.*", self.callback, None)

    def on_trace(self, _, t):
        t = t.contents
        self.got[t.name.decode()] = np.ctypeslib.as_array(t.data, (math.prod(t.dim[:t.nd]),)).copy()

    def run(self, sigmas=None, **settings):
        p, image, self.got = Params(), Image(), {}
        self.lib.sd_params_init(C.byref(p))
        assert p.batch == 1 and p.strength == -1 and p.inpaint_crop == -1 and p.paste_back == 1, "sd_params has changed"
        for key, value in dict(prompt=PROMPT, negative_prompt=NEGATIVE, seed=golden_solvers.SEED, **settings).items():
            setattr(p, key, value.encode() if isinstance(value, str) else value)
        if sigmas is not None:
            p.sigmas, p.sigma_count = (C.c_double * len(sigmas))(*sigmas), len(sigmas)
        self.call("sd_generate", C.byref(p), C.byref(image))
        self.lib.sd_image_free(C.byref(image))
        return self.got

    def sigmas(self, **settings):
        p, n = Params(), C.c_int()
        self.lib.sd_params_init(C.byref(p))
        for key, value in settings.items():
            setattr(p, key, value.encode() if isinstance(value, str) else value)
        self.check(self.lib.sd_schedule(self.ctx, C.byref(p), C.byref(n), None, None, None))
        out = (C.c_double * (n.value + 1))()
        self.check(self.lib.sd_schedule(self.ctx, C.byref(p), C.byref(n), None, out, None))
        return list(out)


# ------------------------------------------------------------------------------------------------ the oracle

class Guided:
    """diffusers' UNet with guidance, in the place of golden_solvers.model."""

    def __init__(self, directory):
        self.unets, self.contexts = {}, {}
        for double in (False, True):
            pipe = oracle.load(directory, double)
            dtype = pipe.unet.dtype
            self.unets[dtype] = pipe.unet
            self.contexts[dtype] = oracle.encode_text(pipe, [NEGATIVE, PROMPT])[1].detach()

    def with_scale(self, scale, rescale):
        def model(x, t):
            unet, context = self.unets[x.dtype], self.contexts[x.dtype]
            x = x.reshape(1, CHANNELS, SIDE, SIDE)
            t = torch.as_tensor(t, dtype=torch.float64 if x.dtype == torch.float64 else torch.float32)
            with torch.no_grad():
                if scale <= 1:
                    return unet(x, t, context[1:]).sample.flatten()
                unconditional, conditional = unet(x.expand(2, -1, -1, -1), t, context).sample.chunk(2)
            out = unconditional + scale * (conditional - unconditional)
            if rescale:
                out = diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion.rescale_noise_cfg(
                    out, conditional, rescale)
            return out.flatten()
        return model


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
    yield dict(name="ipndm", prediction="v_prediction")
    for prediction in two:
        yield dict(name="edm_euler", prediction=prediction)
    for name in golden_solvers.KSAMPLERS:
        curves = ["spaced", "karras@kdiffusion", "exponential@kdiffusion", "polyexponential", "vp"]
        for curve in curves if name not in ("dpm_fast", "dpm_adaptive") else curves[:1]:
            for prediction in two:
                yield dict(name=name + "@kdiffusion", curve=curve, prediction=prediction)


def cases():
    """Short runs of everything first, so that a run that is cut off has seen all names."""
    for steps in STEPS:
        for case in grid():
            if case["name"] == "dpm_adaptive@kdiffusion" and steps > 1:
                continue   # it chooses them itself
            if steps == 1 and case["name"] in ("dpm++2m_sde@kdiffusion", "dpm++3m_sde@kdiffusion"):
                continue   # k-diffusion's functions fail
            yield dict(case, steps=steps)
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
    yield dict(name="dpm++3m_sde@kdiffusion", curve="karras@kdiffusion", steps=5, twin="diffusers' sign of D2",
               wrong={"sampler": "dpm++3m_sde"})


def settings_of(case):
    """The case in the words of sd_params."""
    name, curve = case["name"], case.get("curve", "spaced")
    kdiffusion = "@" in name
    out = dict(sampler=name, steps=case["steps"], prediction=case.get("prediction", "epsilon"),
               cfg_scale=case.get("scale", SCALE), guidance_rescale=case.get("rescale", 0.0),
               spacing=case.get("spacing", "linspace"))
    if curve != "spaced":
        out["schedule"] = curve
    elif kdiffusion and name.split("@")[0] not in ("dpm_fast", "dpm_adaptive"):   # they make their own levels
        out["schedule"] = "linspace@kdiffusion"
    if case.get("eta") is not None:
        out["eta"] = case["eta"]
    return out


def shifted(sigmas):
    """The levels one training timestep lower."""
    a = diffusers.DDIMScheduler(**golden_solvers.SD).alphas_cumprod.double().numpy()
    table = np.log(np.sqrt((1 - a) / a))
    t = np.interp(np.log(sigmas), table, np.arange(len(table)))
    return list(np.exp(np.interp(np.maximum(t - 1, 0), np.arange(len(table)), table)))


def rel_l2(x, truth):
    norm = np.linalg.norm(truth)
    return float(np.linalg.norm(np.asarray(x, np.float64) - truth) / norm) if norm else float(np.linalg.norm(x))


def compare(library, guided, case):
    """(error, bound) of the tensor that is worst by its bound; a wrong count or timestep is infinitely wrong."""
    known = {k: v for k, v in case.items() if k not in ("scale", "rescale", "twin", "wrong")}
    model = guided.with_scale(case.get("scale", SCALE), case.get("rescale", 0.0))
    with oracle.exact_sinusoid(), contextlib.redirect_stdout(io.StringIO()):
        (true, end, _), (single, end32, _) = golden_solvers.case_runs(model=model, size=SIZE, **known)
    settings = dict(settings_of(case), **case.get("wrong", {}))
    if case.get("twin", "").startswith("sigmas"):
        plain = library.sigmas(**{k: v for k, v in settings.items() if k not in ("cfg_scale", "guidance_rescale")})
        levels = sorted({v for v in plain if v > 0}, reverse=True)
        del settings["spacing"]
        settings["sigmas"] = shifted(levels) + [0.0]
    got = library.run(**settings)
    count = sum(name.startswith("timestep.") for name in got)
    if count != len(true):
        return math.inf, FLOOR, "%d evaluations instead of %d" % (count, len(true))
    worst = (0.0, FLOOR, "")
    same = len(single) == len(true)
    truths = [x for _, _, x in true] + [end]
    singles = [x for _, _, x in single] + [end32] if same else [None] * len(truths)
    for i, (truth, x32) in enumerate(zip(truths, singles)):
        truth = truth.double().numpy()
        e32 = rel_l2(x32.numpy(), truth) if same else 1e-4
        error, bound = rel_l2(got["latents.%d" % i], truth), max(FACTOR * e32, FLOOR)
        if not error <= bound * worst[0] / worst[1]:
            worst = (error if math.isfinite(error) else math.inf, bound, "latents.%d" % i)
    if "twin" not in case:
        for i, (t, _, _) in enumerate(true):
            told = float(got["timestep.%d" % i][0])
            if abs(told - t) > 1e-3:
                return math.inf, FLOOR, "timestep.%d is %g, not %g" % (i, told, t)
    return worst


def row_name(case):
    more = ["%s %g" % (k, case[k]) for k in ("eta", "scale", "rescale") if k in case]
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
    parser.add_argument("--part", default="0/1", help="I/N: every N-th run beginning with the I-th")
    parser.add_argument("--brief", action="store_true", help="only what fails, twins and the sums")
    a = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    golden_solvers.KDIFFUSION = golden_solvers.load_kdiffusion()
    first, parts = map(int, a.part.split("/"))
    wanted = [c for c in cases() if (not a.only or c["name"] in a.only.split(",")) and
              (not a.steps or str(c["steps"]) in a.steps.split(","))][first::parts]
    runs = failed = 0
    top, begun = (0.0, ""), time.time()
    print("%-24s %-22s %-12s %2s  %s" % ("sampler", "schedule", "prediction", "n", "worst error, bound, ratio"))
    with tempfile.TemporaryDirectory() as directory:
        synth.write_model("sampler-tiny", directory)
        library, guided = Library(a.library, directory), Guided(directory)
        for case in wanted:
            try:
                error, bound, where = compare(library, guided, case)
            except Exception as e:
                error, bound, where = math.inf, FLOOR, "%s: %s" % (type(e).__name__, e)
            twin = "twin" in case
            ok = error > bound and "Error" not in where if twin else error <= bound
            runs, failed = runs + 1, failed + (not ok)
            if not twin and error / bound > top[0]:
                top = (error / bound, row_name(case))
            if twin or not ok or not a.brief:
                print("%s %.2g %.2g %.2f %s %s" % (row_name(case), error, bound, error / bound, where,
                                                   "" if ok else "FAILED"), flush=True)
    print("%d runs, %d failed, worst %.2f of its bound (%s), %.0f s" % (runs, failed, *top, time.time() - begun))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

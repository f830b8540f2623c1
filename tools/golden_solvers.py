#!/usr/bin/env python3
"""Writes the reference numbers of tests/test_solvers.c from diffusers and k-diffusion: every sampler on every schedule.

    python tools/golden_solvers.py [--out tests/golden]

Needs, beside requirements.txt: scipy, torchsde, k-diffusion 0.1.1 (pip install --no-deps k-diffusion; only its sampling
and external modules are loaded, with stand-ins for what they import and do not use here).

A case is a run of a small problem: 20 latents, and a model of sines in the UNet's place. The float64 run is the truth;
e32 is how far the unchanged float32 run is from it. How a diffusers class is made to compute in double: its table
alphas_cumprod keeps its float32 VALUES; in its module `float32` of numpy and torch means float64, except that
timesteps keep their float32 or whole values; noise is drawn as float32 and cast. k-diffusion computes in the dtype of
its operands. Noise of samplers that ask for a Brownian tree is drawn from the same generator as all other noise.
"""
import argparse
import importlib
import inspect
import math
import os
import sys
import types
import warnings

import numpy as np
import scipy.stats
import torch
import diffusers
from diffusers.utils import logging

SIZE, SHOWN, SEED = 20, 2, 77
STEPS = (1, 2, 5, 20, 50)
SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
VE = {"euler": "EulerDiscreteScheduler", "heun": "HeunDiscreteScheduler", "dpm2": "KDPM2DiscreteScheduler",
      "dpm2_a": "KDPM2AncestralDiscreteScheduler", "lms": "LMSDiscreteScheduler", "dpm++sde": "DPMSolverSDEScheduler"}
MULTI = {"dpm++2m": "DPMSolverMultistepScheduler", "dpm++2m_sde": "DPMSolverMultistepScheduler",
         "dpm++3m_sde": "DPMSolverMultistepScheduler", "dpm++2s": "DPMSolverSinglestepScheduler",
         "unipc": "UniPCMultistepScheduler", "deis": "DEISMultistepScheduler", "sa_solver": "SASolverScheduler"}
OTHERS = {"pndm": "PNDMScheduler", "ddpm": "DDPMScheduler", "lcm": "LCMScheduler", "tcd": "TCDScheduler", "ipndm": "IPNDMScheduler",
          "edm_euler": "EDMEulerScheduler", "ddim_inverse": "DDIMInverseScheduler"}
CLASSES = {**VE, **MULTI, **OTHERS}
CURVES = {"karras": "use_karras_sigmas", "exponential": "use_exponential_sigmas", "beta": "use_beta_sigmas",
          "lu_lambdas": "use_lu_lambdas"}


def model(x, t):
    k = torch.arange(x.numel(), dtype=x.dtype).reshape(x.shape)
    return 0.9 * torch.sin(1.3 * x + 0.2 * k) + 0.05 * math.cos(0.02 * float(t))


# ------------------------------------------------------------------------------------------ float64

class Float64Torch:
    float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


class Float64Numpy:
    float32 = np.float64

    @staticmethod
    def linspace(start, stop, num, dtype=None, **kw):
        y = np.linspace(start, stop, num, dtype=np.float32 if dtype is np.float64 else dtype, **kw)
        return y.astype(np.float64)

    def __getattr__(self, name):
        return getattr(np, name)


def draw(shape, generator=None, device=None, dtype=None, **_):
    """The rows of a batch are copies of one run: all get the same noise."""
    one = torch.randn((1, *shape[1:]), generator=generator, dtype=torch.float32)
    return one.to(dtype).repeat(shape[0], *[1] * (len(shape) - 1))


def first_latents(generator, size, copies, scale, dtype):
    """[copies, size, 1, 1]. Copies of a run (a range of them) begin one rounding apart in two numbers of three, so that
    all later roundings differ: together they tell how far rounding alone can take a run."""
    x = (torch.randn(size, generator=generator, dtype=torch.float32).to(dtype) * scale).reshape(1, size, 1, 1)
    way = torch.randint(-1, 2, (copies.stop, size, 1, 1), generator=torch.Generator().manual_seed(1)).to(dtype)
    way[0] = 0   # the run itself
    way = way[copies.start:]
    x = x.repeat(len(way), 1, 1, 1)
    return torch.where(way == 0, x, torch.nextafter(x, way * math.inf))


class DrawnNoise:
    """In the place of BrownianTreeNoiseSampler."""
    generator = None

    def __init__(self, x, *_, **__):
        self.shape, self.dtype = x.shape, x.dtype

    def __call__(self, *_):
        return draw(self.shape, DrawnNoise.generator, dtype=self.dtype)


class Patched:
    """While active, the module draws as above and, if asked to, computes in double."""

    def __init__(self, module, double):
        self.module, self.new = module, {}
        if hasattr(module, "randn_tensor"):
            self.new["randn_tensor"] = draw
        if hasattr(module, "BrownianTreeNoiseSampler"):
            self.new["BrownianTreeNoiseSampler"] = DrawnNoise
        if double:
            self.new["torch"] = Float64Torch()
            if hasattr(module, "np"):
                self.new["np"] = Float64Numpy()
        self.double = double

    def __enter__(self):
        self.old = {k: getattr(self.module, k) for k in self.new}
        for k, v in self.new.items():
            setattr(self.module, k, v)
        torch.set_default_dtype(torch.float64 if self.double else torch.float32)

    def __exit__(self, *_):
        for k, v in self.old.items():
            setattr(self.module, k, v)
        torch.set_default_dtype(torch.float32)


# ---------------------------------------------------------------------------------------- diffusers

def level_of(s, x, seen, k, t):
    """The sigma of evaluation k."""
    ratio = float((seen / x).flatten()[0])
    if "init_noise_sigma" in dir(s) and abs(ratio - 1) > 1e-12:
        data = s.config.get("sigma_data", 1.0)
        return math.sqrt(max(1 / ratio**2 - data**2, 0))
    if isinstance(s, diffusers.IPNDMScheduler):
        return float(s.betas[k]) / max(float(s.alphas[k]), 1e-300)
    if isinstance(s, diffusers.DDIMInverseScheduler):
        low = min(int(t) - s.config.num_train_timesteps // s.num_inference_steps, s.config.num_train_timesteps - 1)
        a = float(s.alphas_cumprod[low] if low >= 0 else s.initial_alpha_cumprod)
        return math.sqrt((1 - a) / a)
    if hasattr(s, "sigmas"):
        return float(s.sigmas[k])
    a = float(s.alphas_cumprod[int(t)])
    return math.sqrt((1 - a) / a) if a else math.inf


def run_diffusers(name, steps, kw, double, eta, first, model=model, size=SIZE, copies=range(1)):
    cls = getattr(diffusers, CLASSES[name])
    module = importlib.import_module(cls.__module__)
    s, plain = cls(**kw), cls(**kw)
    plain.set_timesteps(steps)
    with Patched(module, double):
        if double and hasattr(s, "alphas_cumprod"):
            s.alphas_cumprod = s.alphas_cumprod.double()
            for key in ("final_alpha_cumprod", "initial_alpha_cumprod"):
                if hasattr(s, key):
                    setattr(s, key, getattr(s, key).double())
        s.set_timesteps(steps)
        if double and name not in ("dpm2", "dpm2_a", "ipndm"):  # whose timesteps follow from differences that cancel
            s.timesteps = plain.timesteps.double() if plain.timesteps.is_floating_point() else plain.timesteps
        if hasattr(s, "set_begin_index"):  # else a run whose first timestep occurs twice begins with its second step
            s.set_begin_index(first * s.order)
        dtype = torch.float64 if double else torch.float32
        g = torch.Generator().manual_seed(SEED)
        DrawnNoise.generator = g
        init = s.init_noise_sigma() if callable(s.init_noise_sigma) else s.init_noise_sigma
        x = first_latents(g, size, copies, init, dtype)
        known = inspect.signature(s.step).parameters
        more = {"generator": g} if "generator" in known else {}
        if eta is not None:
            more["eta"] = eta
        seen_at = []
        for k, t in list(enumerate(s.timesteps))[first * s.order:]:  # as image to image cuts them
            seen = s.scale_model_input(x, t)
            seen_at.append((float(t), level_of(s, x, seen, k, t), x.flatten()))
            x = s.step(model(seen.flatten(), t).reshape(x.shape), t, x, **more).prev_sample
            assert x.dtype == dtype, (name, x.dtype)
        return seen_at, x.flatten(), float(torch.randn(1, generator=g))


# -------------------------------------------------------------------------------------- k-diffusion

def load_kdiffusion():
    for name, content in (("torchdiffeq", {"odeint": None}), ("torchsde", {"BrownianTree": None})):
        if name not in sys.modules:
            sys.modules[name] = types.ModuleType(name)
            vars(sys.modules[name]).update(content)
    where = [os.path.join(p, "k_diffusion") for p in sys.path if os.path.isdir(os.path.join(p, "k_diffusion"))][0]
    package, utils = types.ModuleType("k_diffusion"), types.ModuleType("k_diffusion.utils")
    package.__path__, package.utils = [where], utils
    utils.append_dims = lambda x, n: x[(...,) + (None,) * (n - x.ndim)]
    sys.modules.update({"k_diffusion": package, "k_diffusion.utils": utils})
    return importlib.import_module("k_diffusion.sampling"), importlib.import_module("k_diffusion.external")


KSAMPLERS = {"euler": "sample_euler", "euler_a": "sample_euler_ancestral", "heun": "sample_heun",
             "dpm2": "sample_dpm_2", "dpm2_a": "sample_dpm_2_ancestral", "lms": "sample_lms",
             "dpm++2s_a": "sample_dpmpp_2s_ancestral",
             "dpm++sde": "sample_dpmpp_sde", "dpm++2m": "sample_dpmpp_2m", "dpm++2m_sde": "sample_dpmpp_2m_sde",
             "dpm++3m_sde": "sample_dpmpp_3m_sde", "dpm_fast": "sample_dpm_fast", "dpm_adaptive": "sample_dpm_adaptive"}


def sample_restart(model, x, sigmas, disable=None, s_noise=1.0):
    """Restart sampling as A1111 has it: Heun's steps, and intervals by the number of steps."""
    sampling, _ = KDIFFUSION
    steps = len(sigmas) - 1
    times = 2 if steps >= 36 else 1 if steps >= 20 else 0
    again = steps // 4 if times == 2 else 9
    path = [sigmas]
    if times:
        main = sampling.get_sigmas_karras(steps - again * times, float(sigmas[-2]), float(sigmas[0]))
        low, high = (int((main - v).abs().argmin()) for v in (0.1, 2.0))
        loop = sampling.get_sigmas_karras(again + 1, float(main[low]), float(main[high]))[:-1]
        path = [main[:low + 1]] + [loop] * times + [main[low:]]
    for i, part in enumerate(path):
        if i and part[0] > path[i - 1][-1]:
            x = x + torch.randn_like(x) * s_noise * (part[0] ** 2 - path[i - 1][-1] ** 2) ** 0.5
        for a, b in zip(part[:-1], part[1:]):
            d = (x - model(x, a * x.new_ones([1]))) / a
            if b > 0:
                y = x + d * (b - a)
                d = (d + (y - model(y, b * x.new_ones([1]))) / b) / 2
            x = x + d * (b - a)
    return x


def sample_gradient_estimation(model, x, sigmas, disable=None, gamma=2.0):
    """Permenter & Yuan 2023: Euler's step along gamma eps + (1 - gamma) eps_before. As ComfyUI has it, the first step
    and the one to sigma 0 are plain."""
    before = None
    for a, b in zip(sigmas[:-1], sigmas[1:]):
        denoised = model(x, a * x.new_ones([1]))
        eps = (x - denoised) / a
        mean = eps if before is None else gamma * eps + (1 - gamma) * before
        x, before = (x + (b - a) * mean if b > 0 else denoised), eps
    return x


def sample_res_multistep(model, x, sigmas, disable=None, eta=0.0, s_noise=1.0, noise_sampler=None):
    """Zhang, Song & Chen 2023, from its integral: x(l + h) = e^-h x + int_0^h e^(u-h) D(u) du, where D is the straight
    line through the last two answers, in l = -ln sigma. The integral is a sum by Gauss and Legendre; the formula of
    ComfyUI's res_multistep is computed beside it and has to agree. There the distance of the two answers is the way of
    the step before, also where that step went down deeper and came up again with noise."""
    places, weights = (torch.tensor(v, dtype=x.dtype) for v in np.polynomial.legendre.leggauss(16))
    before = way = None
    for a, b in zip(sigmas[:-1], sigmas[1:]):
        denoised = model(x, a * x.new_ones([1]))
        up = min(b, eta * (b**2 * (a**2 - b**2) / a**2) ** 0.5)
        down = (b**2 - up**2) ** 0.5
        if before is None or down == 0:
            new = x + (x - denoised) / a * (down - a)
        else:
            h = (a / down).log()
            u = (places + 1) / 2 * h
            share = weights / 2 * h * (u - h).exp()   # of the line, whose value at u is D + (D - D_before) u / way
            new = x * (-h).exp() + denoised * share.sum() + (denoised - before) * (share * u / way).sum()
            phi1, c2 = torch.expm1(-h) / -h, -way / h
            phi2 = (phi1 - 1) / -h
            formula = x * (-h).exp() + h * ((phi1 - phi2 / c2) * denoised + phi2 / c2 * before)
            assert x.dtype != torch.float64 or (formula - new).abs().max() < 1e-12 * new.abs().max().clamp(min=1)
        x, before, way = new, denoised, (a / down).log() if down > 0 else None
        if b > 0 and noise_sampler:
            x = x + noise_sampler(a, b) * s_noise * up
    return x


def sample_res_multistep_a(model, x, sigmas, disable=None, eta=1.0, s_noise=1.0, noise_sampler=None):
    return sample_res_multistep(model, x, sigmas, eta=eta, s_noise=s_noise, noise_sampler=noise_sampler)


# samplers of programs on k-diffusion that it does not have itself
OURS = {"restart": sample_restart, "gradient_estimation": sample_gradient_estimation,
        "res_multistep": lambda model, x, sigmas, disable: sample_res_multistep(model, x, sigmas),
        "res_multistep_a": sample_res_multistep_a}
COMFY = ("gradient_estimation", "res_multistep", "res_multistep_a")


def run_kdiffusion(name, curve, prediction, steps, double, options, model=model, size=SIZE, copies=range(1)):
    sampling, external = KDIFFUSION
    dtype = torch.float64 if double else torch.float32
    torch.set_default_dtype(dtype)
    alphas = diffusers.DDIMScheduler(**SD).alphas_cumprod.to(dtype)
    g = torch.Generator().manual_seed(SEED)
    base = external.DiscreteEpsDDPMDenoiser if prediction == "epsilon" else external.DiscreteVDDPMDenoiser
    seen_at = []

    class Denoiser(base):
        def t_to_sigma(self, t):  # without the cast to float32
            low, high, w = t.floor().long(), t.ceil().long(), t.frac()
            return ((1 - w) * self.log_sigmas[low] + w * self.log_sigmas[high]).exp()

        def forward(self, x, sigma, **kw):
            seen_at.append((float(self.sigma_to_t(sigma[0])), float(sigma[0]), x.flatten()))
            return super().forward(x, sigma, **kw)

    def inner(x, t, **_):
        return model(x.flatten(), t[0]).reshape(x.shape)

    denoiser = Denoiser(inner, alphas, False)
    lo, hi = float(denoiser.sigma_min), float(denoiser.sigma_max)
    sigmas = {"spaced": lambda: denoiser.get_sigmas(steps),
              "karras@kdiffusion": lambda: sampling.get_sigmas_karras(steps, lo, hi),
              "exponential@kdiffusion": lambda: sampling.get_sigmas_exponential(steps, lo, hi),
              "polyexponential": lambda: sampling.get_sigmas_polyexponential(steps, lo, hi),
              "vp": lambda: sampling.get_sigmas_vp(steps)}[curve]()
    start = hi if name in ("dpm_fast", "dpm_adaptive") else sigmas[0]
    x = first_latents(g, size, copies, start, dtype)
    fn = OURS[name] if name in OURS else getattr(sampling, KSAMPLERS[name])
    known = inspect.signature(fn).parameters
    more = {k: v for k, v in options.items() if k in known}
    noise = lambda *_: draw(x.shape, g, dtype=dtype)
    if "noise_sampler" in known:
        more["noise_sampler"] = noise
    ends = {"sigma_min": lo, "sigma_max": hi}
    old = torch.randn_like
    torch.randn_like = noise
    try:
        if name == "dpm_fast":
            x = fn(denoiser, x, n=steps, disable=True, **ends, **more)
        elif name == "dpm_adaptive":
            x = fn(denoiser, x, disable=True, **ends, **more)
        else:
            x = fn(denoiser, x, sigmas, disable=True, **more)
    finally:
        torch.randn_like = old
        torch.set_default_dtype(torch.float32)
    return seen_at, x.flatten(), float(torch.randn(1, generator=g, dtype=torch.float32))


# --------------------------------------------------------------------------------------------- cases

def case_run(double, name, curve="spaced", spacing="linspace", prediction="epsilon", steps=5, eta=None, options=None,
             first=0, model=model, size=SIZE, copies=range(1), **kw):
    """A run in double or single precision: evaluations, the latents at the end, the next normal."""
    if "@" in name:
        short = name.split("@")[0]
        return run_kdiffusion(short, curve, prediction, steps, double, options or {}, model, size, copies)
    arguments = class_arguments(name, curve, spacing, prediction, **kw)
    return run_diffusers(name, steps, arguments, double, eta, first, model, size, copies)


def class_arguments(name, curve, spacing, prediction, **kw):
    arguments = dict(SD, prediction_type=prediction, timestep_spacing=spacing, steps_offset=1, **kw)
    if curve in CURVES:
        arguments[CURVES[curve]] = True
    known = inspect.signature(getattr(diffusers, CLASSES[name]).__init__).parameters
    arguments = {k: v for k, v in arguments.items() if k in known}
    if name == "edm_euler" and curve == "exponential":
        arguments["sigma_schedule"] = "exponential"
    return arguments


def tau(eta):
    """SA-Solver's strength of the noise: its default for eta 1."""
    return lambda t: eta if 200 <= t <= 800 else 0


def case_lines(name, curve="spaced", spacing="linspace", prediction="epsilon", steps=5, options=None, **kw):
    """options: what the test sets in its configuration, beside the words of the line."""
    options = options or {}
    (true, end, following), (single, end32, _) = [
        case_run(double, name, curve, spacing, prediction, steps, options=options, **kw) for double in (True, False)]
    assert torch.isfinite(end).all(), "not finite"
    t, sigma = [v[0] for v in true], [v[1] for v in true]
    sums = [sum(t), sum(i * v for i, v in enumerate(t)), sum(s for s in sigma if s < 1e200)]
    words = ["%s=%s" % kv for kv in options.items()]
    out = ["case %s %s %s %s %d %d %.9g %.10g %.10g %.10g%s" % (
        name, curve, spacing, prediction, steps, len(true), following, *sums, "".join(" " + w for w in words))]
    same = len(true) == len(single)
    for i, (ti, si, x) in enumerate(true):
        if i in (1, len(true) - 1) or 0 < i < 5 and len(true) <= 9:
            e32 = float((x - single[i][2]).abs().max()) if same else 1e-4
            shown = " ".join("%.8g" % v for v in x[:SHOWN])
            out.append("at %d %.9g %.8g %s %.2g" % (i, ti, min(si, 1e300), shown, e32))
    out.append("end %s %.2g" % (" ".join("%.8g" % v for v in end[:SHOWN]), float((end - end32).abs().max())))
    return out


def all_cases():
    for name in VE:
        for steps in STEPS:
            for spacing in ("linspace", "leading", "trailing"):
                yield dict(name=name, spacing=spacing, steps=steps)
            for curve in ("karras", "exponential", "beta"):
                yield dict(name=name, curve=curve, steps=steps)
        for steps in (5, 20):
            yield dict(name=name, prediction="v_prediction", steps=steps)
            if name in ("euler", "heun", "lms"):
                yield dict(name=name, prediction="sample", steps=steps)
    for name in ("euler", "heun", "dpm2", "lms"):  # the curves lie between the ends of the spacing
        for spacing in ("leading", "trailing"):
            for curve in ("karras", "exponential"):
                yield dict(name=name, curve=curve, spacing=spacing, steps=5)
    yield dict(name="euler", steps=5, final_sigmas_type="sigma_min", options={"end": "sigma_min"})
    yield dict(name="heun", steps=5, clip_sample=True, options={"clip": 1})
    for name in MULTI:
        kw = {}
        if name == "dpm++2m_sde":
            kw = dict(algorithm_type="sde-dpmsolver++")
        if name == "dpm++3m_sde":
            kw = dict(algorithm_type="sde-dpmsolver++", solver_order=3)
        for steps in STEPS:
            spacings = ("linspace",) if name == "dpm++2s" else ("linspace", "leading", "trailing")
            for spacing in spacings:
                yield dict(name=name, spacing=spacing, steps=steps, **kw)
            for curve in ("karras", "exponential", "beta") + (("lu_lambdas",) if name == "dpm++2m" else ()):
                yield dict(name=name, curve=curve, steps=steps, **kw)
        for steps in (5, 20):
            for prediction in ("v_prediction", "sample"):
                yield dict(name=name, prediction=prediction, steps=steps, **kw)
        for order in (1, 2, 3):
            for steps in (7, 16):
                more = dict(kw)
                if name == "sa_solver":
                    more.update(predictor_order=order, corrector_order=order)
                else:
                    more.update(solver_order=order)
                yield dict(name=name, steps=steps, options={"order": order}, **more)
    for predictor, corrector in ((3, 1), (1, 3), (3, 2)):
        for steps in (5, 20):
            yield dict(name="sa_solver", steps=steps, predictor_order=predictor, corrector_order=corrector,
                       options={"order": predictor, "corrector": corrector})
    for eta in (0.0, 0.5):
        for steps in (5, 20):
            yield dict(name="sa_solver", steps=steps, tau_func=tau(eta), options={"eta": eta})
    for steps in (5, 6, 16):
        for name, kw in (("dpm++2m", {}), ("dpm++2m_sde", dict(algorithm_type="sde-dpmsolver++")), ("dpm++2s", {})):
            for order in (2, 3):
                heun = dict(kw, solver_type="heun", solver_order=order)
                yield dict(name=name, steps=steps, options={"order": order, "solver": "heun"}, **heun)
                if name == "dpm++2s" and steps % order:
                    continue
                yield dict(name=name, steps=steps, final_sigmas_type="sigma_min", solver_order=order,
                           lower_order_final=False, options={"order": order, "end": "sigma_min", "lower": 0}, **kw)
        yield dict(name="dpm++2m", steps=steps, solver_order=3, lower_order_final=False,
                   options={"order": 3, "lower": 0})
        yield dict(name="dpm++2m", steps=steps, final_sigmas_type="sigma_min", euler_at_final=True,
                   options={"end": "sigma_min", "euler": 1})
        yield dict(name="dpm++2m", steps=steps, curve="karras", final_sigmas_type="sigma_min",
                   options={"end": "sigma_min"})
        for order in (1, 2, 3):
            yield dict(name="unipc", steps=steps, solver_order=order, solver_type="bh1", final_sigmas_type="sigma_min",
                       options={"order": order, "solver": "bh1", "end": "sigma_min"})  # at sigma 0 the class says NaN
        yield dict(name="unipc", steps=steps, curve="karras", final_sigmas_type="sigma_min",
                   options={"end": "sigma_min"})
        yield dict(name="unipc", steps=steps, final_sigmas_type="sigma_min", options={"end": "sigma_min"})
    for name in ("dpm++2m", "unipc"):
        yield dict(name=name, spacing="trailing", prediction="v_prediction", steps=10, rescale_betas_zero_snr=True,
                   options={"zero_snr": 1})
        yield dict(name=name, curve="karras", steps=10, beta_schedule="squaredcos_cap_v2", options={"beta": "cosine"})
    for steps in STEPS:
        for spacing in ("leading", "trailing", "linspace"):
            yield dict(name="ddpm", spacing=spacing, steps=steps, clip_sample=False)
        for name in ("lcm", "tcd"):
            yield dict(name=name, spacing="leading", steps=steps)
        yield dict(name="ipndm", steps=steps, prediction="v_prediction")
        yield dict(name="edm_euler", steps=steps)
        for spacing in ("leading", "trailing"):
            yield dict(name="ddim_inverse", spacing=spacing, steps=steps, clip_sample=False)
    for prediction in ("v_prediction", "sample"):
        for name in ("ddpm", "lcm", "tcd"):
            yield dict(name=name, spacing="leading", prediction=prediction, steps=5, clip_sample=False)
    yield dict(name="ddim_inverse", spacing="leading", prediction="v_prediction", steps=5, clip_sample=False)
    yield dict(name="ddpm", spacing="leading", variance_type="fixed_large", clip_sample=True,
               options={"large": 1, "clip": 1})
    for name in ("ddpm", "lcm", "tcd", "dpm++2m", "dpm++2s", "unipc", "deis"):
        for maximum in (1.0, 1.5) if name in ("dpm++2m", "unipc") else (1.0,):
            yield dict(name=name, spacing="leading", steps=5, thresholding=True, sample_max_value=maximum,
                       clip_sample=True, options={"threshold": maximum})
    for name in list(VE) + list(MULTI) + ["ddpm", "lcm", "tcd"]:
        kw = dict(algorithm_type="sde-dpmsolver++") if name.endswith("m_sde") else {}
        if name == "dpm++3m_sde":
            kw["solver_order"] = 3
        yield dict(name=name, spacing="leading", steps=10, first=4, clip_sample=False, options={"first": 4}, **kw)
    for first in (0, 4, 9):
        for spacing, prediction in (("leading", "epsilon"), ("trailing", "v_prediction")):
            yield dict(name="pndm", spacing=spacing, prediction=prediction, steps=10, first=first, skip_prk_steps=False,
                       options={"first": first, "prk": 1})
    yield dict(name="pndm", spacing="leading", steps=10, first=4, skip_prk_steps=True, options={"first": 4, "prk": 0})
    for eta in (0.0, 1.0):
        yield dict(name="tcd", spacing="leading", steps=5, eta=eta, options={"eta": eta})
    yield dict(name="edm_euler", prediction="v_prediction", steps=5)
    yield dict(name="edm_euler", curve="exponential", steps=5, final_sigmas_type="sigma_min",
               options={"end": "sigma_min"})
    for name in KSAMPLERS:
        if name == "dpm_adaptive":
            yield dict(name="dpm_adaptive@kdiffusion", steps=1)
            yield dict(name="dpm_adaptive@kdiffusion", steps=1, options={"order": 2})
            yield dict(name="dpm_adaptive@kdiffusion", steps=1, prediction="v_prediction")
            yield dict(name="dpm_adaptive@kdiffusion", steps=1, options={"eta": 0.5})
            continue
        curves = ["spaced", "karras@kdiffusion", "exponential@kdiffusion", "polyexponential", "vp"]
        for steps in STEPS if name != "dpm_fast" else (1, 2, 3, 5, 6, 7, 20, 50):
            if steps == 1 and name in ("dpm++2m_sde", "dpm++3m_sde"):
                continue  # k-diffusion's functions fail
            for curve in curves if name != "dpm_fast" else ["spaced"]:
                if curve == "polyexponential" and steps not in (1, 5):
                    continue  # with rho 1 it is the exponential one
                yield dict(name=name + "@kdiffusion", curve=curve, steps=steps)
        yield dict(name=name + "@kdiffusion", prediction="v_prediction", steps=5)
    for steps in (20, 41):  # with fewer it is Heun
        yield dict(name="restart@kdiffusion", curve="karras@kdiffusion", steps=steps)
    for name in ("euler", "heun", "dpm2"):
        churn = {"s_churn": 3.0, "s_tmin": 0.1, "s_tmax": 8.0, "s_noise": 1.01}
        yield dict(name=name + "@kdiffusion", steps=5, options=churn)
    for name in ("euler_a", "dpm2_a", "dpm++2s_a", "dpm++sde", "dpm++2m_sde", "dpm++3m_sde", "dpm_fast"):
        yield dict(name=name + "@kdiffusion", steps=5, options={"eta": 0.5})
        if name in ("dpm++2m_sde", "dpm++3m_sde"):
            yield dict(name=name + "@kdiffusion", steps=5, options={"eta": 0.0})
    yield dict(name="dpm++2m_sde@kdiffusion", steps=5, options={"solver_type": "heun"})
    for name in COMFY:
        for curve in ("spaced", "karras@kdiffusion", "exponential@kdiffusion"):
            for steps in STEPS:
                yield dict(name=name + "@comfy", curve=curve, steps=steps)
        for steps in (5, 20):
            yield dict(name=name + "@comfy", prediction="v_prediction", steps=steps)
    for eta in (0.0, 0.5):
        yield dict(name="res_multistep_a@comfy", steps=5, options={"eta": eta})
    yield dict(name="res_multistep_a@comfy", steps=5, options={"s_noise": 1.01})


# ------------------------------------------------------------------- the schedules of other programs

def comfy_sigmas(curve, n):
    """ComfyUI's and A1111's formulas, on Stable Diffusion's table."""
    a = diffusers.DDIMScheduler(**SD).alphas_cumprod.double().numpy()
    s = np.sqrt((1 - a) / a)

    def at(t):
        return np.exp(np.interp(t, np.arange(1000), np.log(s)))

    if curve == "sgm_uniform":
        return [at(t) for t in np.linspace(999, 0, n + 1)[:-1]]
    if curve == "simple":
        return [s[-(1 + int(i * (1000 / n)))] for i in range(n)]
    if curve == "ddim_uniform":
        return list(s[1::max(1000 // n, 1)][::-1])
    if curve == "beta@comfy":
        t = np.rint(scipy.stats.beta.ppf(1 - np.linspace(0, 1, n, endpoint=False), 0.6, 0.6) * 999)
        return [s[int(v)] for i, v in enumerate(t) if i == 0 or v != t[i - 1]]
    if curve == "kl_optimal":
        w = np.arange(n) / max(n - 1, 1)
        return list(np.tan(w * np.arctan(s[0]) + (1 - w) * np.arctan(s[-1])))
    table = {"align_your_steps": [14.6146412293, 6.4745760956, 3.8636745985, 2.6946151520, 1.8841921177, 1.3943805092,
                                  0.9642583904, 0.6523686016, 0.3977456272, 0.1515232662, 0.0291671582],
             "align_your_steps_sdxl": [14.6146412293, 6.3184485287, 3.7681790315, 2.1811480769, 1.3405244945,
                                       0.8620721141, 0.5550693289, 0.3798540708, 0.2332364134, 0.1114188177,
                                       0.0291671582]}[curve]
    y = np.interp(np.linspace(0, 1, n + 1), np.linspace(0, 1, 11), np.log(table[::-1]))
    return list(np.exp(y)[::-1][:-1])


def write_schedules(f):
    f.write("# curve NAME STEPS COUNT SIGMA..: sigmas of other programs' schedules, without the last 0\n")
    for curve in ("sgm_uniform", "simple", "ddim_uniform", "beta@comfy", "kl_optimal", "align_your_steps",
                  "align_your_steps_sdxl"):
        for n in (1, 4, 10, 30):
            s = comfy_sigmas(curve, n)
            f.write("curve %s %d %d %s\n" % (curve, n, len(s), " ".join("%.9g" % v for v in s)))


def main():
    global KDIFFUSION
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="tests/golden")
    parser.add_argument("--only", help="cases of these samplers alone (a comma list), to standard output")
    args = parser.parse_args()
    logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    KDIFFUSION = load_kdiffusion()
    path = os.path.join(args.out, "sampler_solvers.txt")
    with open(os.devnull if args.only else path, "w", encoding="ascii", newline="\n") as f:
        f.write("# made by tools/golden_solvers.py\n"
                "# case NAME CURVE SPACING PREDICTION STEPS COUNT NEXT SUM_T SUM_I_T SUM_SIGMA [SETTING=VALUE..]\n"
                "#   NEXT: the generator's next normal after the run; sums over the evaluations\n"
                "# at I TIMESTEP SIGMA X.. E32: evaluation I and %d of the %d latents before it\n"
                "# end X.. E32: the latents after the last\n" % (SHOWN, SIZE))
        for case in all_cases():
            if args.only and case["name"] not in args.only.split(","):
                continue
            try:
                lines = case_lines(**case)
            except Exception as e:
                lines = []
                print("# %s: %s: %s" % (case, type(e).__name__, e), file=sys.stderr)
            for line in lines:
                (sys.stdout if args.only else f).write(line + "\n")
        write_schedules(f)
    if not args.only:
        print(path, os.path.getsize(path))


if __name__ == "__main__":
    main()

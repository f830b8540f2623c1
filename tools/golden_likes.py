#!/usr/bin/env python3
"""Writes tests/golden/likes_sd1-small.safetensors: runs of sd1-small as other programs make them, in float64.

    python tools/golden_likes.py --sources DIR [--out tests/golden]

DIR has the programs' sources, each as it is in its repository: compvis/ldm, kdiffusion/k_diffusion, comfy/comfy,
a1111/modules, at the versions that likes.c names. What decides the latents is executed as it stands there: CompVis'
DDIMSampler; k-diffusion's samplers, schedules and denoiser, and A1111's KDiffusionSampler and its generator of GPU
noise; ComfyUI's KSampler.set_steps, KSAMPLER, KSamplerX0Inpaint, ModelSamplingDiscrete and samplers. Only what surrounds
them is written here: the guided UNet, A1111's mask (sd_samplers_cfg_denoiser.py), and stable-diffusion.cpp
(src/runtime/denoiser.hpp), which is C++. The model, the text, the picture and the mask are those of golden_edit.py.

  PROGRAM.RUN.latents.N    the last ones
  wrong.PROGRAM.MISTAKE    rel-L2 error of the final latents if one thing is another program's
"""
import argparse
import ast
import contextlib
import importlib.util
import math
import os
import sys
import tempfile
import types

import numpy as np
import torch
from safetensors.numpy import save_file

import golden_edit
import make_golden
import oracle
import synth

STEPS, SEED, GUIDANCE = 5, golden_edit.SEED, golden_edit.GUIDANCE
HALF = 0.55   # of 5 steps: int(2.75) for CompVis, one more for A1111, 5 of 9 for ComfyUI


# ------------------------------------------------------------------------------------- sources

def module(name, path, **stubs):
    """The file as a module, with other modules in the place of what it imports besides."""
    saved = {k: sys.modules.get(k) for k in stubs}
    for k, v in stubs.items():
        sys.modules[k] = v
    try:
        spec = importlib.util.spec_from_file_location(name, path)
        m = importlib.util.module_from_spec(spec)
        sys.modules[name] = m
        spec.loader.exec_module(m)
    finally:
        for k, v in saved.items():
            if v is None:
                sys.modules.pop(k, None)
            else:
                sys.modules[k] = v
    return m


def stub(name, **members):
    m = types.ModuleType(name)
    m.__path__ = []
    vars(m).update(members)
    return m


def definitions(path, names, given):
    """These classes, functions and tables of a file, executed as they stand."""
    tree = ast.parse(open(path).read())

    def wanted(node):
        targets = getattr(node, "targets", [])
        return getattr(node, "name", None) in names or any(getattr(t, "id", None) in names for t in targets)
    tree.body = [n for n in tree.body if wanted(n)]
    space = dict(given)
    exec(compile(tree, path, "exec"), space)
    return types.SimpleNamespace(**space)


class Sources:
    def __init__(self, root):
        self.root = root
        at = lambda *p: os.path.join(root, *p)
        utils = stub("kd.utils", append_dims=lambda x, n: x[(...,) + (None,) * (n - x.ndim)])
        ode = stub("torchdiffeq", odeint=None)
        sde = stub("torchsde")
        sys.modules["kd"], sys.modules["kd.utils"] = stub("kd", utils=utils), utils
        self.sampling = module("kd.sampling", at("kdiffusion/k_diffusion/sampling.py"), torchdiffeq=ode, torchsde=sde)
        sys.modules["kd"].sampling = self.sampling
        self.external = module("kd.external", at("kdiffusion/k_diffusion/external.py"))
        self.philox = module("rng_philox", at("a1111/modules/rng_philox.py"))
        self.a1111_sources()
        self.comfy_sources(sde)
        self.compvis_sources()

    def a1111_sources(self):
        at = lambda f: os.path.join(self.root, "a1111/modules", f)
        self.opts = types.SimpleNamespace(always_discard_next_to_last_sigma=False, use_old_karras_scheduler_sigmas=False,
                                          sigma_min=0, sigma_max=0, rho=0, sgm_noise_multiplier=False,
                                          img2img_extra_noise=0, img2img_fix_steps=False, beta_dist_alpha=.6,
                                          beta_dist_beta=.6)
        shared = types.SimpleNamespace(opts=self.opts, sd_model=types.SimpleNamespace(is_sdxl=False))
        kd = stub("k_diffusion", sampling=self.sampling)
        modules = stub("modules", shared=shared)
        schedules = module("a1111_schedulers", at("sd_schedulers.py"), k_diffusion=kd, modules=modules)
        common = definitions(at("sd_samplers_common.py"), ["setup_img2img_steps"], {"opts": self.opts})
        base = type("Sampler", (), {})
        common.Sampler = base
        import inspect
        self.webui = definitions(
            at("sd_samplers_kdiffusion.py"), ["KDiffusionSampler"],
            dict(torch=torch, inspect=inspect, opts=self.opts, shared=shared, sd_schedulers=schedules,
                 sd_samplers_common=common, devices=types.SimpleNamespace(cpu="cpu"))).KDiffusionSampler

    def comfy_sources(self, sde):
        at = lambda f: os.path.join(self.root, "comfy/comfy", f)
        import functools
        import scipy.stats
        util = definitions(at("ldm/modules/diffusionmodules/util.py"), ["make_beta_schedule"],
                           dict(torch=torch, np=np, math=math))
        pieces = {"comfy": stub("comfy"), "comfy.ldm": stub("comfy.ldm"), "comfy.ldm.modules": stub("comfy.ldm.modules"),
                  "comfy.ldm.modules.diffusionmodules": stub("comfy.ldm.modules.diffusionmodules"),
                  "comfy.ldm.modules.diffusionmodules.util": stub("x", make_beta_schedule=util.make_beta_schedule),
                  "comfy.model_patcher": stub("comfy.model_patcher"), "comfy.model_sampling": stub("comfy.model_sampling")}
        self.levels = module("comfy_levels", at("model_sampling.py"), **pieces)
        sys.modules["ck"] = stub("ck", utils=sys.modules["kd.utils"], deis=stub("deis"), sa_solver=stub("sa_solver"))
        for part in ("utils", "deis", "sa_solver"):
            sys.modules["ck." + part] = getattr(sys.modules["ck"], part)
        comfy = pieces["comfy"]
        comfy.model_patcher = types.SimpleNamespace(set_model_options_post_cfg_function=None)
        comfy.model_sampling = self.levels
        pieces["comfy.model_sampling"] = self.levels
        self.comfy_sampling = module("ck.sampling", at("k_diffusion/sampling.py"), torchsde=sde, **pieces)
        names = ["KSamplerX0Inpaint", "simple_scheduler", "ddim_scheduler", "normal_scheduler", "beta_scheduler",
                 "linear_quadratic_schedule", "kl_optimal_scheduler", "Sampler", "KSAMPLER", "ksampler",
                 "SchedulerHandler", "SCHEDULER_HANDLERS", "SCHEDULER_NAMES", "calculate_sigmas", "KSampler",
                 "KSAMPLER_NAMES", "SAMPLER_NAMES", "sampler_object"]
        from typing import Callable, NamedTuple
        self.comfy = definitions(at("samplers.py"), names, dict(
            torch=torch, math=math, numpy=np, scipy=scipy, partial=functools.partial, Callable=Callable,
            NamedTuple=NamedTuple, k_diffusion_sampling=self.comfy_sampling))

    def compvis_sources(self):
        at = lambda f: os.path.join(self.root, "compvis/ldm", f)
        util = definitions(at("modules/diffusionmodules/util.py"),
                           ["make_ddim_timesteps", "make_ddim_sampling_parameters", "extract_into_tensor", "noise_like"],
                           dict(torch=torch, np=np, repeat=None))
        pieces = {k: stub(k) for k in ("ldm", "ldm.modules", "ldm.modules.diffusionmodules")}
        pieces["ldm.modules.diffusionmodules.util"] = stub("u", **vars(util))
        self.ddim = module("compvis_ddim", at("models/diffusion/ddim.py"), **pieces).DDIMSampler


# ------------------------------------------------------------------------------------- the model

class Model:
    """What runs share: the guided UNet, the text, the picture's latents, noise."""

    def __init__(self, pipe, sources):
        self.pipe, self.sources = pipe, sources
        self.dtype = pipe.unet.dtype
        negative, positive = (self.text(t) for t in (make_golden.NEGATIVE, make_golden.PROMPT))
        self.context = torch.cat([negative, positive])
        self.alphas = pipe.scheduler.alphas_cumprod
        x = torch.from_numpy(np.asarray(golden_edit.picture()).astype(np.float32) / 127.5 - 1)
        moments = pipe.vae.encode(x.permute(2, 0, 1)[None].to(self.dtype)).latent_dist
        self.mean, self.std = moments.mean, moments.std
        m = torch.from_numpy(np.asarray(golden_edit.mask()))[None, None].float()
        size = self.mean.shape[-2:]
        self.mask = (torch.nn.functional.interpolate((m >= 128).float(), size) > 0.5).to(self.dtype)

    def text(self, text):
        ids = self.pipe.tokenizer(text, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        return self.pipe.text_encoder(ids.input_ids)[0]

    def image(self, how="mean", noise=None):
        z = self.mean if how == "mean" else self.mean + self.std * noise
        return z * self.pipe.vae.config.scaling_factor

    def eps(self, x, t):
        t = torch.as_tensor(t, dtype=self.dtype).reshape(-1)[:1]
        both = self.pipe.unet(torch.cat([x, x]), t, encoder_hidden_states=self.context).sample
        uncond, text = both.chunk(2)
        return uncond + GUIDANCE * (text - uncond)

    def gpu(self):
        """Normals as torch draws them on a GPU, by A1111's generator."""
        g = self.sources.philox.Generator(SEED)
        return lambda: torch.from_numpy(np.asarray(g.randn(self.mean.shape), np.float32)).to(self.dtype)

    def cpu(self):
        g = torch.Generator().manual_seed(SEED)
        return lambda: torch.randn(self.mean.shape, generator=g, dtype=torch.float32).to(self.dtype)


# ------------------------------------------------------------------------------------- programs

def compvis(m, strength=None, level=0, alpha=None):
    """level: from which one of t_enc on; alpha: where the last step ends."""
    s = m.sources.ddim(types.SimpleNamespace(num_timesteps=1000, betas=1 - m.alphas, alphas_cumprod=m.alphas,
                                             alphas_cumprod_prev=m.alphas, device="cpu",
                                             apply_model=lambda x, t, c: m.eps(x, t)))
    s.register_buffer = lambda name, value: setattr(s, name, value)
    s.make_schedule(ddim_num_steps=STEPS, verbose=False)
    if alpha:
        s.ddim_alphas_prev[0] = alpha
    noise = m.gpu()()
    if strength is None:
        return s.ddim_sampling(None, noise.shape, x_T=noise)[0]
    t_enc = int(strength * STEPS)
    x = s.stochastic_encode(m.image(), torch.tensor([t_enc + level]), noise=noise)
    return s.decode(x, None, t_enc)


class Guided:
    """A1111's CFGDenoiser.forward, as far as it is of use here: the blending of sd_samplers_cfg_denoiser.py."""
    mask = None

    def __init__(self, m, denoiser):
        self.denoiser, self.m = denoiser, m

    def __call__(self, x, sigma, **kwargs):
        denoised = self.denoiser(x, sigma)
        return denoised if self.mask is None else denoised * self.m.mask + self.init_latent * (1 - self.m.mask)


def a1111(m, name="dpmpp_2m", automatic="karras", strength=None, masked=False, root=False, share=False, blend=True):
    S = m.sources
    inner = types.SimpleNamespace(alphas_cumprod=m.alphas, apply_model=lambda x, t: m.eps(x, t))
    wrap = S.external.CompVisDenoiser(inner)
    draw = m.gpu()
    s = S.webui.__new__(S.webui)
    s.config = types.SimpleNamespace(options={"scheduler": automatic} if automatic else {})
    s.model_wrap, s.model_wrap_cfg = wrap, Guided(m, wrap)
    s.func = getattr(S.sampling, "sample_" + name)
    s.s_min_uncond = 0
    s.initialize = lambda p: {"noise_sampler": lambda a, b: draw()} if name.endswith("ancestral") else {}
    s.launch_sampling = lambda steps, f: f()
    s.add_infotext = lambda p: None
    s.callback_state = None
    p = types.SimpleNamespace(steps=STEPS, cfg_scale=GUIDANCE, scheduler="Automatic", is_hr_pass=False,
                              extra_generation_params={}, sampler_noise_scheduler_override=None,
                              denoising_strength=strength)
    call = s.func
    s.func = lambda model, x, sigmas, extra_args, disable, callback, noise_sampler=None: call(
        model, x, sigmas, extra_args={}, disable=True, **({"noise_sampler": noise_sampler} if noise_sampler else {}))
    s.func.__signature__ = __import__("inspect").signature(call)
    S.opts.sgm_noise_multiplier = root
    noise = draw()
    if strength is None:
        return s.sample(p, noise, None, None)
    if masked and blend:
        s.model_wrap_cfg.mask = m.mask
    if share:
        p.denoising_strength = (int(strength * STEPS) - 1 + .01) / STEPS
    x = s.sample_img2img(p, m.image(), noise, None, None)
    return x * m.mask + m.image() * (1 - m.mask) if masked else x


def comfy(m, name="euler", scheduler="simple", strength=None, masked=False, fractions=False, first=None, share=False,
          see=True):
    C, L = m.sources.comfy, m.sources.levels
    sampling = type("ModelSampling", (L.ModelSamplingDiscrete, L.EPS), {})()
    sampling.set_sigmas(((1 - m.alphas.double()) / m.alphas.double()) ** 0.5)
    if first is not None:
        plain = sampling.noise_scaling
        sampling.noise_scaling = lambda sigma, noise, image, most=False: plain(sigma, noise, image, first)
    told = m.sources.external.CompVisDenoiser(types.SimpleNamespace(alphas_cumprod=m.alphas))

    class Inner:
        model_sampling = sampling

        @staticmethod
        def scale_latent_inpaint(x, sigma, noise, latent_image):
            return x if not see else sampling.noise_scaling(sigma.reshape(-1, 1, 1, 1), noise, latent_image)

    class Wrap:
        inner_model = Inner

        def __call__(self, x, sigma, model_options={}, seed=None):
            s = sigma.reshape(-1, 1, 1, 1)
            t = told.sigma_to_t(sigma) if fractions else sampling.timestep(sigma).float()
            return sampling.calculate_denoised(s, m.eps(sampling.calculate_input(s, x), t), x)

    patcher = types.SimpleNamespace(get_model_object=lambda n: sampling, model_options={})
    k = C.KSampler(patcher, STEPS, "cpu", sampler=name, scheduler=scheduler, denoise=strength or 1.0)
    if share:
        k.sigmas = C.calculate_sigmas(sampling, scheduler, STEPS)[STEPS - int(STEPS * strength):]
    noise = m.cpu()()
    image = m.image() if strength else torch.zeros_like(noise)
    fresh = m.gpu()
    extra = {"seed": SEED}
    sampler = C.sampler_object(name)
    call = sampler.sampler_function
    if name.endswith("ancestral"):
        sampler.sampler_function = lambda *a, **b: call(*a, noise_sampler=lambda x, y: fresh(), **b)
    x = sampler.sample(Wrap(), k.sigmas, extra, None, noise, image, m.mask if masked else None, True)
    return x


def sdcpp(m, strength=None, masked=False, mean=False, share=False, blend=True):
    """stable-diffusion.cpp: CompVisDenoiser, DiscreteScheduler, sample_euler_ancestral [src/runtime/denoiser.hpp], and
    the strength of src/stable-diffusion.cpp:4945."""
    a = m.alphas.double()
    logs = (((1 - a) / a) ** 0.5).float().log().double()

    def sigma_of(t):
        low, high = math.floor(t), math.ceil(t)
        return math.exp((1 - (t - low)) * logs[low] + (t - low) * logs[high])

    def t_of(sigma):
        low = min(max(int((math.log(sigma) >= logs).sum()) - 1, 0), 998)
        w = min(max((logs[low].item() - math.log(sigma)) / (logs[low] - logs[low + 1]).item(), 0), 1)
        return (1 - w) * low + w * (low + 1)
    sigmas = [sigma_of(999 - 999 / (STEPS - 1) * i) for i in range(STEPS)] + [0]
    draw = m.gpu()
    image = torch.zeros_like(m.mean)
    if strength is not None:
        image = m.image("mean" if mean else "sample", draw())
        draw = m.gpu()
        kept = int(STEPS * strength) if share else min(int(STEPS * strength), STEPS - 1) + 1
        sigmas = sigmas[STEPS - kept:]
    x = image + draw() * sigmas[0]
    for s, to in zip(sigmas, sigmas[1:]):
        x0 = x - s * m.eps(x / math.sqrt(s * s + 1), t_of(s))
        if masked and blend:
            x0 = x0 * m.mask + image * (1 - m.mask)
        up = min(to, math.sqrt(max(to * to * (s * s - to * to) / (s * s), 0)))
        down = math.sqrt(max(to * to - up * up, 0))
        x = x + (x - x0) / s * (down - s)
        if to > 0:
            x = x + draw() * up
    return x * m.mask + image * (1 - m.mask) if masked else x


# program -> run -> (function, arguments, evaluations); and mistakes: program.name -> (run, other arguments)
RUNS = {
    "compvis": {"text": (compvis, {}, 5), "picture": (compvis, dict(strength=HALF), 2)},
    "a1111": {"text": (a1111, {}, 5), "euler_a": (a1111, dict(name="euler_ancestral", automatic=None), 5),
              "picture": (a1111, dict(strength=HALF), 3), "mask": (a1111, dict(strength=HALF, masked=True), 3),
              "whole": (a1111, dict(name="euler_ancestral", automatic=None, strength=1.0, masked=True), 5)},
    "comfy": {"text": (comfy, {}, 5), "karras": (comfy, dict(scheduler="karras"), 5),
              "euler_a": (comfy, dict(name="euler_ancestral"), 5), "picture": (comfy, dict(strength=HALF), 5),
              "mask": (comfy, dict(name="euler_ancestral", strength=HALF, masked=True), 5),
              "whole": (comfy, dict(strength=1.0, masked=True), 5)},
    "sdcpp": {"text": (sdcpp, {}, 5), "picture": (sdcpp, dict(strength=HALF), 3),
              "mask": (sdcpp, dict(strength=HALF, masked=True), 3)},
}
MISTAKES = {
    "compvis": {"noise_of_the_first_step": ("picture", dict(level=-1)), "ends_at_1": ("text", dict(alpha=1.0))},
    "a1111": {"first_latents_of_comfy": ("text", dict(root=True)), "steps_of_diffusers": ("picture", dict(share=True)),
              "kept_only_at_the_end": ("mask", dict(blend=False))},
    "comfy": {"first_latents_of_a1111": ("text", dict(first=False)), "fractions": ("karras", dict(fractions=True)),
              "steps_of_diffusers": ("picture", dict(share=True)), "input_as_it_is": ("mask", dict(see=False)),
              "picture_without_the_root": ("whole", dict(first=False))},
    "sdcpp": {"posterior_mean": ("picture", dict(mean=True)), "steps_of_diffusers": ("picture", dict(share=True)),
              "kept_only_at_the_end": ("mask", dict(blend=False))},
}


def run(m, program, name, **other):
    function, given, evaluations = RUNS[program][name]
    torch.set_default_dtype(m.dtype)   # of schedules too
    try:
        with torch.no_grad(), oracle.context_of(m.pipe):
            return function(m, **dict(given, **other)), evaluations
    finally:
        torch.set_default_dtype(torch.float32)


def main():
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("--sources", required=True)
    parser.add_argument("--out", default=os.path.join(here, "..", "tests", "golden"))
    a = parser.parse_args()
    sources = Sources(a.sources)
    with tempfile.TemporaryDirectory() as directory, torch.no_grad():
        synth.write_model("sd1-small", directory)
        models = []
        for double in (True, False):
            pipe = oracle.load(directory, double=double)
            with oracle.context_of(pipe):
                models.append(Model(pipe, sources))
    m64, m32 = models
    truth, single, wrong, e32 = {}, {}, {}, {}
    for program, runs in RUNS.items():
        for name in runs:
            exact, n = run(m64, program, name)
            with oracle.exact_sinusoid():
                plain, n = run(m32, program, name)
            key = "%s.%s.latents.%d" % (program, name, n)
            truth[key], single[key] = exact.double(), plain.float()
            e32[program] = max(e32.get(program, 0), oracle.rel_l2(plain, exact))
            print("%-34s %.1e" % (key, oracle.rel_l2(plain, exact)))
        for name, (at, other) in MISTAKES[program].items():
            y, n = run(m64, program, at, **other)
            wrong["%s.%s" % (program, name)] = oracle.rel_l2(y, truth["%s.%s.latents.%d" % (program, at, n)])
    make_golden.check_mistakes(wrong, e32)
    golden = make_golden.stored(truth, single)
    golden.update({"wrong." + k: np.array([v], np.float32) for k, v in wrong.items()})
    path = os.path.join(a.out, "likes_sd1-small.safetensors")
    save_file(dict(sorted(golden.items())), path)
    print("%d tensors, %d bytes" % (len(truth), os.path.getsize(path)))


if __name__ == "__main__":
    main()

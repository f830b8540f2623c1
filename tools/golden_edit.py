#!/usr/bin/env python3
"""Writes the goldens of image to image and inpainting: edit_<config>.safetensors, net_inpaint-small.txt.

    python tools/golden_edit.py [--out tests/golden]

The runs are those of diffusers' StableDiffusionImg2ImgPipeline and StableDiffusionInpaintPipeline on two small models
of tools/synth.py: sd1-small, whose UNet has 4 channels, and inpaint-small, whose UNet has 9. The picture and the mask
are formulas (`picture`, `mask`) that tests/test_edit.c repeats. The form of the file is make_golden.py's; names are

  KIND.SAMPLER.STRENGTH.latents.I   before step I, the last one final; KIND: img2img, inpaint (4 channels), inpaint9
  wrong.KIND.MISTAKE                rel-L2 error of the final latents when a known mistake is made

Noise, the posterior's too, is drawn as float32 from one generator and cast, as make_golden.py does it.
"""
import argparse
import contextlib
import importlib
import itertools
import os
import tempfile

import diffusers
import numpy as np
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline
from diffusers.models.autoencoders import vae as vae_module
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_img2img, pipeline_stable_diffusion_inpaint
from PIL import Image
from safetensors.numpy import save_file

import golden_sampler
import golden_solvers
import make_golden
import oracle
import synth
import wrong_twins

DRAWERS = (vae_module, pipeline_stable_diffusion_img2img, pipeline_stable_diffusion_inpaint)
WIDTH, HEIGHT, STEPS, GUIDANCE, SEED = 56, 40, 5, 7.5, 31
STRENGTHS = (0.2, 0.5, 0.8, 1.0)
SAMPLERS = ("ddim", "pndm", "euler", "euler_a")
TWICE = ("heun", "dpm2", "dpm2_a", "dpm++sde")   # two evaluations a step: the kept part is put back after each
# config -> kind -> samplers -> strengths
KINDS = {"sd1-small": {"img2img": {SAMPLERS: STRENGTHS, TWICE: (0.5,)},
                       "inpaint": {SAMPLERS: STRENGTHS, TWICE: (0.5, 1.0)}},
         "inpaint-small": {"inpaint9": {SAMPLERS: (0.5, 1.0)}}}


def picture(width=WIDTH, height=HEIGHT):
    y, x, k = np.mgrid[0:height, 0:width, 0:3]
    return Image.fromarray(((5 * x + 3 * y + 70 * k + x * y // 8) % 256).astype(np.uint8))


def mask():
    """A disc, white within, with a rim of 128 (repainted) and one of 127 (kept)."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    d = (x - 30) ** 2 + (y - 18) ** 2
    return Image.fromarray(np.select([d < 100, d < 169, d < 225], [255, 128, 127], 0).astype(np.uint8))


def pipeline(pipe, kind):
    parts = {k: v for k, v in pipe.components.items() if k != "image_encoder"}
    kinds = {"img2img": StableDiffusionImg2ImgPipeline}
    p = kinds.get(kind, StableDiffusionInpaintPipeline)(**parts, requires_safety_checker=False)
    p.set_progress_bar_config(disable=True)
    return p


@contextlib.contextmanager
def with_sampler(pipe, sampler, generator):
    """oracle.with_sampler, and for the classes of golden_solvers.py what makes them compute in double."""
    saved = pipe.scheduler
    if sampler in golden_sampler.CLASSES:
        yield oracle.with_sampler(pipe, sampler)
    else:
        cls = getattr(diffusers, golden_solvers.CLASSES[sampler])
        s, plain = cls.from_config(saved.config), cls.from_config(saved.config)
        plain.set_timesteps(STEPS)
        double = pipe.unet.dtype == torch.float64
        set_timesteps, pipe.scheduler, golden_solvers.DrawnNoise.generator = s.set_timesteps, s, generator

        def whole(*args, **kwargs):   # see golden_solvers.run_diffusers
            set_timesteps(*args, **kwargs)
            if double and sampler not in ("dpm2", "dpm2_a"):
                s.timesteps = plain.timesteps.double()
        s.set_timesteps = whole
        if double:
            s.alphas_cumprod = s.alphas_cumprod.double()
        with golden_solvers.Patched(importlib.import_module(cls.__module__), double):
            yield pipe
    pipe.scheduler = saved


def run(pipe, kind, sampler, strength, draw=golden_sampler.float32_noise, twin=None, masks=None):
    """Latents before every step and the final ones. twin(pipeline): a context in which a mistake is made."""
    generator = torch.Generator().manual_seed(SEED)
    with with_sampler(pipe, sampler, generator) as sampled:
        return run_pipeline(pipeline(sampled, kind), kind, strength, generator, draw, twin, masks)


def run_pipeline(p, kind, strength, generator, draw, twin, masks):
    store = {}

    def keep(name, x):
        if name.startswith("latents."):
            store[name] = x.clone()

    def end(p_, i, t, given):
        if i + 1 == p_.num_timesteps:
            store["latents.%d" % (i + 1)] = given["latents"].clone()
        return given

    more = {} if kind == "img2img" else dict(mask_image=masks or mask(), height=HEIGHT, width=WIDTH)
    drawers = wrong_twins.changed(*[(m, "randn_tensor", draw) for m in DRAWERS])
    mistaken = twin(p) if twin else contextlib.nullcontext()
    with torch.no_grad(), oracle.context_of(p), oracle.Watch(p, keep, False).watching(), drawers, mistaken:
        p(make_golden.PROMPT, negative_prompt=make_golden.NEGATIVE, image=picture(), strength=strength,
          num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=generator, output_type="latent",
          callback_on_step_end=end, **more)
    return store


# ------------------------------------------------------------------------------------------------ mistakes

class NoiseBeforePosterior:
    """The run's noise drawn first, the posterior's after it."""

    def __init__(self):
        self.kept, self.calls = None, 0

    def __call__(self, shape, generator=None, device=None, dtype=None):
        self.calls += 1
        x = golden_sampler.float32_noise(shape, generator, device, dtype)
        if self.calls == 1:
            self.kept, x = x, golden_sampler.float32_noise(shape, generator, device, dtype)
        elif self.calls == 2:
            x = self.kept
        return x


class PosteriorMean:
    """Nothing is drawn for the picture's posterior."""
    calls = 0

    def __call__(self, shape, generator=None, device=None, dtype=None):
        self.calls += 1
        if self.calls == 1:
            return torch.zeros(shape, dtype=dtype)
        return golden_sampler.float32_noise(shape, generator, device, dtype)


def blend(how):
    """inpainting of 4 channels: what the kept part is after a step."""
    def twin(p):
        add = type(p.scheduler).add_noise

        def add_noise(original, noise, timesteps):
            if how == "clean":
                return original
            t = p.scheduler.timesteps   # "this step's": the noise level of the step that ended
            return add(p.scheduler, original, noise, t[max((t == timesteps[0]).nonzero()[0].item() - 1, 0)][None])
        return wrong_twins.changed((p.scheduler, "add_noise", add_noise))
    return twin


def of_the_middle(p):
    """inpainting of 4 channels with dpm2: the kept part gets the noise of the level that the UNet is asked about."""
    s, add = p.scheduler, p.scheduler.add_noise
    return wrong_twins.changed((s, "add_noise", lambda original, noise, t: add(original, noise, t)
                                if s.state_in_first_order else original + noise * s.sigmas_interpol[s.step_index]))


def channels(order):
    """inpainting of 9 channels: the UNet's input in another order."""
    @contextlib.contextmanager
    def twin(p):
        hook = p.unet.register_forward_pre_hook(lambda m, a: (a[0][:, order], *a[1:]))
        yield
        hook.remove()
    return twin


def black_hole(p):
    """What is repainted is shown to the UNet as black and not as grey."""
    encode = p._encode_vae_image
    hole = torch.from_numpy((np.asarray(mask()) >= 128).astype(np.float64))
    return wrong_twins.changed(
        (p, "_encode_vae_image", lambda image, generator: encode(image - hole.to(image.dtype), generator)))


def mistakes(kind, pipe, right):
    """wrong.KIND.NAME -> rel-L2 error of the final latents; right[sampler, strength]. The sampler is ddim unless a
    twin has another."""
    inverted = Image.fromarray(255 - np.asarray(mask()))
    rounded_up, half, whole = 0.6, 0.5, 1.0   # of 5 steps: 3; 2
    twins = {"strength_rounded_up": (half, dict(strength=rounded_up))}
    if kind != "inpaint9":
        twins["noise_before_posterior"] = (half, dict(draw=NoiseBeforePosterior()))
        twins["posterior_mean"] = (half, dict(draw=PosteriorMean()))
    if kind != "img2img":
        twins["mask_inverted"] = (whole, dict(masks=inverted))
    if kind == "inpaint":
        twins["kept_part_without_noise"] = (whole, dict(twin=blend("clean")))
        twins["kept_part_of_this_step"] = (whole, dict(twin=blend("this")))
        twins["kept_part_of_the_middle"] = (whole, dict(twin=of_the_middle, sampler="dpm2"))
    if kind == "inpaint9":
        twins["masked_before_mask"] = (whole, dict(twin=channels([0, 1, 2, 3, 5, 6, 7, 8, 4])))
        twins["mask_first"] = (whole, dict(twin=channels([4, 0, 1, 2, 3, 5, 6, 7, 8])))
        twins["black_hole"] = (whole, dict(twin=black_hole))
        twins["posterior_before_noise"] = (whole, dict(draw=NoiseBeforePosterior()))
    wrong = {}
    for name, (strength, more) in twins.items():
        y = final(run(pipe, kind, **dict(dict(strength=strength, sampler="ddim"), **more)))
        wrong["%s.%s" % (kind, name)] = oracle.rel_l2(y, right[more.get("sampler", "ddim"), strength])
    return wrong


def final(store):
    return store["latents.%d" % (len(store) - 1)]


# ------------------------------------------------------------------------------------------------ files

def make(config, kinds, out):
    print(config)
    with tempfile.TemporaryDirectory() as directory:
        synth.write_model(config, directory)
        pipe32, pipe64 = oracle.load(directory), oracle.load(directory, double=True)
    truth, single, wrong, e32 = {}, {}, {}, {}
    for kind, groups in kinds.items():
        right = {}
        for samplers, strengths in groups.items():
            for sampler, strength in itertools.product(samplers, strengths):
                name = "%s.%s.%g." % (kind, sampler, strength)
                exact = run(pipe64, kind, sampler, strength)
                with oracle.exact_sinusoid():
                    plain = run(pipe32, kind, sampler, strength)
                assert exact.keys() == plain.keys() and all(v.dtype == torch.float64 for v in exact.values())
                truth.update({name + k: v for k, v in exact.items()})
                single.update({name + k: v for k, v in plain.items()})
                if sampler in ("ddim", "dpm2"):   # those that mistakes are made with
                    right[sampler, strength] = final(exact)
                if sampler == "ddim":
                    e32[kind] = max(e32.get(kind, 0), oracle.rel_l2(final(plain), final(exact)))
        wrong.update(mistakes(kind, pipe64, right))
    make_golden.check_mistakes(wrong, e32)
    golden = make_golden.stored(truth, single)
    golden.update({"wrong." + k: np.array([v], np.float32) for k, v in wrong.items()})
    path = os.path.join(out, "edit_%s.safetensors" % config)
    save_file(dict(sorted(golden.items())), path)
    e = sorted((golden[k][0], k[:-4]) for k in golden if k.endswith(".e32"))
    print("  e32: median %.1e, largest %.1e (%s)" % (e[len(e) // 2][0], *e[-1]))
    print("  %d tensors, %d bytes" % (len(truth), os.path.getsize(path)))


def main():
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("--out", default=os.path.join(here, "..", "tests", "golden"))
    a = parser.parse_args()
    make_golden.write_description(os.path.join(a.out, "net_inpaint-small.txt"), "inpaint-small", None)
    for config, kinds in KINDS.items():
        make(config, kinds, a.out)


if __name__ == "__main__":
    main()

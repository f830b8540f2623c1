#!/usr/bin/env python3
"""Writes the goldens of SDXL with its refiner: tests/golden/refiner_chain.safetensors.

    python tools/golden_refiner.py [--out tests/golden]

A run is an ensemble of experts: StableDiffusionXLPipeline (or its image to image) with denoising_end, then
StableDiffusionXLImg2ImgPipeline with denoising_start, on the models sdxl-small and refiner-small of tools/synth.py. One
generator draws for both. Names are make_golden.py's, run.R.*, with the refiner's evaluations numbered on; what its text
encoder gives is refiner.prompt_embeds and so on. wrong.R.MISTAKE is the rel-L2 error of the run's last latents when a
known mistake is made. tests/test_refiner.c has the same runs.
"""
import argparse
import contextlib
import os
import tempfile

import numpy as np
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline
from diffusers.configuration_utils import FrozenDict
from diffusers.models.autoencoders import vae as vae_module
from diffusers.pipelines.stable_diffusion_xl import pipeline_stable_diffusion_xl_img2img
from safetensors.numpy import save_file

import golden_edit
import golden_sampler
import golden_sdxl
import make_golden
import oracle
import synth
import wrong_twins
from make_golden import NEGATIVE, PROMPT

SEED, SIDES = 23, (56, 40)   # width, height, as golden_edit.py's picture
# sampler None: the models' own, euler
RUNS = {
    "usual": dict(steps=5, at=0.8, negative_prompt=None),
    "sizes": dict(steps=5, at=0.5, negative_prompt=NEGATIVE, num_images_per_prompt=2, original_size=(640, 512),
                  crops_coords_top_left=(5, 7), scores=(7.5, 1.25)),
    "ddim": dict(sampler="ddim", steps=7, at=0.6, negative_prompt=""),
    "dpm++2m": dict(sampler="dpm++2m", steps=7, at=0.37, negative_prompt=NEGATIVE),
    "heun": dict(sampler="heun", steps=6, at=0.6, negative_prompt=NEGATIVE),
    "euler_a": dict(sampler="euler_a", steps=5, at=0.5, negative_prompt=NEGATIVE),
    "pndm": dict(sampler="pndm", steps=5, at=0.5, negative_prompt=NEGATIVE),
    "no_guidance": dict(steps=5, at=0.8, negative_prompt=None, guidance_scale=1.0),
    "img2img": dict(steps=5, at=0.6, negative_prompt=None, strength=0.8),
}


class Watch(golden_sdxl.Watch):
    """The same for the refiner: its evaluations are numbered from `before`, its texts have names of their own."""

    def __init__(self, pipe, sink, before):
        super().__init__(pipe, sink, False)
        self.i = before

    def before_unet(self, module, args, kwargs):
        plain = self.sink
        if self.i:
            self.sink = lambda name, x: plain("refiner." + name, x)
        super().before_unet(module, args, kwargs)
        self.sink = plain

    def step(self, original, model_output, timestep, sample, **kwargs):
        i, self.i = self.i, self.i + 1
        self.sink("latents.%d" % i, sample)
        self.sink("timestep.%d" % i, torch.tensor([float(timestep)]))
        self.sink("step.%d.noise_pred" % i, model_output)
        return (original(model_output, timestep, sample, **dict(kwargs, return_dict=True)).prev_sample,)


@contextlib.contextmanager
def watched(pipe, sampler, steps, generator, sink, before):
    """The pipeline, with the sampler and everything in double where the model is."""
    drawers = [(m, "randn_tensor", golden_sampler.float32_noise) for m in (vae_module, pipeline_stable_diffusion_xl_img2img)]
    saved = pipe.scheduler
    with wrong_twins.changed((golden_edit, "STEPS", steps), *drawers), torch.no_grad(), oracle.context_of(pipe), \
            golden_edit.with_sampler(pipe, sampler, generator) if sampler else contextlib.nullcontext():
        watch = Watch(pipe, sink, before)
        with watch.watching():
            yield watch
    pipe.scheduler = saved


def draw_base(pipe, sink, generator, steps, sampler, at, strength=None, scores=None, end=None, **more):
    """Latents, and how many evaluations there were."""
    width, height = SIDES
    batch = more.get("num_images_per_prompt", 1)
    more = dict(dict(guidance_scale=5.0), **more)
    more.update(num_inference_steps=steps, generator=generator, denoising_end=at if end is None else end,
                output_type="latent")
    if strength is None:
        noise = torch.randn((batch, 4, height // 8, width // 8), generator=generator)
        sink("noise", noise)
        more.update(height=height, width=width, latents=noise.to(pipe.unet.dtype))
    else:
        parts = {k: v for k, v in pipe.components.items() if k not in ("image_encoder", "feature_extractor")}
        pipe = StableDiffusionXLImg2ImgPipeline(**parts, add_watermarker=False)
        pipe.set_progress_bar_config(disable=True)
        more.update(image=golden_edit.picture(), strength=strength)
    with watched(pipe, sampler, steps, generator, sink, 0) as watch:
        return pipe(PROMPT, **more).images, watch.i


def refine(pipe, sink, latents, before, generator, steps, sampler, at, strength=None, scores=(6.0, 2.5), **more):
    """The last latents."""
    last = {}

    def end(p, i, t, given):
        if i + 1 == p.num_timesteps:
            last["latents"] = given["latents"].clone()
            sink("latents.%d" % (before + i + 1), given["latents"])
        return given
    more = dict(dict(guidance_scale=5.0, denoising_start=at), **more)
    if strength is not None:
        more["strength"] = strength
    with watched(pipe, sampler, steps, generator, sink, before):
        picture = pipe(PROMPT, image=latents, num_inference_steps=steps, generator=generator, output_type="pt",
                       aesthetic_score=scores[0], negative_aesthetic_score=scores[1], callback_on_step_end=end,
                       **more).images
    sink("image", picture)
    return last["latents"]


def run(pipes, sink=None, between=None, generator_of_refiner=None, base_end=None, refiner=None, twin=None, **more):
    """Returns the last latents. between(latents, pipe, generator): what a mistake makes of the latents on their way;
    refiner: arguments that a mistake changes; twin: a context around the refiner."""
    sink = sink or (lambda *_: None)
    generator = torch.Generator().manual_seed(SEED)
    more = dict(dict(sampler=None), **more)
    latents, n = draw_base(pipes[0], sink, generator, end=base_end, **more)
    if between:
        latents = between(latents, pipes[1], generator)
    with twin or contextlib.nullcontext():
        return refine(pipes[1], sink, latents, n, generator_of_refiner or generator, **dict(more, **(refiner or {})))


def everything(pipes):
    out = {}
    for name, more in RUNS.items():
        run(pipes, oracle.once(out, "run.%s." % name), **more)
        if name != "usual":   # they are large, and of the same texts
            for prefix in ("", "refiner."):
                del out["run.%s.%sprompt_embeds" % (name, prefix)]
    return out


# ------------------------------------------------------------------------------------------------ mistakes

def with_noise(latents, pipe, generator):
    """The noise of the level where the refiner begins, which the latents have already."""
    noise = golden_sampler.float32_noise(latents.shape, torch.Generator().manual_seed(SEED), None, latents.dtype)
    s = pipe.scheduler
    s.set_timesteps(5)
    return s.add_noise(latents, noise, s.timesteps[3:4])


def half_steps(pipe):
    """Heun's refiner begins where the base has ended and not with that step again."""
    right = pipe.get_timesteps

    def get(*args, **kwargs):
        timesteps, n = right(*args, **kwargs)
        pipe.scheduler.set_begin_index(len(pipe.scheduler.timesteps) - len(timesteps) + 2)
        return timesteps[2:], n - 2
    return wrong_twins.changed((pipe, "get_timesteps", get))


def mistakes(pipes, last):
    wrong = {}

    def note(r, name, **mistake):
        wrong["%s.%s" % (r, name)] = oracle.rel_l2(run(pipes, **dict(RUNS[r], **mistake)), last[r])
    zeros = wrong_twins.changed((pipes[1], "_internal_dict", FrozenDict(
        dict(pipes[1].config, force_zeros_for_empty_prompt=True))))
    note("usual", "noise_added", between=with_noise)
    note("usual", "cutoff_excluded", base_end=0.799)
    note("usual", "zeros_as_the_base_has", twin=zeros)
    note("usual", "scaled_by_init_sigma", between=lambda x, p, g: x * float(p.scheduler.init_noise_sigma))
    note("usual", "scaled_as_the_vae_has_them", between=lambda x, p, g: x / p.vae.config.scaling_factor)
    note("usual", "base_to_the_end", base_end=1.0)
    note("sizes", "strength_and_noise", refiner=dict(denoising_start=None, strength=0.5))
    note("sizes", "steps_of_its_own", refiner=dict(steps=10))
    note("sizes", "scores_of_the_class", scores=(6.0, 2.5))
    note("sizes", "crop_for_both", refiner=dict(negative_crops_coords_top_left=(5, 7)))
    note("sizes", "sizes_for_the_base_alone", refiner=dict(original_size=None))
    note("ddim", "one_step_less", base_end=0.5)
    note("dpm++2m", "one_step_more", refiner=dict(at=0.2))
    note("heun", "no_step_twice", twin=half_steps(pipes[1]))
    note("euler_a", "a_fresh_generator", generator_of_refiner=torch.Generator().manual_seed(SEED))
    note("pndm", "one_step_more", refiner=dict(at=0.3))
    note("no_guidance", "guided", refiner=dict(guidance_scale=5.0))
    note("img2img", "whole_strength", strength=1.0)
    note("img2img", "refined_by_strength", refiner=dict(denoising_start=None, strength=0.4))
    return wrong


def main():
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="tests/golden")
    path = os.path.join(parser.parse_args().out, "refiner_chain.safetensors")
    with tempfile.TemporaryDirectory() as directory:
        names = [os.path.join(directory, n) for n in ("sdxl-small", "refiner-small")]
        for name in names:
            synth.write_model(os.path.basename(name), name)
        single, double = [[golden_sdxl.load(n, dtype, i == 1) for i, n in enumerate(names)]
                          for dtype in (torch.float32, torch.float64)]
    truth = everything(double)
    with make_golden.independent():
        again = everything(double)
    worst = max((oracle.rel_l2(again[k], v), k) for k, v in truth.items())
    print("a second computation in float64 differs by at most %.1e (%s)" % worst)
    assert worst[0] < 1e-11
    with oracle.exact_sinusoid():
        singly = everything(single)
    last = {r: golden_sdxl.last_latents(truth, r) for r in RUNS}
    wrong = mistakes(double, last)
    make_golden.check_mistakes(wrong, {r: oracle.rel_l2(golden_sdxl.last_latents(singly, r), last[r]) for r in RUNS})
    golden = make_golden.stored(truth, singly)
    golden.update({"wrong." + k: np.array([v], np.float32) for k, v in wrong.items()})
    save_file(dict(sorted(golden.items())), path)
    os.chmod(path, 0o644)
    print("%d tensors, %d bytes" % (len(truth), os.path.getsize(path)))


if __name__ == "__main__":
    main()

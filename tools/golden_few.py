#!/usr/bin/env python3
"""Writes the goldens of models that draw in few steps: net_lcm-small.{txt,safetensors}, few_CONFIG.safetensors.

    python tools/golden_few.py [--out tests/golden]

A latent consistency model has a small model of its own, whose UNet is told the guidance scale. What Turbo, Lightning
and Hyper-SD need beside their weights (a scheduler, few steps, no guidance) is shown with the small models of SD 1,
SD 2 and SDXL, as the model cards set diffusers up. The form of the files is make_golden.py's: run.R.* is a whole run, of
which RUNS has the arguments; wrong.R.MISTAKE the rel-L2 error of the run's last latents when a known mistake is made.
tests/test_few.c has the same runs.

diffusers embeds the guidance scale in float32, where sines of angles of thousands keep three digits: like the
timestep's sinusoid, the embedding is exact in both the float64 run and the float32 run, and what diffusers' own does to
the picture is printed.
"""
import argparse
import contextlib
import math
import os
import tempfile

import diffusers
import numpy as np
import torch
from diffusers.models.autoencoders import vae as vae_module
from diffusers.pipelines.latent_consistency_models import pipeline_latent_consistency_img2img
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_img2img, pipeline_stable_diffusion_inpaint
from diffusers.pipelines.stable_diffusion_xl import pipeline_stable_diffusion_xl_img2img
from diffusers.schedulers import scheduling_lcm, scheduling_tcd
from safetensors.numpy import save_file

import golden_edit
import golden_sampler
import make_golden
import oracle
import synth
import wrong_twins
from make_golden import PROMPT

SEED, SIDES = 20, (72, 88)   # width, height; runs with a strength have golden_edit.py's picture and size
DRAWERS = (vae_module, pipeline_latent_consistency_img2img, pipeline_stable_diffusion_img2img,
           pipeline_stable_diffusion_inpaint, pipeline_stable_diffusion_xl_img2img, scheduling_lcm, scheduling_tcd)

# name -> arguments of the pipeline; `scheduler`: class and what from_config(..., **) changes; None: the model's own.
TURBO = dict(scheduler=("EulerDiscreteScheduler", dict(timestep_spacing="trailing", prediction_type="epsilon")),
             guidance_scale=0.0)
TURBO_XL = dict(scheduler=("EulerAncestralDiscreteScheduler", dict(timestep_spacing="trailing")), guidance_scale=0.0)
LIGHTNING = dict(scheduler=("EulerDiscreteScheduler", dict(timestep_spacing="trailing")), guidance_scale=0.0)
LIGHTNING_X0 = dict(LIGHTNING, scheduler=("EulerDiscreteScheduler", dict(timestep_spacing="trailing",
                                                                         prediction_type="sample")))
HYPER_LCM = dict(scheduler=("LCMScheduler", {}), guidance_scale=0.0)
HYPER_TCD = dict(scheduler=("TCDScheduler", {}), guidance_scale=0.0)
HYPER_DDIM = dict(scheduler=("DDIMScheduler", dict(timestep_spacing="trailing")), guidance_scale=0.0)
LCM_LORA = dict(scheduler=("LCMScheduler", {}), guidance_scale=1.0)
RUNS = {"lcm-small": {
    "own": dict(),   # the pipeline's defaults
    "scale": dict(num_inference_steps=2, guidance_scale=2.3, num_images_per_prompt=2),
    "one": dict(num_inference_steps=1, guidance_scale=1.0),
    "skip": dict(num_inference_steps=3, clip_skip=1),   # what A1111 calls 2
    "timesteps": dict(num_inference_steps=None, timesteps=[799, 499, 59]),
    "img2img": dict(num_inference_steps=3, strength=0.6, guidance_scale=4.0),
    "img2img_all": dict(num_inference_steps=4, strength=1.0, num_images_per_prompt=2),
    # pipelines of Stable Diffusion know such UNets too
    "ddim": dict(scheduler=("DDIMScheduler", {}), num_inference_steps=3, guidance_scale=4.0),
    "ddim_img2img": dict(scheduler=("DDIMScheduler", {}), num_inference_steps=5, guidance_scale=4.0, strength=0.6),
    "inpaint": dict(num_inference_steps=5, guidance_scale=4.0, strength=0.6, masked=True),
}, "sd1-small": {   # what LCM-LoRA needs: the scheduler alone
    "lcm": dict(LCM_LORA, num_inference_steps=4),
    "lcm_img2img": dict(LCM_LORA, num_inference_steps=5, strength=0.6),
}, "sd2-small": {
    "turbo_1": dict(TURBO, num_inference_steps=1),
    "turbo_4": dict(TURBO, num_inference_steps=4, num_images_per_prompt=2),
    "turbo_img2img": dict(TURBO, num_inference_steps=2, strength=0.5),
}, "sdxl-small": {
    "turbo_1": dict(TURBO_XL, num_inference_steps=1),
    "turbo_4": dict(TURBO_XL, num_inference_steps=4),
    "turbo_img2img": dict(TURBO_XL, num_inference_steps=2, strength=0.5),
    "lightning_1": dict(LIGHTNING_X0, num_inference_steps=1),
    "lightning_2": dict(LIGHTNING, num_inference_steps=2),
    "lightning_4": dict(LIGHTNING, num_inference_steps=4),
    "hyper_1": dict(HYPER_LCM, num_inference_steps=None, timesteps=[800]),
    "hyper_tcd": dict(HYPER_TCD, num_inference_steps=4, eta=1.0),
    "hyper_tcd_03": dict(HYPER_TCD, num_inference_steps=3, eta=0.3),
    "hyper_ddim": dict(HYPER_DDIM, num_inference_steps=2),
}}


# ------------------------------------------------------------------------------------------------ pipelines

def load(config, dtype):
    cls = diffusers.StableDiffusionXLPipeline if config == "sdxl-small" else \
        diffusers.LatentConsistencyModelPipeline if config == "lcm-small" else diffusers.StableDiffusionPipeline
    with tempfile.TemporaryDirectory() as directory:
        synth.write_model(config, directory)
        pipe = cls.from_pretrained(directory, dtype=dtype, local_files_only=True)
    for part in (pipe.text_encoder, pipe.unet, pipe.vae, getattr(pipe, "text_encoder_2", None)):
        if part is not None:
            part.eval().requires_grad_(False)
    # clip_skip asks for text_encoder.text_model, which transformers 5 has no longer
    object.__setattr__(pipe.text_encoder, "text_model", pipe.text_encoder)
    return pipe


def pipeline(pipe, more):
    """The pipeline for a run, and a scheduler of its own in it, as a user of diffusers makes them."""
    xl, lcm = hasattr(pipe, "text_encoder_2"), pipe.unet.config.time_cond_proj_dim is not None
    kind = "Inpaint" if more.get("masked") else "Img2Img" if "strength" in more else ""
    own = more.get("scheduler") is None
    if lcm and own and kind != "Inpaint":
        name = "LatentConsistencyModel%sPipeline" % kind
    else:
        name = "StableDiffusion%s%sPipeline" % ("XL" if xl else "", kind)
    parts = {k: v for k, v in pipe.components.items() if k not in ("image_encoder", "feature_extractor")}
    cls, change = (type(pipe.scheduler).__name__, {}) if own else more["scheduler"]
    parts["scheduler"] = getattr(diffusers, cls).from_config(pipe.scheduler.config, **change)
    parts.update(dict(add_watermarker=False) if xl else dict(
        safety_checker=None, feature_extractor=None, requires_safety_checker=False))
    p = getattr(diffusers, name)(**parts)
    p.set_progress_bar_config(disable=True)
    return p


class Watch(oracle.Watch):
    """Names for what happens, whatever the class of the scheduler and whatever the pipeline makes of its answer."""

    def ids(self, module, args, kwargs):
        pass

    def before_unet(self, module, args, kwargs):
        if self.embeds:
            return
        self.embeds = True
        self.sink("prompt_embeds", kwargs["encoder_hidden_states"])
        if kwargs.get("timestep_cond") is not None:
            self.sink("timestep_cond", kwargs["timestep_cond"])

    def step(self, original, model_output, timestep, sample, **kwargs):
        i, self.i = self.i, self.i + 1
        s = self.scheduler
        self.sink("latents.%d" % i, sample)
        self.sink("timestep.%d" % i, torch.tensor([float(timestep)]))
        self.sink("step.%d.noise_pred" % i, model_output)
        saved = torch.get_default_dtype()
        torch.set_default_dtype(sample.dtype)   # LCM's step has a product of a timestep and a Python number
        try:
            out = original(model_output, timestep, sample, **dict(kwargs, return_dict=False))
        finally:
            torch.set_default_dtype(saved)
        self.last = out[0]
        if isinstance(s, (diffusers.LCMScheduler, diffusers.TCDScheduler)):
            self.sink("step.%d.denoised" % i, golden_sampler.predicted_x0(s, sample, model_output, timestep))
        else:
            self.sink("step.%d.denoised" % i, out[1])
        return out


def in_double(scheduler):
    """LCM's and TCD's tables as golden_sampler.to_float64 has those of others: float32 values, as doubles."""
    if isinstance(scheduler, (diffusers.LCMScheduler, diffusers.TCDScheduler)):
        scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
        scheduler.final_alpha_cumprod = scheduler.final_alpha_cumprod.double()


def embedding_of(w, dim, cos_first=False, less=1, times=1000.0):
    """[sin(u f_i) | cos(u f_i)], u = 1000 w, f_i = 10000^(-i / (dim/2 - 1))"""
    half = dim // 2
    f = torch.exp(-math.log(10000.0) / (half - less) * torch.arange(half, dtype=torch.float64))
    angle = times * w * f
    parts = [torch.cos(angle), torch.sin(angle)] if cos_first else [torch.sin(angle), torch.cos(angle)]
    return torch.cat(parts)[None]


def exact_guidance(p, minus=1.0, **how):
    """The guidance scale embedded in double; how: mistakes."""
    if not hasattr(p, "get_guidance_scale_embedding"):
        return contextlib.nullcontext()

    def exact(w, embedding_dim=512, dtype=None):
        return embedding_of(p.guidance_scale - minus, embedding_dim, **how).repeat(len(w), 1)
    return wrong_twins.changed((p, "get_guidance_scale_embedding", exact))


def run(pipe, more, sink=None, twin=None, guidance=exact_guidance):
    """The last latents. twin(pipeline): a context in which a mistake is made."""
    p, sink = pipeline(pipe, more), sink or (lambda *_: None)
    if pipe.unet.dtype == torch.float64:
        in_double(p.scheduler)
    arguments = {k: v for k, v in more.items() if k not in ("scheduler", "masked")}
    generator, width, height = torch.Generator().manual_seed(SEED), *SIDES
    if "strength" in more:
        arguments["image"] = golden_edit.picture()
        if more.get("masked"):
            arguments.update(mask_image=golden_edit.mask(), height=golden_edit.HEIGHT, width=golden_edit.WIDTH)
    else:
        batch, scale = more.get("num_images_per_prompt", 1), pipe.vae_scale_factor
        noise = torch.randn((batch, 4, height // scale, width // scale), generator=generator)
        sink("noise", noise)
        arguments.update(latents=noise.to(pipe.unet.dtype), height=height, width=width)
    watch = Watch(p, sink, False)
    drawers = wrong_twins.changed(*[(m, "randn_tensor", golden_sampler.float32_noise) for m in DRAWERS])
    mistake = twin(p) if twin else contextlib.nullcontext()
    last = {}

    def end(p_, i, t, given):   # what inpainting has put back
        last["latents"] = given["latents"].clone()
        return given
    with torch.no_grad(), oracle.context_of(p), watch.watching(), drawers, guidance(p), mistake:
        image = p(PROMPT, generator=generator, output_type="pt", callback_on_step_end=end, **arguments).images
    sink("latents.%d" % watch.i, last["latents"])
    sink("image", image)
    return last["latents"]


def everything(pipe, config):
    out = {}
    for name, more in RUNS[config].items():
        run(pipe, more, oracle.once(out, "run.%s." % name))
    return out


# ------------------------------------------------------------------------------------------------ mistakes

def guided(p):
    """Classifier-free guidance beside the embedded scale."""
    right = p.unet.forward
    negative = p.encode_prompt("", "cpu", 1, False)[0]

    def twice(sample, timestep, encoder_hidden_states, return_dict=True, **kwargs):
        with_prompt = right(sample, timestep, encoder_hidden_states, return_dict=False, **kwargs)[0]
        without = right(sample, timestep, negative.repeat(len(sample), 1, 1), return_dict=False, **kwargs)[0]
        return (without + p.guidance_scale * (with_prompt - without),)
    return wrong_twins.changed((p.unet, "forward", twice))


def not_told(p):
    right = p.unet.forward
    return wrong_twins.changed((p.unet, "forward", lambda *a, **k: right(*a, **dict(k, timestep_cond=None))))


def after_linear_1(p):
    """The guidance's embedding added behind the first layer, not before it, to as many numbers as there are."""
    e = p.unet.time_embedding

    def forward(sample, condition=None):
        x, more = e.linear_1(sample), e.cond_proj(condition)
        x = torch.cat((x[:, :more.shape[1]] + more, x[:, more.shape[1]:]), 1)
        return e.linear_2(e.act(x))
    return wrong_twins.changed((e, "forward", forward))


def same_noise(p):
    """The noise of the first step in every step."""
    kept = []

    def drawn(shape, generator=None, device=None, dtype=None):
        kept.append(golden_sampler.float32_noise(shape, generator, device, dtype))
        return kept[0]
    return wrong_twins.changed((scheduling_lcm, "randn_tensor", drawn))


def predicts(kind):
    return lambda p: wrong_twins.changed((p.scheduler, "config", dict_with(p.scheduler.config, prediction_type=kind)))


def dict_with(config, **more):
    return type(config)(dict(config, **more))


def scheduled(more, **change):
    """Another scheduler, or the same with other settings."""
    cls, own = more.get("scheduler") or ("LCMScheduler", {})
    return dict(more, scheduler=(change.pop("cls", cls), dict(own, **change)))


def lcm_mistakes(note):
    for name, how in {"not_less_one": dict(minus=0.0), "cos_first": dict(cos_first=True), "half": dict(less=0),
                      "not_times_1000": dict(times=1.0)}.items():
        note("own", name, guidance=lambda p, how=how: exact_guidance(p, **how))
        note("scale", name, guidance=lambda p, how=how: exact_guidance(p, **how))
    for name, twin in {"guided": guided, "not_told": not_told, "after_linear_1": after_linear_1,
                       "same_noise": same_noise}.items():
        note("own", name, twin=twin)
    spaced = [999, 749, 499, 249]   # trailing, not the distillation's 999, 759, 519, 259
    note("own", "spaced_evenly", num_inference_steps=None, timesteps=spaced)
    note("own", "leading", num_inference_steps=None, timesteps=[751, 501, 251, 1])
    # the last int(steps * strength) of the steps, as other pipelines take them
    note("img2img", "as_other_pipelines", scheduler=("LCMScheduler", {}))
    note("ddim", "guided", twin=guided)
    note("inpaint", "not_masked", masked=None, scheduler=("LCMScheduler", {}))


def mistakes(pipe, config, last):
    wrong, runs = {}, RUNS[config]

    def note(r, name, twin=None, guidance=exact_guidance, **more):
        wrong["%s.%s" % (r, name)] = oracle.rel_l2(run(pipe, dict(runs[r], **more), None, twin, guidance), last[r])
    if config == "lcm-small":
        lcm_mistakes(note)
    if config == "sd1-small":
        note("lcm", "guided", guidance_scale=8.5)
        note("lcm_img2img", "all_steps", num_inference_steps=3, strength=1.0)
    if config in ("sd2-small", "sdxl-small"):
        note("turbo_1", "guided", guidance_scale=7.5)
        note("turbo_4", "guided", guidance_scale=7.5)
        note("turbo_1", "leading", **scheduled(runs["turbo_1"], timestep_spacing="leading"))
        note("turbo_4", "leading", **scheduled(runs["turbo_4"], timestep_spacing="leading"))
        note("turbo_4", "linspace", **scheduled(runs["turbo_4"], timestep_spacing="linspace"))
        note("turbo_img2img", "both_steps", strength=1.0)
    if config == "sd2-small":
        note("turbo_4", "v_prediction", **scheduled(runs["turbo_4"], prediction_type="v_prediction"))
    if config == "sdxl-small":
        note("turbo_4", "not_ancestral", **scheduled(runs["turbo_4"], cls="EulerDiscreteScheduler"))
        note("lightning_1", "epsilon", **scheduled(runs["lightning_1"], prediction_type="epsilon"))
        note("lightning_4", "leading", **scheduled(runs["lightning_4"], timestep_spacing="leading"))
        note("lightning_4", "guided", guidance_scale=5.0)
        note("hyper_1", "first_timestep", timesteps=[999])
        note("hyper_tcd", "eta_0", eta=0.0)
        note("hyper_tcd_03", "eta_0", eta=0.0)
        note("hyper_ddim", "leading", **scheduled(runs["hyper_ddim"], timestep_spacing="leading"))
    return wrong


# ------------------------------------------------------------------------------------------------ files

def last_latents(results, name):
    keys = [k for k in results if k.startswith("run.%s.latents." % name)]
    return results[max(keys, key=lambda k: int(k.rsplit(".", 1)[1]))]


def own_embedding(pipe32, truth):
    """How far diffusers' own embedding of the guidance takes the result."""
    for name in ("own", "scale", "img2img"):
        with oracle.exact_sinusoid():
            y = run(pipe32, RUNS["lcm-small"][name], guidance=lambda p: contextlib.nullcontext())
        print("  %s with diffusers' own float32 embedding: %.1e" % (name, oracle.rel_l2(y, last_latents(truth, name))))


def make(config, out):
    print(config)
    pipe32, pipe64 = load(config, torch.float32), load(config, torch.float64)
    truth = everything(pipe64, config)
    assert all(v.dtype == torch.float64 for k, v in truth.items() if not k.endswith("noise") and ".timestep." not in k)
    with make_golden.independent():
        again = everything(pipe64, config)
    worst = max((oracle.rel_l2(again[k], v), k) for k, v in truth.items())
    print("  a second computation in float64 differs by at most %.1e (%s)" % worst)
    assert worst[0] < 1e-11
    with oracle.exact_sinusoid():
        single = everything(pipe32, config)
    if config == "lcm-small":
        own_embedding(pipe32, truth)
    last = {r: last_latents(truth, r) for r in RUNS[config]}
    wrong = mistakes(pipe64, config, last)
    make_golden.check_mistakes(wrong, {r: oracle.rel_l2(last_latents(single, r), last[r]) for r in RUNS[config]})
    golden = make_golden.stored(truth, single)
    golden.update({"wrong." + k: np.array([v], np.float32) for k, v in wrong.items()})
    path = os.path.join(out, ("net_" if config == "lcm-small" else "few_") + config)
    if config == "lcm-small":
        with open(path + ".txt", "w", encoding="utf-8", newline="\n") as f:
            f.write("# made by tools/golden_few.py, which explains it\n")
            make_golden.write_files(f, config)
            make_golden.write_parts(f, config)
    save_file(dict(sorted(golden.items())), path + ".safetensors")
    os.chmod(path + ".safetensors", 0o644)
    print("  %d tensors, %d bytes" % (len(truth), os.path.getsize(path + ".safetensors")))


def main():
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("--out", default=os.path.join(here, "..", "tests", "golden"))
    parser.add_argument("--config", choices=RUNS, action="append")
    a = parser.parse_args()
    for config in a.config or RUNS:
        make(config, a.out)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Writes the goldens of whole runs of SDXL and its refiner: tests/golden/net_{sdxl,refiner}-small.{txt,safetensors}.

    python tools/golden_sdxl.py [--out tests/golden]

The files are like make_golden.py's: text_encoder.*, text_encoder_2.* are the modules of the text encoders for
[negative prompt, prompt]; run.R.* a whole run each, of which RUNS has the arguments; wrong.R.MISTAKE the rel-L2 error
of the run's last latents when a known mistake is made. tests/test_sdxl.c has the same runs.
"""
import argparse
import contextlib
import tempfile

import numpy as np
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline, StableDiffusionXLInpaintPipeline, StableDiffusionXLPipeline
from diffusers.configuration_utils import FrozenDict
from diffusers.models.autoencoders import vae as vae_module
from diffusers.pipelines.stable_diffusion_xl import (pipeline_stable_diffusion_xl_img2img,
                                                     pipeline_stable_diffusion_xl_inpaint)

import golden_edit
import golden_sampler
import make_golden
import oracle
import synth
import wrong_twins
from make_golden import NEGATIVE, PROMPT

STEPS, SEED, SIDES = 3, 20, (72, 88)   # width, height
# Runs with a strength begin from golden_edit.py's picture and have its size and steps, and if masked its mask.
RUNS = {"sdxl-small": {
    "zeros": dict(negative_prompt=None),
    "empty": dict(negative_prompt=""),
    # sizes are (height, width), crops (top, left)
    "sizes": dict(negative_prompt=NEGATIVE, original_size=(640, 512), crops_coords_top_left=(16, 8), target_size=(96, 80),
                  negative_original_size=(320, 256), negative_crops_coords_top_left=(0, 24),
                  negative_target_size=(64, 48)),
    "crop": dict(negative_prompt=NEGATIVE, crops_coords_top_left=(5, 7), num_images_per_prompt=2),
    "skip": dict(negative_prompt=NEGATIVE, clip_skip=1),   # what A1111 calls 2
    "no_guidance": dict(negative_prompt=None, guidance_scale=1.0),
    "img2img": dict(negative_prompt=None, crops_coords_top_left=(5, 7), strength=0.6),
    "inpaint": dict(negative_prompt=NEGATIVE, masked=True, strength=0.6),
}, "inpaint-xl-small": {
    "inpaint9": dict(negative_prompt=None, masked=True, strength=0.6),
    "whole": dict(negative_prompt=NEGATIVE, masked=True, strength=1.0),
}, "refiner-small": {
    "refine": dict(negative_prompt=None, crops_coords_top_left=(5, 7), strength=0.6),
    "scores": dict(negative_prompt=NEGATIVE, strength=0.6, original_size=(640, 512), aesthetic_score=7.5,
                   negative_aesthetic_score=1.25),
}}


class Watch(oracle.Watch):
    def ids(self, module, args, kwargs):
        pass

    def before_unet(self, module, args, kwargs):
        if not self.embeds:
            self.embeds = True
            self.sink("prompt_embeds", kwargs["encoder_hidden_states"])
            self.sink("pooled_prompt_embeds", kwargs["added_cond_kwargs"]["text_embeds"])
            self.sink("add_time_ids", kwargs["added_cond_kwargs"]["time_ids"])


def load(directory, dtype, refiner):
    cls = StableDiffusionXLImg2ImgPipeline if refiner else StableDiffusionXLPipeline
    pipe = cls.from_pretrained(directory, dtype=dtype, local_files_only=True, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    for part in (pipe.text_encoder, pipe.text_encoder_2, pipe.unet, pipe.vae):
        if part is not None:
            part.eval().requires_grad_(False)
    return pipe


def encoders(pipe):
    """name, tokenizer, encoder of those that there are."""
    return [v for v in (("text_encoder", pipe.tokenizer, pipe.text_encoder),
                        ("text_encoder_2", pipe.tokenizer_2, pipe.text_encoder_2)) if v[2] is not None]


@contextlib.contextmanager
def skip_for_both(pipe, layers):
    """diffusers leaves out layers for the prompt alone; A1111, whose option it is, for the negative prompt too."""
    right = pipe.encode_prompt

    def both(*args, negative_prompt=None, **kwargs):
        one = dict(kwargs, negative_prompt=None, negative_prompt_2=None, do_classifier_free_guidance=False)
        context, _, pooled, _ = right(*args, **one)
        negative, _, negative_pooled, _ = right(*args, **dict(one, prompt=negative_prompt, prompt_2=None))
        return context, negative, pooled, negative_pooled
    with wrong_twins.changed((pipe, "encode_prompt", both)):
        yield


def picture_to_picture(pipe, sink, end, more):
    generator = torch.Generator().manual_seed(SEED)
    drawers = wrong_twins.changed(*[(m, "randn_tensor", golden_sampler.float32_noise)
                                    for m in (vae_module, pipeline_stable_diffusion_xl_img2img,
                                              pipeline_stable_diffusion_xl_inpaint)])
    masked, more = bool(more.get("masked")), {k: v for k, v in more.items() if k != "masked"}
    cls = StableDiffusionXLInpaintPipeline if masked else StableDiffusionXLImg2ImgPipeline
    if masked:
        more.update(mask_image=golden_edit.mask(), height=golden_edit.HEIGHT, width=golden_edit.WIDTH)
    if not isinstance(pipe, cls):
        parts = {k: v for k, v in pipe.components.items() if k not in ("image_encoder", "feature_extractor")}
        pipe = cls(**parts, add_watermarker=False)
        pipe.set_progress_bar_config(disable=True)
    with torch.no_grad(), oracle.context_of(pipe), Watch(pipe, sink, False).watching(), drawers:
        return pipe(PROMPT, image=golden_edit.picture(), num_inference_steps=golden_edit.STEPS, generator=generator,
                    output_type="pt", callback_on_step_end=end, **dict(dict(guidance_scale=5.0), **more)).images


def run(pipe, sink=None, **more):
    """As oracle.text_to_image. Returns the last latents."""
    sink, last = sink or (lambda *_: None), {}

    def end(p, i, t, given):
        if i + 1 == p.num_timesteps:
            last["latents"] = given["latents"].clone()
            sink("latents.%d" % (i + 1), given["latents"])
        return given
    if "strength" in more:
        sink("image", picture_to_picture(pipe, sink, end, more))
        return last["latents"]
    width, height = SIDES
    batch = more.get("num_images_per_prompt", 1)
    noise = torch.randn((batch, 4, height // pipe.vae_scale_factor, width // pipe.vae_scale_factor),
                        generator=torch.Generator().manual_seed(SEED))
    sink("noise", noise)
    both = contextlib.nullcontext() if "clip_skip" not in more else skip_for_both(pipe, more["clip_skip"])
    with torch.no_grad(), oracle.context_of(pipe), Watch(pipe, sink, False).watching(), both:
        picture = pipe(PROMPT, height=height, width=width, num_inference_steps=STEPS, output_type="pt",
                       latents=noise.to(pipe.unet.dtype), callback_on_step_end=end,
                       **dict(dict(guidance_scale=5.0), **more)).images
    sink("image", picture)
    return last["latents"]


def text_modules(pipe, emit):
    """Both encoders' modules, for both texts."""
    for name, tokenizer, encoder in encoders(pipe):
        ids = tokenizer([NEGATIVE, PROMPT], padding="max_length", max_length=77, truncation=True,
                        return_tensors="pt").input_ids
        prefix = name + ("." if name.endswith("2") else ".text_model.")
        with torch.no_grad(), oracle.Recorder(encoder, emit, prefix):
            encoder(ids, output_hidden_states=True)


def everything(pipe, config):
    out = {}
    text_modules(pipe, oracle.once(out))
    for name in [k for k in out if oracle.UNTRACED.search(k.split(".", 1)[1])]:
        del out[name]
    for name, more in RUNS[config].items():
        run(pipe, oracle.once(out, "run.%s." % name), **more)
    return out


# ------------------------------------------------------------------------------------------------ mistakes

@contextlib.contextmanager
def encode_twin(pipe, change):
    """change(context, negative context, pooled, negative pooled): what is to be used in their place."""
    right = pipe.encode_prompt

    def wrong(*args, **kwargs):
        return change(*right(*args, **kwargs))
    with wrong_twins.changed((pipe, "encode_prompt", wrong)):
        yield


@contextlib.contextmanager
def ids_twin(pipe, change):
    right = pipe._get_add_time_ids

    def wrong(*args, **kwargs):
        return change(right(*args, **kwargs))
    with wrong_twins.changed((pipe, "_get_add_time_ids", wrong)):
        yield


@contextlib.contextmanager
def hidden_twin(pipe, change):
    """change(hidden states, encoder): what the encoders' list of hidden states is taken for."""
    handles = []
    for encoder in (pipe.text_encoder, pipe.text_encoder_2):
        def hook(module, args, out):
            out.hidden_states = change(list(out.hidden_states), module)
            return out
        handles.append(encoder.register_forward_hook(hook))
    try:
        yield
    finally:
        for h in handles:
            h.remove()


def normed(states, encoder):
    inner = getattr(encoder, "text_model", encoder)
    return states[:-2] + [inner.final_layer_norm(states[-2])] + states[-1:]


@contextlib.contextmanager
def pooled_twin(pipe, row):
    """The pooled vector of another row than the end token's."""
    encoder, right = pipe.text_encoder_2, pipe.text_encoder_2.forward

    def wrong(ids, **kwargs):
        out = right(ids, **kwargs)
        out.text_embeds = encoder.text_projection(out.last_hidden_state[:, row])
        out["text_embeds"] = out.text_embeds
        return out
    with wrong_twins.changed((encoder, "forward", wrong)):
        yield


@contextlib.contextmanager
def transposed_projection(pipe):
    weight = pipe.text_encoder_2.text_projection.weight
    saved = weight.data
    weight.data = saved.t().reshape(saved.shape).contiguous()   # the numbers of the transpose, in this shape
    try:
        yield
    finally:
        weight.data = saved


def mistakes(pipe, config, last):
    """last: the last latents of each run."""
    wrong, runs = {}, RUNS[config]

    def note(r, name, twin, **more):
        with twin:
            wrong["%s.%s" % (r, name)] = oracle.rel_l2(run(pipe, **dict(runs[r], **more)), last[r])
    nothing = contextlib.nullcontext
    if config == "refiner-small":
        note("scores", "scores_of_the_class", nothing(), aesthetic_score=6.0, negative_aesthetic_score=2.5)
        note("scores", "scores_swapped", nothing(), aesthetic_score=1.25, negative_aesthetic_score=7.5)
        note("scores", "height_and_width_swapped", nothing(), original_size=(512, 640))
        note("refine", "crop_for_both", nothing(), negative_crops_coords_top_left=(5, 7))
        note("refine", "zeros", wrong_twins.changed((pipe, "_internal_dict", FrozenDict(
            dict(pipe.config, force_zeros_for_empty_prompt=True)))))
        return wrong
    if config == "inpaint-xl-small":
        note("inpaint9", "empty_text_encoded", nothing(), negative_prompt="")
        note("whole", "less_than_the_whole", nothing(), strength=0.6)
        return wrong
    note("inpaint", "not_masked", nothing(), masked=None)
    note("img2img", "no_crop", nothing(), crops_coords_top_left=(0, 0))
    note("img2img", "empty_text_encoded", nothing(), negative_prompt="")
    note("zeros", "empty_text_encoded", nothing(), negative_prompt="")
    _, _, _, pooled = pipe.encode_prompt(PROMPT, negative_prompt="", device="cpu", do_classifier_free_guidance=True)
    note("zeros", "pooled_not_zeroed", encode_twin(pipe, lambda a, b, c, d: (a, b, c, pooled)))
    note("empty", "zeros", nothing(), negative_prompt=None)
    note("sizes", "width_before_height", ids_twin(pipe, lambda x: x[:, [1, 0, 2, 3, 4, 5]]))
    note("sizes", "target_before_original", ids_twin(pipe, lambda x: x[:, [4, 5, 2, 3, 0, 1]]))
    note("sizes", "left_before_top", ids_twin(pipe, lambda x: x[:, [0, 1, 3, 2, 4, 5]]))
    note("sizes", "negative_as_positive", nothing(), negative_original_size=None)
    note("sizes", "final_norm", hidden_twin(pipe, normed))
    note("sizes", "last_layer", hidden_twin(pipe, lambda s, m: s[:-2] + [s[-1], s[-1]]))
    note("sizes", "pooled_of_the_last_row", pooled_twin(pipe, -1))
    note("sizes", "pooled_of_the_first_row", pooled_twin(pipe, 0))
    note("sizes", "transposed_projection", transposed_projection(pipe))
    note("sizes", "pad_of_the_first_tokenizer", wrong_twins.changed((pipe, "tokenizer_2", pipe.tokenizer)))
    note("sizes", "encoders_swapped", encode_twin(pipe, lambda a, b, c, d: (
        a.roll(20, -1), b.roll(20, -1), c, d)))
    note("crop", "crop_of_the_prompt_alone", nothing(), negative_original_size=(88, 72), negative_target_size=(88, 72))
    note("skip", "no_skip", nothing(), clip_skip=0)
    note("skip", "one_more", nothing(), clip_skip=2)
    return wrong


# ------------------------------------------------------------------------------------------------ files

def last_latents(results, name):
    keys = [k for k in results if k.startswith("run.%s.latents." % name)]
    return results[max(keys, key=lambda k: int(k.rsplit(".", 1)[1]))]


def make(config, out):
    print(config)
    refiner = config == "refiner-small"
    with tempfile.TemporaryDirectory() as directory:
        synth.write_model(config, directory)
        pipe32, pipe64 = load(directory, torch.float32, refiner), load(directory, torch.float64, refiner)
    truth = everything(pipe64, config)
    with make_golden.independent():
        again = everything(pipe64, config)
    worst = max((oracle.rel_l2(again[k], v), k) for k, v in truth.items())
    print("a second computation in float64 differs by at most %.1e (%s)" % worst)
    assert worst[0] < 1e-11
    with oracle.exact_sinusoid():
        single = everything(pipe32, config)
    last = {r: last_latents(truth, r) for r in RUNS[config]}
    wrong = mistakes(pipe64, config, last)
    e32 = {r: oracle.rel_l2(last_latents(single, r), last[r]) for r in RUNS[config]}
    make_golden.check_mistakes(wrong, e32)
    golden = make_golden.stored(truth, single)
    golden.update({"wrong." + k: np.array([v], np.float32) for k, v in wrong.items()})
    bytes_written = make_golden.write_network(out, config, __file__, golden)
    print("%d tensors, %d bytes" % (len(truth), bytes_written))


def main():
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="tests/golden")
    out = parser.parse_args().out
    for config in RUNS:
        make(config, out)


if __name__ == "__main__":
    main()

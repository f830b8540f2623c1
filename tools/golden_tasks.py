#!/usr/bin/env python3
"""Writes the goldens of whole runs of models whose UNet sees more than latents: a depth map, a small picture to be
enlarged, a picture to be edited by an instruction: tests/golden/net_{depth,x4,pix2pix}-small.{txt,safetensors}.

    python tools/golden_tasks.py [--config NAME] [--out tests/golden]

The files are like make_golden.py's: run.R.* is a whole run of diffusers' StableDiffusionDepth2ImgPipeline,
StableDiffusionUpscalePipeline or StableDiffusionInstructPix2PixPipeline, of which RUNS has the arguments;
wrong.R.MISTAKE the rel-L2 error of the run's last latents when a known mistake is made, wrong.R_image.MISTAKE of its
picture. The picture is golden_edit.py's, the depth map a formula (`depth_map`). tests/test_tasks.c has the same runs. Of the names
of a run, beside those of make_golden.py:

  image_latents     of the picture to begin from, or to be edited
  depth_mask        the depth map as the UNet sees it
  low_res_noise, low_res_image   the noise of the small picture, and that picture with it
"""
import argparse
import contextlib
import tempfile

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import (StableDiffusionDepth2ImgPipeline, StableDiffusionInstructPix2PixPipeline,
                       StableDiffusionPipeline, StableDiffusionUpscalePipeline)
from diffusers.models.autoencoders import vae as vae_module
from diffusers.pipelines.stable_diffusion import (pipeline_stable_diffusion_depth2img,
                                                  pipeline_stable_diffusion_instruct_pix2pix,
                                                  pipeline_stable_diffusion_upscale)

import golden_edit
import golden_sampler
import make_golden
import oracle
import synth
import wrong_twins
from make_golden import NEGATIVE, PROMPT

SEED, STEPS = 20, {"depth-small": 5, "x4-small": 3, "pix2pix-small": 3}
DRAWERS = (vae_module, pipeline_stable_diffusion_depth2img, pipeline_stable_diffusion_upscale,
           pipeline_stable_diffusion_instruct_pix2pix)
CLASSES = {"depth-small": StableDiffusionDepth2ImgPipeline, "x4-small": StableDiffusionUpscalePipeline,
           "pix2pix-small": StableDiffusionInstructPix2PixPipeline}
# sampler: None is the model's own. depth: width and height of the map. sides: of the small picture. noise: from noise
# and a depth map, without a picture. Other names are the pipelines'.
RUNS = {"depth-small": {
    "own": dict(),
    "half": dict(sampler="ddim", strength=0.5, batch=2, depth=(3, 4)),
    "whole": dict(sampler="euler_a", strength=1.0),
    "no_guidance": dict(sampler="ddim", guidance=1.0),
    "noise": dict(sampler="ddim", noise=True),
}, "x4-small": {
    "own": dict(),
    "level": dict(sampler="euler", noise_level=350, batch=2),
    "clean": dict(noise_level=0),
    "odd": dict(sides=(9, 13), noise_level=111),
    "no_guidance": dict(sampler="euler_a", guidance=1.0),
}, "pix2pix-small": {
    "own": dict(),
    "scales": dict(sampler="ddim", guidance=4.0, image_scale=2.5, batch=2),
    "pndm": dict(sampler="pndm"),
    "no_guidance": dict(sampler="ddim", guidance=1.0),
    "image_scale_below_1": dict(sampler="ddim", image_scale=0.5),
}}


def depth_map(size):
    """[1,height,width]: quarters, so that a float has them exactly."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    return torch.from_numpy((((7 * x + 13 * y + x * y // 5) % 97) / 4 + 10).astype(np.float32))[None]


def arguments(config, more):
    """What only this pipeline is given."""
    if config == "depth-small":
        return dict(image=golden_edit.picture(), depth_map=depth_map(more.get("depth", (31, 23))),
                    strength=more.get("strength", 0.8))
    if config == "x4-small":
        return dict(image=golden_edit.picture(*more.get("sides", (20, 12))), noise_level=more.get("noise_level", 20))
    return dict(image=golden_edit.picture(), image_guidance_scale=more.get("image_scale", 1.5))


# ------------------------------------------------------------------------------------------------ one run

class Watch(oracle.Watch):
    def ids(self, module, args, kwargs):
        pass

    def before_unet(self, module, args, kwargs):
        """InstructPix2Pix has other prompts in another order than the rest: its embeddings have no name."""
        if not self.embeds and not isinstance(self.pipe, StableDiffusionInstructPix2PixPipeline):
            self.sink("prompt_embeds", kwargs["encoder_hidden_states"])
        self.embeds = True


def seen(function, see):
    """function, whose result and arguments see(result, *args) is shown."""
    def watched(*args, **kwargs):
        out = function(*args, **kwargs)
        see(out, *args)
        return out
    return watched


def drawn(names, sink):
    """Draws as float32, and calls each draw by its name."""
    names = list(names)

    def draw(shape, generator=None, device=None, dtype=None):
        x = golden_sampler.float32_noise(shape, generator, device, dtype)
        sink(names.pop(0), x)
        return x
    return draw


@contextlib.contextmanager
def watching(pipe, sink):
    """Puts names to what these pipelines make beside latents."""
    changes = []
    if isinstance(pipe, StableDiffusionDepth2ImgPipeline):
        names = ["posterior", "noise"]
        changes += [(pipe, "prepare_depth_map", seen(pipe.prepare_depth_map,
                                                     lambda out, *a: sink("depth_mask", out[:1]))),
                    (pipe.scheduler, "add_noise", seen(pipe.scheduler.add_noise,
                                                       lambda out, x, *a: sink("image_latents", x[:1])))]
    elif isinstance(pipe, StableDiffusionUpscalePipeline):
        names = ["low_res_noise", "noise"]
        low = pipe.low_res_scheduler
        changes += [(low, "add_noise", seen(low.add_noise, lambda out, *a: sink("low_res_image", out)))]
    else:
        names = ["noise"]
        changes += [(pipe, "prepare_image_latents", seen(pipe.prepare_image_latents,
                                                         lambda out, *a: sink("image_latents", out[:1])))]
    changes += [(m, "randn_tensor", drawn_once) for drawn_once in [drawn(names, sink)] for m in DRAWERS]
    with wrong_twins.changed(*changes):
        yield


@contextlib.contextmanager
def concatenated(pipe, planes):
    """The UNet sees these planes after whatever it is given."""
    hook = pipe.unet.register_forward_pre_hook(
        lambda m, a: (torch.cat((a[0], planes.repeat(a[0].shape[0], 1, 1, 1)), 1), *a[1:]))
    try:
        yield
    finally:
        hook.remove()


def from_noise(pipe, sink, more, common):
    """StableDiffusionPipeline with a depth map: what StableDiffusionDepth2ImgPipeline would do without a picture."""
    parts = {k: getattr(pipe, k) for k in ("vae", "text_encoder", "tokenizer", "unet", "scheduler")}
    plain = StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    plain.set_progress_bar_config(disable=True)
    noise = torch.randn((1, 4, golden_edit.HEIGHT // 8, golden_edit.WIDTH // 8), generator=common["generator"])
    sink("noise", noise)
    like = torch.zeros(1, 3, golden_edit.HEIGHT, golden_edit.WIDTH)
    mask = pipe.prepare_depth_map(like, depth_map((31, 23)), 1, False, pipe.unet.dtype, "cpu")
    sink("depth_mask", mask)
    with Watch(plain, sink, False).watching(), concatenated(plain, mask):
        return plain(height=golden_edit.HEIGHT, width=golden_edit.WIDTH, latents=noise.to(pipe.unet.dtype),
                     **common).images


def run(pipe, config, sink=None, twin=None, **more):
    """The last latents and the picture. twin(pipe): a context in which a mistake is made."""
    sink, last = sink or (lambda *_: None), {}

    def keep(i, x, final):
        last["latents"] = x.clone()
        if final:
            sink("latents.%d" % (i + 1), x)

    def end(p, i, t, given):
        keep(i, given["latents"], i + 1 == p.num_timesteps)
        return given
    steps, saved, pipe.batch = STEPS[config], pipe.scheduler, more.get("batch", 1)
    oracle.with_sampler(pipe, more.get("sampler"))
    common = dict(prompt=PROMPT, negative_prompt=NEGATIVE, num_inference_steps=steps, output_type="pt",
                  guidance_scale=more.get("guidance", 9.0 if config == "x4-small" else 7.5),
                  num_images_per_prompt=pipe.batch, generator=torch.Generator().manual_seed(SEED))
    if config == "x4-small":
        common.update(callback=lambda i, t, x: keep(i, x, i + 1 == steps))
    else:
        common.update(callback_on_step_end=end)
    mistaken = twin(pipe) if twin else contextlib.nullcontext()
    try:
        with torch.no_grad(), oracle.context_of(pipe), mistaken:
            if more.get("noise"):
                picture = from_noise(pipe, sink, more, common)
            else:
                with watching(pipe, sink), Watch(pipe, sink, False).watching(), sides_as_they_are(pipe, config):
                    picture = pipe(**common, **arguments(config, more)).images
    finally:
        pipe.scheduler = saved
    sink("image", picture)
    return last["latents"], picture


def sides_as_they_are(pipe, config):
    """The upscaler's small picture may have any sides: that diffusers rounds them to multiples of 4 has no reason."""
    if config != "x4-small":
        return contextlib.nullcontext()
    processor = type(pipe.image_processor)(vae_scale_factor=1, resample="bicubic")
    return wrong_twins.changed((pipe, "image_processor", processor))


def cubic(size_in, size_out):
    """[out,in]: the weights of Keys' cubic convolution with a = -3/4, pixel centres, edges repeated."""
    def weight(x):
        x, a = abs(x), -0.75
        if x <= 1:
            return (a + 2) * x ** 3 - (a + 3) * x ** 2 + 1
        return a * (x ** 3 - 5 * x ** 2 + 8 * x - 4) if x < 2 else 0.0
    m = torch.zeros(size_out, size_in, dtype=torch.float64)
    for i in range(size_out):
        at = (i + 0.5) * size_in / size_out - 0.5
        for j in range(int(np.floor(at)) - 1, int(np.floor(at)) + 3):
            m[i, min(max(j, 0), size_in - 1)] += weight(at - j)
    return m


@contextlib.contextmanager
def independent():
    """make_golden.independent, and the depth map's resizing by its definition."""
    with make_golden.independent():
        plain = F.interpolate

        def interpolate(x, size=None, mode=None, align_corners=None, **more):
            if mode != "bicubic":
                return plain(x, size=size, mode=mode, **more)
            return cubic(x.shape[2], size[0]) @ x @ cubic(x.shape[3], size[1]).T
        with wrong_twins.changed((F, "interpolate", interpolate)):
            yield


def everything(pipe, config):
    out = {}
    for name, more in RUNS[config].items():
        run(pipe, config, oracle.once(out, "run.%s." % name), **more)
    for name in [k for k in out if k.endswith(".posterior")]:
        del out[name]
    return out


# ------------------------------------------------------------------------------------------------ mistakes

def unet_sees(change):
    """change(sample): what the UNet's input is taken for."""
    @contextlib.contextmanager
    def twin(pipe):
        hook = pipe.unet.register_forward_pre_hook(lambda m, a: (change(a[0]), *a[1:]))
        try:
            yield
        finally:
            hook.remove()
    return twin


def channels(order):
    return unet_sees(lambda x: x[:, order])


def returns(name, change):
    """What a method of the pipeline returns, changed."""
    def twin(pipe):
        right = getattr(pipe, name)
        return wrong_twins.changed((pipe, name, lambda *args, **kwargs: change(right(*args, **kwargs))))
    return twin


def depth_twin(make):
    """make(map [1,1,H,W], size) for the depth map that the UNet sees."""
    def twin(pipe):
        def wrong(image, given, batch, guided, dtype, device):
            size = golden_edit.HEIGHT // 8, golden_edit.WIDTH // 8
            return make(given.to(dtype).unsqueeze(1), size).repeat(batch * (2 if guided else 1), 1, 1, 1)
        return wrong_twins.changed((pipe, "prepare_depth_map", wrong))
    return twin


def between(x):
    return 2 * (x - x.min()) / (x.max() - x.min()) - 1


def resized(x, size, mode="bicubic", **more):
    return F.interpolate(x, size=size, mode=mode, **more)


class InAnotherOrder:
    """Of two draws the second is drawn first."""

    def __init__(self, shapes):
        self.shapes, self.kept = list(shapes), None

    def __call__(self, shape, generator=None, device=None, dtype=None):
        if self.kept is None:
            self.kept = golden_sampler.float32_noise(self.shapes[1], generator, device, dtype)
            return golden_sampler.float32_noise(self.shapes[0], generator, device, dtype)
        return self.kept


def order_of_draws(shapes):
    """Inside run(): what randn_tensor is there is replaced once more."""
    @contextlib.contextmanager
    def twin(pipe):
        right = globals()["drawn"]
        with wrong_twins.changed((this_module(), "drawn", lambda names, sink: InAnotherOrder(shapes))):
            yield
        assert globals()["drawn"] is right
    return twin


def this_module():
    import sys
    return sys.modules[__name__]


def posterior(how):
    """pix2pix: the picture's latents are a sample of its posterior, or are scaled."""
    def twin(pipe):
        def encode(x, right=pipe.vae.encode):
            out = right(x)
            d = out.latent_dist
            value = d.mean * pipe.vae.config.scaling_factor if how == "scaled" else d.mean + d.std * (
                golden_sampler.float32_noise(d.mean.shape, torch.Generator().manual_seed(SEED), None, d.mean.dtype))
            d.mode = lambda: value
            return out
        return wrong_twins.changed((pipe.vae, "encode", encode))
    return twin


def combined(how):
    """pix2pix: how(text, image, uncond) in place of its guidance. The scheduler gets one of three equal results."""
    @contextlib.contextmanager
    def twin(pipe):
        def hook(module, args, out):
            y = how(*out[0].chunk(3))
            return (torch.cat((y, y, y)),)   # the weights of guidance sum up to 1
        handle = pipe.unet.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()
    return twin


def low_res_levels(**betas):
    def twin(pipe):
        low = pipe.low_res_scheduler
        other = type(low).from_config(dict(low.config, **betas))
        return wrong_twins.changed((pipe, "low_res_scheduler", other))
    return twin


def labels(change):
    @contextlib.contextmanager
    def twin(pipe):
        def hook(module, args, kwargs):
            return args, dict(kwargs, class_labels=change(kwargs["class_labels"]))
        handle = pipe.unet.register_forward_pre_hook(hook, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()
    return twin


def not_noised(pipe):
    return wrong_twins.changed((pipe.low_res_scheduler, "add_noise", lambda x, noise, level: x))


def noise_for_each(pipe):
    """The upscaler: the small picture gets other noise for each picture of the batch."""
    low, right = pipe.low_res_scheduler, pipe.low_res_scheduler.add_noise
    generator = torch.Generator().manual_seed(SEED + 1)

    def wrong(x, noise, level):
        more = golden_sampler.float32_noise(x.shape, generator, None, x.dtype)
        pipe.second = right(x, more, level)
        return right(x, noise, level)

    @contextlib.contextmanager
    def twin():
        hook = pipe.unet.register_forward_pre_hook(lambda m, a: (
            torch.cat([torch.cat((x[:4], pipe.second[0] if i % 2 else x[4:]))[None]
                       for i, x in enumerate(a[0])]), *a[1:]))
        with wrong_twins.changed((low, "add_noise", wrong)):
            yield
        hook.remove()
    return twin()


def scaling_factor(value):
    def twin(pipe):
        config = type(pipe.vae.config)(dict(pipe.vae.config, scaling_factor=value))
        return wrong_twins.changed((pipe.vae, "_internal_dict", config))
    return twin


def in_halves(x, extra):
    """The planes beyond the latents of the negative prompt's half become `extra` of them."""
    half = x.shape[0] // 2
    return torch.cat((torch.cat((x[:half, :4], extra(x[:half, 4:])), 1), x[half:]))


def in_thirds(x, *extra):
    """The same of pix2pix' three."""
    return torch.cat([torch.cat((part[:, :4], make(x[:x.shape[0] // 3, 4:])), 1)
                      for part, make in zip(x.chunk(3), extra)])


def same(x):
    return x


def none(x):
    return torch.zeros_like(x)


LATENTS = (1, 4, golden_edit.HEIGHT // 8, golden_edit.WIDTH // 8)
# config -> run -> name -> twin, or arguments of the run
TWINS = {"depth-small": {
    "own": {
        "depth_as_it_is": depth_twin(resized),
        "depth_from_0_to_1": depth_twin(lambda x, s: (between(resized(x, s)) + 1) / 2),
        "depth_inverted": depth_twin(lambda x, s: -between(resized(x, s))),
        "range_before_resizing": depth_twin(lambda x, s: resized(between(x), s)),
        "bilinear": depth_twin(lambda x, s: between(resized(x, s, "bilinear"))),
        "nearest": depth_twin(lambda x, s: between(resized(x, s, "nearest"))),
        "aligned_corners": depth_twin(lambda x, s: between(resized(x, s, align_corners=True))),
        "antialiased": depth_twin(lambda x, s: between(resized(x, s, antialias=True))),
        "no_depth": depth_twin(lambda x, s: torch.zeros(1, 1, *s, dtype=x.dtype)),
        "depth_first": channels([4, 0, 1, 2, 3]),
        "depth_for_the_prompt_alone": unet_sees(lambda x: in_halves(x, none)),
        "noise_before_posterior": order_of_draws([LATENTS, LATENTS]),
        "less_strength": dict(strength=0.6),
    },
    "half": {"antialiased": depth_twin(lambda x, s: between(resized(x, s, antialias=True))),   # PIL's cubic
             "bilinear": depth_twin(lambda x, s: between(resized(x, s, "bilinear")))},
    "whole": {"from_noise": dict(noise=True)},
    "noise": {"from_the_picture": dict(noise=False, strength=1.0)},
}, "x4-small": {
    "own": {
        "noise_level_ignored": labels(torch.zeros_like),
        "next_noise_level": labels(lambda x: x + 1),
        "not_noised": not_noised,
        "latents_drawn_first": order_of_draws([(1, 3, 12, 20), (1, 4, 12, 20)]),
        "picture_first": channels([4, 5, 6, 0, 1, 2, 3]),
        "picture_from_0_to_1": unet_sees(lambda x: torch.cat((x[:, :4], (x[:, 4:] + 1) / 2), 1)),
        "channels_swapped": channels([0, 1, 2, 3, 6, 5, 4]),
        "levels_of_sd": low_res_levels(beta_start=0.00085, beta_end=0.012),
        "linear_levels": low_res_levels(beta_schedule="linear"),
        "picture_for_the_prompt_alone": unet_sees(lambda x: in_halves(x, none)),
        "guidance_of_sd": dict(guidance=7.5),
    },
    "own_image": {"scaling_factor_of_sd": scaling_factor(0.18215), "not_scaled": scaling_factor(1.0)},
    "level": {"noise_for_each_picture": noise_for_each, "less_noise": dict(noise_level=349)},
    "clean": {"level_of_the_class": dict(noise_level=20)},
}, "pix2pix-small": {
    "own": {
        "image_latents_scaled": posterior("scaled"),
        "image_latents_sampled": posterior("sampled"),
        "scales_swapped": dict(guidance=1.5, image_scale=7.5),
        "picture_first": channels([4, 5, 6, 7, 0, 1, 2, 3]),
        "picture_in_all_passes": unet_sees(lambda x: in_thirds(x, same, same, same)),
        "picture_for_the_prompt_alone": unet_sees(lambda x: in_thirds(x, same, none, none)),
        "picture_for_the_negative_prompt_alone": unet_sees(lambda x: in_thirds(x, none, same, none)),
        "uncond_first": combined(lambda t, i, u: i + 7.5 * (t - u) + 1.5 * (u - i)),
        "guided_twice": combined(lambda t, i, u: u + 1.5 * (i + 7.5 * (t - i) - u)),
        "text_scale_alone": combined(lambda t, i, u: i + 7.5 * (t - i)),
        "image_scale_alone": combined(lambda t, i, u: u + 1.5 * (t - u)),
    },
    "scales": {"other_image_scale": dict(image_scale=1.5)},
    "no_guidance": {"guided": dict(guidance=7.5)},
    "image_scale_below_1": {"guided": dict(image_scale=1.0)},
}}


def mistakes(pipe, config, truth):
    wrong = {}
    for r, twins in TWINS[config].items():
        name = r.removesuffix("_image")
        for twin_name, twin in twins.items():
            more = RUNS[config][name]
            if isinstance(twin, dict):
                last, picture = run(pipe, config, **dict(more, **twin))
            else:
                last, picture = run(pipe, config, twin=twin, **more)
            image = r != name
            right = truth["run.%s.image" % name] if image else last_latents(truth, name)
            wrong["%s.%s" % (r, twin_name)] = oracle.rel_l2(picture if image else last, right)
    return wrong


# ------------------------------------------------------------------------------------------------ files

def last_latents(results, name):
    keys = [k for k in results if k.startswith("run.%s.latents." % name)]
    return results[max(keys, key=lambda k: int(k.rsplit(".", 1)[1]))]


def load(config, directory, dtype):
    more = dict(depth_estimator=None, feature_extractor=None) if config == "depth-small" else {}
    pipe = CLASSES[config].from_pretrained(directory, dtype=dtype, local_files_only=True, **more)
    pipe.set_progress_bar_config(disable=True)
    for part in (pipe.text_encoder, pipe.unet, pipe.vae):
        part.eval().requires_grad_(False)
    return pipe


def make(config, out):
    print(config)
    with tempfile.TemporaryDirectory() as directory:
        synth.write_model(config, directory)
        pipe32, pipe64 = load(config, directory, torch.float32), load(config, directory, torch.float64)
    truth = everything(pipe64, config)
    with independent():
        again = everything(pipe64, config)
    worst = max((oracle.rel_l2(again[k], v), k) for k, v in truth.items())
    print("a second computation in float64 differs by at most %.1e (%s)" % worst)
    assert worst[0] < 1e-11
    with oracle.exact_sinusoid():
        single = everything(pipe32, config)
    e32 = {}
    for r in TWINS[config]:
        name, image = r.removesuffix("_image"), r.endswith("_image")
        both = [x["run.%s.image" % name] if image else last_latents(x, name) for x in (single, truth)]
        e32[r] = oracle.rel_l2(*both)
    wrong = mistakes(pipe64, config, truth)
    make_golden.check_mistakes(wrong, e32)
    golden = make_golden.stored(truth, single)
    golden.update({"wrong." + k: np.array([v], np.float32) for k, v in wrong.items()})
    bytes_written = make_golden.write_network(out, config, __file__, golden)
    print("%d tensors, %d bytes" % (len(truth), bytes_written))


def main():
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", choices=RUNS, action="append")
    parser.add_argument("--out", default="tests/golden")
    a = parser.parse_args()
    for config in a.config or RUNS:
        make(config, a.out)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""The oracle: diffusers and transformers, in float32 as they are and in true float64, every result by its name.

    python tools/oracle.py MODEL -p PROMPT -o picture.png [--trace FILE.safetensors] [--float64] [--check-leaks] ...

Names are those of `./sd --trace`: the libraries' module paths (named_modules), with `text_model.` in the text encoder.

What is done to make a float64 run true, beyond module.to(torch.float64):
  - diffusers computes the timestep's sinusoid in float32 whatever the model's dtype (get_timestep_embedding): replaced;
  - the schedulers compute their tables in float32: alphas_cumprod keeps its float32 VALUES (they are constants of the
    model), what follows from it is recomputed in double, and so are the steps (golden_sampler.Float64, to_float64);
  - noise is drawn as float32, for the dtype of a draw changes the stream, and cast.
`leaks` watches a run for anything else that comes out of an operation in float32.
"""
import argparse
import contextlib
import functools
import math
import os
import warnings

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")   # before the imports, which already have something to say
warnings.filterwarnings("ignore", category=FutureWarning, module="diffusers")

import torch
from diffusers import StableDiffusionPipeline, __version__
from diffusers.models import embeddings
from diffusers.utils import logging as diffusers_logging
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.utils import logging as transformers_logging

import golden_sampler

import bindings   # noqa: F401, where sd_reference is
from sd_reference.hooks import UNTRACED, Recorder

for log in (diffusers_logging, transformers_logging):
    log.set_verbosity_error()
    log.disable_progress_bar()

# ------------------------------------------------------------------------------------------------ models and precision


def load(directory, double=False):
    """A model directory in diffusers layout, by diffusers' own loader."""
    dtype = torch.float64 if double else torch.float32
    pipe = StableDiffusionPipeline.from_pretrained(directory, dtype=dtype, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    for part in (pipe.text_encoder, pipe.unet, pipe.vae):
        part.eval().requires_grad_(False)
    return pipe


DIFFUSERS_SINUSOID = embeddings.get_timestep_embedding


def sinusoid64(timesteps, embedding_dim, flip_sin_to_cos=False, downscale_freq_shift=1, scale=1, max_period=10000):
    """diffusers' get_timestep_embedding in float64."""
    half = embedding_dim // 2
    i = torch.arange(half, dtype=torch.float64)
    frequency = torch.exp(-math.log(max_period) * i / (half - downscale_freq_shift))
    angle = scale * timesteps[:, None].double() * frequency[None, :]
    parts = [torch.cos(angle), torch.sin(angle)] if flip_sin_to_cos else [torch.sin(angle), torch.cos(angle)]
    return torch.nn.functional.pad(torch.cat(parts, dim=-1), (0, embedding_dim % 2, 0, 0))


@contextlib.contextmanager
def exact_sinusoid():
    """sinusoid64 for diffusers' function, unless another has already taken its place."""
    saved = embeddings.get_timestep_embedding
    if saved is DIFFUSERS_SINUSOID:
        embeddings.get_timestep_embedding = sinusoid64
    try:
        yield
    finally:
        embeddings.get_timestep_embedding = saved


@contextlib.contextmanager
def float64():
    """While active, what diffusers hard-wires to float32 is computed in double."""
    with exact_sinusoid(), golden_sampler.Float64():
        yield


class leaks(TorchDispatchMode):
    """Counts operations that yield float32 or less, by name: in a float64 run there should be none but on inputs."""

    NARROW = (torch.float32, torch.float16, torch.bfloat16)

    def __init__(self):
        super().__init__()
        self.found = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(x, torch.Tensor) and x.dtype in self.NARROW and x.numel() > 1:
                key = "%s -> %s %s" % (func, x.dtype, list(x.shape))
                self.found[key] = self.found.get(key, 0) + 1
        return out


def context_of(pipe):
    """float64() for a model in double, else nothing."""
    return float64() if pipe.unet.dtype == torch.float64 else contextlib.nullcontext()


def rel_l2(x, truth):
    truth = truth.double()
    norm = truth.norm().item()
    return (x.double() - truth).norm().item() / norm if norm else x.double().norm().item()


# ------------------------------------------------------------------------------------------------ named intermediates

def once(store, prefix=""):
    """emit for a dictionary; a name that comes twice is a mistake of UNTRACED."""
    def emit(path, x):
        assert prefix + path not in store, prefix + path
        store[prefix + path] = x.detach().clone()
    return emit


# ------------------------------------------------------------------------------------------------ stages

def encode_text(pipe, texts, clip_skip=0, emit=None):
    """ids [n,77] and embeddings [n,77,D]. clip_skip as diffusers counts: layers left out at the end."""
    ids = pipe.tokenizer(texts, padding="max_length", max_length=pipe.tokenizer.model_max_length, truncation=True,
                         return_tensors="pt").input_ids
    with torch.no_grad(), Recorder(pipe.text_encoder, emit, "text_model."):
        out = pipe.text_encoder(ids, output_hidden_states=bool(clip_skip))
        if not clip_skip:
            return ids, out[0]
    # As StableDiffusionPipeline.encode_prompt, which with transformers 5 fails for want of text_encoder.text_model.
    return ids, pipe.text_encoder.final_layer_norm(out.hidden_states[-(clip_skip + 1)])


def unet(pipe, latents, timesteps, context, emit=None, residuals=None, **more):
    """residuals: what a ControlNet adds, (one for each skip, one for the middle). more: further arguments."""
    dtype = pipe.unet.dtype
    if residuals:
        more.update(down_block_additional_residuals=[x.to(dtype) for x in residuals[0]],
                    mid_block_additional_residual=residuals[1].to(dtype))
    with torch.no_grad(), context_of(pipe), Recorder(pipe.unet, emit):
        return pipe.unet(latents.to(dtype), timesteps.to(dtype), context.to(dtype), **more).sample


def vae_decode(pipe, latents, emit=None):
    with torch.no_grad(), Recorder(pipe.vae, emit):
        return pipe.vae.decode(latents.to(pipe.vae.dtype)).sample


def vae_encode(pipe, picture, emit=None):
    """mean and logvar (clamped)."""
    with torch.no_grad(), Recorder(pipe.vae, emit):
        d = pipe.vae.encode(picture.to(pipe.vae.dtype)).latent_dist
        return d.mean, d.logvar


# ------------------------------------------------------------------------------------------------ text to image

class Watch:
    """Puts names to what happens inside one call of StableDiffusionPipeline."""

    def __init__(self, pipe, sink, modules):
        self.pipe, self.sink, self.modules, self.scheduler = pipe, sink, modules, pipe.scheduler
        self.i, self.all_ids, self.text, self.embeds, self.answer = 0, [], [], False, None

    def text_emit(self, path, x):
        if path == "text_model.embeddings":   # a new pass: diffusers runs the prompt, then the negative prompt
            self.text.append({})
        self.text[-1][path] = x

    def ids(self, module, args, kwargs):
        self.all_ids.append(kwargs["input_ids"] if "input_ids" in kwargs else args[0])

    def before_unet(self, module, args, kwargs):
        if self.embeds:
            return
        self.embeds = True
        self.sink("tokens", torch.cat(self.all_ids[::-1]))
        for path in self.text[0] if self.modules else []:
            self.sink("text_encoder." + path, torch.cat([t[path] for t in self.text[::-1]]))
        self.text = []
        self.sink("prompt_embeds", kwargs["encoder_hidden_states"])

    def after_unet(self, module, args, output):
        self.answer = output[0] if isinstance(output, (tuple, list)) else output.sample

    def passes(self, i, sample):
        """What the UNet answered in each pass, if guidance makes one prediction of several."""
        names = {2: ("uncond", "text"), 3: ("text", "image", "uncond")}.get(self.answer.shape[0] // sample.shape[0], ())
        for name, x in zip(names, self.answer.chunk(max(1, len(names)))):
            self.sink("step.%d.noise_pred_%s" % (i, name), x)

    def step(self, original, model_output, timestep, sample, **kwargs):
        i, self.i = self.i, self.i + 1
        self.sink("latents.%d" % i, sample)
        self.sink("timestep.%d" % i, torch.tensor([float(timestep)]))
        if self.modules:
            self.passes(i, sample)
        self.sink("step.%d.noise_pred" % i, model_output)
        pndm = isinstance(self.scheduler, golden_sampler.PNDMScheduler)   # it predicts no x0
        x0 = golden_sampler.predicted_x0(self.scheduler, sample, model_output, timestep) if pndm else None
        out = original(model_output, timestep, sample, **dict(kwargs, return_dict=True))
        self.sink("step.%d.denoised" % i, x0 if pndm else out.pred_original_sample)
        return (out.prev_sample,)

    @contextlib.contextmanager
    def watching(self):
        pipe, s = self.pipe, self.scheduler
        original, set_timesteps = s.step, s.set_timesteps

        @functools.wraps(original)   # the pipeline reads the signature
        def step(model_output, timestep, sample, **kwargs):
            return self.step(original, model_output, timestep, sample, **kwargs)

        @functools.wraps(set_timesteps)
        def in_double(*args, **kwargs):
            set_timesteps(*args, **kwargs)
            golden_sampler.to_float64(s)

        s.step = step
        if pipe.unet.dtype == torch.float64:
            s.set_timesteps = in_double
        hooks = [pipe.unet.register_forward_pre_hook(self.before_unet, with_kwargs=True),
                 pipe.unet.register_forward_hook(self.after_unet)]
        if pipe.text_encoder is not None:   # SDXL's refiner has none of that name
            hooks.append(pipe.text_encoder.register_forward_pre_hook(self.ids, with_kwargs=True))
        recorders = [] if not self.modules else [
            Recorder(pipe.text_encoder, self.text_emit, "text_model."),
            Recorder(pipe.unet, lambda path, x: self.sink("step.%d.unet.%s" % (self.i, path), x)),
            Recorder(pipe.vae, lambda path, x: self.sink("vae." + path, x))]
        try:
            yield
        finally:
            del s.step
            if pipe.unet.dtype == torch.float64:
                del s.set_timesteps
            for h in hooks:
                h.remove()
            for r in recorders:
                r.__exit__()


def with_sampler(pipe, method):
    """As a user of diffusers changes it. None: what scheduler_config.json says."""
    if method:
        pipe.scheduler = golden_sampler.CLASSES[method].from_config(pipe.scheduler.config)
    return pipe


def text_to_image(pipe, sink=None, prompt="", negative="", width=None, height=None, steps=4, guidance=7.5, seed=0,
                  batch=1, eta=0.0, sampler=None, modules=True):
    """Runs StableDiffusionPipeline; sink(name, tensor) gets every traced tensor as it comes. Returns the picture
    [B,3,H,W] in [0,1]. The noise is the pipeline's own: float32 from torch's CPU generator."""
    sink = sink or (lambda *_: None)
    saved = pipe.scheduler
    with_sampler(pipe, sampler)
    scale = pipe.vae_scale_factor
    width, height = width or pipe.unet.config.sample_size * scale, height or pipe.unet.config.sample_size * scale
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((batch, pipe.unet.config.in_channels, height // scale, width // scale), generator=generator)
    sink("noise", noise)
    watch = Watch(pipe, sink, modules)
    try:
        with torch.no_grad(), context_of(pipe), watch.watching():
            def end(p, i, t, given):   # what the last step made is nobody's input
                if i + 1 == p.num_timesteps:
                    sink("latents.%d" % (i + 1), given["latents"])
                return given
            picture = pipe(prompt, height=height, width=width, num_inference_steps=steps, guidance_scale=guidance,
                           negative_prompt=negative, num_images_per_prompt=batch, eta=eta, generator=generator,
                           latents=noise.to(pipe.unet.dtype), output_type="pt", callback_on_step_end=end).images
    finally:
        pipe.scheduler = saved
    sink("image", picture)
    return picture


def write_trace(store, path, metadata=None):
    """Ids as I64, all else as F32."""
    from safetensors.torch import save_file
    save_file({k: v.contiguous() if v.dtype == torch.int64 else v.float().contiguous() for k, v in store.items()}, path,
              metadata=metadata)


def to_uint8(picture):
    """[B,3,H,W] in [0,1] to [B,H,W,3], as diffusers' numpy_to_pil rounds."""
    return (picture.permute(0, 2, 3, 1).float().numpy() * 255).round().astype("uint8")


def settings(pipe, a):
    """The header's texts: what `sd compare` compares first. Keys are those of sd_params."""
    s = pipe.scheduler
    lists = {"timesteps": [] if s.timesteps is None else s.timesteps.tolist(),   # a Float64 twin may have run instead
             "sigmas": s.sigmas.tolist() if hasattr(s, "sigmas") else []}
    given = dict(prompt=a.prompt, negative_prompt=a.negative_prompt, seed=a.seed, steps=a.steps, batch=a.batch_count,
                 guidance_scale=a.cfg_scale, width=a.width, height=a.height, sampler=a.sampling_method or type(s).__name__,
                 prediction=s.config.prediction_type, program="diffusers " + __version__)
    given.update({k: ",".join(map(repr, v)) for k, v in lists.items() if v and not a.sampling_method})
    return {k: str(v) for k, v in given.items() if v is not None}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("-p", "--prompt", default="")
    parser.add_argument("-n", "--negative-prompt", default="")
    parser.add_argument("-o", "--out", default="oracle.png")
    parser.add_argument("-W", "--width", type=int)
    parser.add_argument("-H", "--height", type=int)
    parser.add_argument("-s", "--seed", type=int, default=0)
    parser.add_argument("-b", "--batch-count", type=int, default=1)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--cfg-scale", type=float, default=7.5)
    parser.add_argument("--eta", type=float, default=0.0)
    parser.add_argument("--sampling-method", choices=golden_sampler.CLASSES)
    parser.add_argument("--trace", help="write every named result to this safetensors file")
    parser.add_argument("--float64", action="store_true")
    parser.add_argument("--check-leaks", action="store_true", help="list what yields float32 in a float64 run")
    a = parser.parse_args()
    pipe, store, watch = load(a.model, a.float64 or a.check_leaks), {}, leaks()
    keep = once(store) if a.trace else None
    with watch if a.check_leaks else contextlib.nullcontext():
        picture = text_to_image(pipe, keep, a.prompt, a.negative_prompt, a.width, a.height, a.steps, a.cfg_scale,
                                a.seed, a.batch_count, a.eta, a.sampling_method, modules=bool(a.trace))
    for key, n in watch.found.items():
        print("float32: %s, %d times" % (key, n))
    if a.trace:
        write_trace(store, a.trace, settings(pipe, a))
    from PIL import Image
    for i, rgb in enumerate(to_uint8(picture)):
        Image.fromarray(rgb).save(a.out if i == 0 else a.out.replace(".png", "-%d.png" % i))


if __name__ == "__main__":
    main()

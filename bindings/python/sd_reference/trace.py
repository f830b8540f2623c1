"""A trace of a diffusers pipeline, in the names of `sd --trace` and in the order of execution.

    python -m sd_reference.trace MODEL -p "a red apple" -s 1 --steps 3 -o theirs.safetensors
    sd compare ours.safetensors theirs.safetensors

    from sd_reference.trace import trace_pipeline
    picture = trace_pipeline(pipe, "theirs.safetensors", prompt="a red apple", num_inference_steps=3, generator=g)

Any pipeline of Stable Diffusion 1, 2, XL or LCM that draws pictures: from texts, pictures, masks, depth maps, instructions,
or larger ones. libsd is not loaded. Needs torch and diffusers.
"""
import argparse
import contextlib
import functools
import inspect
import os
import re
import sys
import types

import numpy as np

from . import hooks
from .store import open_store

# ---------------------------------------------------------------------------------------------------- predicted x0


def predicted_x0(scheduler, sample, output, t):
    """What a step takes the finished latents for, of the schedulers that do not say it themselves; else None."""
    s = scheduler
    if hasattr(s, "_sigma_to_alpha_sigma_t"):
        if s.step_index is None:
            s._init_step_index(t)   # as step does it
        a, sigma = s._sigma_to_alpha_sigma_t(s.sigmas[s.step_index])
    elif hasattr(s, "alphas_cumprod") and not hasattr(s, "sigmas"):
        a = s.alphas_cumprod[int(t)]
        a, sigma = a ** 0.5, (1 - a) ** 0.5
    else:
        return None
    kind = s.config.prediction_type
    if kind == "epsilon":
        return (sample - sigma * output) / a
    return a * sample - sigma * output if kind == "v_prediction" else output if kind == "sample" else None


# ---------------------------------------------------------------------------------------------------- one pipeline

ENCODERS = ("text_encoder", "text_encoder_2")
PASSES = {2: ("uncond", "text"), 3: ("text", "image", "uncond")}   # of guidance; three: instruct-pix2pix


def text_modules_prefix(encoder):
    """transformers 5 has dropped the module `text_model` from CLIPTextModel; names keep it."""
    return "" if hasattr(encoder, "text_model") else "text_model."


def unread_layer(pipe):
    """The last layer of SDXL's first encoder, which takes part in nothing: of that one the layer before it is read."""
    if getattr(pipe, "text_encoder", None) is None or getattr(pipe, "text_encoder_2", None) is None:
        return None
    last = pipe.text_encoder.config.num_hidden_layers - 1
    return re.compile(r"^text_model\.(encoder\.layers\.%d(\.|$)|final_layer_norm$)" % last)


class Watch:
    """Puts names to what happens inside one call of a pipeline. store(name, tensor, at) gets every tensor."""

    def __init__(self, pipe, store, modules=True):
        self.pipe, self.store, self.modules = pipe, store, modules
        self.i, self.timesteps, self.text, self.prefix, self.quiet = 0, [], {}, "", False
        self.seen, self.undo, self.uncombined, self.last = set(), [], None, None
        self.unread = {"text_encoder": unread_layer(pipe)}
        self.drawn_at = self.step_at = self.text_at = self.stepped_at = None   # places in the store

    def put(self, name, x, at=None):
        if x is not None and not self.quiet:
            self.seen.add(name)
            self.store(name, x, at)

    def once(self, name, x, at=None):
        if name not in self.seen:
            self.put(name, x, at)

    # ---- text: the prompt is encoded before the negative prompt; a trace has them as the UNet's batch has them

    def text_begins(self, key, module, args, kwargs):
        ids = kwargs.get("input_ids", args[0] if args else None)
        self.text.setdefault(key, []).append({"tokens": ids})

    def text_module(self, key, path, x):
        """The last answer of a module counts: with clip_skip the final norm is asked again, for an earlier layer."""
        unread = self.unread.get(key)
        if key in self.text and not (unread and unread.search(path)):
            self.text[key][-1].pop(path, None)
            self.text[key][-1][path] = x.detach().clone()

    def text_ends(self):
        """Before anything else is named."""
        text, self.text = self.text, {}
        guided = "InstructPix2Pix" in type(self.pipe).__name__
        for i, key in enumerate(k for k in ENCODERS if k in text):
            passes = text[key][:1] + text[key][1:] * 2 if guided else text[key][::-1]
            for name in passes[0]:
                full = ("tokens_%d" % (i + 1) if i else name) if name == "tokens" else "%s.%s" % (key, name)
                self.put(full, self.join([p[name] for p in passes]))
        if text:
            self.text_at = self.store.mark()

    @staticmethod
    def join(rows):
        import torch
        return torch.cat(rows) if rows[0] is not None else None

    # ---- the beginning: noise, pictures, masks

    def drew(self, caller, x):
        """Noise, by the name of the function that draws it."""
        self.text_ends()
        if caller == "prepare_latents" and "noise" not in self.seen:
            self.drawn_at = self.store.mark()
            self.put("noise", x)
        elif caller == "__call__":
            self.once("low_res_noise", x)

    def prepare_latents(self, original, *args, **kwargs):
        self.text_ends()
        given = inspect.signature(original).bind(*args, **kwargs).arguments.get("latents")
        if given is not None:
            self.drawn_at = self.store.mark()
            self.once("noise", given)
        return original(*args, **kwargs)

    def add_noise(self, original, samples, noise, *args, **kwargs):
        if self.drawn_at is not None:
            self.once("image_latents", samples, self.drawn_at)
        return original(samples, noise, *args, **kwargs)

    def low_res_noise(self, original, *args, **kwargs):
        x = original(*args, **kwargs)
        self.once("low_res_image", x)
        return x

    def prepare_mask(self, original, *args, **kwargs):
        """A UNet that sees no mask needs no picture of what is kept either: its pipeline encodes one all the same."""
        at, latents = self.store.mark(), self.pipe.vae.config.latent_channels
        self.prefix, self.quiet = "masked_image.", self.pipe.unet.config.in_channels == latents
        try:
            mask, masked = original(*args, **kwargs)
        finally:
            self.prefix, self.quiet = "", False
        self.put("mask", mask[:1], at)
        if self.pipe.unet.config.in_channels > latents:
            self.put("masked_image_latents", masked[:1])
        return mask, masked

    def first_row(self, name, original, *args, **kwargs):
        self.text_ends()
        x = original(*args, **kwargs)
        self.put(name, x[:1])
        return x

    # ---- steps

    def unet_begins(self, module, args, kwargs):
        self.text_ends()
        if self.i == 0:
            more, at = kwargs.get("added_cond_kwargs") or {}, self.text_at
            for name, x in (("prompt_embeds", kwargs.get("encoder_hidden_states")),
                            ("pooled_prompt_embeds", more.get("text_embeds")), ("add_time_ids", more.get("time_ids")),
                            ("timestep_cond", kwargs.get("timestep_cond"))):
                self.once(name, x, at)
        self.step_at = self.store.mark()

    def unet_ends(self, module, args, output):
        self.uncombined = hooks.one_tensor(output)

    def step(self, original, model_output, timestep, sample, *args, **kwargs):
        i, s, whole = self.i, self.pipe.scheduler, self.uncombined
        told = kwargs.pop("return_dict", True)
        self.timesteps.append(float(timestep))
        self.put("latents.%d" % i, sample, self.step_at)
        self.put("timestep.%d" % i, np.float32([float(timestep)]), self.step_at)
        if whole is not None and whole.shape[0] // sample.shape[0] in PASSES:
            names = PASSES[whole.shape[0] // sample.shape[0]]
            for name, x in zip(names, whole.chunk(len(names))):
                self.put("step.%d.noise_pred_%s" % (i, name), x)
        self.put("step.%d.noise_pred" % i, model_output)
        x0 = predicted_x0(s, sample, model_output, timestep)   # of LCM and TCD, too: theirs is mixed with the latents
        out = original(model_output, timestep, sample, *args, **dict(kwargs, return_dict=True))
        said = getattr(out, "pred_original_sample", None)
        self.put("step.%d.denoised" % i, x0 if said is None else said)
        self.i, self.last, self.stepped_at = i + 1, out.prev_sample, self.store.mark()
        return out if told else tuple(out.values())

    def ended(self, latents=None):
        """After the last step: its latents, as the pipeline goes on with them."""
        if self.i:
            self.once("latents.%d" % self.i, self.last if latents is None else latents, self.stepped_at)

    # ---- all of it

    def replace(self, owner, name, function):
        """A method of one object, until undo. functools.wraps: pipelines read the signatures of what they call."""
        original = getattr(owner, name, None)
        if original is None:
            return
        wrapped = functools.wraps(original)(lambda *args, **kwargs: function(original, *args, **kwargs))
        own = owner.__dict__.get(name)
        setattr(owner, name, wrapped)
        self.undo.append(lambda: setattr(owner, name, own) if own is not None else delattr(owner, name))

    def replace_draws(self):
        from diffusers.utils import torch_utils
        original = torch_utils.randn_tensor

        def drawing(*args, **kwargs):
            x = original(*args, **kwargs)
            self.drew(sys._getframe(1).f_code.co_name, x)
            return x
        for name, module in list(sys.modules.items()):
            if name.startswith("diffusers.pipelines.") and vars(module).get("randn_tensor") is original:
                module.randn_tensor = drawing
                self.undo.append(functools.partial(setattr, module, "randn_tensor", original))

    def hook_text(self, key, encoder):
        begins = functools.partial(self.text_begins, key)
        self.undo.append(encoder.register_forward_pre_hook(begins, with_kwargs=True).remove)
        if self.modules:
            self.record(encoder, functools.partial(self.text_module, key), text_modules_prefix(encoder))

    def record(self, module, emit, prefix=""):
        recorder = hooks.Recorder(module, emit, prefix)
        self.undo.append(functools.partial(recorder.__exit__))

    def vae_module(self, path, x):
        self.text_ends()
        self.put("%svae.%s" % (self.prefix, path), x)

    @contextlib.contextmanager
    def watching(self):
        pipe = self.pipe
        try:
            for key in ENCODERS:
                if getattr(pipe, key, None) is not None:
                    self.hook_text(key, getattr(pipe, key))
            self.undo.append(pipe.unet.register_forward_pre_hook(self.unet_begins, with_kwargs=True).remove)
            if self.modules:
                self.record(pipe.unet, lambda path, x: self.put("step.%d.unet.%s" % (self.i, path), x))
                self.record(pipe.vae, self.vae_module)
            self.undo.append(pipe.unet.register_forward_hook(self.unet_ends).remove)
            self.replace(pipe.scheduler, "step", self.step)
            self.replace(pipe.scheduler, "add_noise", self.add_noise)
            self.replace(pipe, "prepare_latents", self.prepare_latents)
            self.replace(pipe, "prepare_mask_latents", self.prepare_mask)
            self.replace(pipe, "prepare_depth_map", functools.partial(self.first_row, "depth_mask"))
            self.replace(pipe, "prepare_image_latents", functools.partial(self.first_row, "image_latents"))
            self.replace(getattr(pipe, "low_res_scheduler", None), "add_noise", self.low_res_noise)
            self.replace_draws()
            yield self
        finally:
            for undo in reversed(self.undo):
                undo()
            self.undo = []


@contextlib.contextmanager
def clip_skip_works(pipe):
    """diffusers' clip_skip asks for text_encoder.text_model, which transformers 5 has no longer: it is the encoder."""
    encoder = getattr(pipe, "text_encoder", None)
    missing = encoder is not None and not hasattr(encoder, "text_model")
    if missing:
        object.__setattr__(encoder, "text_model", encoder)   # no child of the module
    try:
        yield
    finally:
        if missing:
            object.__delattr__(encoder, "text_model")


def call_watched(pipe, watch, arguments):
    """pipe(**arguments), with what the last step left behind. Pictures come as a tensor [B,3,H,W] in [0,1]."""
    import torch
    arguments = dict(dict(output_type="pt"), **arguments)
    theirs = arguments.get("callback_on_step_end")

    def end(p, i, t, given):   # an inpainting pipeline has put back what is kept
        given = (theirs(p, i, t, given) if theirs else None) or given
        if i + 1 == p.num_timesteps:
            watch.ended(given["latents"])
        return given
    if "callback_on_step_end" in inspect.signature(type(pipe).__call__).parameters:
        arguments["callback_on_step_end"] = end
    with torch.no_grad(), watch.watching(), clip_skip_works(pipe):
        result = pipe(**arguments)
        watch.ended()
    return result


def numbers_text(x):
    return ",".join(repr(float(v)) for v in x)


def settings(pipe, watch, arguments):
    """The texts of the file's header, which `sd compare` compares first: keys are those of sd_params."""
    import diffusers
    s, steps = pipe.scheduler, watch.timesteps
    known = inspect.signature(type(pipe).__call__).parameters
    given = dict({k: v.default for k, v in known.items() if v.default is not v.empty}, **arguments)
    said = {"prompt": given.get("prompt"), "negative_prompt": given.get("negative_prompt"),
            "steps": given.get("num_inference_steps"), "guidance_scale": given.get("guidance_scale"),
            "batch": given.get("num_images_per_prompt"), "strength": arguments.get("strength"),
            "eta": arguments.get("eta"), "clip_skip": (given.get("clip_skip") or 0) + 1,
            "sampler": type(s).__name__, "prediction": s.config.get("prediction_type"), "timesteps": numbers_text(steps),
            "program": "diffusers " + diffusers.__version__, "pipeline": type(pipe).__name__, "dtype": pipe.unet.dtype}
    if hasattr(given.get("generator"), "initial_seed"):
        said["seed"] = given["generator"].initial_seed()
    if watch.last is not None:
        side = getattr(pipe, "vae_scale_factor", 8)
        said["height"], said["width"] = (side * n for n in watch.last.shape[-2:])
    sigmas = getattr(s, "sigmas", ())
    if len(sigmas) > len(steps) and "IPNDM" not in type(s).__name__:   # of a part of the steps, the last ones
        said["sigmas"] = numbers_text(sigmas[len(sigmas) - 1 - len(steps):])
    return {k: str(v) for k, v in said.items() if isinstance(v, (str, int, float)) or k == "dtype"}


def trace_pipeline(pipe, path=None, only=None, modules=True, metadata=None, **arguments):
    """Calls pipe(**arguments), of diffusers, and returns what it returns, where `images` are numbers [B,3,H,W] in [0,1]
    unless arguments have another output_type. The trace goes into `path`, see store.open_store; if that is None, what
    is returned is a dictionary of numpy arrays, in the order of execution. `only`: globs, "latents.*,step.0.*"."""
    store = open_store(path, only)
    watch = Watch(pipe, store, modules)
    try:
        result = call_watched(pipe, watch, arguments)
        images = result.images if hasattr(result, "images") else result[0]
        if hasattr(images, "shape") and arguments.get("output_type", "pt") == "pt":
            store("image", images)
        store.metadata = dict(settings(pipe, watch, arguments), **(metadata or {}))
    except BaseException:
        store.abort()
        raise
    made = store.close()
    return made if path is None else result


# ------------------------------------------------------------------------------------------------ a command

SCHEDULERS = {   # names of sd's samplers; any class of diffusers goes by its own name
    "ddim": "DDIM", "pndm": "PNDM", "euler": "EulerDiscrete", "euler_a": "EulerAncestralDiscrete", "lms": "LMSDiscrete",
    "heun": "HeunDiscrete", "dpm2": "KDPM2Discrete", "dpm2_a": "KDPM2AncestralDiscrete", "unipc": "UniPCMultistep",
    "dpm++2m": "DPMSolverMultistep", "dpm++2s": "DPMSolverSinglestep", "deis": "DEISMultistep", "lcm": "LCM", "tcd": "TCD",
}


def load(a):
    """The pipeline that the command line asks for."""
    import diffusers
    import torch
    kinds = {"": diffusers.AutoPipelineForText2Image, "image": diffusers.AutoPipelineForImage2Image,
             "mask": diffusers.AutoPipelineForInpainting}
    dtype, more = getattr(torch, a.dtype), dict(safety_checker=None, requires_safety_checker=False)
    cls = getattr(diffusers, a.pipeline or "DiffusionPipeline")
    if a.depth:   # what would make the map is not needed
        more = dict(depth_estimator=None, feature_extractor=None)
    if os.path.isfile(a.model):
        cls = getattr(diffusers, a.pipeline or "StableDiffusionPipeline")
        pipe = cls.from_single_file(a.model, torch_dtype=dtype, **({"config": a.config} if a.config else {}))
    else:
        try:
            pipe = cls.from_pretrained(a.model, dtype=dtype, **more)
        except TypeError:   # of the families with a safety checker alone
            pipe = cls.from_pretrained(a.model, dtype=dtype)
    wanted = "mask" if a.mask else "image" if a.init_img else ""
    if wanted and not a.pipeline and "image" not in inspect.signature(type(pipe).__call__).parameters:
        pipe = kinds[wanted].from_pipe(pipe)
    if a.sampling_method:
        known = SCHEDULERS.get(a.sampling_method)
        scheduler = getattr(diffusers, known + "Scheduler" if known else a.sampling_method)
        pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=a.quiet)
    return pipe.to(a.device)


def depth_map(path):
    """[1,height,width] of a .npy file or a picture's grey."""
    import torch
    from PIL import Image
    x = np.load(path) if path.endswith(".npy") else np.asarray(Image.open(path).convert("L"))
    return torch.from_numpy(np.array(x, np.float32).reshape(1, *x.shape[-2:]))


def arguments_of(a, pipe):
    """What the pipeline is called with: nothing that was not asked for, so that its own defaults hold."""
    import torch
    generator = torch.Generator(a.generator).manual_seed(a.seed)
    given = dict(prompt=a.prompt, negative_prompt=a.negative_prompt, width=a.width, height=a.height, strength=a.strength,
                 num_inference_steps=a.steps, guidance_scale=a.cfg_scale, num_images_per_prompt=a.batch, eta=a.eta,
                 clip_skip=a.clip_skip - 1 if a.clip_skip and a.clip_skip > 1 else None, noise_level=a.noise_level,
                 image_guidance_scale=a.image_cfg_scale, depth_map=depth_map(a.depth) if a.depth else None)
    from PIL import Image
    for key, path in (("image", a.init_img), ("mask_image", a.mask)):
        if path:
            given[key] = Image.open(path).convert("RGB" if key == "image" else "L")
    return dict({k: v for k, v in given.items() if v is not None}, generator=generator)


def parser():
    p = argparse.ArgumentParser(prog="python -m sd_reference.trace", description=__doc__.split("\n")[0])
    p.add_argument("model", help="a directory in diffusers' layout, a name on Hugging Face, or a file")
    p.add_argument("-p", "--prompt", default="")
    p.add_argument("-n", "--negative-prompt")
    p.add_argument("-o", "--out", required=True, help="FILE.safetensors; DIRECTORY/ for files NAME.npy")
    p.add_argument("-W", "--width", type=int)
    p.add_argument("-H", "--height", type=int)
    p.add_argument("-s", "--seed", type=int, default=0)
    p.add_argument("-b", "--batch", type=int, default=1, help="pictures at once, from one generator")
    p.add_argument("-i", "--init-img", help="the picture to begin from")
    p.add_argument("--mask", help="bright is painted anew")
    p.add_argument("--strength", type=float)
    p.add_argument("--steps", type=int)
    p.add_argument("--cfg-scale", type=float)
    p.add_argument("--image-cfg-scale", type=float, help="of a model that follows instructions")
    p.add_argument("--noise-level", type=int, help="of the small picture, for a model that enlarges it")
    p.add_argument("--depth", help="the depth map: a .npy file, or a picture")
    p.add_argument("--eta", type=float)
    p.add_argument("--clip-skip", type=int, help="1: the last layer, as sd counts")
    p.add_argument("--sampling-method", help="%s, or a scheduler's class in diffusers" % ", ".join(SCHEDULERS))
    p.add_argument("--pipeline", help="a pipeline's class in diffusers; else the model's own, or its sibling for pictures")
    p.add_argument("--config", help="of a model that is one file: as from_single_file's")
    p.add_argument("--filter", help='only these names: "latents.*,step.0.unet.mid_block*"')
    p.add_argument("--no-modules", action="store_true", help="latents, noise and predictions, no modules")
    p.add_argument("--dtype", default="float32", help="float32, float16, bfloat16 or float64")
    p.add_argument("--device", default="cpu")
    p.add_argument("--generator", default="cpu", help="where torch's generator is")
    p.add_argument("--threads", type=int)
    p.add_argument("--picture", help="writes the picture, too")
    p.add_argument("--quiet", action="store_true", help="no progress")
    return p


def be_quiet():
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers
    for log in (of_diffusers, of_transformers):
        log.set_verbosity_error()
        log.disable_progress_bar()


def main(arguments=None):
    a = parser().parse_args(arguments)
    if not a.out.endswith((".safetensors", "/", os.sep)):
        parser().error("a trace's name must end in .safetensors, or in / as a directory of .npy files, not %r" % a.out)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")   # before the imports, which already have something to say
    import torch
    torch.set_num_threads(a.threads or torch.get_num_threads())
    if a.quiet:
        be_quiet()
    pipe = load(a)
    images = trace_pipeline(pipe, a.out, a.filter, not a.no_modules, {"model": a.model}, **arguments_of(a, pipe)).images
    if a.picture:
        pipe.image_processor.numpy_to_pil(pipe.image_processor.pt_to_numpy(images))[0].save(a.picture)


class Callable(types.ModuleType):
    """sd_reference.trace(model) is hooks.trace, though this module has the name."""

    def __call__(self, *args, **kwargs):
        return hooks.trace(*args, **kwargs)


sys.modules[__name__].__class__ = Callable

if __name__ == "__main__":
    main()

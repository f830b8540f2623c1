#!/usr/bin/env python3
"""Makes mistakes of `sd wrong` in diffusers, by other code than the program's, and asks `sd diagnose` which they are.

    python tools/foreign_mistakes.py [--sd ./sd] [--model weights/tiny] [--only ID,...] [--out DIR]

Each run is diffusers' own, in float32, with one mistake; its whole trace, without a header, is diagnosed. A line for
each: what was made, what was named, how many runs that took and the time of each. Exit code 1 if any was not named.
"""
import argparse
import contextlib
import json
import os
import subprocess
import sys

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from diffusers.models.activations import GEGLU
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from transformers.models.clip import modeling_clip

import golden_diagnose
import oracle
import wrong_twins
from wrong_twins import changed, hooked, modules

NORMS = (torch.nn.GroupNorm, torch.nn.LayerNorm)
LAYERS = (torch.nn.Linear, torch.nn.Conv2d)
PARTS = ("text_encoder", "unet", "vae")


def all_of(pipe, kind, parts=PARTS):
    return [m for p in parts for m in modules(getattr(pipe, p), kind)]


def forwards(pipe, kind, f, parts=PARTS, where=lambda m: True):
    """The forward of all modules of a kind is f(module, right forward, *args)."""
    def wrong(m):
        right = m.forward
        return lambda *args, **kwargs: f(m, right, *args, **kwargs)
    return changed(*[(m, "forward", wrong(m)) for m in all_of(pipe, kind, parts) if where(m)])


@contextlib.contextmanager
def weights(pipe, kind, change, parts=PARTS):
    """change(module) in place, for a while."""
    found = all_of(pipe, kind, parts)
    saved = [{k: v.clone() for k, v in m.state_dict().items()} for m in found]
    with torch.no_grad():
        for m in found:
            change(m)
    try:
        yield
    finally:
        for m, old in zip(found, saved):
            m.load_state_dict(old)


# ---------------------------------------------------------------------------------------- norms, activations

def norm(f):
    """y = f(x over the group, eps), then gain and bias."""
    def forward(m, right, x):
        if isinstance(m, torch.nn.LayerNorm):
            return f(x, m.eps) * m.weight + m.bias
        n, c = x.shape[:2]
        y = f(x.reshape(n, m.num_groups, -1), m.eps).reshape(x.shape)
        side = (1, c) + (1,) * (x.ndim - 2)
        return y * m.weight.view(side) + m.bias.view(side)
    return lambda pipe: forwards(pipe, NORMS, forward)


def outside(x, eps):
    return (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True, unbiased=False) + eps)


def unbiased(x, eps):
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + eps).sqrt()


def plain(m):
    m.weight.fill_(1)
    m.bias.zero_()


def one_group(pipe):
    return changed(*[(m, "num_groups", 1) for m in all_of(pipe, torch.nn.GroupNorm)])


def activations(f):
    """SiLU of resnets and of last layers."""
    def twin(pipe):
        found = [(r, "nonlinearity", wrong_twins.Activation(f)) for r in all_of(pipe, ResnetBlock2D)]
        return changed(*found, (pipe.unet.conv_act, "forward", f), (pipe.vae.decoder.conv_act, "forward", f))
    return twin


# ------------------------------------------------------------------------------------------------ attention

def sdpa(**more):
    from diffusers.models import attention_processor

    def attend(q, k, v, **kwargs):
        return F.scaled_dot_product_attention(q, k, v, **{**kwargs, **more})
    return lambda pipe: changed((attention_processor, "F", wrong_twins.Functional(scaled_dot_product_attention=attend)))


def projections(order):
    """to_q, to_k, to_v of self attentions are others."""
    def twin(pipe):
        found = modules(pipe.unet, Attention, "attn1")
        return changed(*[(a, n, getattr(a, o)) for a in found for n, o in zip(("to_q", "to_k", "to_v"), order)])
    return twin


def heads(f):
    return lambda pipe: changed(*[(a, "heads", f(a)) for a in modules(pipe.unet, Attention)])


def padding_masked(pipe):
    kept = {}

    def ids(m, args, kwargs):
        kept["ids"] = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
    right = modeling_clip.ALL_ATTENTION_FUNCTIONS.get_interface

    def attend(module, q, k, v, mask, scaling, **kwargs):
        x = kept["ids"]
        end = (x == x.max()).int().argmax(-1)
        t = torch.arange(x.shape[-1])
        seen = (t[None, :] <= t[:, None])[None] & (t[None, None, :] <= end[:, None, None])
        return F.scaled_dot_product_attention(q, k, v, attn_mask=seen[:, None], scale=scaling).transpose(1, 2), None

    @contextlib.contextmanager
    def twin():
        with hooked(pipe.text_encoder.register_forward_pre_hook(ids, with_kwargs=True)), \
                changed((modeling_clip.ALL_ATTENTION_FUNCTIONS, "get_interface", lambda *args: attend)):
            yield
    return twin()


# ----------------------------------------------------------------------------------------- pictures, products

def padded(mode):
    def forward(m, right, x):
        if mode == "reflect" and min(x.shape[2:]) < 2:
            return right(x)
        y = F.pad(x, (1, 1, 1, 1), mode=mode)
        return F.conv2d(y, m.weight, m.bias)
    return lambda pipe: forwards(pipe, torch.nn.Conv2d, forward,
                                 where=lambda m: m.kernel_size == (3, 3) and m.stride == (1, 1) and m.padding == (1, 1))


def bilinear(pipe):
    def forward(m, right, x, *args, **kwargs):
        return m.conv(F.interpolate(x, scale_factor=2.0, mode="bilinear"))
    return forwards(pipe, Upsample2D, forward)


def no_bias(m):
    if m.bias is not None:
        m.bias.zero_()


def transpose(m):
    w = m.weight
    if w.ndim == 2 and w.shape[0] == w.shape[1] or w.ndim == 4 and w.shape[2] > 1:
        w.copy_(w.transpose(-1, -2).clone())


def flip(m):
    if m.weight.ndim == 4:
        m.weight.copy_(m.weight.flip(-1, -2))


def flush(m):
    m.weight[m.weight.abs() < 2.0 ** -14] = 0


def half_convolutions(pipe):
    def forward(m, right, x):
        with changed((m, "weight", torch.nn.Parameter(m.weight.half().float()))):
            return right(x.half().float())
    return forwards(pipe, torch.nn.Conv2d, forward, ("unet", "vae"))


def half_results(pipe):
    return forwards(pipe, LAYERS + NORMS, lambda m, right, *a, **k: right(*a, **k).half().float(), ("vae",))


# ------------------------------------------------------------------------------------------- sums, embeddings

def time_not_added(pipe):
    hooks = []
    for r in modules(pipe.unet, ResnetBlock2D):   # norm2 sees h without what time_emb_proj has put out
        kept = {}
        hooks.append(r.time_emb_proj.register_forward_hook(lambda m, a, out, kept=kept: kept.update(t=out)))
        hooks.append(r.norm2.register_forward_pre_hook(lambda m, a, kept=kept: (a[0] - kept["t"][:, :, None, None],)))
    return hooked(*hooks)


def without_residual(pipe):
    """A resnet's result is f(x) alone: what it adds is taken off again."""
    def hook(m, args, out):
        x = args[0] if m.conv_shortcut is None else m.conv_shortcut(args[0])
        return out - x / m.output_scale_factor
    return hooked(*[r.register_forward_hook(hook) for r in all_of(pipe, ResnetBlock2D)])


def time(f):
    def twin(pipe):
        right = pipe.unet.time_proj.forward
        return changed((pipe.unet.time_proj, "forward", lambda t: right(f(t))))
    return twin


def positions(f):
    def twin(pipe):
        p = pipe.text_encoder.embeddings.position_embedding
        return changed((p, "weight", torch.nn.Parameter(f(p.weight.detach()))))
    return twin


def ids(f):
    """The tokens are others."""
    def hook(m, args, kwargs):
        if "input_ids" in kwargs:
            return args, dict(kwargs, input_ids=f(kwargs["input_ids"].clone()))
        return (f(args[0].clone()),) + args[1:], kwargs
    return lambda pipe: hooked(pipe.text_encoder.register_forward_pre_hook(hook, with_kwargs=True))


def padded_with(pad):
    def f(x):
        for row in x:
            row[int(row.argmax()) + 1:] = pad
        return x
    return ids(f)


def shifted(x):
    return torch.cat([x[:, 1:], x[:, -1:]], 1)


# ----------------------------------------------------------------------------------------- around the networks

def decoded(f):
    """The VAE decodes f(latents, factor)."""
    def twin(pipe):
        right, factor = pipe.vae.decode, pipe.vae.config.scaling_factor
        return changed((pipe.vae, "decode", lambda z, *args, **kwargs: right(f(z * factor, factor), *args, **kwargs)))
    return twin


def picture(f):
    def twin(pipe):
        right = pipe.image_processor.postprocess
        return changed((pipe.image_processor, "postprocess", lambda *args, **kwargs: f(right(*args, **kwargs))))
    return twin


def guided(f):
    """f(scale): what the pipeline takes for it."""
    return lambda pipe: changed((type(pipe), "guidance_scale", property(lambda self: f(self._guidance_scale))),
                                (type(pipe), "do_classifier_free_guidance", property(lambda self: True)))


def scheduler(**settings):
    def twin(pipe):
        return changed((pipe, "scheduler", type(pipe.scheduler).from_config(pipe.scheduler.config, **settings)))
    return twin


def layer_less(pipe):
    @contextlib.contextmanager
    def twin():
        kept = {}
        layers, n = pipe.text_encoder.encoder.layers, pipe.text_encoder.final_layer_norm
        def keep(m, args, out):
            kept.update(x=out[0] if isinstance(out, tuple) else out)
        handles = [layers[-2].register_forward_hook(keep), n.register_forward_pre_hook(lambda m, a: (kept["x"],))]
        with hooked(*handles):
            yield
    return twin()


def first_times(f):
    """The first latents are f(noise, sigma)."""
    def twin(pipe):
        return changed((type(pipe.scheduler), "init_noise_sigma", property(lambda self: f(float(self.sigmas.max())))))
    return twin


def whole_timesteps(pipe):
    right = pipe.scheduler.set_timesteps

    def wrong(*args, **kwargs):
        right(*args, **kwargs)
        pipe.scheduler.timesteps = pipe.scheduler.timesteps.round()
    return changed((pipe.scheduler, "set_timesteps", wrong))


# id: (context, options of our run, sampler of theirs)
DDIM, EULER = (["--sampling-method", "ddim"], DDIMScheduler), (["--sampling-method", "euler"], EulerDiscreteScheduler)
MADE = {
    "text-norm-eps-1e-12": lambda pipe: wrong_twins.eps(all_of(pipe, torch.nn.LayerNorm, ("text_encoder",)), 1e-12),
    "norm-eps-outside": norm(outside),
    "norm-unbiased": norm(unbiased),
    "norm-without-gain": lambda pipe: weights(pipe, NORMS, plain),
    "one-group": one_group,
    "geglu-quick": wrong_twins.geglu(wrong_twins.quick),
    "geglu-silu": wrong_twins.geglu(F.silu),
    "text-gelu-tanh": wrong_twins.clip_act(wrong_twins.tanh),
    "silu-left-out": activations(lambda x: x),
    "relu-for-silu": activations(F.relu),
    "attention-not-scaled": sdpa(scale=1.0),
    "padding-masked": padding_masked,
    "key-value-exchanged": projections(("to_q", "to_v", "to_k")),
    "query-key-exchanged": projections(("to_k", "to_q", "to_v")),
    "in-proj-is-kvq": projections(("to_k", "to_v", "to_q")),
    "in-proj-is-vqk": projections(("to_v", "to_q", "to_k")),
    "8-heads": heads(lambda a: 8),
    "heads-of-64": heads(lambda a: max(1, a.to_q.out_features // 64)),
    "convolution-repeats-edge": padded("replicate"),
    "convolution-mirrors": padded("reflect"),
    "convolution-wraps": padded("circular"),
    "upsample-bilinear": bilinear,
    "bias-left-out": lambda pipe: weights(pipe, LAYERS, no_bias),
    "weights-transposed": lambda pipe: weights(pipe, LAYERS, transpose),
    "kernels-flipped": lambda pipe: weights(pipe, torch.nn.Conv2d, flip),
    "subnormals-flushed": lambda pipe: weights(pipe, LAYERS, flush),
    "convolutions-in-float16": half_convolutions,
    "results-in-float16": half_results,
    "resnet-without-residual": without_residual,
    "time-not-added": time_not_added,
    "timestep-plus-1": time(lambda t: t + 1),
    "timestep-minus-1": time(lambda t: t - 1),
    "timestep-from-0-to-1": time(lambda t: t / 1000),
    "positions-left-out": positions(torch.zeros_like),
    "positions-from-1": positions(lambda w: torch.cat([w[1:], w[-1:]])),
    "pad-token-0": padded_with(0),
    "start-token-left-out": ids(shifted),
    "latents-not-divided": decoded(lambda z, k: z),
    "latents-multiplied": decoded(lambda z, k: z * k),
    "latents-divided-twice": decoded(lambda z, k: z / k / k),
    "factor-of-sdxl": decoded(lambda z, k: z / 0.13025),
    "truncated-bytes": picture(lambda x: (x * 255).floor() / 255),
    "bgr": picture(lambda x: x.flip(1)),
    "black-picture": picture(torch.zeros_like),
    "guidance-swapped": guided(lambda w: 1 - w),
    "guidance-plus-1": guided(lambda w: w + 1),
    "guidance-left-out": guided(lambda w: 1),
    "spacing-trailing": scheduler(timestep_spacing="trailing"),
    "spacing-linspace": scheduler(timestep_spacing="linspace"),
    "steps-offset-0": scheduler(steps_offset=0),
    "last-alpha-1": scheduler(set_alpha_to_one=True),
    "epsilon-for-v": scheduler(prediction_type="epsilon"),
    "betas-linear": scheduler(beta_schedule="linear"),
    "betas-of-ddpm": scheduler(beta_schedule="linear", beta_start=0.0001, beta_end=0.02),
    "betas-cosine": scheduler(beta_schedule="squaredcos_cap_v2"),
    "sample-for-epsilon": (scheduler(prediction_type="sample"), DDIM),
    "x0-clipped": (scheduler(clip_sample=True), DDIM),
    "zero-terminal-snr": (scheduler(rescale_betas_zero_snr=True), DDIM),
    "first-latents-not-scaled": (first_times(lambda sigma: 1), EULER),
    "first-latents-times-root": (first_times(lambda sigma: (sigma ** 2 + 1) ** 0.5), EULER),
    "timesteps-rounded": (whole_timesteps, (["--sampling-method", "euler", "--scheduler", "karras"],
                                            EulerDiscreteScheduler)),
    "clip-skip-from-0": layer_less,
}
MADE.update({k: wrong_twins.TWINS[part][name] for k, (part, name) in golden_diagnose.CASES.items()})
MADE.update(golden_diagnose.ROUNDED)
# Rows that are the same change by another value or another name, where they cannot be told apart.
SAME = {"timesteps-rounded": ("timesteps-rounded", "timesteps-cut"),
        "products-in-tf32": ("products-in-tf32", "convolutions-in-float16"), "heads-of-64": ("heads-of-64", "one-head"),
        "clip-skip-from-0": ("clip-skip-from-0", "one-layer-less"),
        "text-norm-eps-1e-12": ("text-norm-eps-1e-12", "text-norm-eps-1e-6")}


def trace(pipe, twin, path, other):
    """diffusers with the mistake: its trace without a header."""
    store, saved = {}, pipe.scheduler
    if other:
        karras = "karras" in other[0]
        pipe.scheduler = other[1].from_config(saved.config, **({"use_karras_sigmas": True} if karras else {}))
    try:
        with twin(pipe):
            oracle.text_to_image(pipe, lambda name, x: store.setdefault(name, x.detach().clone()), "a red apple",
                                 width=32, height=32, steps=3, seed=1)
    finally:
        pipe.scheduler = saved
    oracle.write_trace(store, path)


def diagnose(sd, model, path, options):
    done = subprocess.run([sd, "diagnose", path, "-m", model, "-p", "a red apple", "-s", "1", "--steps", "3", "-q",
                           "--cfg-scale", "7.5", "-W", "32", "-H", "32", "--json", *options],
                          capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode in (0, 1) else {"findings": [], "error": done.stderr.strip()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sd", default="./sd")
    parser.add_argument("--model", default="weights/tiny")
    parser.add_argument("--only", help="ids, with commas between them")
    parser.add_argument("--out", default="build/foreign")
    a = parser.parse_args()
    torch.set_num_threads(1)
    os.makedirs(a.out, exist_ok=True)
    pipe, missed, n = oracle.load(a.model), 0, 0
    listed = subprocess.run([a.sd, "wrong", "--json"], capture_output=True, text=True).stdout
    rows = [m["id"] for m in json.loads(listed)]
    for name in [r for r in rows if r in MADE and (not a.only or r in a.only.split(","))]:
        twin, other = MADE[name] if isinstance(MADE[name], tuple) else (MADE[name], None)
        path = os.path.join(a.out, name + ".safetensors")
        trace(pipe, twin, path, other)
        found = diagnose(a.sd, a.model, path, other[0] if other else [])
        named = [f["mistake"] for f in found["findings"]]
        well = bool(named) and named[0] in SAME.get(name, (name,))
        missed, n = missed + (not well), n + 1
        print("%s %-34s %s; %d runs, %.0f ms each%s" % (
            "  " if well else "! ", name, ", ".join(str(x) for x in named) or found.get("error", "nothing diverges"),
            found.get("runs", 0), 1e3 * found.get("seconds", 0) / max(1, found.get("runs", 0)),
            "".join("; %s %s" % (o["key"], o["theirs"]) for o in found.get("settings", []))), flush=True)
        os.remove(path)
    print("%d of %d named; not made here: %s" % (n - missed, n, ", ".join(r for r in rows if r not in MADE)))
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Seeds mistakes into a copy of diffusers' pipeline, and asks the program which module is guilty.

    python tools/seeded_faults.py [--seed 1] [--sd ./sd] [--model weights/tiny] [--out DIR] [--only NAME]

Twelve mistakes of docs/TRAPS.md and twelve others are drawn, each with a place, by one generator. Each goes into a
diffusers pipeline of its own, whose float32 run is traced. Then, as somebody would who has such a port:

    sd compare REF THEIRS [--floor F]                       where do the runs part?
    sd --inject THEIRS --trace OWN; sd compare THEIRS OWN   which module is wrong on its own inputs?
    sd diagnose THEIRS                                      which mistake is it?

An answer is right if the tensor that is named is the guilty module's or of a part of it. Pairs without a mistake
follow, of which none may raise an alarm: other prompts, threads, layouts, implementations of attention, TF32.

A place at which a mistake changes less than LEAST is drawn again: an epsilon beside a large variance changes nothing that
float32 could show. How often that was so is told.

Floors (--floors) come from runs of other prompts and seeds (`CALIBRATION`), which are never judged.
"""
import argparse
import contextlib
import copy
import json
import os
import random
import re
import subprocess
import sys
import time
import types

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.activations import GEGLU
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention, AttnProcessor
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets import unet_2d_blocks
from diffusers.models.upsampling import Upsample2D
from transformers.models.clip import modeling_clip

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bindings", "python"))
import oracle
import wrong_twins
from wrong_twins import changed, hooked

LEAST = 1e-6   # of a mistake's effect at its module: sixteen roundings

# ------------------------------------------------------------------------------------------------ places

PARTS = {"unet": "unet.", "vae": "vae.", "text_encoder": "text_encoder.text_model."}


def places(pipe, kind, parts=("unet",), path=""):
    """[(name in a trace, module)] of the modules of a kind; the VAE's encoder does not run."""
    return [(PARTS[p] + name, m) for p in parts for name, m in getattr(pipe, p).named_modules()
            if isinstance(m, kind) and path in name and not (p == "vae" and name.startswith(("encoder.", "quant_conv")))]


@contextlib.contextmanager
def weights_changed(module, change):
    """change(weight, bias) in place, for a while."""
    saved = copy.deepcopy(module.state_dict())
    with torch.no_grad():
        change(module.weight, module.bias)
    try:
        yield
    finally:
        module.load_state_dict(saved)


class NoPlace(Exception):
    """The mistake changes nothing in this model."""


def at_a_place(rng, found, context):
    if not found:
        raise NoPlace
    name, module = rng.choice(found)
    return name, context(module)


# ------------------------------------------------------------------------------------------------ mistakes of docs/TRAPS.md
# name: (function of a pipeline and a generator -> guilty, context; its names in `sd wrong`)

def visible(pipe, found, eps):
    """Those of the norms where another epsilon changes the first step by LEAST."""
    changes = {}

    def look(name):
        def hook(m, args, out):
            with changed((m, "eps", eps)):
                changes.setdefault(name, oracle.rel_l2(m.forward(args[0]), out))
        return hook
    with hooked(*[m.register_forward_hook(look(name)) for name, m in found]):
        oracle.text_to_image(pipe, None, "a red apple", steps=1, seed=7, modules=False)
    return [(name, m) for name, m in found if changes.get(name, 0) >= 2 * LEAST]


def wrong_eps(eps, parts, kind=torch.nn.GroupNorm, path=""):
    def fault(pipe, rng):
        found = places(pipe, kind, parts, path)
        return at_a_place(rng, visible(pipe, found, eps), lambda m: changed((m, "eps", eps)))
    return fault


def geglu(f):
    return lambda pipe, rng: at_a_place(rng, places(pipe, GEGLU), lambda m: changed((m, "gelu", f)))


def geglu_halves(pipe, rng):
    return at_a_place(rng, places(pipe, GEGLU), lambda m: changed(wrong_twins.gate_first(m)))


def heads(pipe, rng):
    found = [(n, a) for n, a in places(pipe, Attention) if a.heads != a.to_q.out_features // a.heads]
    return at_a_place(rng, found, lambda a: changed((a, "heads", a.to_q.out_features // a.heads)))


def sinusoid(pipe, rng):
    return "unet.time_proj", changed((pipe.unet.time_proj, "flip_sin_to_cos", False))


def time_without_silu(pipe, rng):
    kept = {}
    keep = pipe.unet.time_embedding.register_forward_hook(lambda m, a, out: kept.update(temb=out))
    name, r = rng.choice(places(pipe, ResnetBlock2D))
    return name + ".time_emb_proj", hooked(keep, r.time_emb_proj.register_forward_pre_hook(lambda m, a: (kept["temb"],)))


def downsample_pads_after(pipe, rng):
    name, d = rng.choice(places(pipe, Downsample2D))
    return name + ".conv", changed((d, "padding", 0), (d.conv, "padding", (0, 0)))


def skip_first(pipe, rng):
    """One of the joins has the skip first."""
    resnets = places(pipe, ResnetBlock2D, path="up_blocks.")
    which, seen = rng.randrange(len(resnets)), [0]

    class Torch:
        @staticmethod
        def cat(tensors, dim):
            seen[0] += 1
            return torch.cat(list(tensors)[::-1] if (seen[0] - 1) % len(resnets) == which else tensors, dim=dim)

        def __getattr__(self, name):
            return getattr(torch, name)
    return resnets[which][0], changed((unet_2d_blocks, "torch", Torch()))


def text_gelu(pipe, rng):
    found = [(PARTS["text_encoder"] + n, m) for n, m in pipe.text_encoder.named_modules() if n.endswith(".mlp")]
    wrong = F.gelu if pipe.text_encoder.config.hidden_act == "quick_gelu" else wrong_twins.quick
    return at_a_place(rng, found, lambda m: changed((m, "activation_fn", wrong_twins.Activation(wrong))))


def not_causal(pipe, rng):
    name, guilty = rng.choice([(PARTS["text_encoder"] + n, m) for n, m in pipe.text_encoder.named_modules()
                               if n.endswith("self_attn")])
    right = modeling_clip.ALL_ATTENTION_FUNCTIONS.get_interface

    def get_interface(*args):
        def attend(module, q, k, v, mask, scaling, **kwargs):
            if module is not guilty:
                return right(*args)(module, q, k, v, mask, scaling=scaling, **kwargs)
            return F.scaled_dot_product_attention(q, k, v, scale=scaling).transpose(1, 2), None
        return attend
    return name, changed((modeling_clip.ALL_ATTENTION_FUNCTIONS, "get_interface", get_interface))


def vae_without_residual(pipe, rng):
    return at_a_place(rng, places(pipe, Attention, ("vae",)), lambda a: changed((a, "residual_connection", False)))


def vae_two_heads(pipe, rng):
    return at_a_place(rng, places(pipe, Attention, ("vae",)), lambda a: changed((a, "heads", 2)))


@contextlib.contextmanager
def configured(part, **settings):
    saved = part._internal_dict
    part._internal_dict = type(saved)({**saved, **settings})
    try:
        yield
    finally:
        part._internal_dict = saved


def scaling_factor(pipe, rng):
    return "vae.post_quant_conv", configured(pipe.vae, scaling_factor=1.0)


def steps_offset(pipe, rng):
    return "timestep.0", configured(pipe.scheduler, steps_offset=0)


def epsilon_for_v(pipe, rng):
    return "step.0.denoised", configured(pipe.scheduler, prediction_type="epsilon")


TRAPS = {
    "resnet_norm_eps_1e-6": (wrong_eps(1e-6, ("unet",), path="resnets."), ("resnet-norm-eps-1e-6",)),
    "transformer_norm_eps_1e-5": (wrong_eps(1e-5, ("unet",), path="attentions."), ("transformer-norm-eps-1e-5",)),
    "vae_norm_eps_1e-5": (wrong_eps(1e-5, ("vae",)), ("vae-norm-eps-1e-5",)),
    "layer_norm_eps_1e-6": (wrong_eps(1e-6, ("unet", "text_encoder"), torch.nn.LayerNorm), ("layer-norm-eps-1e-6", "text-norm-eps-1e-6")),
    "geglu_tanh": (geglu(wrong_twins.tanh), ("geglu-tanh",)),
    "geglu_quick": (geglu(wrong_twins.quick), ("geglu-quick",)),
    "text_gelu": (text_gelu, ("text-gelu", "text-quick-gelu")),
    "geglu_gate_first": (geglu_halves, ("geglu-gate-first",)),
    "heads_as_columns": (heads, ("heads-as-columns",)),
    "sinusoid_sin_first": (sinusoid, ("sinusoid-sin-first",)),
    "time_without_silu": (time_without_silu, ("time-without-silu",)),
    "downsample_pads_after": (downsample_pads_after, ("downsample-pads-after",)),
    "vae_attention_without_residual": (vae_without_residual, ("residual-left-out",)),
    "vae_attention_two_heads": (vae_two_heads, ("vae-attention-two-heads",)),
    "scaling_factor_left_out": (scaling_factor, ("latents-not-divided",)),
    "not_causal": (not_causal, ("not-causal",)),
    "steps_offset_0": (steps_offset, ("steps-offset-0",)),
    "skip_first": (skip_first, ("skip-first",)),
    "epsilon_for_v": (epsilon_for_v, ("epsilon-for-v",)),
}

# ------------------------------------------------------------------------------------------------ mistakes that no list has

ANY = ("unet", "vae", "text_encoder")


def bias_larger(pipe, rng):
    found = [p for p in places(pipe, (torch.nn.Conv2d, torch.nn.Linear), ANY) if p[1].bias is not None]
    return at_a_place(rng, found, lambda m: weights_changed(m, lambda w, b: b.mul_(1.01)))


def outputs_swapped(pipe, rng):
    def swap(w, b):
        i, j = rng.sample(range(w.shape[0]), 2)
        w[[i, j]] = w[[j, i]].clone()
    return at_a_place(rng, places(pipe, torch.nn.Conv2d, ("unet", "vae")), lambda m: weights_changed(m, swap))


def row_zeroed(pipe, rng):
    found = places(pipe, torch.nn.Linear, ("unet", "text_encoder"))
    return at_a_place(rng, found, lambda m: weights_changed(m, lambda w, b: w[rng.randrange(w.shape[0])].zero_()))


def kernel_flipped(pipe, rng):
    found = [p for p in places(pipe, torch.nn.Conv2d, ("unet", "vae")) if p[1].kernel_size == (3, 3)]
    return at_a_place(rng, found, lambda m: weights_changed(m, lambda w, b: w.copy_(w.flip(-1))))


def padding_around_the_edge(pipe, rng):
    found = [p for p in places(pipe, torch.nn.Conv2d, ("unet", "vae")) if p[1].padding == (1, 1)]

    def circular(m):
        return changed((m, "padding_mode", "circular"), (m, "_reversed_padding_repeated_twice", [1, 1, 1, 1]))
    return at_a_place(rng, found, circular)


def last_column_lost(pipe, rng):
    def lose(m, args):
        x = args[0].clone()
        x[..., -1] = 0
        return (x,)
    found = [p for p in places(pipe, torch.nn.Conv2d, ("unet", "vae")) if p[1].kernel_size == (3, 3)]
    return at_a_place(rng, found, lambda m: hooked(m.register_forward_pre_hook(lose)))


def half_the_groups(pipe, rng):
    found = [p for p in places(pipe, torch.nn.GroupNorm, ("unet", "vae")) if p[1].num_groups % 2 == 0]
    return at_a_place(rng, found, lambda m: changed((m, "num_groups", m.num_groups // 2)))


def unbiased_variance(pipe, rng):
    def forward(self, x):
        y = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + self.eps).sqrt()
        return y * self.weight + self.bias
    found = places(pipe, torch.nn.LayerNorm, ("unet", "text_encoder"))
    return at_a_place(rng, found, lambda m: changed((m, "forward", types.MethodType(forward, m))))


def output_scaled(pipe, rng):
    found = places(pipe, ResnetBlock2D, ("unet", "vae"))
    return at_a_place(rng, found, lambda m: hooked(m.register_forward_hook(lambda m, a, out: out * 0.999)))


def last_token_unseen(pipe, rng):
    def shorten(m, args, kwargs):
        return args, dict(kwargs, encoder_hidden_states=kwargs["encoder_hidden_states"][:, :-1])
    found = places(pipe, Attention, path="attn2")
    return at_a_place(rng, found, lambda m: hooked(m.register_forward_pre_hook(shorten, with_kwargs=True)))


def attention_in_bfloat16(pipe, rng):
    class Narrow:
        def __call__(self, attn, x, encoder_hidden_states=None, **kwargs):
            q, c = attn.to_q(x), x if encoder_hidden_states is None else encoder_hidden_states
            q, k, v = (attn.head_to_batch_dim(t).bfloat16() for t in (q, attn.to_k(c), attn.to_v(c)))
            y = (q @ k.transpose(1, 2) * attn.scale).softmax(-1) @ v
            return attn.to_out[0](attn.batch_to_head_dim(y.float()))
    found = places(pipe, Attention)
    return at_a_place(rng, found, lambda m: changed((m, "processor", Narrow())))


def bilinear(pipe, rng):
    def forward(self, x, *args, **kwargs):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="bilinear"))
    name, m = rng.choice(places(pipe, Upsample2D, ("unet", "vae")))
    return name + ".conv", changed((m, "forward", types.MethodType(forward, m)))


def attention_twice(pipe, rng):
    found = [(n + ".attn1", b.attn1) for n, b in places(pipe, BasicTransformerBlock)]
    return at_a_place(rng, found, lambda m: hooked(m.register_forward_hook(lambda m, a, out: 2 * out)))


def halves_in_between(pipe, rng):
    found = places(pipe, ResnetBlock2D, ("unet", "vae"))
    return at_a_place(rng, found, lambda m: hooked(m.register_forward_hook(lambda m, a, out: out.half().float())))


def another_last_activation(pipe, rng):
    part = rng.choice([pipe.unet, pipe.vae.decoder])
    name = "unet.conv_act" if part is pipe.unet else "vae.decoder.conv_act"
    return name, changed((part.conv_act, "forward", wrong_twins.quick))


def guidance_from_the_prompt(pipe, rng):
    """cond + g (cond - uncond)."""
    return "step.0.noise_pred", changed((type(pipe), "guidance_scale", property(lambda self: self._guidance_scale + 1)))


OTHERS = {
    "bias_times_1.01": (bias_larger, ()),
    "two_outputs_swapped": (outputs_swapped, ()),
    "row_of_weights_zero": (row_zeroed, ()),
    "kernel_flipped": (kernel_flipped, ()),
    "padding_around_the_edge": (padding_around_the_edge, ("convolution-wraps",)),
    "last_column_lost": (last_column_lost, ()),
    "half_the_groups": (half_the_groups, ()),
    "unbiased_variance": (unbiased_variance, ("norm-unbiased",)),
    "output_times_0.999": (output_scaled, ()),
    "last_token_unseen": (last_token_unseen, ()),
    "attention_in_bfloat16": (attention_in_bfloat16, ()),
    "bilinear_enlarging": (bilinear, ("upsample-bilinear",)),
    "attention_added_twice": (attention_twice, ()),
    "output_as_float16": (halves_in_between, ()),
    "another_last_activation": (another_last_activation, ()),
    "guidance_from_the_prompt": (guidance_from_the_prompt, ("guidance-plus-1",)),
}

# ------------------------------------------------------------------------------------------------ clean variants

def tf32(x):
    """Rounded to the 10 bits of mantissa that a tensor core sees."""
    bits = x.contiguous().view(torch.int32)
    return ((bits + 0xfff + ((bits >> 13) & 1)) & ~0x1fff).view(torch.float32)


@contextlib.contextmanager
def like_tf32(pipe):
    """Products and convolutions of operands with 10 bits of mantissa, sums in float32."""
    linear, conv = F.linear, torch.nn.Conv2d._conv_forward

    def forward(self, x, w, b):
        return conv(self, tf32(x), tf32(w), b)
    with changed((F, "linear", lambda x, w, b=None: linear(tf32(x), tf32(w), b)),
                 (torch.nn.Conv2d, "_conv_forward", forward)):
        yield


@contextlib.contextmanager
def threads(n):
    saved = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(saved)


@contextlib.contextmanager
def channels_last(pipe):
    pipe.unet.to(memory_format=torch.channels_last)
    pipe.vae.to(memory_format=torch.channels_last)
    try:
        yield
    finally:
        pipe.unet.to(memory_format=torch.contiguous_format)
        pipe.vae.to(memory_format=torch.contiguous_format)


@contextlib.contextmanager
def plain_attention(pipe):
    """softmax(q k^T) v in three operations."""
    saved = pipe.unet.attn_processors
    pipe.unet.set_attn_processor(AttnProcessor())
    try:
        yield
    finally:
        pipe.unet.set_attn_processor(saved)


@contextlib.contextmanager
def without_mkldnn(pipe):
    with torch.backends.mkldnn.flags(enabled=False):
        yield


CLEAN = {
    "float32": lambda pipe: contextlib.nullcontext(),
    "one thread": lambda pipe: threads(1),
    "three threads": lambda pipe: threads(3),
    "channels_last": channels_last,
    "attention in three operations": plain_attention,
    "without oneDNN": without_mkldnn,
    "dumped as NHWC .npy": lambda pipe: contextlib.nullcontext(),
    "like TF32": like_tf32,
}

# ------------------------------------------------------------------------------------------------ runs

PROMPTS = ["a red apple", "a blue star on a green field", "two yellow pears", "a white house at night"]
CALIBRATION = [("a green leaf", 101), ("a black cat on a red chair", 102), ("an orange sun", 103), ("a grey stone", 104)]


class Lab:
    """The program, a model, a folder, and what a run is."""

    def __init__(self, sd, model, out, steps):
        self.sd, self.model, self.out, self.steps = os.path.abspath(sd), model, out, steps
        os.makedirs(out, exist_ok=True)
        self.floors = {}

    def path(self, name):
        return os.path.join(self.out, name)

    def run(self, *args, codes=(0,)):
        done = subprocess.run([self.sd, *args], capture_output=True, text=True)
        if done.returncode not in codes:
            raise RuntimeError("sd %s: exit %d: %s" % (" ".join(args), done.returncode, done.stderr.strip()))
        return done.stdout

    def settings(self, prompt, seed):
        return ["-m", self.model, "-p", prompt, "-s", str(seed), "--steps", str(self.steps), "--cfg-scale", "7.5"]

    def draw(self, prompt, seed, *more):
        self.run(*self.settings(prompt, seed), "-q", "-o", self.path("own.png"), *more)

    def ours(self, prompt, seed):
        """Our trace of a run, made once."""
        path = self.path("ref-%d.safetensors" % seed)
        if not os.path.exists(path):
            self.draw(prompt, seed, "--trace", path)
        return path

    def traced(self, pipe, prompt, seed):
        """The pipeline's tensors by name."""
        store = {}
        oracle.text_to_image(pipe, oracle.once(store), prompt, steps=self.steps, seed=seed)
        return store

    def theirs(self, pipe, prompt, seed, name):
        """The pipeline's trace."""
        path = self.path(name + ".safetensors")
        oracle.write_trace(self.traced(pipe, prompt, seed), path)
        return path

    def compare(self, ref, mine, floor=None):
        """The name of the first tensor that diverges, or None."""
        more = ["--floor", self.floors[floor]] if floor else []
        text = self.run("compare", ref, mine, "--json", *more, codes=(0, 1))
        return json.loads(text)["compared"][0]["first"]

    def alone(self, theirs, prompt, seed):
        """The first tensor that diverges from one that was computed from their own inputs. Numbers of another shape
        cannot be taken over, and the program says whose: then that is the answer."""
        own = self.path("own.safetensors")
        try:
            self.draw(prompt, seed, "--inject", theirs, "--trace", own)
        except RuntimeError as refusal:
            wrong = re.search(r"(step|text_encoder|vae|timestep|latents)\.[\w.]+\w", str(refusal).split(theirs)[-1])
            return wrong and wrong.group(0)
        return self.compare(theirs, own)

    def calibrate(self, kind):
        """A floor for whole runs of one way to compute that is right: for each tensor the largest error."""
        pairs = []
        for prompt, seed in CALIBRATION:
            pipe = oracle.load(self.model)
            with CLEAN[kind](pipe):
                pairs.append((self.ours(prompt, seed), self.theirs(pipe, prompt, seed, "calibration-%d" % seed)))
        worst = {}
        for ref, mine in pairs:
            one = self.path("one.floor")
            self.run("compare", "--measure-floor", one, ref, mine)
            for line in open(one):
                if line.strip() and not line.startswith("#"):
                    value, tensor = line.split()
                    worst[tensor] = max(worst.get(tensor, 0.0), float(value))
        self.floors[kind] = self.path(kind.replace(" ", "-") + ".floor")
        with open(self.floors[kind], "w") as f:
            f.writelines("%.3g %s\n" % (v, k) for k, v in worst.items())


def plain(name):
    """A tensor's name without its step: "unet.conv_in"."""
    parts = name.split(".") if name else []
    return ".".join(parts[2:]) if len(parts) > 2 and parts[0] == "step" and parts[2] == "unet" else name


def is_at(name, guilty):
    return bool(name) and (plain(name) == guilty or plain(name).startswith(guilty + "."))


def as_npy(path):
    """The trace as a directory of .npy files, pictures with channels last."""
    from safetensors.numpy import load_file
    folder = path.replace(".safetensors", "")
    os.makedirs(folder, exist_ok=True)
    for name, x in load_file(path).items():
        np.save(os.path.join(folder, name), np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if x.ndim == 4 else x)
    return folder


def effect(right, wrong, guilty):
    """The largest relative error of the guilty module's first step."""
    at = [k for k in right if is_at(k, guilty) and not k.startswith("step.1.")]
    return max(oracle.rel_l2(wrong[k], right[k]) if wrong[k].shape == right[k].shape else 1.0 for k in at)


def spoil(lab, fault, prompt, seed, rng):
    """A trace with the mistake: guilty module, tensors, what it changes there, how many places were drawn."""
    right = lab.traced(oracle.load(lab.model), prompt, seed)
    for draws in range(1, 100):
        pipe = oracle.load(lab.model)
        guilty, context = fault(pipe, rng)
        with context:
            wrong = lab.traced(pipe, prompt, seed)
        size = effect(right, wrong, guilty)
        if size >= LEAST:
            return guilty, wrong, size, draws
    raise NoPlace


def diagnosis(lab, theirs, prompt, seed):
    """What the first tensor that diverges is put down to: a mistake's name, or None. A coarser arithmetic that explains
    everything is none."""
    text = lab.run("diagnose", theirs, *lab.settings(prompt, seed), "--json", codes=(0, 1))
    findings = [f for f in json.loads(text)["findings"] if not f["arithmetic"]]
    return findings[0]["mistake"] if findings else "nothing diverges"


def judge_fault(lab, name, fault, known, i, rng):
    prompt, seed = PROMPTS[i % len(PROMPTS)], 200 + i
    guilty, wrong, size, draws = spoil(lab, fault, prompt, seed, rng)
    theirs = lab.path("case.safetensors")
    oracle.write_trace(wrong, theirs)
    ref, times = lab.ours(prompt, seed), [time.time()]
    first = lab.compare(ref, theirs)
    floored = lab.compare(ref, theirs, "float32") if lab.floors else None
    alone = lab.alone(theirs, prompt, seed)
    times.append(time.time())
    found = diagnosis(lab, theirs, prompt, seed)
    times.append(time.time())
    return {"mistake": name, "guilty": guilty, "effect": size, "draws": draws, "compare": plain(first),
            "floor": plain(floored), "inject": plain(alone), "named": is_at(alone, guilty), "diagnosis": found,
            "known": bool(known), "diagnosed": found in known if known else found is None,
            "seconds": round(times[1] - times[0], 1), "seconds_diagnose": round(times[2] - times[1], 1)}


def judge_clean(lab, kind, i):
    prompt, seed = PROMPTS[i % len(PROMPTS)], 300 + i
    pipe = oracle.load(lab.model)
    with CLEAN[kind](pipe):
        theirs = lab.theirs(pipe, prompt, seed, "clean")
    other, ref = as_npy(theirs) if "npy" in kind else theirs, lab.ours(prompt, seed)
    alarms = {"inject": plain(lab.alone(theirs, prompt, seed)), "diagnose": diagnosis(lab, theirs, prompt, seed)}
    if kind != "like TF32":   # float32's bounds are not for it
        alarms["compare"] = plain(lab.compare(ref, other))
    if lab.floors:
        alarms["floor"] = plain(lab.compare(ref, other, kind if kind in lab.floors else "float32"))
    raised = {k: v for k, v in alarms.items() if v not in (None, "nothing diverges")}
    return {"kind": kind, "alarms": raised}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sd", default="./sd")
    parser.add_argument("--model", default="weights/tiny")
    parser.add_argument("--out", default="build/faults", help="a folder for traces and results.json")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--each", type=int, default=12, help="so many of the list and so many others")
    parser.add_argument("--floors", action="store_true", help="measure floors first, and compare with them too")
    parser.add_argument("--only", help="the mistake of this name alone")
    a = parser.parse_args()
    torch.set_num_threads(1)   # tensors are small
    rng, lab = random.Random(a.seed), Lab(a.sd, a.model, a.out, a.steps)
    for kind in ("float32", "like TF32") if a.floors else ():
        lab.calibrate(kind)
    faults, clean = [], []
    for table in (TRAPS, OTHERS):
        names, before = rng.sample(sorted(table), len(table)), len(faults)
        for name in names if a.only is None else [n for n in names if n == a.only]:
            if len(faults) - before == a.each:
                break
            try:
                place = random.Random("%d %s" % (a.seed, name))
                faults.append(judge_fault(lab, name, *table[name], len(faults), place))
                print(json.dumps(faults[-1]), flush=True)
            except NoPlace:
                print("%s: no place where it changes anything" % name, flush=True)
    for i in range(0 if a.only else 2 * a.each):
        clean.append(judge_clean(lab, sorted(CLEAN)[i % len(CLEAN)], i))
        print(json.dumps(clean[-1]), flush=True)
    with open(lab.path("results.json"), "w") as f:
        json.dump({"seed": a.seed, "faults": faults, "clean": clean}, f, indent=1)
    print("%d of %d guilty modules named, %d of %d diagnosed; %d of %d clean pairs raised an alarm" % (
        sum(f["named"] for f in faults), len(faults), sum(f["diagnosed"] for f in faults), len(faults),
        sum(bool(c["alarms"]) for c in clean), len(clean)))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Writes the goldens of the three networks and of text to image: tests/golden/net_<config>.{txt,safetensors}.

    python tools/make_golden.py [--config NAME] [--out tests/golden] [--study]

net_<config>.txt describes a small model (tools/synth.py): its JSON files, and name, gain, offset and shape of every
tensor as torch's state_dict has them, so that tests/synth.c can write the model's directory and no naming mistake of
ours can hide; then the inputs and the runs. One item per line, the first word says what it is; # begins a comment.

net_<config>.safetensors holds the truth: results in true float64 (tools/oracle.py), rounded to float32. For each NAME:
  NAME       numbers of it in PyTorch's order, all n or k of them: number j is element floor(j n / k) of the whole
  NAME.e32   [e32, norm, dims...]: torch-float32's own error, rel-L2 over the whole tensor or over the numbers stored,
             whichever is larger; the whole tensor's L2 norm; its shape. The float32 run is given the exact sinusoid of
             the timestep: with diffusers' own, that one error would excuse every other in the UNet
Only tokens (int64) and wrong.* have no .e32.
  unet.*, vae.*        one pass over the inputs `latents` (with `timesteps` and `context`), `vae_latents` and `picture`
  control.conv_out     the UNet's result with `control.I` added to skip I and `control.middle` to the middle
  text_encoder.*, tokens, prompt_embeds, clip_skip.K    of [negative prompt, prompt]; K as `--clip-skip` counts
  run.R.*              a whole text-to-image run, by the names of `./sd --trace`
  wrong.PART.MISTAKE   [error]: rel-L2 error of PART's result when a known mistake is made (tools/wrong_twins.py)

Before anything is written: no operation of the float64 runs yields float32; the results agree with a second
computation in float64 by other formulas (`independent`); each mistake is at least MARGIN times the bound that tests
use. --study also measures what each module and each tensor contributes.
"""
import argparse
import json
import math
import os
import re
import tempfile

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

import oracle
import synth
import wrong_twins

SAMPLES = 41                    # prime, so that a sample walks through every column
MARGIN = 10                     # wrong twins against bound()
PROMPT, NEGATIVE = "a red apple on a blue table, isn't it great!", "blurry"

# UNet: batch 2, odd sides. VAE: latents, and a picture of 8 times that. Timesteps: one with a fraction.
SIZES = {"sd1-small": dict(unet=(9, 14), vae=(3, 5)), "sd2-small": dict(unet=(11, 5), vae=(4, 3)),
         "asym-small": dict(unet=(7, 10), vae=(2, 5))}
TIMESTEPS = [981.0, 37.25]
# name -> arguments of oracle.text_to_image; sampler None: the model's own.
RUNS = {
    "sd1-small": {
        "ddim": dict(sampler="ddim", steps=4),
        "pndm": dict(sampler=None, steps=4),
        "euler": dict(sampler="euler", steps=3),
        "euler_a": dict(sampler="euler_a", steps=3, batch=2),
        "ddim_eta": dict(sampler="ddim", steps=3, batch=2, eta=0.6),
    },
    "sd2-small": {
        "ddim": dict(sampler=None, steps=3),
        "pndm": dict(sampler="pndm", steps=3),
        "euler": dict(sampler="euler", steps=3),
        "euler_a": dict(sampler="euler_a", steps=3),
    },
    "asym-small": {
        "own": dict(sampler=None, steps=3),
        "no_guidance": dict(sampler=None, steps=2, guidance=1.0),
    },
}
RUN_DEFAULTS = dict(width=72, height=88, steps=3, guidance=7.5, seed=20, batch=1, eta=0.0)


def bound(e32):
    """What tests/synth.c's golden_check asks for."""
    return max(3 * e32, 2e-6)


# ---------------------------------------------------------------------------------------------- a second way to compute

def independent():
    """While active, the layers are computed from their definitions with nothing but elementary operations."""
    def conv2d(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
        (sh, sw), (ph, pw) = stride, padding
        x = F.pad(x, (pw, pw, ph, ph))
        h, v = (x.shape[2] - w.shape[2]) // sh + 1, (x.shape[3] - w.shape[3]) // sw + 1
        y = sum(torch.einsum("nihw,oi->nohw", x[:, :, i:i + sh * h:sh, j:j + sw * v:sw], w[:, :, i, j])
                for i in range(w.shape[2]) for j in range(w.shape[3]))
        return y if b is None else y + b[:, None, None]

    def linear(x, w, b=None):
        y = torch.einsum("...i,oi->...o", x, w)
        return y if b is None else y + b

    def normalized(x, dims, eps):
        m = x.mean(dims, keepdim=True)
        return (x - m) / torch.sqrt(((x - m) ** 2).mean(dims, keepdim=True) + eps)

    def group_norm(x, groups, w, b, eps):
        y = normalized(x.reshape(x.shape[0], groups, -1), 2, eps).reshape(x.shape)
        shape = (-1,) + (1,) * (x.dim() - 2)
        return y * w.reshape(shape) + b.reshape(shape)

    def sdpa(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, **kwargs):
        s = torch.einsum("nhtd,nhsd->nhts", q, k) * (scale or q.shape[-1] ** -0.5)
        if attn_mask is not None:
            s = s.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else s + attn_mask
        if is_causal:
            s = s.masked_fill(torch.ones(s.shape[-2:], dtype=torch.bool).triu(1), -math.inf)
        e = torch.exp(s - s.amax(-1, keepdim=True))
        return torch.einsum("nhts,nhsd->nhtd", e / e.sum(-1, keepdim=True), v)

    def interpolate(x, size=None, scale_factor=None, mode=None, *args, **kwargs):
        size = size or [int(s * scale_factor) for s in x.shape[2:]]
        rows, columns = [torch.arange(o) * i // o for o, i in zip(size, x.shape[2:])]
        return x[:, :, rows][:, :, :, columns]

    return wrong_twins.changed(
        (F, "conv2d", conv2d), (F, "linear", linear), (F, "interpolate", interpolate),
        (F, "scaled_dot_product_attention", sdpa), (F, "group_norm", group_norm),
        (F, "layer_norm", lambda x, shape, w, b, eps: normalized(x, -1, eps) * w + b),
        (F, "silu", lambda x, inplace=False: x / (1 + torch.exp(-x))),
        (F, "gelu", lambda x, approximate="none": x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))))


# ------------------------------------------------------------------------------------------------ stages of one model

def skip_shapes(config, latents):
    """Shapes of the UNet's skips, in the order of their making, and of the middle's result."""
    unet, shapes = synth.empty_model(config, "unet"), []
    unet.conv_in.register_forward_hook(lambda m, a, out: shapes.append(tuple(out.shape)))
    for block in unet.down_blocks:
        block.register_forward_hook(lambda m, a, out: shapes.extend(tuple(x.shape) for x in out[1]))
    unet.mid_block.register_forward_hook(lambda m, a, out: shapes.append(tuple(out.shape)))
    context = torch.empty((latents[0], 77, unet.config.cross_attention_dim), device="meta")
    unet(torch.empty(latents, device="meta"), torch.empty(latents[0], device="meta"), context)
    return shapes[:-1], shapes[-1]


class Inputs:
    def __init__(self, config):
        c, (h, w), (vh, vw) = synth.CONFIGS[config], SIZES[config]["unet"], SIZES[config]["vae"]
        unit = np.float32(math.sqrt(3))
        self.specs = {   # name -> gain, shape
            "latents": (unit, (2, 4, h, w)), "context": (unit, (2, 77, c["unet"]["cross_attention_dim"])),
            "vae_latents": (np.float32(4), (2, 4, vh, vw)), "picture": (np.float32(1), (2, 3, 8 * vh, 8 * vw))}
        skips, middle = skip_shapes(config, self.specs["latents"][1])
        for i, shape in enumerate(skips):
            self.specs["control.%d" % i] = (np.float32(0.3), shape)
        self.specs["control.middle"] = (np.float32(0.3), middle)
        for name, (gain, shape) in self.specs.items():
            value = synth.fill("input." + name, math.prod(shape), gain, 0).reshape(shape)
            setattr(self, name, torch.from_numpy(value))
        self.timesteps = torch.tensor(TIMESTEPS)
        self.residuals = [getattr(self, "control.%d" % i) for i in range(len(skips))], getattr(self, "control.middle")


def run_unet(pipe, x, emit=None):
    return oracle.unet(pipe, x.latents, x.timesteps, x.context, emit)


def run_control(pipe, x, skips=None, middle=None):
    right = x.residuals
    return oracle.unet(pipe, x.latents, x.timesteps, x.context,
                       residuals=(right[0] if skips is None else skips, right[1] if middle is None else middle))


def run_encoder(pipe, x, emit=None):
    return torch.cat(oracle.vae_encode(pipe, x.picture, emit), 1)


def run_decoder(pipe, x, emit=None):
    return oracle.vae_decode(pipe, x.vae_latents, emit)


def run_text(pipe, x, emit=None):
    return oracle.encode_text(pipe, [NEGATIVE, PROMPT], emit=emit)[1]


STAGES = {"unet": run_unet, "encoder": run_encoder, "decoder": run_decoder, "text": run_text}
PREFIX = {"unet": "unet.", "encoder": "vae.", "decoder": "vae.", "text": "text_encoder."}


def everything(pipe, x):
    """Every named result of the stages."""
    out = {}
    for stage, run in STAGES.items():
        y = run(pipe, x, oracle.once(out, PREFIX[stage]))
        if stage == "text":
            out["prompt_embeds"] = y
        if stage == "encoder":
            out["vae.mean"], out["vae.logvar"] = y.chunk(2, 1)
    out["control.conv_out"] = run_control(pipe, x)
    for k in range(1, pipe.text_encoder.config.num_hidden_layers):
        out["clip_skip.%d" % (k + 1)] = oracle.encode_text(pipe, [NEGATIVE, PROMPT], k)[1]
    return out


def everything_of_runs(pipe, config):
    out = {}
    for name, more in RUNS[config].items():
        oracle.text_to_image(pipe, oracle.once(out, "run.%s." % name), PROMPT, NEGATIVE, modules=False,
                             **dict(RUN_DEFAULTS, **more))
    return out


# ------------------------------------------------------------------------------------------------ mistakes

def text_mistakes(pipe, x):
    """The text encoder's mistakes that are of use, not of code: result by name. Traps 17, 18, 20, 20, 23."""
    te, ids = pipe.text_encoder, oracle.encode_text(pipe, [NEGATIVE, PROMPT])[0]
    pad = pipe.tokenizer.pad_token_id
    with torch.no_grad():
        real = torch.zeros_like(ids)   # BOS, pieces, the first EOS
        for row, n in zip(real, [len(v) for v in pipe.tokenizer([NEGATIVE, PROMPT]).input_ids]):
            row[:n] = 1
        swapped = torch.where(real == 1, ids, torch.full_like(ids, 0 if pad else 49407))
        hidden = te(ids, output_hidden_states=True).hidden_states
        return {
            "padding_masked": te(ids, attention_mask=real)[0],
            "other_pad_id": te(swapped)[0],
            "one_layer_less": te.final_layer_norm(hidden[-2]),
            "no_final_norm": hidden[-1],
            "one_more_than_clip_skip_2": te.final_layer_norm(hidden[-3]),
        }


def control_mistakes(pipe, x):
    """What may go wrong with a ControlNet's residuals: result by name."""
    skips, middle = x.residuals
    last = skips[-1].to(pipe.unet.dtype)
    with pipe.unet.mid_block.register_forward_pre_hook(lambda m, a: (a[0] + last, *a[1:])):
        before_middle = run_control(pipe, x)
    return {
        "without_middle": run_control(pipe, x, middle=torch.zeros_like(middle)),
        "without_skips": run_control(pipe, x, skips=[torch.zeros_like(s) for s in skips]),
        "without_the_last_skip": run_control(pipe, x, skips=skips[:-1] + [torch.zeros_like(skips[-1])]),
        "first_two_swapped": run_control(pipe, x, skips=[skips[1], skips[0], *skips[2:]]),
        "added_before_the_middle": before_middle,
    }


def mistakes(pipe, config, x, truth):
    """PART.NAME -> rel-L2 error."""
    error, wrong = oracle.rel_l2, {}
    right = {"unet": truth["unet.conv_out"], "decoder": truth["vae.decoder.conv_out"],
             "encoder": torch.cat((truth["vae.mean"], truth["vae.logvar"]), 1), "text": truth["prompt_embeds"]}
    for stage in STAGES:
        for name, twin in wrong_twins.TWINS[stage].items():
            if wrong_twins.applies(pipe, name):
                with oracle.float64(), twin(pipe):
                    wrong["%s.%s" % (stage, name)] = error(STAGES[stage](pipe, x), right[stage])
    for name, t, c in (("context", x.timesteps, x.context.flip(0)), ("timesteps", x.timesteps.flip(0), x.context)):
        wrong["unet.%s_swapped" % name] = error(oracle.unet(pipe, x.latents, t, c), right["unet"])
    for name, y in control_mistakes(pipe, x).items():
        wrong["control." + name] = error(y, truth["control.conv_out"])
    for name, y in text_mistakes(pipe, x).items():
        wrong["text." + name] = error(y, truth["clip_skip.2"] if "clip_skip" in name else right["text"])
    factor, z = pipe.vae.config.scaling_factor, x.vae_latents.double()   # trap 11; z is already divided by it
    with torch.no_grad():
        late = pipe.vae.decoder(pipe.vae.post_quant_conv(z * factor) / factor)
    wrong["decoder.scaled_the_other_way"] = error(oracle.vae_decode(pipe, z * factor ** 2), right["decoder"])
    wrong["decoder.scaled_after_post_quant_conv"] = error(late, right["decoder"])
    return wrong


def run_mistakes(pipe, config, truth):
    wrong = {}
    name, more = next(iter(RUNS[config].items()))
    last = "latents.%d" % max(int(k.rsplit(".", 1)[1]) for k in truth if k.startswith("run.%s.latents." % name))
    saved, right = pipe.scheduler, truth["run.%s.%s" % (name, last)]

    def error(**change):
        out = {}
        given = dict(dict(RUN_DEFAULTS, prompt=PROMPT, negative=NEGATIVE, **more), **change)
        oracle.text_to_image(pipe, oracle.once(out), modules=False, **given)
        return oracle.rel_l2(out[last], right)

    oracle.with_sampler(pipe, more["sampler"])
    kind = pipe.scheduler.config.prediction_type
    other = "epsilon" if kind == "v_prediction" else "v_prediction"
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, prediction_type=other)
    wrong["run.%s_for_%s" % (other, kind)] = error(sampler=None)
    pipe.scheduler = saved
    wrong["run.prompts_swapped"] = error(prompt=NEGATIVE, negative=PROMPT)
    picture = truth["run.%s.image" % name] * 255   # trap 15; here the share of bytes that are off
    wrong["run.truncated_bytes"] = (picture.floor() != picture.round()).double().mean().item()
    return wrong


# ------------------------------------------------------------------------------------------------ what matters

def study(pipe, x):
    """What a module's weights, and a tensor's difference from its usual default, do to the result of their stage."""
    roots = {"unet": (pipe.unet, ""), "decoder": (pipe.vae, "decoder post_quant"),
             "encoder": (pipe.vae, "encoder quant"), "text": (pipe.text_encoder, "")}
    zeroed, defaulted = [], []
    for stage, (root, begins) in roots.items():
        right = STAGES[stage](pipe, x)
        for name, m in root.named_modules():
            own = dict(m.named_parameters(recurse=False))
            if not own or (begins and not name.startswith(tuple(begins.split()))):
                continue
            saved = {k: p.data.clone() for k, p in own.items()}
            for p in own.values():
                p.data.zero_()
            zeroed.append((oracle.rel_l2(STAGES[stage](pipe, x), right), "%s %s" % (stage, name)))
            for k, p in own.items():
                p.data.copy_(saved[k])
            for k, p in own.items():
                if p.dim() == 1 and not re.search(r"(to_k|k_proj)$", name):   # a bias of keys cancels in the softmax
                    p.data.fill_(float(k == "weight"))
                    defaulted.append((oracle.rel_l2(STAGES[stage](pipe, x), right), "%s %s.%s" % (stage, name, k)))
                    p.data.copy_(saved[k])
    print("  faintest modules when zeroed, of %d:" % len(zeroed))
    for e, name in sorted(zeroed)[:8]:
        print("    %.2e  %s" % (e, name))
    print("  faintest biases at 0 and norm gains at 1, of %d:" % len(defaulted))
    for e, name in sorted(defaulted)[:5]:
        print("    %.2e  %s" % (e, name))


# ------------------------------------------------------------------------------------------------ files

def number(x):
    return "%.9g" % x


def write_files(f, config):
    for name, value in synth.json_files(config).items():
        f.write("file %s %s\n" % (name, json.dumps(value, separators=(",", ":"))))


def write_part(f, config, part):
    f.write("weights %s %s/%s.safetensors\n" % (part, part, synth.PARTS[part][0]))
    for name, shape in synth.shapes(config, part).items():
        gain, offset = synth.gain_offset(part, name, shape)
        word = "diagonals" if synth.in_diagonals(config, name) else "tensor"
        f.write("%s %s %s %s %s\n" % (word, name, number(gain), number(offset), " ".join(map(str, shape))))


def write_parts(f, config):
    for directory in synth.tokenizers(config):
        f.write("copy %s/merges.txt weights/merges.txt\n" % directory)
    for part in synth.parts(config):
        write_part(f, config, part)


def write_network(out, config, maker, golden):
    """A small model's two files, net_CONFIG.txt and .safetensors, of a generator besides this one. Returns the bytes of
    the second."""
    path = os.path.join(out, "net_" + config)
    with open(path + ".txt", "w", encoding="utf-8", newline="\n") as f:
        f.write("# made by tools/%s, which explains it\n" % os.path.basename(maker))
        write_files(f, config)
        write_parts(f, config)
    save_file(dict(sorted(golden.items())), path + ".safetensors")
    os.chmod(path + ".safetensors", 0o644)
    return os.path.getsize(path + ".safetensors")


def write_input(f, name, gain, shape):
    f.write("input %s %s 0 %s\n" % (name, number(gain), " ".join(map(str, shape))))


def write_description(path, config, x):
    c = synth.CONFIGS[config]
    with open(path, "w", encoding="utf-8", newline="\n") as f:
        f.write("# made by tools/make_golden.py, which explains it\nround %s\n" % c["round_to"])
        write_files(f, config)
        write_parts(f, config)
        for name, (gain, shape) in x.specs.items() if x else ():
            write_input(f, name, gain, shape)
        f.write("prompt %s\nnegative %s\n" % (PROMPT, NEGATIVE))
        f.write("# run NAME SAMPLER WIDTH HEIGHT STEPS GUIDANCE SEED BATCH ETA\n"
                "# SAMPLER -: the model's own; ETA -1: the sampler's own\n")
        for name, more in RUNS.get(config, {}).items():
            r = dict(RUN_DEFAULTS, **more)
            f.write("run %s %s %d %d %d %g %d %d %g\n" % (
                name, r["sampler"] or "-", r["width"], r["height"], r["steps"], r["guidance"], r["seed"], r["batch"],
                more.get("eta", -1)))


def numbers_stored(name, n):
    """The results that users see are stored whole, of pictures and all others a sample."""
    if name.endswith(("conv_out", "prompt_embeds", "mean", "logvar", "timesteps")) or ".latents." in name:
        return n
    return min(n, 257 if name.endswith(".image") else SAMPLES)


def stored(named64, named32):
    out = {}
    for name, truth in named64.items():
        if truth.dtype == torch.int64:
            out[name] = truth.numpy()
            continue
        flat = truth.double().reshape(-1)
        n = flat.numel()
        k = numbers_stored(name, n)
        index = torch.arange(k) * n // k
        single = named32[name].double().reshape(-1)
        e32 = max(oracle.rel_l2(single, flat), oracle.rel_l2(single[index], flat[index]))
        out[name] = flat[index].float().numpy()
        out[name + ".e32"] = np.array([e32, flat.norm().item(), *truth.shape], np.float32)
    return out


def check_independent(pipe, x, truth):
    with independent():
        again = everything(pipe, x)
    worst = max((oracle.rel_l2(again[k], v), k) for k, v in truth.items() if k != "tokens")
    print("  a second computation in float64 differs by at most %.1e (%s)" % worst)
    assert worst[0] < 1e-12
    assert again.keys() | {"tokens"} == truth.keys() | {"tokens"}


def check_mistakes(wrong, e32):
    """e32 by stage. Prints the table."""
    print("  known mistakes: rel-L2 error, times the bound")
    for name, error in sorted(wrong.items()):
        limit = bound(e32[name.split(".")[0]])
        print("    %-48s %.1e %9.0f" % (name, error, error / limit))
        assert error > MARGIN * limit, name


def make(config, out, with_study):
    print(config)
    x = Inputs(config)
    with tempfile.TemporaryDirectory() as directory:
        synth.write_model(config, directory)
        pipe32, pipe64 = oracle.load(directory), oracle.load(directory, double=True)
    with oracle.leaks() as watch:
        truth = everything(pipe64, x)
    # Kept for the report: what is float32 in a float64 run are the inputs.
    for key in watch.found:
        assert key.startswith(("aten.detach", "aten.clone")), key
    with oracle.exact_sinusoid():
        single = everything(pipe32, x)
    check_independent(pipe64, x, truth)
    if with_study:
        study(pipe32, x)
    truth["tokens"] = oracle.encode_text(pipe64, [NEGATIVE, PROMPT])[0]
    truth["timesteps"], single["timesteps"] = x.timesteps, x.timesteps
    wrong = mistakes(pipe64, config, x, truth)
    truth.update(everything_of_runs(pipe64, config))
    with oracle.exact_sinusoid():
        single.update(everything_of_runs(pipe32, config))
    for name in [k for k in truth if k.startswith("run.") and k.endswith(("tokens", "prompt_embeds"))]:
        del truth[name]
    wrong.update(run_mistakes(pipe64, config, truth))
    run = next(iter(RUNS[config]))
    last = max((k for k in truth if k.startswith("run.%s.latents." % run)), key=lambda k: int(k.rsplit(".", 1)[1]))
    results = {"unet": "unet.conv_out", "control": "control.conv_out", "decoder": "vae.decoder.conv_out",
               "encoder": "vae.mean", "text": "prompt_embeds", "run": last}
    e32 = {stage: oracle.rel_l2(single[name], truth[name]) for stage, name in results.items()}
    print("  torch-float32's own error: " + ", ".join("%s %.1e" % v for v in e32.items()))
    check_mistakes(wrong, e32)

    golden = stored(truth, single)
    golden.update({"wrong." + k: np.array([v], np.float32) for k, v in wrong.items()})
    path = os.path.join(out, "net_" + config)
    write_description(path + ".txt", config, x)
    save_file(dict(sorted(golden.items())), path + ".safetensors")
    os.chmod(path + ".safetensors", 0o644)
    e = sorted((golden[k][0], k[:-4]) for k in golden if k.endswith(".e32"))
    print("  e32: median %.1e, largest %.1e (%s)" % (e[len(e) // 2][0], *e[-1]))
    sizes = [os.path.getsize(path + ending) for ending in (".safetensors", ".txt")]
    print("  %d tensors, %d + %d bytes" % (len(truth), *sizes))


def main():
    torch.set_num_threads(1)   # the tensors are tiny
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", choices=SIZES, action="append")
    parser.add_argument("--out", default="tests/golden")
    parser.add_argument("--study", action="store_true", help="measure what each module and tensor contributes")
    a = parser.parse_args()
    for config in a.config or SIZES:
        make(config, a.out, a.study)


if __name__ == "__main__":
    main()

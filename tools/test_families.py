#!/usr/bin/env python3
"""The networks of a published family at full size, with synthetic weights, against diffusers in float64.

    python tools/test_families.py sdxl|refiner|sd21|... [--size 1024] [--library ./libsd.so] [--workdir DIR]

`make test-full FAMILY=NAME` runs it. A family is named as `sd plan --config` names it, or by a word that only its name
has. tools/families.py has the published configurations; the weights are a formula (tools/synth.py), in files of F16.

Text encoders get two prompts. The UNet gets what they give and everything else that it takes, a batch of two with two
timesteps; its blocks are compared one by one, and its result, the noise_pred. The VAE decodes and encodes. For each
tensor: our rel-L2 error against float64, torch-float32's, and ours as a share of max(3 * torch-float32's, 2e-6). The
exit code is 0 if no share is over 1.

Weights stay F16 in memory, and each layer has them in double, or in float, while it computes: numbers of F16 are
exact in both. So SDXL's truth takes 10 GB of memory and not 30.
"""
import argparse
import contextlib
import functools
import json
import math
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time

import numpy as np

import families
import synth
from bindings import sd_reference

synth.CONFIGS.update(families.FAMILIES)   # in each process
FACTOR, FLOOR = 3, 2e-6
PROMPTS = ["a photograph of an astronaut riding a horse", ""]
TIMESTEPS = [981.0, 37.25]
BAND = 1 << 28   # bytes of the columns that a convolution in double may unfold at once
# Of the UNet's modules: its blocks' layers, and what is before and after them.
BLOCKS = re.compile(r"^((down|up)_blocks\.\d+|mid_block)\.((resnets|attentions)\.\d+|(down|up)samplers\.0\.conv)$|"
                    r"^(time|add|class)_embedding$|^conv_(in|norm_out|out)$")
TRACED = "*.resnets.?,*.attentions.?,*samplers.0.conv,*_embedding,*.conv_in,*.conv_norm_out,*.conv_out"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("family", help=", ".join(families.FAMILIES))
    parser.add_argument("--size", type=int, help="pixels of the UNet's pictures (default: the family's own)")
    parser.add_argument("--vae-size", type=int, default=512, help="pixels of the VAE's pictures")
    parser.add_argument("--library", default="./libsd.so")
    parser.add_argument("--workdir", help="where the model goes; one that is there is used again")
    parser.add_argument("--keep", action="store_true", help="leave the model there")
    parser.add_argument("--json", help="a file that gets the figures")
    a = parser.parse_args()
    try:
        a.family = families.find(a.family)
    except KeyError as error:
        parser.error(error.args[0])
    a.config = families.FAMILIES[a.family]
    a.scale = 1 << (len(a.config["vae"]["block_out_channels"]) - 1)
    a.size = a.size or a.config["unet"]["sample_size"] * a.scale
    return a


# ------------------------------------------------------------------------------------------------ inputs

def unet_inputs(a, context, pooled):
    """Names of sd_unet_input -> arrays."""
    c, h = a.config["unet"], a.size // a.scale
    x = {"sample": synth.noise_like("input.latents", (2, c["in_channels"], h, h)),
         "timestep": np.array(TIMESTEPS, np.float32), "encoder_hidden_states": context}
    if "addition_embed_type" in c:
        x["text_embeds"] = pooled
        ids = [[1024, 960, 16, 0, 768, 512], [512, 640, 0, 8, 256, 1024]] if "text_encoder" in a.config else [
            [1024, 960, 16, 0, 6], [512, 640, 0, 8, 2.5]]
        x["time_ids"] = np.array(ids, np.float32)
    if "num_class_embeds" in c:
        x["class_labels"] = np.array([20, 350], np.int32)
    if "time_cond_proj_dim" in c:
        x["timestep_cond"] = synth.noise_like("input.time_cond", (2, c["time_cond_proj_dim"]))
    return x


def vae_inputs(a):
    h = a.vae_size // a.scale
    return (synth.noise_like("input.vae_latents", (1, 4, h, h)),
            synth.fill("input.picture", 3 * a.vae_size ** 2, np.float32(1), 0).reshape(1, 3, a.vae_size, a.vae_size))


# ------------------------------------------------------------------------------------------------ diffusers

def compute_in(module, dtype):
    """Each layer has its weights in this type while it computes."""
    def before(m, args):
        m.narrow = {k: p.data for k, p in m._parameters.items() if p is not None}
        for k, p in m.narrow.items():
            m._parameters[k].data = p.to(dtype)

    def after(m, args, output):
        for k, p in m.narrow.items():
            m._parameters[k].data = p
    for m in module.modules():
        if any(p is not None for p in m._parameters.values()):
            m.register_forward_pre_hook(before)
            m.register_forward_hook(after)
    return module.eval().requires_grad_(False)


def in_bands(right, x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    """F.conv2d, some rows at a time: in double torch unfolds the whole picture."""
    import torch
    rows = max(1, BAND // (x.shape[1] * w.shape[2] * w.shape[3] * x.shape[3] * x.itemsize * x.shape[0]))
    if x.dtype != torch.float64 or w.shape[2] == 1 or rows >= x.shape[2]:
        return right(x, w, b, stride, padding, dilation, groups)
    (s, _), (ph, pw) = stride, padding
    x = torch.nn.functional.pad(x, (pw, pw, ph, ph))
    out = (x.shape[2] - w.shape[2]) // s + 1
    return torch.cat([right(x[:, :, i * s:(min(i + rows, out) - 1) * s + w.shape[2]], w, b, stride, 0, dilation, groups)
                      for i in range(0, out, rows)], 2)


def load(a, part):
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection
    cls = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel,
           "text_encoder_2": CLIPTextModelWithProjection}[part]
    return cls.from_pretrained(os.path.join(a.model, part), torch_dtype=torch.float16, local_files_only=True)


def encode_texts(a, dtype):
    """[2,77,width] and SDXL's pooled [2,1280], as the family's pipeline takes them."""
    import torch
    from transformers import CLIPTokenizer
    contexts, pooled = [], None
    for part in (p for p in synth.parts(a.family) if p.startswith("text_encoder")):
        tokenizer = CLIPTokenizer.from_pretrained(os.path.join(a.model, part.replace("text_encoder", "tokenizer")))
        ids = tokenizer(PROMPTS, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        encoder = compute_in(load(a, part), dtype)
        out = encoder(ids, output_hidden_states=True)
        contexts.append(out.hidden_states[-2] if "text_encoder_2" in a.config else out.last_hidden_state)
        pooled = out.text_embeds if part == "text_encoder_2" else None
    return torch.cat(contexts, -1), pooled


def ask_unet(a, dtype, x, emit):
    import torch
    unet = compute_in(load(a, "unet"), dtype)
    x = {k: torch.from_numpy(v) if v.dtype == np.int32 else torch.from_numpy(v).to(dtype) for k, v in x.items()}
    more = {k: x[k] for k in ("class_labels", "timestep_cond") if k in x}
    if "text_embeds" in x:
        more["added_cond_kwargs"] = {k: x[k] for k in ("text_embeds", "time_ids")}
    for name, m in unet.named_modules():
        if BLOCKS.search(name):
            m.register_forward_hook(lambda m, args, out, name=name: emit(
                "unet." + name, out if isinstance(out, torch.Tensor) else out[0]))
    unet(x["sample"], x["timestep"], x["encoder_hidden_states"], **more)


def run_diffusers(a, double):
    """Every result as NAME.npy in a directory of its own."""
    import torch
    import torch.nn.functional as F
    import oracle
    import wrong_twins
    start, dtype = time.time(), torch.float64 if double else torch.float32
    folder = os.path.join(a.workdir, "float64" if double else "float32")
    os.makedirs(folder, exist_ok=True)

    def emit(name, y):
        assert y.dtype == dtype, name
        np.save(os.path.join(folder, name + ".npy"), y.contiguous().numpy().astype(np.float32))
    exact = oracle.float64() if double else oracle.exact_sinusoid()
    with torch.no_grad(), exact, wrong_twins.changed((F, "conv2d", functools.partial(in_bands, F.conv2d))):
        context, pooled = encode_texts(a, dtype)
        emit("prompt_embeds", context)
        if pooled is not None:
            emit("pooled_prompt_embeds", pooled)
        ask_unet(a, dtype, unet_inputs(a, *truth_of_texts(a)), emit)
        vae, (latents, picture) = load(a, "vae").to(dtype).eval(), vae_inputs(a)
        emit("vae.decoder", vae.decode(torch.from_numpy(latents).to(dtype)).sample)
        d = vae.encode(torch.from_numpy(picture).to(dtype)).latent_dist
        emit("vae.encoder.mean", d.mean)
        emit("vae.encoder.logvar", d.logvar)
    print("diffusers in %s: %.0f s" % (os.path.basename(folder), time.time() - start), flush=True)


def truth_of_texts(a):
    """Inputs of the UNet, the same for all: of the encoders in float64."""
    path = os.path.join(a.workdir, "float64", "%sprompt_embeds.npy")
    return np.load(path % ""), np.load(path % "pooled_") if os.path.exists(path % "pooled_") else None


def in_own_process(function, *args):
    """Which gives its memory back."""
    p = multiprocessing.get_context("spawn").Process(target=function, args=args)
    p.start()
    p.join()
    if p.exitcode:
        sys.exit("a run of diffusers failed")


# ------------------------------------------------------------------------------------------------ this program

def ours(a):
    """Generates the name and the numbers of each result."""
    from safetensors import safe_open
    sd = sd_reference.Model(a.model, a.library)
    context, pooled = truth_of_texts(a)
    texts = sd.encode_text(PROMPTS, pooled=True)
    yield "prompt_embeds", texts[0]
    if pooled is not None:
        yield "pooled_prompt_embeds", texts[1]

    x, trace = unet_inputs(a, context, pooled), os.path.join(a.workdir, "ours.safetensors")
    sd.call("sd_trace_open", trace.encode(), TRACED.encode())
    start = time.time()
    out = sd.unet(**x)
    print("one evaluation of two: %.0f s" % (time.time() - start), flush=True)
    sd.call("sd_trace_close")
    with safe_open(trace, "np") as f:
        for name in f.keys():
            if name.startswith("unet.") and BLOCKS.search(name[len("unet."):]):
                yield name, f.get_tensor(name)
    yield "unet.conv_out", out

    latents, picture = vae_inputs(a)
    yield "vae.decoder", sd.decode(latents)
    moments = sd.encode(picture)
    yield "vae.encoder.mean", moments[0]
    yield "vae.encoder.logvar", moments[1]


def rel_l2(x, truth):
    x, truth = x.astype(np.float64), truth.astype(np.float64)
    return math.sqrt(np.sum((x - truth) ** 2) / np.sum(truth ** 2))


def compare(a):
    """name -> [our error, torch's in float32, share of the bound]"""
    def numbers(kind, name):
        return np.load(os.path.join(a.workdir, kind, name + ".npy"))
    rows, names = {}, {f[:-4] for f in os.listdir(os.path.join(a.workdir, "float64"))}
    for name, x in ours(a):
        truth = numbers("float64", name)
        assert truth.shape == x.shape, "%s is %s, not %s" % (name, x.shape, truth.shape)
        e, e32 = rel_l2(x, truth), rel_l2(numbers("float32", name), truth)
        rows[name] = [e, e32, e / max(FACTOR * e32, FLOOR)]
    assert names == set(rows), names ^ set(rows)
    return rows


def show(a, rows):
    print("%-44s %9s %9s %9s" % (a.family + " %dx%d" % (a.size, a.size), "ours", "float32", "of bound"))
    for name, (e, e32, share) in rows.items():
        print("%-44s %9.2e %9.2e %9.2f%s" % (name, e, e32, share, "" if share <= 1 else "  FAILED"))
    worst = max(rows, key=lambda n: rows[n][2])
    print("%s: %d tensors, worst share of the bound %.2f (%s); noise_pred: error %.1e, torch's float32 %.1e" % (
        a.family, len(rows), rows[worst][2], worst, *rows["unet.conv_out"][:2]), flush=True)
    return rows[worst][2] <= 1


def main():
    a = arguments()
    with contextlib.ExitStack() as stack:
        if not a.workdir:
            a.workdir = stack.enter_context(tempfile.TemporaryDirectory(prefix="sd-test-families-"))
        os.makedirs(a.workdir, exist_ok=True)
        a.model = os.path.join(a.workdir, a.family)
        done = os.path.join(a.model, "complete")
        if not os.path.exists(done):
            synth.write_model(a.family, a.model, "F16")
            open(done, "w").close()
        try:
            in_own_process(run_diffusers, a, True)
            in_own_process(run_diffusers, a, False)
            rows = compare(a)
        finally:
            for name in ("float64", "float32", *([] if a.keep else [a.family])):
                shutil.rmtree(os.path.join(a.workdir, name), ignore_errors=True)
            with contextlib.suppress(OSError):
                os.remove(os.path.join(a.workdir, "ours.safetensors"))
        if a.json:
            with open(a.json, "w", encoding="ascii") as f:
                json.dump(dict(family=a.family, size=a.size, rows=rows), f, indent=1)
    sys.exit(0 if show(a, rows) else 1)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Writes what tests/test_layouts.c compares with: tests/golden/layouts/* and tests/golden/net_{sd2-file,ckpt-small}.*.

    python tools/golden_layouts.py [--out tests/golden]

Small models have the same numbers in diffusers' directory and in single files (tools/layouts.py), so the truth is the
directory's run in diffusers, in float64 (tools/make_golden.py explains how it is kept). This program
  - checks that the maps of names give the published lists (tests/golden/keys), to the last tensor;
  - lets diffusers open each single file, from_single_file(config=the directory), and asks for the same latents;
  - makes the mistakes that a layout invites, in float64, and keeps their errors: wrong.text.*, wrong.run.*;
  - writes the pickles that tests read: torch.save's own, zip and legacy, with Lightning's wrapper, other strides,
    several tensors in one storage.
"""
import argparse
import contextlib
import os
import tempfile

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from safetensors.numpy import save_file

import golden_keys
import layouts
import make_golden
import oracle
import synth
from make_golden import NEGATIVE, PROMPT

RUN = dict(sampler="ddim", steps=3)
FILES = {"sd2-file": "sd2", "ckpt-small": "ckpt-ema", "sd1-small": "sd1-ema"}   # config -> the layout for mistakes


def read_keys(name):
    """A part's list: name -> shape."""
    out = {}
    with open(os.path.join(os.path.dirname(__file__), "..", "tests/golden/keys", name + ".txt")) as f:
        for line in f:
            if line.startswith("#"):
                continue
            module, _, *leaves = line.split()
            for leaf, shape in zip(leaves[::2], leaves[1::2]):
                out[leaf if module == "-" else module + "." + leaf] = golden_keys.shape_of(shape)
    return out


def check_maps():
    """Published tensors in diffusers' names, renamed by the maps, are the published tensors of the original."""
    known = layouts.maps()
    for old, name, new in (("unet_sd1_diffusers", "unet", "unet_sd1"), ("vae_diffusers", "vae", "vae"),
                           ("vae_diffusers", "vae_old", "vae_diffusers_old"), ("clip_h", "openclip", "openclip_h")):
        # Zeros that take no memory: shapes are all that counts.
        tensors = {k: np.broadcast_to(np.float32(0), s) for k, s in read_keys(old).items()}
        if name == "openclip":
            tensors = {k: np.broadcast_to(np.float32(0), (s[0] // 64, *s[1:])) for k, s in read_keys(old).items()}
        mine = {k: x.shape for k, x in layouts.renamed(tensors, known[name]).items()}
        theirs = read_keys(new)
        if name == "openclip":   # the last layer and what stands alone are added by the layout
            theirs = {k: (s[0] // 64, *s[1:]) for k, s in theirs.items()
                      if ".23." not in k and k not in ("text_projection", "logit_scale")}
        assert mine == theirs, (new, sorted(set(mine.items()) ^ set(theirs.items()))[:6])


def double(pipe):
    pipe.set_progress_bar_config(disable=True)
    for part in (pipe.text_encoder, pipe.unet, pipe.vae):
        part.to(torch.float64).eval().requires_grad_(False)
    return pipe


def run(pipe, **more):
    out = {}
    given = dict(make_golden.RUN_DEFAULTS, prompt=PROMPT, negative=NEGATIVE, **RUN, **more)
    oracle.text_to_image(pipe, oracle.once(out), modules=False, **given)
    return out


def last(out):
    return out["latents.%d" % max(int(k.rsplit(".", 1)[1]) for k in out if k.startswith("latents."))]


def from_file(path, directory):
    """As a user of diffusers opens a single file offline."""
    pipe = StableDiffusionPipeline.from_single_file(path, config=directory, local_files_only=True)
    # transformers 5 has no prefix where the converted names have one; make sure that nothing stayed at random.
    return double(pipe)


def check_layout(name, directory, truth, where):
    """diffusers' own reading of the file against the directory."""
    path = os.path.join(where, name + ".safetensors")
    layouts.write_safetensors(path, layouts.compose(name))
    pipe = from_file(path, directory)
    error = oracle.rel_l2(last(run(pipe)), last(truth))
    print("  %-14s from_single_file: latents differ by %.1e" % (name, error))
    assert error < 1e-12, name
    os.remove(path)


@contextlib.contextmanager
def state(module, **changed):
    """A module's tensors replaced for a while."""
    saved = {k: v.clone() for k, v in module.state_dict().items()}
    module.load_state_dict({k.replace("__", "."): v for k, v in changed.items()}, strict=False)
    try:
        yield
    finally:
        module.load_state_dict(saved)


def rotated(text_encoder, order):
    """in_proj's thirds taken in another order."""
    new, old = {}, text_encoder.state_dict()
    for k, v in old.items():
        for to, of in zip("qkv", order):
            if ".%s_proj." % to in k:
                new[k] = old[k.replace("%s_proj" % to, "%s_proj" % of)].clone()
    return state(text_encoder, **new)


def text(pipe, ids):
    with torch.no_grad():
        return pipe.text_encoder(ids)[0]


def text_mistakes(pipe, config, right):
    te, c = pipe.text_encoder, synth.CONFIGS[config]
    ids = oracle.encode_text(pipe, [NEGATIVE, PROMPT])[0]
    pad, wrong = pipe.tokenizer.pad_token_id, {}
    error = oracle.rel_l2
    first_end = (ids == 49407).int().argmax(1)
    other = ids.clone()
    for row, end in zip(other, first_end):
        row[end + 1:] = 49407 if pad == 0 else 0
    wrong["other_pad_id"] = error(text(pipe, other), right)
    for order in ("kvq", "vqk", "kqv"):
        with rotated(te, order):
            wrong["in_proj_is_" + order] = error(text(pipe, ids), right)
    heads = [layer.self_attn.num_heads for layer in te.encoder.layers]
    for layer in te.encoder.layers:   # as a published encoder has them: 64 columns each
        layer.self_attn.num_heads, layer.self_attn.head_dim = 1, c["text_encoder"]["hidden_size"]
        layer.self_attn.scale = layer.self_attn.head_dim ** -0.5
    wrong["heads_of_64"] = error(text(pipe, ids), right)
    for layer, n in zip(te.encoder.layers, heads):
        layer.self_attn.num_heads, layer.self_attn.head_dim = n, c["text_encoder"]["hidden_size"] // n
        layer.self_attn.scale = layer.self_attn.head_dim ** -0.5
    assert error(text(pipe, ids), right) < 1e-12
    position = te.embeddings.position_embedding.weight
    with state(te, **{"embeddings.position_embedding.weight": position.flip(0)}):   # what the file's position_ids say
        wrong["position_ids_used"] = error(text(pipe, ids), right)
    if config == "sd2-file":
        wrong["last_layer"] = error(last_layer(te, ids, config), right)
    return wrong


def last_layer(te, ids, config):
    """All 24 layers of the file, then the final norm."""
    import copy
    tensors = layouts.compose("sd2")
    p = layouts.T2 + "transformer.resblocks.23."
    more = copy.deepcopy(te)
    layer = copy.deepcopy(more.encoder.layers[0])
    w, b = [torch.from_numpy(tensors[p + "attn.in_proj_" + k]).double().chunk(3) for k in ("weight", "bias")]
    new = {}
    for i, x in enumerate("qkv"):
        new["self_attn.%s_proj.weight" % x], new["self_attn.%s_proj.bias" % x] = w[i], b[i]
    for mine, theirs in (("layer_norm1", "ln_1"), ("layer_norm2", "ln_2"), ("self_attn.out_proj", "attn.out_proj"),
                         ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj")):
        for leaf in ("weight", "bias"):
            new["%s.%s" % (mine, leaf)] = torch.from_numpy(tensors["%s%s.%s" % (p, theirs, leaf)]).double()
    layer.load_state_dict(new)
    more.encoder.layers.append(layer)
    with torch.no_grad():
        return more(ids)[0]


def run_mistakes(pipe, config, right):
    wrong, error = {}, oracle.rel_l2
    names = dict(layouts.other_numbers(config, "unet"))
    with state(pipe.unet, **{k: torch.from_numpy(v) for k, v in names.items()}):
        wrong["ema_instead"] = error(last(run(pipe)), right)
    from diffusers.models.attention_processor import Attention
    attention = [m for m in pipe.unet.modules() if isinstance(m, Attention)]
    heads = [a.heads for a in attention]
    for label, n in (("8_heads", lambda c: 8 if c % 8 == 0 else c), ("heads_of_64", lambda c: max(1, c // 64))):
        for a in attention:
            a.heads = n(a.to_q.out_features)
            a.scale = (a.to_q.out_features // a.heads) ** -0.5
        if [a.heads for a in attention] != heads:
            wrong[label] = error(last(run(pipe)), right)
        for a, h in zip(attention, heads):
            a.heads, a.scale = h, (a.to_q.out_features // h) ** -0.5
    assert error(last(run(pipe)), right) < 1e-12
    # 8-bit floats: the scale beside a matrix ignored.
    scaled = {}
    for name, x in pipe.unet.state_dict().items():
        if x.dim() == 2 and name.endswith(".weight"):
            scaled[name] = x / layouts.scale_of(x.numpy())
    with state(pipe.unet, **scaled):
        wrong["scale_weight_ignored"] = error(last(run(pipe)), right)
    conv_in = pipe.unet.conv_in.weight.data
    with state(pipe.unet, **{"conv_in.weight": conv_in[:, [1, 2, 3, 0]]}):
        wrong["conv_in_rotated"] = error(last(run(pipe)), right)
    return wrong


def dequantized(name, x, kind):
    """A weight as its file of kind F8_E4M3, F8_E5M2 (with scales) or Q8_0 has it, in float32."""
    x = x.float().contiguous()
    if x.dim() != 2 or not name.endswith(".weight"):
        return x
    if kind.startswith("F8"):
        scale = layouts.scale_of(x.numpy())
        return (x / scale).to(layouts.TORCH[kind]).float() * scale
    import gguf
    q = gguf.GGMLQuantizationType[kind]
    if x.shape[1] % 32:
        return x
    return torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(x.numpy(), q), q)).reshape(x.shape)


QUANTIZED = {"f8": "F8_E4M3", "f8_e5m2": "F8_E5M2", "q8": "Q8_0"}   # a run's name -> the file's type


def quantized_runs(pipes, right):
    """truth and float32's results of models whose matrices were rounded, for sd1-small."""
    out = [{}, {}]
    for name, kind in QUANTIZED.items():
        for pipe, results in zip(pipes, out):
            parts = (pipe.unet, pipe.vae, pipe.text_encoder)
            saved = [{k: v.clone() for k, v in p.state_dict().items()} for p in parts]
            for p in parts:
                p.load_state_dict({k: dequantized(k, v, kind) for k, v in p.state_dict().items()})
            with contextlib.nullcontext() if pipe is pipes[0] else oracle.exact_sinusoid():
                got = run(pipe)
            results.update({"run.%s.%s" % (name, k): v for k, v in got.items() if k.startswith("latents.")})
            for p, v in zip(parts, saved):
                p.load_state_dict(v)
        print("  %-8s changes the latents by %.1e" % (name, oracle.rel_l2(
            out[0]["run.%s.latents.3" % name], right)))
    return out


def check_alone(config, name, kind, directory, where):
    """A network alone, as diffusers reads its file: every tensor is the directory's."""
    import diffusers
    model = getattr(diffusers, kind)
    part = "unet" if kind.startswith("UNet") else "vae"
    path = os.path.join(where, name + ".safetensors")
    layouts.write_safetensors(path, layouts.compose(name))
    mine = model.from_single_file(path, config=directory, subfolder=part, local_files_only=True).state_dict()
    for k, x in synth.tensors(config, part):
        assert (mine[k].numpy() == x).all(), (name, k)
    print("  %-14s from_single_file: all tensors are the directory's" % name)
    os.remove(path)


ALONE = {"vae": "AutoencoderKL", "vae-whole": "AutoencoderKL", "vae-diffusers": "AutoencoderKL",
         "unet-prefixed": "UNet2DConditionModel"}


def make(config, out):
    print(config)
    known = config == "sd1-small"   # make_golden.py has its truth
    with tempfile.TemporaryDirectory() as where:
        directory = os.path.join(where, "model")
        synth.write_model(config, directory)
        pipe32, pipe64 = oracle.load(directory), oracle.load(directory, double=True)
        truth = run(pipe64)
        for name, (of, _, _) in layouts.LAYOUTS.items():
            whole = any("text_encoder" in x for x in layouts.LAYOUTS[name][2])
            if of == config and whole and name != "sd1-bare-text":   # diffusers does not know that spelling
                check_layout(name, directory, truth, where)
        for name, kind in ALONE.items() if known else ():
            check_alone(config, name, kind, directory, where)
        if known:
            inpainting = os.path.join(where, "inpainting")
            synth.write_model("inpaint-small", inpainting)
            check_alone("inpaint-small", "sd1-inpaint", "UNet2DConditionModel", inpainting, where)
            check_alone("inpaint-small", "sd1-inpaint", "AutoencoderKL", inpainting, where)
    with oracle.exact_sinusoid():
        single = run(pipe32)
    wrong = {"text." + k: v for k, v in text_mistakes(pipe64, config, truth["prompt_embeds"]).items()}
    wrong.update({"run." + k: v for k, v in run_mistakes(pipe64, config, last(truth)).items()})
    e32 = {"text": oracle.rel_l2(single["prompt_embeds"], truth["prompt_embeds"]),
           "run": oracle.rel_l2(last(single), last(truth))}
    print("  torch-float32's own error: " + ", ".join("%s %.1e" % v for v in e32.items()))
    make_golden.check_mistakes(wrong, e32)
    keep = {k: v for k, v in truth.items() if k.startswith(("latents.", "prompt_embeds", "image"))}
    names = {k: k if k == "prompt_embeds" else "run.file." + k for k in keep}
    golden = make_golden.stored({names[k]: v for k, v in keep.items()}, {names[k]: single[k] for k in keep})
    if known:
        golden.update(make_golden.stored(*quantized_runs((pipe64, pipe32), last(truth))))
    golden["tokens"] = truth["tokens"].numpy()
    golden.update({"wrong." + k: np.array([v], np.float32) for k, v in wrong.items()})
    path = os.path.join(out, "net_" + config)
    if not known:
        make_golden.RUNS[config] = {"file": RUN}
        make_golden.write_description(path + ".txt", config, None)
    save_file(dict(sorted(golden.items())), os.path.join(out, "layouts", config + ".safetensors"))
    os.chmod(os.path.join(out, "layouts", config + ".safetensors"), 0o644)


def make_xl(out):
    """SDXL: the truth is golden_sdxl.py's; here is what a single file adds to it."""
    import golden_sdxl
    from diffusers import StableDiffusionXLPipeline
    print("sdxl-file")
    with tempfile.TemporaryDirectory() as where:
        directory, path = os.path.join(where, "model"), os.path.join(where, "a.safetensors")
        synth.write_model("sdxl-file", directory)
        layouts.write_safetensors(path, layouts.compose("sdxl"))
        pipe = golden_sdxl.load(directory, torch.float64)
        file = StableDiffusionXLPipeline.from_single_file(path, config=directory, local_files_only=True,
                                                          add_watermarker=False)
        file.text_encoder_2.to(torch.float64)
        right = golden_sdxl.run(pipe, negative_prompt=NEGATIVE)
        error = oracle.rel_l2(golden_sdxl.run(double(file), negative_prompt=NEGATIVE), right)
        print("  sdxl           from_single_file: latents differ by %.1e" % error)
        assert error < 1e-12
        with golden_sdxl.transposed_projection(pipe):
            error = oracle.rel_l2(golden_sdxl.run(pipe, negative_prompt=NEGATIVE), right)
        print("  a projection that is not transposed changes them by %.1e" % error)
        assert error > 1e-3
    with open(os.path.join(out, "net_sdxl-file.txt"), "w", encoding="utf-8", newline="\n") as f:
        f.write("# made by tools/golden_layouts.py, which explains it\n")
        make_golden.write_files(f, "sdxl-file")
        make_golden.write_parts(f, "sdxl-file")
        f.write("prompt %s\nnegative %s\n" % (PROMPT, NEGATIVE))


def write_pickles(out):
    """torch.save's own files of the model ckpt-small; half floats, which have all its numbers."""
    plain, ema = layouts.compose("ckpt"), layouts.compose("ckpt-ema")
    at = lambda name: os.path.join(out, "layouts", name)   # noqa: E731
    layouts.write_pickle(at("lightning.ckpt"), ema, "F16", wrap="lightning")
    layouts.write_pickle(at("legacy.ckpt"), plain, "F16", legacy=True, wrap="state_dict")
    layouts.write_pickle(at("strides.pt"), plain, "F16", strides=True)
    for name in ("lightning.ckpt", "legacy.ckpt", "strides.pt"):
        state = layouts.read_back(at(name))
        expected = layouts.compose("ckpt-ema" if name.startswith("light") else "ckpt")
        assert set(state) == set(expected)
        for k, x in expected.items():
            assert (state[k].double().numpy() == x.astype(np.float64)).all(), (name, k)
        print("  %-16s %8d bytes" % (name, os.path.getsize(at(name))))


def main():
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="tests/golden")
    parser.add_argument("--config", choices=FILES, action="append")
    a = parser.parse_args()
    check_maps()
    layouts.write_tables(os.path.join(a.out, "layouts"))
    for config in a.config or FILES:
        make(config, a.out)
    if not a.config:
        make_xl(a.out)
    write_pickles(a.out)


if __name__ == "__main__":
    main()

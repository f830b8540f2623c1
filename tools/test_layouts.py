#!/usr/bin/env python3
"""Every layout of every family, written by the real tools and drawn by the program: `make test-layouts`.

    python tools/test_layouts.py [--program ./sd] [--family NAME] [--only GLOB] [--markdown FILE]

A family is a small model: weights/tiny, or one with weights from a formula (tools/synth.py). A layout is a row of ROWS:
it writes the model's tensors with safetensors, torch.save or gguf-py, and says with which options the program opens
them. The picture must be, byte for byte, the one that the program draws from a directory in diffusers layout with the
same numbers: where a type rounds (F16, Q8_0, F8), the directory has the rounded numbers as F32. That the directory is
drawn as diffusers draws it is the business of tests/test_generate.c and `make test-full`.
"""
import argparse
import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import torch

import golden_keys
import layouts
import synth

PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")
FAMILIES = ("tiny", "sd1-small", "ckpt-small", "sd2-file", "sdxl-file")
PROMPT = ["-p", "a red apple on a blue table", "-n", "blurry", "-W", "64", "-H", "72", "--steps", "2", "-s", "3",
          "--sampling-method", "ddim", "-q"]


# ------------------------------------------------------------------------------------------ a model's numbers

class Model:
    """A directory in diffusers layout, and its tensors by part, as float32."""

    def __init__(self, family, where):
        self.family, self.directory = family, os.path.join(where, family)
        if family == "tiny":
            root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "weights", "tiny")
            shutil.copytree(root, self.directory)
        else:
            synth.write_model(family, self.directory)
        self.configs = os.path.join(where, family + "-config")
        shutil.copytree(self.directory, self.configs, ignore=shutil.ignore_patterns("*.safetensors"))
        self.parts = {p: self.read(p) for p in PARTS if os.path.isdir(os.path.join(self.directory, p))}
        with open(os.path.join(self.directory, "unet", "config.json")) as f:
            self.unet_config = json.load(f)

    def read(self, part):
        from safetensors.torch import load_file
        out = {}
        for name in sorted(os.listdir(os.path.join(self.directory, part))):
            if name.endswith(".safetensors"):
                out.update(load_file(os.path.join(self.directory, part, name)))
        text = part == "text_encoder" and not any(k.startswith("text_model.") for k in out)
        return {("text_model." if text else "") + k: v.float().numpy() for k, v in out.items()}

    @property
    def openclip(self):
        return self.family.startswith("sd2")

    def single(self, parts=None, prefixes=True):
        """The tensors of a single file: LDM's names, OpenCLIP's where the family has it."""
        parts = parts or self.parts
        levels = len(self.unet_config["block_out_channels"])
        per_level = self.unet_config["layers_per_block"]
        config = {"up_block_types": self.unet_config["up_block_types"]}
        names = {k.rpartition(".")[0] for k in parts["unet"]}
        unet = [("module", golden_keys.exported_name(m + ".", config, per_level)[:-1], m) for m in names]
        vae_levels = 1 + max(int(k.split(".")[2]) for k in parts["vae"] if ".down_blocks." in k)
        vae = []
        for m in {k.rpartition(".")[0] for k in parts["vae"]}:
            new = layouts.vae_name(m, vae_levels)
            vae.append(("conv1" if re.search(r"attn_1\.(q|k|v|proj_out)$", new) else "module", new, m))
        assert levels
        open_map = list(layouts.openclip_map(32))
        one, two = {"text_encoder": layouts.T2 if self.openclip else layouts.T1}, {}
        if "text_encoder_2" in parts:
            one["text_encoder"] = "conditioner.embedders.0.transformer."
            two = {"text_encoder_2": "conditioner.embedders.1.model."}
        named = {"unet": (layouts.U, layouts.renamed(parts["unet"], unet)),
                 "vae": (layouts.V, layouts.renamed(parts["vae"], vae)),
                 "text_encoder": (one["text_encoder"],
                                  layouts.renamed(parts["text_encoder"], open_map if self.openclip else []))}
        for part, prefix in two.items():
            named[part] = prefix, layouts.renamed(parts[part], open_map)
        out = {}
        for prefix, tensors in named.values():
            out.update({(prefix if prefixes else "") + k: v for k, v in tensors.items()})
        return out

    def alone(self, part):
        """One part under a single file's names, without its prefix."""
        prefix = {"unet": layouts.U, "vae": layouts.V}[part]
        return {k[len(prefix):]: v for k, v in self.single().items() if k.startswith(prefix)}


def rounded(kind, which=lambda name, x: True):
    """name, array -> the numbers that a file of this kind has, as float32."""
    def f(name, x):
        t = torch.from_numpy(np.ascontiguousarray(x))
        if not which(name, x):
            return x
        if kind in ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"):
            import gguf
            q = gguf.GGMLQuantizationType[kind]
            return gguf.quants.dequantize(gguf.quants.quantize(t.numpy(), q), q).reshape(x.shape).astype(np.float32)
        if kind.startswith("F8"):
            scale = layouts.scale_of(t.numpy())
            return ((t / scale).to(layouts.TORCH[kind]).float() * scale).numpy()
        return t.to(layouts.TORCH[kind]).float().numpy()
    return f


def blocks(name, x):
    return x.ndim == 2 and x.shape[1] % 32 == 0


def matrices(name, x):
    return x.ndim == 2 and name.endswith(".weight")


# ------------------------------------------------------------------------------------------ layouts

def file_row(write, becomes=None, which=lambda name, x: True, **more):
    """A single file, and what its type makes of the numbers."""
    def row(model, path):
        write(path, model.single(), **more)
        return ["-m", path, "--config", model.configs], rounded(becomes, which) if becomes else None
    return row


def with_average(write, **more):
    def row(model, path):
        tensors = model.single()
        noise = np.random.default_rng(1)
        for k, v in list(tensors.items()):
            if k.startswith(layouts.U):
                tensors["model_ema.diffusion_model" + k[len(layouts.U):].replace(".", "")] = \
                    v + noise.standard_normal(v.shape).astype(np.float32)
        tensors["model_ema.decay"] = np.array(0.9999, np.float32)
        tensors["model_ema.num_updates"] = np.array(1000, np.int32)
        tensors["alphas_cumprod"] = np.zeros(1000, np.float32)
        tensors[layouts.T1 + "text_model.embeddings.position_ids"] = np.arange(76, -1, -1)[None]
        write(path, tensors, **more)
        return ["-m", path, "--config", model.configs], None
    return row


def shared_storage(model, path):
    """All tensors are views of one storage."""
    tensors = model.single()
    whole = torch.cat([torch.from_numpy(np.ascontiguousarray(v)).reshape(-1) for v in tensors.values()])
    at, state = 0, {}
    for k, v in tensors.items():
        state[k] = whole[at:at + v.size].view(v.shape)
        at += v.size
    torch.save({"state_dict": state}, path)
    return ["-m", path, "--config", model.configs], None


def whole_module(model, path):
    """torch.save(model): the VAE as a pickled object, with classes that no reader has to know."""
    from diffusers import AutoencoderKL
    torch.save(AutoencoderKL.from_pretrained(os.path.join(model.directory, "vae")), path)
    return ["-m", model.directory, "--vae", path, "--config", model.configs], None


def bare_text(model, path):
    if model.openclip or "text_encoder_2" in model.parts:
        return None
    layouts.write_safetensors(path, {k.replace(layouts.T1 + "text_model.", layouts.T1): v
                                     for k, v in model.single().items()})
    return ["-m", path, "--config", model.configs], None


def sgm(model, path):
    if not model.openclip:
        return None
    layouts.write_safetensors(path, {k.replace(layouts.T2, "conditioner.embedders.0.model."): v
                                     for k, v in model.single().items()})
    return ["-m", path, "--config", model.configs], None


def last_layer_too(model, path):
    """SD 2's single file has a 24th layer, a projection and a scale."""
    if not model.openclip:
        return None
    tensors = model.single()
    for line in layouts.layer_24(layouts.T2):
        _, name, kind, shape, gain = line.split(" ")
        tensors[name] = layouts.own_numbers(name, kind, golden_keys.shape_of(shape), float(gain))
    layouts.write_safetensors(path, tensors)
    return ["-m", path, "--config", model.configs], None


def alone(part, rename=lambda k: k, prefix=""):
    def row(model, path):
        layouts.write_safetensors(path, {prefix + rename(k): v for k, v in model.alone(part).items()})
        return ["-m", model.directory, "--" + part, path, "--config", model.configs], None
    return row


def old_vae(model, path):
    layouts.write_safetensors(path, layouts.renamed(model.parts["vae"], list(layouts.old_vae_map())))
    return ["-m", model.directory, "--vae", path, "--config", model.configs], None


def stem_of(part):
    return "diffusion_pytorch_model" if part in ("unet", "vae") else "model"


def bin_stem(part):
    return "diffusion_pytorch_model" if part in ("unet", "vae") else "pytorch_model"


def directory_row(write):
    """A directory in diffusers layout whose weights `write(directory, part, tensors)` writes."""
    def row(model, path):
        shutil.copytree(model.configs, path)
        change = None
        for part, tensors in model.parts.items():
            change = write(os.path.join(path, part), part, tensors)
        return ["-m", path], change
    return row


def as_bin(directory, part, tensors):
    layouts.write_pickle(os.path.join(directory, bin_stem(part) + ".bin"), tensors)


def as_bin_f16(directory, part, tensors):
    layouts.write_pickle(os.path.join(directory, bin_stem(part) + ".fp16.bin"), tensors, "F16")
    return rounded("F16")


def as_variant(directory, part, tensors):
    layouts.write_safetensors(os.path.join(directory, stem_of(part) + ".fp16.safetensors"), tensors, "F16")
    return rounded("F16")


def as_both(directory, part, tensors):
    as_variant(directory, part, {k: v * 2 for k, v in tensors.items()})   # would be seen
    layouts.write_safetensors(os.path.join(directory, stem_of(part) + ".safetensors"), tensors)


def as_shards(directory, part, tensors):
    layouts.write_shards(directory, stem_of(part), tensors)


def as_bin_and_safetensors(directory, part, tensors):
    layouts.write_pickle(os.path.join(directory, bin_stem(part) + ".bin"), {k: v * 2 for k, v in tensors.items()})
    layouts.write_safetensors(os.path.join(directory, stem_of(part) + ".safetensors"), tensors)


def cache(model, path):
    """The cache of Hugging Face: snapshots of links to blobs."""
    snapshot = os.path.join(path, "models--a--b", "snapshots", "0" * 40)
    blobs = os.path.join(path, "models--a--b", "blobs")
    refs = os.path.join(path, "models--a--b", "refs")
    os.makedirs(blobs)
    os.makedirs(refs)
    with open(os.path.join(refs, "main"), "w") as f:
        f.write("0" * 40)
    for root, _, files in os.walk(model.directory):
        for name in files:
            of = os.path.relpath(root, model.directory)
            blob = os.path.join(blobs, ("%s-%s" % (of, name)).replace("/", "-"))
            shutil.copyfile(os.path.join(root, name), blob)
            os.makedirs(os.path.join(snapshot, of), exist_ok=True)
            os.symlink(os.path.relpath(blob, os.path.join(snapshot, of)), os.path.join(snapshot, of, name))
    return ["-m", os.path.join(path, "models--a--b")], None


def parts_alone(model, path):
    """Directories of single parts, in the place of a model's own."""
    args = ["-m", model.directory]
    for part in model.parts:
        args += ["--" + part.replace("_", "-"), os.path.join(model.directory, part)]
    if "text_encoder_2" not in model.parts:   # SDXL's two tokenizers pad differently, and one is all that can be given
        args += ["--tokenizer", os.path.join(model.directory, "tokenizer")]
    return args, None


def converted(target, *options):
    """What `sd convert` makes of the directory: it needs no --config."""
    def row(model, path):
        path = path + target
        subprocess.run([Model.program, "convert", model.directory, path, *options, "-q"], check=True,
                       stdout=subprocess.DEVNULL)
        return ["-m", path], None
    return row


S, P, G = layouts.write_safetensors, layouts.write_pickle, layouts.write_gguf
# name, what the file is called, the layout
ROWS = [
    ("safetensors F32", "a.safetensors", file_row(S)),
    ("safetensors F16", "a.safetensors", file_row(S, "F16", dtype="F16")),
    ("safetensors BF16", "a.safetensors", file_row(S, "BF16", dtype="BF16")),
    ("safetensors F64", "a.safetensors", file_row(S, dtype="F64")),
    ("safetensors F8 E4M3, scale_weight", "a.safetensors", file_row(layouts.write_scaled, "F8_E4M3", matrices)),
    ("safetensors F8 E5M2, weight_scale", "a.safetensors",
     file_row(layouts.write_scaled, "F8_E5M2", matrices, dtype="F8_E5M2", spelling="weight_scale")),
    ("safetensors with EMA, buffers, position_ids", "a.safetensors", with_average(S)),
    ("text encoder without text_model.", "a.safetensors", bare_text),
    ("OpenCLIP with its last layer and projection", "a.safetensors", last_layer_too),
    ("sgm's names of OpenCLIP", "a.safetensors", sgm),
    (".ckpt zip, state_dict", "a.ckpt", file_row(P, wrap="state_dict")),
    (".ckpt zip, bare dictionary, F16", "a.pt", file_row(P, "F16", dtype="F16")),
    (".ckpt zip, BF16", "a.ckpt", file_row(P, "BF16", dtype="BF16")),
    (".ckpt zip, parameters", "a.pth", file_row(P, wrap="parameters")),
    (".ckpt zip, deflated", "a.ckpt", file_row(layouts.write_deflated)),
    (".ckpt zip, other strides", "a.ckpt", file_row(P, strides=True)),
    (".ckpt zip, one storage for all", "a.ckpt", shared_storage),
    (".ckpt zip, Lightning with EMA", "a.ckpt", with_average(P, wrap="lightning")),
    (".ckpt legacy", "a.ckpt", file_row(P, legacy=True, wrap="state_dict")),
    (".ckpt legacy, Lightning with EMA", "a.ckpt", with_average(P, legacy=True, wrap="lightning")),
    (".ckpt legacy, other strides", "a.ckpt", file_row(P, legacy=True, strides=True)),
    ("whole module .pth (VAE)", "a.pth", whole_module),
    ("GGUF F32", "a.gguf", file_row(G)),
    ("GGUF F16", "a.gguf", file_row(G, "F16", lambda name, x: x.ndim > 1, kind="F16")),
    ("GGUF Q8_0", "a.gguf", file_row(G, "Q8_0", blocks, kind="Q8_0")),
    ("GGUF Q4_0", "a.gguf", file_row(G, "Q4_0", blocks, kind="Q4_0")),
    ("GGUF Q4_1", "a.gguf", file_row(G, "Q4_1", blocks, kind="Q4_1")),
    ("GGUF Q5_0", "a.gguf", file_row(G, "Q5_0", blocks, kind="Q5_0")),
    ("GGUF Q5_1", "a.gguf", file_row(G, "Q5_1", blocks, kind="Q5_1")),
    ("directory, .bin", "a", directory_row(as_bin)),
    ("directory, .fp16.bin", "a", directory_row(as_bin_f16)),
    ("directory, fp16 variant alone", "a", directory_row(as_variant)),
    ("directory, fp16 variant beside", "a", directory_row(as_both)),
    ("directory, .bin beside", "a", directory_row(as_bin_and_safetensors)),
    ("directory, shards", "a", directory_row(as_shards)),
    ("cache of Hugging Face", "a", cache),
    ("parts' directories", "a", parts_alone),
    ("UNet alone, LDM", "a.safetensors", alone("unet")),
    ("UNet alone, LDM with prefix", "a.safetensors", alone("unet", prefix=layouts.U)),
    ("VAE alone, LDM", "a.safetensors", alone("vae")),
    ("VAE alone, LDM with prefix", "a.safetensors", alone("vae", prefix=layouts.V)),
    ("VAE alone, diffusers' old names", "a.safetensors", old_vae),
    ("sd convert: single file", "a", converted(".safetensors")),
    ("sd convert: GGUF", "a", converted(".gguf")),
    ("sd convert: directory", "a", converted("")),
]


# ------------------------------------------------------------------------------------------ drawing

def draw(program, args, out):
    from PIL import Image
    done = subprocess.run([program, *args, *PROMPT, "-o", out], capture_output=True, text=True)
    if done.returncode:
        return done.stderr.strip().split("\n")[-1][:150]
    return np.asarray(Image.open(out).convert("RGB"))


def truth(a, model, change, where, known):
    """The directory's picture, of numbers changed as the layout's type changes them."""
    if change is None:
        key = model.family
    else:
        # What a type does to a tensor depends on the names and shapes of the single file; so it is done there.
        key = None
    if key in known:
        return known[key]
    directory = model.directory
    if change:
        directory = os.path.join(where, "rounded")
        shutil.copytree(model.configs, directory)
        for part, tensors in model.parts.items():
            layouts.write_safetensors(os.path.join(directory, part, stem_of(part) + ".safetensors"),
                                      {k: rounded_as_in_file(change, model, part, k, v) for k, v in tensors.items()})
    picture = draw(a.program, ["-m", directory], os.path.join(where, "truth.png"))
    if change:
        shutil.rmtree(directory)
    else:
        known[key] = picture
    return picture


def rounded_as_in_file(change, model, part, name, x):
    """OpenCLIP's query, key and value share one tensor, and so its scale; the VAE's attention is convolutions there."""
    openclip = model.openclip if part == "text_encoder" else part == "text_encoder_2"
    found = re.match(r"(.*self_attn\.)[qkv](_proj\.(weight|bias))$", name)
    if openclip and found:
        whole = np.concatenate([model.parts[part]["%s%s%s" % (found[1], c, found[2])] for c in "qkv"])
        at = "qkv".index(name[len(found[1])])
        # in_proj_weight does not end with .weight
        return np.split(change("in_proj_" + found[3], whole), 3)[at]
    if part == "vae" and re.search(r"attentions\.0\.(to_.*)\.weight$", name):
        return change(name, x[:, :, None, None])[:, :, 0, 0]
    if openclip and name.endswith("position_embedding.weight"):
        return change("positional_embedding", x)
    if openclip and name == "text_projection.weight":
        return change("text_projection", x.T).T
    return change(name, x)


def test(a, where):
    table, failures = {}, 0
    for family in a.family or FAMILIES:
        if family != "tiny" and family not in synth.CONFIGS:
            continue
        model, known = Model(family, where), {}
        for name, file, layout in ROWS:
            if a.only and not fnmatch.fnmatch(name, a.only):
                continue
            at = tempfile.mkdtemp(dir=where)
            made = layout(model, os.path.join(at, file))
            result = "-"
            if made:
                args, change = made
                want = truth(a, model, change, where, known)
                got = draw(a.program, args, os.path.join(at, "out.png"))
                if isinstance(got, str) or isinstance(want, str):
                    result = "FAILS: %s" % (got if isinstance(got, str) else want)
                else:
                    result = "same" if np.array_equal(got, want) else "DIFFERS in %d of %d bytes" % (
                        (got != want).sum(), got.size)
                failures += result != "same"
            print("%-12s %-46s %s" % (family, name, result), flush=True)
            table.setdefault(name, {})[family] = result
            shutil.rmtree(at)
    if a.markdown:
        families = list(a.family or FAMILIES)
        with open(a.markdown, "w", encoding="utf-8") as f:
            f.write("| layout | %s |\n|---|%s\n" % (" | ".join(families), "---|" * len(families)))
            for name, row in table.items():
                f.write("| %s | %s |\n" % (name, " | ".join(row.get(k, "-") for k in families)))
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--program", default="./sd")
    parser.add_argument("--family", choices=FAMILIES, action="append")
    parser.add_argument("--only", help="rows whose name matches this glob")
    parser.add_argument("--markdown", help="write the table to this file")
    a = parser.parse_args()
    Model.program = a.program
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as where:
        sys.exit(test(a, where) != 0)


if __name__ == "__main__":
    main()

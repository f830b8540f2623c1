#!/usr/bin/env python3
"""What sd convert writes, loaded by diffusers: every tensor must be the one it was made from, in the type asked for.

    python tools/test_convert.py --program ./sd

Models: the one in weights/tiny, and small ones of SD 1 and SD 2 with weights from a formula (tools/synth.py). Each
becomes a single file, which from_single_file(config=the directory) reads, a directory with shards, which
from_pretrained reads, and a directory made from that single file. Types are compared with torch's own casts, bit by
bit; GGUF files with gguf's reader, if that package is there.
"""
import argparse
import os
import subprocess
import sys
import tempfile
import warnings

warnings.filterwarnings("ignore")
import diffusers
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file

import synth

PARTS = ("unet", "vae", "text_encoder")
TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64,
         "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}
failures = 0


def check(ok, what):
    global failures
    print("ok  " if ok else "FAIL", what)
    failures += not ok


def convert(program, *args):
    ran = subprocess.run([program, "convert", *args], capture_output=True, text=True)
    if ran.returncode:
        sys.exit(f"sd convert {' '.join(args)}: {ran.stderr}")


def same_weights(a, b):
    """The first tensor that differs; None: all are the same."""
    for part in PARTS:
        x, y = getattr(a, part).state_dict(), getattr(b, part).state_dict()
        if x.keys() != y.keys():
            return part
        for name in x:
            if not torch.equal(x[name], y[name]):
                return f"{part}.{name}"
    return None


def load(path, config=None):
    kind = diffusers.StableDiffusionPipeline
    if config:
        return kind.from_single_file(path, config=config, safety_checker=None, torch_dtype=torch.float32)
    return kind.from_pretrained(path, safety_checker=None, torch_dtype=torch.float32)


def check_model(program, directory, name, work, back):
    original = load(directory)
    single, shards, again = (os.path.join(work, name + end) for end in (".safetensors", "-shards", "-again"))
    convert(program, directory, single)
    check(same_weights(original, load(single, directory)) is None, f"{name}: single file, from_single_file")
    convert(program, directory, shards, "--shards", "300KB")
    check(same_weights(original, load(shards)) is None, f"{name}: shards, from_pretrained")
    if back:
        convert(program, single, again)
        check(same_weights(original, load(again)) is None, f"{name}: directory from the single file, from_pretrained")


def check_types(program, directory, work):
    source = load_file(os.path.join(directory, "unet", "diffusion_pytorch_model.safetensors"))
    for name, dtype in TYPES.items():
        out = os.path.join(work, name + ".safetensors")
        convert(program, directory, out, "--only", "unet", "--spelling", "diffusers", "--type", name)
        bad, n = 0, 0
        with safe_open(out, "pt") as f:
            for key in f.keys():
                x, y = source[key], f.get_tensor(key)
                stays = name.startswith("F8") and (x.dim() < 2 or "embedding" in key)
                want = x if stays else x.float().to(dtype)
                n += not stays
                bad += want.dtype != y.dtype or want.view(torch.uint8).ne(y.view(torch.uint8)).any().item()
        check(n > 0 and not bad, f"{name}: {n} tensors are torch's cast")


def check_gguf(program, directory, work):
    try:
        import gguf
    except ImportError:
        print("--   there is no package gguf: GGUF files are not checked")
        return
    source = load_file(os.path.join(directory, "unet", "diffusion_pytorch_model.safetensors"))
    out = os.path.join(work, "unet.gguf")
    convert(program, directory, out, "--only", "unet", "--spelling", "diffusers", "--type", "Q8_0")
    bad, blocks = [], 0
    for t in gguf.GGUFReader(out).tensors:
        x = source[t.name]
        if t.tensor_type == gguf.GGMLQuantizationType.Q8_0:
            blocks += 1
            want = gguf.quants.quantize(x.float().numpy(), t.tensor_type)
            if (want != t.data).any():
                bad.append(t.name)
        elif list(reversed(t.shape)) != list(x.shape) or (t.data.reshape(x.shape) != x.numpy()).any():
            bad.append(t.name)
    check(blocks > 0 and not bad, f"Q8_0: {blocks} tensors are gguf's blocks {bad[:3]}")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--program", default="./sd")
    args = p.parse_args()
    diffusers.logging.set_verbosity_error()
    diffusers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    tiny = os.path.join(here, "weights", "tiny")
    with tempfile.TemporaryDirectory() as work:
        check_model(args.program, tiny, "tiny", work, True)
        for config in ("sd1-small", "sd2-small"):
            directory = os.path.join(work, config)
            synth.write_model(config, directory, merges=os.path.join(here, "weights", "merges.txt"))
            check_model(args.program, directory, config, work, True)
        check_types(args.program, tiny, work)
        check_gguf(args.program, tiny, work)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Writes tests/golden/types.gguf, a file by gguf's own writer with a tensor of each type and values of each kind;
tests/golden/types.safetensors, what torch and gguf make of numbers; and tests/golden/written.gguf, which ours must write too.
tests/test_types.c and tests/test_gguf.c compare with them.

    python tools/golden_types.py [--out tests/golden/types]

types.safetensors: "<TYPE>" are the floats of the tensor of that name in types.gguf (gguf.quants.dequantize). "narrow.x" are
floats, "narrow.<TYPE>" their bytes by torch; "q8_0.x" and "q8_0.bytes" the same by gguf.quants.quantize.
"""
import argparse
import os

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as T
from safetensors.numpy import save_file

BLOCKS = [T.Q8_0, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K]
# where the halves of a block are
HALVES = {T.Q8_0: [0], T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q2_K: [80, 82], T.Q3_K: [108],
          T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}
SMALL = {"F16": (torch.float16, np.uint16), "BF16": (torch.bfloat16, np.uint16), "F8_E4M3": (torch.float8_e4m3fn, np.uint8),
         "F8_E5M2": (torch.float8_e5m2, np.uint8)}


def blocks_of(kind, rng):
    """[1, bytes]: a row of 256 numbers. Any bytes are a block; the halves are finite, and one of several is subnormal."""
    size, width = gguf.GGML_QUANT_SIZES[kind]
    raw = rng.integers(0, 256, (256 // size, width), dtype=np.uint8)
    for at in HALVES[kind]:
        half = (rng.standard_normal(len(raw)) * 0.1).astype(np.float16)
        if len(half) > 1:
            half[-1] = 3e-6
        raw[:, at:at + 2] = half.view(np.uint8).reshape(-1, 2)
    return raw.reshape(1, -1)


def narrow_inputs(rng):
    """Each 8-bit number, what lies halfway to the next, the floats beside that; numbers of every exponent; the ends."""
    found = [np.array([0, -0.0, np.inf, -np.inf, np.nan, 448, 464, 464.00003, 480, 57344, 61440, 61439.996, 65504, 65519.996,
                       65520, 3.3895314e38, 3.4028235e38, 1e-45, 2.0**-25, 2.0**-24, 2.0**-133, 2.0**-134], np.float32)]
    for kind in (torch.float8_e4m3fn, torch.float8_e5m2):
        x = torch.arange(127, dtype=torch.uint8).view(kind).float().numpy()
        x = x[np.isfinite(x)]
        middle = ((x[:-1] + x[1:]) / 2).astype(np.float32)
        found += [middle, -np.nextafter(middle, np.float32(0)), np.nextafter(middle, np.float32(1e9))]
    bits = rng.integers(0, 2**32, 400, dtype=np.uint32)
    near_ties = (rng.integers(0, 2**16, 200, dtype=np.uint32) << 16) + np.uint32(0x8000)
    halves = rng.integers(0, 0x7C00, 200, dtype=np.uint16).view(np.float16).astype(np.float32)
    return np.concatenate(found + [bits.view(np.float32), near_ties.view(np.float32), np.nextafter(halves, np.float32(1)),
                                   halves * np.float32(1 + 2.0**-11)])


def q8_0_inputs(rng):
    """Blocks of 32: ordinary ones, zeros, one that has halves of its unit, one so small that d is no half."""
    x = rng.standard_normal((8, 32)).astype(np.float32)
    x[1] = 0
    x[2] = np.arange(32) * 4 + np.float32(0.5)
    x[2, 31] = -127
    x[3] *= np.float32(1e-9)
    x[4] *= np.float32(3e-6)
    return x


def write_gguf(path, rng):
    """Returns the floats of its tensors."""
    writer, floats = gguf.GGUFWriter(path, "sd1"), {}
    writer.add_uint8("kind.uint8", 200)
    writer.add_int8("kind.int8", -100)
    writer.add_uint16("kind.uint16", 60000)
    writer.add_int16("kind.int16", -30000)
    writer.add_uint32("kind.uint32", 4000000000)
    writer.add_int32("kind.int32", -2000000000)
    writer.add_uint64("kind.uint64", 18000000000000000000)
    writer.add_int64("kind.int64", -9000000000000000000)
    writer.add_float32("kind.float32", 0.375)
    writer.add_float64("kind.float64", 0.1)
    writer.add_bool("kind.bool", True)
    writer.add_string("kind.string", "a \"cat\",\nü")
    writer.add_array("kind.array", [1, -2, 3])
    writer.add_array("kind.texts", ["a", "b\n", "ü"])
    writer.add_array("kind.long", list(range(40)))
    writer.add_array("comfy.gguf.orig_shape.flat", [2, 32, 2, 2])
    plain = rng.standard_normal((3, 5)).astype(np.float32)
    for kind in (np.float32, np.float16, np.float64):
        name = {4: "F32", 2: "F16", 8: "F64"}[np.dtype(kind).itemsize]
        writer.add_tensor(name, plain.astype(kind))
        floats[name] = plain.astype(kind).astype(np.float32)
    writer.add_tensor("BF16", gguf.quantize(plain, T.BF16), raw_dtype=T.BF16)
    floats["BF16"] = gguf.dequantize(gguf.quantize(plain, T.BF16), T.BF16)
    writer.add_tensor("I32", np.arange(4, dtype=np.int32))
    for kind in BLOCKS:
        raw = blocks_of(kind, rng)
        writer.add_tensor(kind.name, raw, raw_dtype=kind)
        floats[kind.name] = gguf.dequantize(raw, kind)
    flat = rng.standard_normal((1, 256)).astype(np.float32)
    writer.add_tensor("flat", gguf.quantize(flat, T.Q8_0), raw_dtype=T.Q8_0)
    floats["flat"] = gguf.dequantize(gguf.quantize(flat, T.Q8_0), T.Q8_0).reshape(2, 32, 2, 2)
    writer.add_tensor("other", rng.integers(0, 256, (1, 18), dtype=np.uint8), raw_dtype=T.IQ4_NL)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return floats


def write_small(path):
    """What test_gguf.c writes: values of i / 8."""
    writer = gguf.GGUFWriter(path, "sd1")
    writer.add_uint32("general.quantization_version", 2)
    writer.add_string("a.text", "a \"cat\",\nü")
    x = (np.arange(64, dtype=np.float32) / 8).reshape(2, 32)
    writer.add_tensor("b.weight", x[0, :6].reshape(2, 3))
    writer.add_tensor("a.weight", x[0, :3].astype(np.float16))
    for name, kind in (("c.weight", T.BF16), ("d.weight", T.Q8_0)):
        writer.add_tensor(name, gguf.quantize(x, kind), raw_dtype=kind)
    writer.add_tensor("e.bias", x[0, :1])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="tests/golden/types")
    out = parser.parse_args().out
    rng = np.random.default_rng(14)
    golden = write_gguf(out + ".gguf", rng)
    x = narrow_inputs(rng)
    golden["narrow.x"] = x
    for name, (kind, width) in SMALL.items():
        raw = torch.from_numpy(x).to(kind)
        golden["narrow." + name] = raw.view(torch.uint8).numpy().view(width) if width is np.uint8 else \
            raw.view(torch.int16).numpy()
    golden["q8_0.x"] = q8_0_inputs(rng)
    golden["q8_0.bytes"] = gguf.quantize(golden["q8_0.x"], T.Q8_0)
    save_file(dict(sorted(golden.items())), out + ".safetensors")
    os.chmod(out + ".safetensors", 0o644)
    write_small(os.path.join(os.path.dirname(out), "written.gguf"))
    print(len(x), "floats to narrow")


if __name__ == "__main__":
    main()

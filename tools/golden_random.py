#!/usr/bin/env python3
"""Writes the reference numbers of tests/test_philox.c, test_numpy_rng.c, test_brownian.c and test_random.c.

    python tools/golden_random.py [--out tests/golden]       needs torch, numpy, diffusers, torchsde, scipy

random_numpy.txt     NumPy's RandomState, SeedSequence, PCG64 and both kinds of its ziggurat normals.
random_cuda.txt      torch.randn on a GPU: computed here from the published formulas (`computed`), and numbers that
                     users of real GPUs have printed (`printed`, `corner`).
random_brownian.txt  increments of torchsde.BrownianTree, and the noise of diffusers' BrownianTreeNoiseSampler for the
                     levels at which DPMSolverSDEScheduler asks for it.

Only lines beginning with a word are data; # begins a comment. Numbers whose bits matter are hexadecimal.
"""
import argparse
import math
import os
import struct
import warnings

import numpy as np
import torch
import torchsde
from diffusers import DPMSolverSDEScheduler
from diffusers.schedulers import scheduling_dpmsolver_sde as sde


def fnv1a(array):
    """64-bit FNV-1a over the little-endian bytes of an array."""
    h = 0xCBF29CE484222325
    for byte in np.ascontiguousarray(array).tobytes():
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return "%016x" % h


def bits32(x):
    return " ".join("%08x" % struct.unpack("<I", struct.pack("<f", float(v)))[0] for v in np.ravel(x))


def bits64(x):
    return " ".join("%016x" % struct.unpack("<Q", struct.pack("<d", float(v)))[0] for v in np.ravel(x))


# ----------------------------------------------------------------------------------------------- NumPy

SEEDS32 = (0, 1, 42, 2**32 - 1)
SEEDS64 = (0, 1, 42, 2**32 - 1, 2**32, 2**63, 2**64 - 1)
LONG = 20000


def normal_from(word, kind):
    """Two normals that NumPy makes when the next 64 (or 32) bits are `word`, and the state in which they are."""
    generator = np.random.PCG64(5)
    state = generator.state
    if kind == np.float32:
        state["has_uint32"], state["uinteger"] = 1, word
    else:   # of a state with high half 0 the output is the low half: undo the step that leads there
        multiplier, inc = 2549297995355413924 << 64 | 4865540595714422341, state["state"]["inc"]
        state["state"]["state"] = (word - inc) * pow(multiplier, -1, 2**128) % 2**128
    generator.state = state
    return np.random.Generator(generator).standard_normal(2, dtype=kind), state


def write_edges(f):
    """Where a layer's safe part ends: the last position that is taken at once and the next one, found by bisection,
    since a position that is not safe costs another draw. The number after it shows how many were used."""
    f.write("# edge high low step_high step_low two normals: a state whose next word lies at a layer's edge\n"
            "# edge_f32 spare two normals: likewise, the 32 bits that wait in the state of seed 5\n")
    for kind, bits, name in ((np.float64, 52, "edge"), (np.float32, 23, "edge_f32")):
        for layer in (0, 2, 3, 5, 38, 64, 92, 128, 168, 200, 253, 254, 255):
            def at_once(position):
                word = position << 9 | layer
                generator = np.random.PCG64(5)
                generator.state = normal_from(word, kind)[1]
                g = np.random.Generator(generator)
                g.standard_normal(dtype=kind)
                if kind == np.float32:   # nothing but the waiting bits was used
                    return generator.state["state"] == np.random.PCG64(5).state["state"]
                one = np.random.PCG64(5)
                one.state = normal_from(word, kind)[1]
                one.random_raw()
                return generator.state["state"] == one.state["state"]
            low, high = 0, 2**bits   # at_once(low), not at_once(high)
            while high - low > 1:
                mid = (low + high) // 2
                low, high = (mid, high) if at_once(mid) else (low, mid)
            for position in (low, high):
                value, state = normal_from(position << 9 | layer, kind)
                if kind == np.float32:
                    f.write(f"{name} {state['uinteger']:08x} {bits32(value)}\n")
                else:
                    s, inc = state["state"]["state"], state["state"]["inc"]
                    f.write(f"{name} " + " ".join("%016x" % (v >> shift & 2**64 - 1) for v in (s, inc)
                                                  for shift in (64, 0)) + f" {bits64(value)}\n")


def write_numpy(f):
    f.write("# word seed n fnv1a first numbers ...\n")
    for seed in SEEDS32:
        x = np.random.RandomState(seed).standard_normal(LONG)
        f.write(f"legacy {seed} {LONG} {fnv1a(x)} {bits64(x[:9])}\n")
    for seed in SEEDS64:
        x = np.random.default_rng(seed).standard_normal(LONG)
        f.write(f"pcg64 {seed} {LONG} {fnv1a(x)} {bits64(x[:9])}\n")
        x = np.random.default_rng(seed).standard_normal(LONG, dtype=np.float32)
        f.write(f"pcg64_f32 {seed} {LONG} {fnv1a(x)} {bits32(x[:9])}\n")
    f.write("# tail: seed, 0-based place and value of numbers beyond the last layer, |x| > 3.654\n")
    for seed in (0, 1):
        x = np.random.default_rng(seed).standard_normal(LONG)
        for i in np.flatnonzero(abs(x) > 3.6541528853610088)[:4]:
            f.write(f"tail {seed} {i} {bits64(x[i])}\n")
        x = np.random.default_rng(seed).standard_normal(LONG, dtype=np.float32)
        for i in np.flatnonzero(abs(x) > 3.6541528853610088)[:4]:
            f.write(f"tail_f32 {seed} {i} {bits32(x[i])}\n")
    write_edges(f)
    f.write("# raw seed: 64-bit words of PCG64\n")
    for seed in SEEDS64:
        f.write(f"raw {seed} " + " ".join("%016x" % v for v in np.random.PCG64(seed).random_raw(6)) + "\n")
    f.write("# words entropy pool_size number_of_keys keys ... : SeedSequence.generate_state(8)\n")
    for entropy in SEEDS64:
        for pool in (4, 8, 24):
            for keys in ((), (0, 0), (5, 3), (2**32 + 7, 33), (2**45 - 1, 45)):
                s = np.random.SeedSequence(entropy=entropy, spawn_key=keys, pool_size=pool)
                if entropy not in (0, 42, 2**63) and keys:
                    continue
                f.write(f"words {entropy} {pool} {len(keys)} " + " ".join(map(str, keys)) + (" " if keys else "")
                        + " ".join("%08x" % w for w in s.generate_state(8)) + "\n")


# ------------------------------------------------------------------------------------------------ CUDA

def philox(counter, key):
    """Philox4x32-10 on arrays of counters (four uint64 arrays holding 32 bits) with one key."""
    m0, m1, low, half = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57), np.uint64(0xFFFFFFFF), np.uint64(32)
    x, y, z, w = counter
    k0, k1 = key
    for _ in range(10):
        a, b = m0 * x, m1 * z
        x, y, z, w = (b >> half) ^ y ^ np.uint64(k0), b & low, (a >> half) ^ w ^ np.uint64(k1), a & low
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return x, y, z, w


def cuda_normals(seed, n, sms=0, threads=0, offset=0):
    """torch.randn(n, device="cuda") in float64, with the uniforms rounded to float32 as the GPU rounds them. Returns
    the numbers and the next offset."""
    blocks = -(-n // 256)
    if sms:
        blocks = min(blocks, sms * (threads // 256))
    every = 256 * blocks
    out = np.empty(n)
    index = np.arange(every, dtype=np.uint64)
    f32, scale, turn = np.float32, float(np.float32(2.0**-32)), float(np.float32(2.0**-32) * np.float32(2 * math.pi))
    for first in range(0, n, 4 * every):
        counter = [np.full(every, offset & 0xFFFFFFFF, np.uint64), np.full(every, offset >> 32, np.uint64),
                   index & np.uint64(0xFFFFFFFF), index >> np.uint64(32)]
        words = philox(counter, (seed & 0xFFFFFFFF, seed >> 32))
        for pair in range(2):
            # a float32 times a float32 plus a float32, rounded once: exact enough in float64
            u = (words[2 * pair].astype(f32).astype(float) * scale + scale / 2).astype(f32).astype(float)
            v = (words[2 * pair + 1].astype(f32).astype(float) * turn + turn / 2).astype(f32).astype(float)
            radius = np.sqrt(-2 * np.log(u))
            for part, trig in enumerate((np.sin, np.cos)):
                at = first + (2 * pair + part) * every
                m = min(every, n - at)
                if m > 0:
                    out[at:at + m] = (radius * trig(v))[:m]
        offset += 1
    return out, offset


# What users printed. Only the numbers are theirs. (seed, sms, threads, shape, mean, standard deviation, source, rows):
# rows of the first 3 and last 3 columns, of the first 3 and last 3 rows, as torch abbreviates a tensor.
CORNERS = [
    (14, 48, 1536, (1000, 100), 5, 5**.5, "RTX A4000, torch 2.0.0; pytorch issue 97097", """
        2.8731 5.2727 2.9889 1.6853 9.6331 6.6319   3.9968 3.8097 5.7328 4.4029 3.9804 7.4698
        6.5552 4.0857 4.2315 2.7704 3.5479 3.3063   8.6297 2.3137 6.2596 7.9358 4.4697 2.7475
        7.0551 7.8583 3.9990 4.1139 8.9315 4.2042   2.7337 2.2106 7.7815 8.2207 6.5395 4.2604"""),
    (42, 28, 1536, (64, 2048), 0, 1, "a GPU not named, of 43008 threads by its numbers; pytorch issue 158398", """
        0.1940 2.1614 -0.1721 1.4540 -2.7733 -0.8932   -0.4574 0.8063 0.1580 0.1124 0.2769 -1.2535
        1.1346 -0.6329 -0.9147 -1.0001 -1.1552 -0.6955   -0.4861 0.3358 1.0578 -0.7282 0.5087 0.1318
        0.7881 0.8339 -1.1424 -0.6297 -1.1112 -0.4091   -1.2356 -0.4083 -0.4695 -0.4841 1.2850 -0.0282"""),
]
ROW = 49 * 12 * 112 * 144
PRINTED = [   # (seed, sms, threads, n, source, first place, numbers)
    (0, 0, 0, 64, "any GPU; notes on Triton kernels that print their input", 0, """
        -0.9247 -0.4253 -2.6438 0.1452 -0.1209 -0.5797 -0.6229 -0.3284 -1.0745 -0.3631 -1.6711 2.2655 0.3117 -0.1842
        1.2866 1.1820 -0.1271 1.2169 1.4353 1.0605 -0.4941 -1.4244 -0.7244 -1.2973 0.0697 -0.0074 1.8969 0.6878 -0.0779
        -0.8373
        1.3506 -0.2879 -0.5965 -0.3283 -0.9086 -0.8059 -0.7407 -0.0504 0.5435 1.5150 0.0141 0.4532 1.6349 0.7124 -0.1806
        1.0252 -1.4622 -0.7554 -0.1836 0.3824 0.3918 -0.0830 0.8971 -1.1123 0.1116 0.4863 -0.5499 -0.3231 -0.5469 0.9049
        0.2837 0.1210 0.4730 -1.0823"""),
    (10, 0, 0, 3, "any GPU; pytorch issue 79496", 0, "-0.1029 1.6810 -0.2708"),
    (1, 132, 2048, ROW, "H100; pytorch issue 143086", 0, "-0.2963 2.6764 -0.1408"),
    (1, 132, 2048, ROW, "H100; pytorch issue 143086", ROW - 3, "-0.6970 -0.7780 0.3267"),
    (1, 108, 2048, ROW, "A100; pytorch issue 143086", ROW - 3, "0.1549 -0.6797 -0.1656"),
]


def write_cuda(f):
    f.write("# computed seed sms threads draws n ... : the last of several draws of these sizes, place value pairs\n")
    for seed in (0, 1, 2**32, 2**63 + 12345, 2**64 - 1):
        for sms, threads, sizes in ((0, 0, [16]), (0, 0, [5, 16384]), (40, 1024, [65536]), (132, 2048, [65536]),
                                    (2, 1536, [3073, 100, 12288, 12289, 30000]), (1, 256, [1024, 1025, 5000])):
            offset = 0
            for n in sizes:
                x, offset = cuda_normals(seed, n, sms, threads, offset)
            every = min(256 * -(-n // 256), 256 * sms * (threads // 256) if sms else n + 255)
            places = sorted({p for p in [0, 1, 2, 3, n // 2, n - 2, n - 1]
                             + [k * every + d for k in range(1, 6) for d in (-1, 0)] if 0 <= p < n})
            f.write(f"computed {seed} {sms} {threads} {len(sizes)} " + " ".join(map(str, sizes)) + " "
                    + " ".join("%d %.10g" % (p, x[p]) for p in places) + "\n")
    f.write("# printed seed sms threads n first numbers ... : rounded to four decimals by torch\n")
    for seed, sms, threads, n, source, first, numbers in PRINTED:
        numbers = numbers.split()
        x = cuda_normals(seed, n, sms, threads)[0][first:first + len(numbers)]
        assert np.abs(x - np.array(numbers, float)).max() < 0.6e-4, source
        f.write(f"# {source}\nprinted {seed} {sms} {threads} {n} {first} " + " ".join(numbers) + "\n")
    f.write("# corner seed sms threads rows columns mean deviation numbers ... : likewise, 6 by 6 from the corners\n")
    for seed, sms, threads, shape, mean, deviation, source, numbers in CORNERS:
        numbers = numbers.split()
        x = mean + deviation * cuda_normals(seed, shape[0] * shape[1], sms, threads)[0].reshape(shape)
        x = x[np.ix_([0, 1, 2, -3, -2, -1], [0, 1, 2, -3, -2, -1])]
        assert np.abs(np.ravel(x) - np.array(numbers, float)).max() < 0.6e-4, source
        f.write(f"# {source}\ncorner {seed} {sms} {threads} {shape[0]} {shape[1]} {mean!r} {deviation!r} "
                + " ".join(numbers) + "\n")


# -------------------------------------------------------------------------------------------- Brownian

def write_increments(f):
    f.write("# path entropy t0 t1 n : a tree; the lines after it: increment a b fnv1a first numbers ...\n")
    rng = np.random.default_rng(1)
    for entropy, t0, t1, n in ((6, 0.1000004, 0.1010003, 32), (0, 0.0, 1.0, 64),
                               (42, 0.029167518019676208, 14.614641189575195, 64),
                               (2**63 - 2, 0.05, 157.4074249267578, 8), (2**32 + 5, 0.0, 1.0, 20)):
        f.write(f"path {entropy} {t0.hex()} {t1.hex()} {n}\n")
        tree = torchsde.BrownianTree(t0, torch.zeros(n), t1, entropy=entropy)
        # the whole, halves, ties of the rounding to 1e-6, outside, nothing, again
        asked = [(t0, t1), (t0, 0.5 * (t0 + t1)), (0.5 * (t0 + t1), t1), (0.2578125, 0.8046875), (0.3000005, 0.7000015),
                 (-1.0, 0.7), (0.7, 1e4), (0.25, 0.25), (t0, t1), (0.1005, 0.100501), (0.9, 0.90001)]
        asked += [tuple(sorted(float(np.float32(v)) for v in rng.uniform(t0, t1, 2))) for _ in range(12)]
        for a, b in asked:
            x = tree(a, b).numpy()
            f.write(f"increment {float(a).hex()} {float(b).hex()} {fnv1a(x)} {bits32(x[:3])}\n")


def write_noise(f):
    """The levels come from diffusers' own steps; its sampler of noise is recorded, not replaced."""
    f.write("# sampler generators seed images each sigma_min sigma_max : a run of DPMSolverSDEScheduler; the lines\n"
            "# after it: noise sigma sigma_next and the first 3 and the last number\n")
    asked = []

    class Recorder(sde.BrownianTreeNoiseSampler):
        def __init__(self, x, sigma_min, sigma_max, seed=None, **kwargs):
            super().__init__(x, sigma_min, sigma_max, seed, **kwargs)
            asked.append((sigma_min, sigma_max))

        def __call__(self, sigma, sigma_next):
            x = super().__call__(sigma, sigma_next)
            asked.append((float(sigma), float(sigma_next), x.numpy().ravel()))
            return x

    real, sde.BrownianTreeNoiseSampler = sde.BrownianTreeNoiseSampler, Recorder
    for steps, karras, shape, seed in ((2, False, (1, 4, 4, 4), 0), (5, True, (1, 4, 4, 4), 42),
                                       (20, False, (2, 4, 4, 4), 2**63 - 2), (20, True, (2, 4, 4, 4), [7, 8])):
        scheduler = DPMSolverSDEScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                                          use_karras_sigmas=karras, noise_sampler_seed=seed)
        scheduler.set_timesteps(steps)
        asked.clear()
        x = torch.ones(shape) * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            x = scheduler.step(x * 0.1, t, x).prev_sample
        generators, first = (len(seed), seed[0]) if isinstance(seed, list) else (0, seed)
        low, high = asked[0]
        f.write(f"sampler {generators} {first} {shape[0]} {math.prod(shape[1:])} {low.hex()} {high.hex()}\n")
        for a, b, noise in asked[1:]:
            f.write(f"noise {a.hex()} {b.hex()} {bits32(noise[[0, 1, 2, -1]])}\n")
    sde.BrownianTreeNoiseSampler = real
    # Python's numbers become float32 before anything is rounded to 1e-6: here the two fall on different sides of a tie.
    def near_tie(start):
        return next(x for x in ((k + 0.5) / 1e6 for k in range(start, start + 1000))
                    if round(x, 6) != round(float(np.float32(x)), 6))
    low, middle, high = near_tie(100000), near_tie(300000), 4.1
    noise = real(torch.zeros(2, 16), low, high, 9)
    f.write(f"sampler 0 9 2 16 {low.hex()} {high.hex()}\n")
    for a, b in ((high, middle), (middle, low), (3.3, 1.7)):
        f.write(f"noise {a.hex()} {b.hex()} {bits32(noise(a, b).numpy().ravel()[[0, 1, 2, -1]])}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="tests/golden", help="folder of the golden files (tests/golden)")
    out = parser.parse_args().out
    warnings.filterwarnings("ignore", message="Should have t")   # torchsde, of levels outside its interval
    made = f"NumPy {np.__version__}, torch {torch.__version__}, torchsde {torchsde.__version__}"
    for name, writers in (("random_numpy.txt", [write_numpy]), ("random_cuda.txt", [write_cuda]),
                          ("random_brownian.txt", [write_increments, write_noise])):
        with open(os.path.join(out, name), "w", encoding="utf-8") as f:
            f.write(f"# made by tools/golden_random.py with {made}\n")
            for writer in writers:
                writer(f)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Writes share/selftest, the expected numbers of `sd selftest`, from the goldens of the tests.

    python tools/golden_selftest.py [--golden tests/golden] [--out share/selftest]

Nothing is computed here: tests/golden has what diffusers, transformers, k-diffusion, torch, NumPy and torchsde gave
(tools/make_golden.py and its siblings), and this takes a part of it that is small enough to be installed.

For each model of MODELS:
  NAME.txt          a title; the description of tests/golden/net_NAME.txt, from which the weights are made; inputs; and a
                    line "case NAME KIND SETTING=VALUE.." for each of its cases. KIND: unet, decode and encode are one
                    pass of a network over the inputs; draw is a whole run with these parameters (keys of sd_params_set;
                    init, mask and depth are sizes of pictures by formula)
  NAME.safetensors  for each traced name of a case, CASE.NAME and CASE.NAME.e32 as tools/make_golden.py explains them.
                    Of modules those that are steps of a network, not what is inside of them
Beside them: samplers.txt, generators.txt, tokens.txt. Only a Python is needed.
"""
import argparse
import json
import os
import re
import struct

PROMPT, NEGATIVE = "a red apple on a blue table, isn't it great!", "blurry"
SIZE = "width=72 height=88"
PICTURE = "init=56x40"
STEP = re.compile(r"(unet|vae)\.((encoder|decoder)\.)?("
                  r"conv_(in|act|norm_out|out)|time_proj|(time|add|class)_embedding|(post_)?quant_conv|mean|logvar|picture"
                  r"|layers\.\d+|.*\b(resnets|attentions|downsamplers|upsamplers)\.\d+(\.conv)?)")
# Of SDXL's first text encoder the layer before the last is used, and nothing after it.
UNUSED = re.compile(r"text_encoder\.text_model\.(encoder\.layers\.2|final_layer_norm)")
TEXT = re.compile(r"text_encoder(_2)?\.(text_projection|text_model\.(embeddings|final_layer_norm|encoder\.layers\.\d+))")


def draw(name, golden, settings, texts=False, unused=None):
    """golden: (file, prefix). texts: with the text encoders' modules, for one picture with guidance; but `unused`."""
    return dict(name=name, kind="draw", golden=golden, settings=settings, texts=texts, unused=unused)


def network(name, kind, prefix):
    return dict(name=name, kind=kind, golden=(None, prefix), settings="", texts=False)


UNET, DECODE, ENCODE = network("unet", "unet", "unet."), network("decoder", "decode", "vae.decoder"), network(
    "encoder", "encode", "vae.encoder")
NETWORKS = [UNET, DECODE, ENCODE]
EDIT = PICTURE + " steps=5 guidance_scale=7.5 seed=31 sampler=%s strength=%s"

GENERATOR_PLACES = 12

# name -> title, configuration of the tests, cases
MODELS = {
    "sd15": ("Stable Diffusion 1", "sd1-small", NETWORKS + [
        draw("pndm", ("net_sd1-small", "run.pndm."), SIZE + " steps=4 guidance_scale=7.5 seed=20", texts=True),
        draw("euler_a", ("net_sd1-small", "run.euler_a."),
             SIZE + " sampler=euler_a steps=3 guidance_scale=7.5 seed=20 batch=2"),
        draw("img2img", ("edit_sd1-small", "img2img.ddim.0.5."), EDIT % ("ddim", "0.5")),
        draw("inpaint", ("edit_sd1-small", "inpaint.euler.0.5."), EDIT % ("euler", "0.5") + " mask=56x40")]),
    "sd15-inpaint": ("Stable Diffusion 1 for inpainting", "inpaint-small", [
        draw("inpaint", ("edit_inpaint-small", "inpaint9.ddim.1."), EDIT % ("ddim", "1") + " mask=56x40")]),
    "instruct-pix2pix": ("InstructPix2Pix", "pix2pix-small", [
        draw("edit", ("net_pix2pix-small", "run.scales."), PICTURE + " sampler=ddim steps=3 guidance_scale=4 seed=20"
             " image_guidance_scale=2.5 batch=2")]),
    "lcm": ("a latent consistency model", "lcm-small", [
        draw("lcm", ("net_lcm-small", "run.scale."), SIZE + " steps=2 guidance_scale=2.3 seed=20 batch=2 negative=-")]),
    "tiny-sd": ("tiny-sd, also BK-SDM-tiny", "tiny-sd-unet", [UNET]),
    "sd21": ("Stable Diffusion 2, predicts v", "sd2-small", NETWORKS + [
        draw("ddim", ("net_sd2-small", "run.ddim."), SIZE + " steps=3 guidance_scale=7.5 seed=20", texts=True),
        draw("turbo", ("few_sd2-small", "run.turbo_4."), SIZE + " sampler=euler spacing=trailing prediction=epsilon"
             " guidance_scale=0 steps=4 batch=2 seed=20 negative=-")]),
    "sd2-depth": ("Stable Diffusion 2 with a depth map", "depth-small", [
        draw("depth", ("net_depth-small", "run.own."), PICTURE + " depth=31x23 steps=5 guidance_scale=7.5 seed=20")]),
    "x4-upscaler": ("the upscaler by four", "x4-small", [
        draw("upscale", ("net_x4-small", "run.odd."),
             "init=9x13 steps=3 guidance_scale=9 seed=20 noise_level=111")]),
    "sdxl": ("Stable Diffusion XL", "sdxl-small", [
        draw("sizes", ("net_sdxl-small", "run.sizes."), SIZE + " steps=3 guidance_scale=5 seed=20"
             " original_size=512x640 crop=16,8 target_size=80x96 negative_original_size=256x320 negative_crop=0,24"
             " negative_target_size=48x64", texts=True, unused=UNUSED),
        draw("lightning", ("few_sdxl-small", "run.lightning_4."), SIZE + " sampler=euler spacing=trailing steps=4"
             " guidance_scale=1 seed=20 negative=-")]),
    "sdxl-inpaint": ("Stable Diffusion XL for inpainting", "inpaint-xl-small", [
        draw("inpaint", ("net_inpaint-xl-small", "run.inpaint9."), PICTURE + " mask=56x40 strength=0.6 steps=5"
             " guidance_scale=5 seed=20 negative=-")]),
    "sdxl-refiner": ("Stable Diffusion XL's refiner", "refiner-small", [
        draw("refine", ("net_refiner-small", "run.scores."), PICTURE + " strength=0.6 steps=5 guidance_scale=5 seed=20"
             " aesthetic_score=7.5 negative_aesthetic_score=1.25 original_size=512x640", texts=True)]),
    "ssd-1b": ("SSD-1B", "ssd-unet", [UNET]),
    "taesd": ("TAESD, a small autoencoder", "taesd-small", [DECODE, ENCODE]),
}


# --------------------------------------------------------------------------------------------------- safetensors

def read_tensors(path):
    """name -> (dtype, shape, bytes)"""
    data = open(path, "rb").read()
    (n,) = struct.unpack("<Q", data[:8])
    head = json.loads(data[8:8 + n])
    head.pop("__metadata__", None)
    return {k: (v["dtype"], v["shape"], data[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]])
            for k, v in head.items()}


def write_tensors(path, tensors):
    head, at = {}, 0
    for name in sorted(tensors):
        dtype, shape, data = tensors[name]
        head[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(tensors[name][2] for name in sorted(tensors)))


# ---------------------------------------------------------------------------------------------------------- models

def wanted(case, name):
    """The traced name under which a golden belongs to the case; None: it does not."""
    file, prefix = case["golden"]
    if file:
        if name.startswith(prefix):
            return name[len(prefix):]
        if case.get("unused") and case["unused"].fullmatch(name):
            return None
        return name if case["texts"] and (TEXT.fullmatch(name) or name == "prompt_embeds") else None
    tail = {"decode": ("vae.decoder", "vae.post_quant_conv", "vae.picture"),
            "encode": ("vae.encoder", "vae.quant_conv", "vae.mean", "vae.logvar"), "unet": ("unet.",)}[case["kind"]]
    return name if name.startswith(tail) and STEP.fullmatch(name) else None


def write_model(golden, out, name, title, config, cases):
    lines = open(os.path.join(golden, "net_%s.txt" % config)).read().splitlines()
    lines = [s for s in lines if s and not s.startswith(("#", "run ", "prompt ", "negative ", "input control."))]
    own = os.path.join(golden, "net_%s.safetensors" % config)
    own = read_tensors(own) if os.path.exists(own) else {}
    kept = {}
    with open(os.path.join(out, name + ".txt"), "w") as f:
        f.write("# made by tools/golden_selftest.py, which explains it\ntitle %s\nprompt %s\nnegative %s\n"
                % (title, PROMPT, NEGATIVE))
        for case in cases:
            f.write(("case %s %s %s" % (case["name"], case["kind"], case["settings"])).rstrip() + "\n")
        f.write("\n".join(lines) + "\n")
    for case in cases:
        file = case["golden"][0]
        tensors = read_tensors(os.path.join(golden, file + ".safetensors")) if file else own
        found = 0
        for key, value in tensors.items():
            traced = wanted(case, key) if key + ".e32" in tensors else None
            if traced:
                kept["%s.%s" % (case["name"], traced)] = value
                kept["%s.%s.e32" % (case["name"], traced)] = tensors[key + ".e32"]
                found += 1
        if not found:
            raise SystemExit("%s: nothing for %s" % (name, case["name"]))
        for key in ("timesteps", "ids", "labels") if case["kind"] == "unet" else ():
            if key in own:
                kept[key] = own[key]
    write_tensors(os.path.join(out, name + ".safetensors"), kept)


# ----------------------------------------------------------------------------------------------------- the other files

def rows(golden, file):
    return [s for s in open(os.path.join(golden, file)).read().splitlines() if s and not s.startswith("#")]


def write_rows(out, file, head, lines):
    with open(os.path.join(out, file), "w") as f:
        f.write("# made by tools/golden_selftest.py\n%s\n" % "\n".join("# " + s for s in head) + "\n".join(lines) + "\n")


def samplers(golden, out):
    """Of the cases that differ in nothing but their number of steps the one with the most."""
    cases = []
    for line in rows(golden, "sampler_solvers.txt"):
        if line.startswith("case "):
            cases.append([line])
        elif line.startswith(("at ", "end ")):
            cases[-1].append(line)
    best = {}
    for case in cases:
        w = case[0].split()
        key = tuple(w[1:5] + w[11:])
        if key not in best or int(w[5]) >= int(best[key][0].split()[5]):
            best[key] = case
    write_rows(out, "samplers.txt", [
        "case NAME CURVE SPACING PREDICTION STEPS COUNT NEXT SUM_T SUM_I_T SUM_SIGMA [SETTING=VALUE..]",
        "at I TIMESTEP SIGMA X.. E32", "end X.. E32        all as tools/golden_solvers.py explains"],
        [s for case in best.values() for s in case])


def bits32(word):
    return struct.unpack("<f", struct.pack("<I", int(word, 16)))[0]


def bits64(word):
    return struct.unpack("<d", struct.pack("<Q", int(word, 16)))[0]


def draw_line(spec, seed, n, bound, values):
    values = [(i, struct.unpack("<f", struct.pack("<f", x))[0]) for i, x in values]
    return "draw %s %s %d %g %s" % (spec, seed, n, bound, " ".join("%d %.9g" % v for v in values))


def generators(golden, out):
    lines = []
    for line in rows(golden, "rng.txt"):
        w = line.split()
        if w[0] == "draw":
            lines.append(draw_line("torch-cpu", w[1], int(w[2]), 0,
                                   [(i, bits32(x)) for i, x in enumerate(w[3:3 + GENERATOR_PLACES])]))
        if w[0] == "long" and int(w[2]) < 100000:
            n = int(w[2])
            lines.append(draw_line("torch-cpu", w[1], n, 0,
                                   [(i if i < 4 else n - 8 + i, bits32(x)) for i, x in enumerate(w[4:12])]))
    for line in rows(golden, "random_cuda.txt"):
        w = line.split()
        if w[0] == "computed" and w[4] == "1":
            spec = "torch-cuda" if w[2] == "0" else "torch-cuda:sms=%s,threads=%s" % (w[2], w[3])
            lines.append(draw_line(spec, w[1], int(w[5]), 1e-6,
                                   [(int(w[i]), float(w[i + 1])) for i in range(6, len(w) - 1, 2)]))
    for word, spec, bits in (("legacy", "numpy", bits64), ("pcg64", "numpy-pcg64", bits64),
                             ("pcg64_f32", "numpy-pcg64-f32", bits32)):
        for line in rows(golden, "random_numpy.txt"):
            w = line.split()
            if w[0] == word:
                values = [(i, bits(x)) for i, x in enumerate(w[4:4 + GENERATOR_PLACES])]
                lines.append(draw_line(spec, w[1], len(values), 0, values))
    lines += [s for s in rows(golden, "random_brownian.txt") if s.split()[0] in ("path", "increment")]
    write_rows(out, "generators.txt", [
        "draw GENERATOR SEED N BOUND [PLACE VALUE]..: one draw of N normals; BOUND 0: the same bits",
        "path ENTROPY T0 T1 N: a Brownian path; increment A B FNV1A [BITS]..: of it"], lines)


def tokens(golden, out):
    write_rows(out, "tokens.txt", ["style, pieces dropped, ids from BOS to EOS, string"], rows(golden, "tokenizer.txt"))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--golden", default="tests/golden")
    p.add_argument("--out", default="share/selftest")
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    for name, (title, config, cases) in MODELS.items():
        write_model(a.golden, a.out, name, title, config, cases)
    samplers(a.golden, a.out)
    generators(a.golden, a.out)
    tokens(a.golden, a.out)
    total = sum(os.path.getsize(os.path.join(a.out, f)) for f in os.listdir(a.out))
    print("%s: %d files, %.2f MB" % (a.out, len(os.listdir(a.out)), total / 1e6))


main()

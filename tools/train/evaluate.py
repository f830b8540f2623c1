#!/usr/bin/env python3
"""How good a model is, in numbers: a classifier (classifier.py) looks at the pictures it draws.

    python tools/train/evaluate.py weights/tiny --steps 25 --out run/eval

Draws the prompts of eval_prompts.json with this program (or, --with diffusers, with the stock pipeline) and prints how
often thing, colour and place are right, for each kind of prompt; once for all things and once for those the model was
trained on (MODEL/objects.txt, one name a line, or --objects). A colour or place counts where the prompt names one.
Then PSNR and SSIM of the VAE, and the Frechet distance between the classifier's features of drawn pictures and of the
compositor's. Choose guidance and steps with `--kinds tuning`, whose prompts are not among the others.
"""
import argparse
import concurrent.futures
import json
import os
import random
import subprocess
import time

import numpy as np
import torch
from PIL import Image, ImageDraw

from aligned import is_named
from classifier import HEADS, Judge, to_input
from common import to_tensor
from compositor import S
from labelled import Labelled, read_names

KINDS = ("level1", "seen", "held_out")
TITLES = {"level1": "level-1 prompts", "seen": "newcomer prompts", "held_out": "never-drawn pairs",
          "tuning": "tuning prompts"}
COLUMNS, CELL = 9, (136, 166)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="a directory in diffusers layout")
    parser.add_argument("--with", dest="drawn_with", choices=("program", "diffusers"), default="program")
    parser.add_argument("--program", default="./sd")
    parser.add_argument("--guidance", type=float, help="default: the model's own (_guidance_scale of its scheduler), else 7.5")
    parser.add_argument("--steps", type=int, help="default: the model's own (_steps of its scheduler), else 25")
    parser.add_argument("--sampler", help="of the program, a name of `sd samplers`; the model's own unless given")
    parser.add_argument("--seed", type=int, default=1, help="of the first picture; the next has the next")
    parser.add_argument("--objects", help="names of the things it was trained on (default: MODEL/objects.txt)")
    parser.add_argument("--only-trained", action="store_true", help="leave out prompts of other things")
    parser.add_argument("--kinds", default=",".join(KINDS), help="level1, seen, held_out, tuning")
    parser.add_argument("--limit", type=int, default=0, help="so many prompts of a kind at most")
    parser.add_argument("--classifier", default="run/classifier.pt")
    parser.add_argument("--data", default="run/data")
    parser.add_argument("--out", default="run/eval", help="directory of pictures, contact sheets and results.json")
    parser.add_argument("--vae-pictures", type=int, default=200, help="for PSNR and SSIM; 0: not measured")
    parser.add_argument("--reference", type=int, default=3000,
                        help="the compositor's pictures for the Frechet distance; 0: not measured")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="pictures at a time, each on one thread")
    return parser.parse_args()


def read_picture(path):
    return np.asarray(Image.open(path).convert("RGB"))


# ---------------------------------------------------------------------------------------------------- drawing

def draw_with_program(args, prompts):
    def draw(index):
        path = os.path.join(args.out, "%03d.png" % index)
        options = ["--sampling-method", args.sampler] if args.sampler else []
        subprocess.run([args.program, "-m", args.model, "-p", prompts[index]["prompt"], "-s", str(args.seed + index),
                        "--steps", str(args.steps), "--cfg-scale", str(args.guidance), "-W", str(S), "-H", str(S),
                        "-t", "1", "-q", "-o", path, *options], check=True, stdout=subprocess.DEVNULL)
        return read_picture(path)
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        return list(pool.map(draw, range(len(prompts))))


def stock_pipeline(args):
    from diffusers import DiffusionPipeline
    torch.set_num_threads(args.jobs)
    pipe = DiffusionPipeline.from_pretrained(args.model, torch_dtype=torch.float32, safety_checker=None,
                                             requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw_with_diffusers(args, prompts):
    pipe, images = stock_pipeline(args), []
    for at in range(0, len(prompts), 18):
        part = [p["prompt"] for p in prompts[at:at + 18]]
        seeds = [torch.Generator().manual_seed(args.seed + at + i) for i in range(len(part))]
        drawn = pipe(part, num_inference_steps=args.steps, guidance_scale=args.guidance, generator=seeds, height=S,
                     width=S, output_type="np").images
        images += list((drawn * 255).round().astype(np.uint8))
    for index, image in enumerate(images):
        Image.fromarray(image).save(os.path.join(args.out, "%03d.png" % index))
    return images


# ---------------------------------------------------------------------------------------------------- judging

@torch.no_grad()
def judge_all(judge, images):
    """-> for each picture its answers by head, and the features [N, 192]"""
    answers, features = [], []
    for at in range(0, len(images), 200):
        x = judge.features(to_input(np.stack(images[at:at + 200])))
        best = {head: judge.heads[head](x).argmax(1).tolist() for head in HEADS}
        answers += [{head: judge.labels[head][best[head][i]] for head in HEADS} for i in range(len(x))]
        features.append(x.double().numpy())
    return answers, np.concatenate(features)


def mark(prompt, answer):
    """Right or wrong for whatever the prompt asks; both: thing and place of one picture."""
    right = {"object": answer["object"] == prompt["object"]}
    if prompt["color"]:
        right["color"] = answer["color"] == prompt["color"]
    if prompt["places"]:
        right["place"] = answer["place"] in prompt["places"]
        if not prompt["places"][0].startswith("plain"):
            right["scene"] = right["place"]
        right["both"] = right["object"] and right["place"]
    return right


def summary(marks):
    result = {"pictures": len(marks)}
    for name in ("object", "color", "scene", "place", "both"):
        asked = [m[name] for m in marks if name in m]
        result[name] = {"right": sum(asked), "of": len(asked)}
    return result


def print_summary(title, result):
    def share(name):
        right, of = result[name]["right"], result[name]["of"]
        return "%5.1f%% (%3d/%3d)" % (100 * right / of, right, of) if of else "      -        "
    print("%-46s %s  %s  %s  %s  %s" % (title, *(share(n) for n in ("object", "color", "scene", "place", "both"))))


def frechet(a, b):
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)) of two sets of features [N, D] (Heusel et al. 2017, eq. 6)"""
    def root(m):
        values, vectors = np.linalg.eigh(m)
        return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root_a = root(cov_a)
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root_a @ cov_b @ root_a), 0)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def compositor_pictures(show, things, count, seed):
    rng = random.Random(seed)
    return [show.aligned(rng, rng.choice(things)).image for _ in range(count)]


# -------------------------------------------------------------------------------------------------------- VAE

def psnr(a, b):
    return 10 * np.log10(255 ** 2 / np.mean((a.astype(np.float64) - b) ** 2))


def ssim(a, b):
    """Structural similarity of the brightness, Gaussian window of 11 pixels, sigma 1.5 (Wang et al. 2004)"""
    window = np.exp(-np.arange(-5, 6) ** 2 / (2 * 1.5 ** 2))
    window /= window.sum()

    def smooth(x):
        for axis in (0, 1):
            x = np.apply_along_axis(np.convolve, axis, x, window, "valid")
        return x
    a, b = (x.astype(np.float64) @ [.299, .587, .114] for x in (a, b))
    mean_a, mean_b = smooth(a), smooth(b)
    var_a, var_b, cov = smooth(a * a) - mean_a ** 2, smooth(b * b) - mean_b ** 2, smooth(a * b) - mean_a * mean_b
    c1, c2 = (.01 * 255) ** 2, (.03 * 255) ** 2
    return float(np.mean((2 * mean_a * mean_b + c1) * (2 * cov + c2)
                         / ((mean_a ** 2 + mean_b ** 2 + c1) * (var_a + var_b + c2))))


def roundtrip_with_program(args, images):
    folder, back = os.path.join(args.out, "vae"), os.path.join(args.out, "vae-back")
    os.makedirs(folder, exist_ok=True)
    os.makedirs(back, exist_ok=True)
    names = ["%03d.png" % i for i in range(len(images))]
    for name, image in zip(names, images):
        Image.fromarray(image).save(os.path.join(folder, name))
    subprocess.run([args.program, "roundtrip", "-m", args.model, "-q", "-o", back,
                    *(os.path.join(folder, name) for name in names)], check=True, stdout=subprocess.DEVNULL)
    return [read_picture(os.path.join(back, name)) for name in names]


@torch.no_grad()
def roundtrip_with_diffusers(args, images):
    vae, back = stock_pipeline(args).vae, []
    for at in range(0, len(images), 20):
        y = vae.decode(vae.encode(to_tensor(images[at:at + 20])).latent_dist.mean).sample
        back += list(((y.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
    return back


# ------------------------------------------------------------------------------------------------------ sheet

def contact_sheet(path, prompts, images, marks):
    """Each picture above its prompt; below them green where thing, colour and place are right, else what is wrong."""
    width, height = CELL
    sheet = Image.new("RGB", (COLUMNS * width, -(-len(images) // COLUMNS) * height), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (prompt, image, right) in enumerate(zip(prompts, images, marks)):
        x, y = i % COLUMNS * width + 4, i // COLUMNS * height + 2
        sheet.paste(Image.fromarray(image), (x, y))
        line, at = "", y + S
        for word in prompt["prompt"].split():
            if pen.textlength(line + " " + word) > S:
                pen.text((x, at), line, fill="black")
                line, at = "", at + 11
            line = (line + " " + word).strip()
        pen.text((x, at), line, fill="black")
        wrong = [name for name in ("object", "color", "place") if right and not right.get(name, True)]
        if right:
            pen.text((x, at + 11), "wrong: " + ", ".join(wrong) if wrong else "right", fill="red" if wrong else "green")
    sheet.save(path)


def own_setting(model, name, otherwise):
    with open(os.path.join(model, "scheduler", "scheduler_config.json"), encoding="utf-8") as f:
        return json.load(f).get(name, otherwise)


def choose_prompts(args, trained):
    with open(os.path.join(args.data, "eval_prompts.json"), encoding="utf-8") as file:
        entries = json.load(file)
    chosen = []
    for kind in args.kinds.split(","):
        part = [p for p in entries if p["kind"] == kind
                and (not args.only_trained or "object" not in p or p["object"] in trained)]
        chosen += part[:args.limit or len(part)]
    return chosen


def main():
    args = arguments()
    os.makedirs(args.out, exist_ok=True)
    torch.set_num_threads(1)
    judge = Judge.load(args.classifier)
    args.guidance = args.guidance or own_setting(args.model, "_guidance_scale", 7.5)
    args.steps = args.steps or own_setting(args.model, "_steps", 25)
    own_list = os.path.join(args.model, "objects.txt")
    names = read_names(args.objects or (own_list if os.path.exists(own_list) else None))
    show = Labelled(args.data, level=2, pool=1, seed=1)
    things = [o for o in show.objs if names is None or is_named(o, names)]
    trained = {o["name"] for o in things}
    prompts = choose_prompts(args, trained)

    begin = time.time()
    images = (draw_with_program if args.drawn_with == "program" else draw_with_diffusers)(args, prompts)
    print("%s: %d pictures with %s, guidance %g, %d steps, %.0f s" % (
        args.model, len(images), args.drawn_with, args.guidance, args.steps, time.time() - begin), flush=True)

    answers, features = judge_all(judge, images)
    marks = [mark(p, a) if "object" in p else None for p, a in zip(prompts, answers)]
    results = {"model": args.model, "guidance": args.guidance, "steps": args.steps, "with": args.drawn_with}
    print("%-46s %-15s  %-15s  %-15s  %-15s  %-15s" % ("right", "object", "colour", "drawn scene", "scene or plain",
                                                       "object+place"))
    for kind in args.kinds.split(","):
        for title, among in (("all", None), ("trained", trained)):
            part = [m for p, m in zip(prompts, marks) if m and p["kind"] == kind
                    and (among is None or p["object"] in among)]
            if part:
                results[kind + ", " + title] = result = summary(part)
                print_summary("%s, %s things" % (TITLES[kind], title), result)

    one = [i for i, p in enumerate(prompts) if "object" in p and p["object"] in trained]
    if len(one) > 1 and args.reference:
        _, truth = judge_all(judge, compositor_pictures(show, things, args.reference, 1))
        results["frechet"] = distance = frechet(features[one], truth)
        results["frechet_floor"] = floor = frechet(truth, judge_all(
            judge, compositor_pictures(show, things, len(one), 2))[1])
        print("Frechet distance, %d drawn pictures of trained things to %d of the compositor: %.3f "
              "(as many of the compositor's own: %.3f)" % (len(one), args.reference, distance, floor))
    if args.vae_pictures:
        originals = compositor_pictures(show, things, args.vae_pictures, 3)
        back = (roundtrip_with_program if args.drawn_with == "program" else roundtrip_with_diffusers)(args, originals)
        pairs = list(zip(originals, back))
        results["psnr"], results["ssim"] = (float(np.mean([f(a, b) for a, b in pairs])) for f in (psnr, ssim))
        print("VAE, %d pictures: PSNR %.2f dB, SSIM %.4f" % (len(pairs), results["psnr"], results["ssim"]))

    shown = [i for i, p in enumerate(prompts) if p["kind"] == "seen"] or list(range(len(prompts)))
    for name, chosen in (("contact.png", shown), ("all.png", range(len(prompts)))):
        contact_sheet(os.path.join(args.out, name), *([x[i] for i in chosen] for x in (prompts, images, marks)))
    results["pictures"] = [{**p, "answer": a} for p, a in zip(prompts, answers)]
    with open(os.path.join(args.out, "results.json"), "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)
    print("contact sheets:", os.path.join(args.out, "contact.png"), os.path.join(args.out, "all.png"))


if __name__ == "__main__":
    main()

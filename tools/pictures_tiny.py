#!/usr/bin/env python3
"""Draws the contact sheets of docs/ that show what was distilled from the model in the box.

    python tools/pictures_tiny.py [--program ./sd] [--out docs]

  tiny-lcm.png     weights/tiny at its usual steps, beside weights/tiny-lcm at 4, 2 and 1
  tiny-taesd.png   the same latents decoded by the VAE and by weights/tiny-taesd, and four times their difference

The seconds are processor time of the whole program on one thread: the mean of a column's pictures, loading included.
"""
import argparse
import os
import resource
import subprocess
import tempfile

from PIL import Image, ImageChops, ImageDraw

PROMPTS = ("a red car on the road", "a castle in the mountains", "a penguin in the snow",
           "a pink elephant in the desert", "a sailboat on the sea at sunset",
           "a purple butterfly on a white background")
SIDE, GAP, HEAD = 128, 6, 30


def draw(a, folder, prompt, seed, *options):
    """A picture, and the processor time it took."""
    path = os.path.join(folder, "picture.png")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([a.program, "-p", prompt, "-s", str(seed), "-t", "1", "-q", "-o", path, *options], check=True,
                   stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Image.open(path).convert("RGB"), after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def column(a, title, *options):
    """Its title of two lines, and a picture for each prompt."""
    with tempfile.TemporaryDirectory() as folder:
        drawn = [draw(a, folder, prompt, 1 + k, *options) for k, prompt in enumerate(PROMPTS)]
    return "%s\n%.2f s" % (title, sum(s for _, s in drawn) / len(drawn)), [p for p, _ in drawn]


def sheet(path, columns):
    """Columns beside each other, a row for each prompt."""
    page = Image.new("RGB", (len(columns) * (SIDE + GAP) + GAP, HEAD + len(PROMPTS) * (SIDE + GAP) + GAP), "white")
    pen = ImageDraw.Draw(page)
    for i, (title, pictures) in enumerate(columns):
        x = GAP + i * (SIDE + GAP)
        pen.multiline_text((x, 2), title, fill="black", spacing=2)
        for k, picture in enumerate(pictures):
            page.paste(picture, (x, HEAD + GAP + k * (SIDE + GAP)))
    page.save(path, optimize=True)
    print(path, os.path.getsize(path), *(title.replace("\n", ": ") for title, _ in columns), sep="\n  ")


def few_steps(a):
    usual = column(a, "tiny, 25 steps", "-m", "weights/tiny", "--steps", "25")
    return [usual] + [column(a, "tiny-lcm, %d step%s" % (n, "s" * (n > 1)), "-m", "weights/tiny-lcm", "--steps", str(n))
                      for n in (4, 2, 1)]


def small_decoder(a):
    whole = column(a, "VAE", "-m", "weights/tiny", "--steps", "25")
    small = column(a, "tiny-taesd", "-m", "weights/tiny", "--steps", "25", "--taesd", "weights/tiny-taesd")
    difference = [ImageChops.difference(x, y).point(lambda v: min(255, 4 * v)) for x, y in zip(whole[1], small[1])]
    return [whole, small, ("difference x 4", difference)]


SHEETS = {"tiny-lcm": few_steps, "tiny-taesd": small_decoder}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--program", default="./sd")
    parser.add_argument("--out", default="docs")
    parser.add_argument("--only", choices=SHEETS, help="one of them")
    a = parser.parse_args()
    for name, columns in SHEETS.items():
        if a.only in (None, name):
            sheet(os.path.join(a.out, name + ".png"), columns(a))


if __name__ == "__main__":
    main()

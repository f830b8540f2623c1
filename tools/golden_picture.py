#!/usr/bin/env python3
"""Writes tests/golden/picture.txt, what tests/test_picture.c compares with: pictures and masks as Pillow, torch and
diffusers treat them.

    python tools/golden_picture.py [--out tests/golden/picture.txt]

A line is a word, whole numbers, and fields of bytes (two hexadecimal digits each):
  resize FILTER CHANNELS WIDTH HEIGHT WIDTH' HEIGHT'   in out   PIL.Image.resize; FILTER 0 nearest, 1 box, 2 lanczos
  crop   CHANNELS WIDTH HEIGHT WIDTH' HEIGHT'          in out   VaeImageProcessor(..).resize(resize_mode="crop")
  luma   WIDTH HEIGHT                                  in out   PIL.Image.convert("L")
  blur   WIDTH HEIGHT RADIUS*100                       in out   PIL.ImageFilter.GaussianBlur
  paste  WIDTH HEIGHT                                  base over mask out   PIL.Image.composite
  latent WIDTH HEIGHT WIDTH' HEIGHT'                   mask out (0 or 1)    torch interpolate(mode="nearest")
  region WIDTH HEIGHT X Y W H PAD WIDTH' HEIGHT' X1 Y1 X2 Y2
         VaeImageProcessor.get_crop_region of a mask of one rectangle
  float                                                out      VaeImageProcessor.preprocess of 0..255, as >f4
The order of the two passes of a resize changed in Pillow 13; the version used is written into the file.
"""
import argparse

import numpy as np
import PIL
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image, ImageFilter

FILTERS = [Image.NEAREST, Image.BOX, Image.LANCZOS]

# filter, channels, from, to. Of odd sides no centre falls between two pixels, where NEAREST depends on rounding errors.
RESIZES = [
    (2, 3, (7, 5), (13, 9)),     # larger
    (2, 3, (16, 12), (5, 4)),    # smaller: the filter has to widen
    (2, 3, (9, 3), (4, 8)),      # rows first
    (2, 3, (4, 9), (8, 3)),      # columns first
    (2, 3, (10, 20), (8, 6)),    # columns first, both smaller
    (2, 3, (10, 20), (4, 8)),    # rows first, by a hair
    (2, 4, (8, 6), (5, 9)),      # transparency
    (2, 4, (5, 9), (11, 4)),
    (2, 1, (12, 12), (5, 5)),
    (2, 1, (1, 1), (4, 3)),
    (2, 1, (40, 1), (3, 1)),
    (1, 3, (9, 7), (4, 3)),
    (1, 3, (5, 4), (11, 6)),
    (1, 4, (9, 9), (2, 2)),
    (0, 3, (7, 5), (4, 9)),
    (0, 4, (5, 3), (12, 2)),
]
CROPS = [(3, (13, 6), (8, 8)), (3, (6, 13), (8, 8)), (3, (9, 9), (16, 8)), (3, (11, 5), (5, 4)), (3, (5, 40), (9, 3))]
BLURS = [(9, 7, 0.3), (9, 7, 1.0), (12, 12, 2.5), (5, 16, 4.0), (17, 3, 8.25), (1, 1, 3.0), (30, 1, 20.0)]
# In the last two a float32 scale gives another pixel than exact arithmetic.
LATENTS = [((16, 24), (2, 3)), ((13, 9), (5, 4)), ((5, 4), (12, 9)), ((29, 31), (28, 30)), ((39, 26), (33, 22)),
           ((14, 2), (46, 1))]
REGIONS = [  # mask, rectangle, padding, size to work at
    ((64, 48), (10, 20, 9, 4), 0, (64, 64)), ((64, 48), (10, 20, 9, 4), 5, (64, 64)),
    ((64, 48), (0, 0, 3, 40), 2, (64, 64)), ((64, 48), (60, 44, 4, 4), 7, (128, 64)),
    ((64, 48), (1, 1, 62, 3), 0, (64, 128)), ((64, 48), (0, 0, 64, 48), 9, (512, 512)),
    ((33, 100), (5, 91, 4, 7), 1, (100, 37)), ((5, 5), (2, 2, 1, 1), 0, (8, 8)),
]


def picture(rng, size, channels):
    """Half of it noise, half black and white with sharp edges: what overshoots and is cut off shows."""
    width, height = size
    noise = rng.integers(0, 256, (height, width, channels))
    sharp = rng.integers(0, 2, (height, width, channels)) * 255
    a = np.where(rng.integers(0, 2, (height, width, 1)) > 0, noise, sharp).astype(np.uint8)
    return a[:, :, 0] if channels == 1 else a


def hexa(a):
    return np.ascontiguousarray(a).tobytes().hex()


def lines(rng):
    for f, channels, old, new in RESIZES:
        a = picture(rng, old, channels)
        yield "resize", f, channels, *old, *new, hexa(a), hexa(np.array(Image.fromarray(a).resize(new, FILTERS[f])))
    for channels, old, new in CROPS:
        a = picture(rng, old, channels)
        out = VaeImageProcessor().resize(Image.fromarray(a), new[1], new[0], resize_mode="crop")
        yield "crop", channels, *old, *new, hexa(a), hexa(np.array(out))
    a = picture(rng, (16, 12), 3)
    yield "luma", 16, 12, hexa(a), hexa(np.array(Image.fromarray(a).convert("L")))
    for width, height, radius in BLURS:
        a = picture(rng, (width, height), 1)
        out = Image.fromarray(a).filter(ImageFilter.GaussianBlur(radius))
        yield "blur", width, height, round(radius * 100), hexa(a), hexa(np.array(out))
    base, over, mask = picture(rng, (11, 9), 3), picture(rng, (11, 9), 3), picture(rng, (11, 9), 1)
    out = Image.composite(Image.fromarray(over), Image.fromarray(base), Image.fromarray(mask))
    yield "paste", 11, 9, hexa(base), hexa(over), hexa(mask), hexa(np.array(out))
    for old, new in LATENTS:
        a = picture(rng, old, 1)
        binary = torch.from_numpy((a / 255 >= 0.5).astype(np.float32))[None, None]
        out = torch.nn.functional.interpolate(binary, size=new[::-1])
        yield "latent", *old, *new, hexa(a), hexa(out.numpy().astype(np.uint8))
    for size, (x, y, w, h), pad, work in REGIONS:
        a = np.zeros(size[::-1], np.uint8)
        a[y:y + h, x:x + w] = 1
        found = VaeImageProcessor.get_crop_region(Image.fromarray(a), *work, pad)
        yield "region", *size, x, y, w, h, pad, *work, *found
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    out = VaeImageProcessor(do_resize=False).preprocess(Image.fromarray(ramp))[0, 0].numpy()
    yield "float", hexa(out.astype(">f4"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="tests/golden/picture.txt")
    out = parser.parse_args().out
    with open(out, "w") as f:
        print(f"# made by tools/golden_picture.py with Pillow {PIL.__version__}", file=f)
        for line in lines(np.random.default_rng(4)):
            print(*line, file=f)


if __name__ == "__main__":
    main()

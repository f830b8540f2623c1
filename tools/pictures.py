#!/usr/bin/env python3
"""Draws docs/tasks.png with the program and the model in the box: a picture, and what each task makes of it.

    python3 tools/pictures.py [--program ./sd] [--out docs/tasks.png]

Needs nothing but Python. From left to right: text to image; image to image with another text; the mask; inpainting;
outpainting.
"""
import argparse
import os
import struct
import subprocess
import tempfile
import zlib

SIDE, GAP = 128, 8
PROMPT, OTHER = "a red apple on a blue background", "a red apple on a yellow background"


def sd(program, *arguments):
    subprocess.run([program, "-q", "-s", "5", *arguments], check=True, stdout=subprocess.DEVNULL)


def read_ppm(path):
    """(width, height, rows of bytes)"""
    with open(path, "rb") as f:
        kind, size, _, data = f.read().split(b"\n", 3)
    assert kind == b"P6", path
    w, h = map(int, size.split())
    return w, h, [data[3 * w * y:3 * w * (y + 1)] for y in range(h)]


def beside(pictures):
    """One row of pictures on white, all of one height."""
    height = max(h for _, h, _ in pictures)
    rows = []
    for y in range(height):
        row = b""
        for w, h, lines in pictures:
            top = (height - h) // 2
            row += (lines[y - top] if top <= y < top + h else b"\xff" * (3 * w)) + b"\xff" * (3 * GAP)
        rows.append(row[:-3 * GAP])
    return rows


def write_png(path, rows):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", len(rows[0]) // 3, len(rows), 8, 2, 0, 0, 0)
    with open(path, "wb") as f:
        data = zlib.compress(b"".join(b"\0" + r for r in rows), 9)
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--program", default="./sd")
    parser.add_argument("--out", default=os.path.join("docs", "tasks.png"))
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as d:
        names = ("first", "changed", "mask", "inpainted", "outpainted")
        first, changed, mask, inpainted, outpainted = [os.path.join(d, n + ".ppm") for n in names]
        with open(mask, "wb") as f:   # most of the right half
            inside = [[56 <= x < 120 and 8 <= y < 120 for x in range(SIDE)] for y in range(SIDE)]
            f.write(b"P6\n%d %d\n255\n" % (SIDE, SIDE))
            f.write(bytes(255 * v for row in inside for v in row for _ in range(3)))
        sd(a.program, "-p", PROMPT, "-o", first)
        sd(a.program, "-p", OTHER, "-i", first, "--strength", "0.8", "-o", changed)
        sd(a.program, "-p", PROMPT, "-s", "8", "-i", first, "--mask", mask, "-o", inpainted)
        sd(a.program, "-p", PROMPT, "-i", first, "--outpaint", "40,0,40,0", "-o", outpainted)
        write_png(a.out, beside([read_ppm(p) for p in (first, changed, mask, inpainted, outpainted)]))


if __name__ == "__main__":
    main()

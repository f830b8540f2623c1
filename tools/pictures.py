#!/usr/bin/env python3
"""Draws the README's rows of pictures with the program and the model in the box. `make pictures` runs it.

    python3 tools/pictures.py [--program ./sd] [--model DIR] [--out docs]

Needs nothing but Python. The files, each from left to right:

  img2img.png       a picture; with another text and more and more strength
  inpainting.png    a picture; the mask; other things in its place
  outpainting.png   a picture; wider; larger on all sides
  roundtrip.png     a picture that no network has drawn; its latents' four channels; what the decoder makes of them
"""
import argparse
import json
import os
import struct
import subprocess
import tempfile
import zlib

SIDE, GAP = 128, 8
CAR, NIGHT, STRENGTHS = "a red car on the road", "a blue car in the city at night", (0.1, 0.2, 0.3, 0.5, 0.8)
SNOWMAN, OTHERS = "a snowman in winter", ("a penguin in the snow", "a dog in the snow", "an owl in the snow")
CASTLE = "a castle in the mountains"


# ------------------------------------------------------------------------- pictures: (width, height, rows of bytes)

def read_ppm(path):
    with open(path, "rb") as f:
        kind, size, _, data = f.read().split(b"\n", 3)
    assert kind == b"P6", path
    w, h = map(int, size.split())
    return w, h, [data[3 * w * y:3 * w * (y + 1)] for y in range(h)]


def write_ppm(path, picture):
    w, h, rows = picture
    with open(path, "wb") as f:
        f.write(b"P6\n%d %d\n255\n" % (w, h) + b"".join(rows))


def by_formula(width, height, colour):
    """colour(x, y): three numbers of 0 to 255"""
    return width, height, [bytes(int(v) for x in range(width) for v in colour(x, y)) for y in range(height)]


def oval(x, y):
    """White in the middle: where the snowman stands."""
    return 3 * (255 * ((x - 64) ** 2 / 46 ** 2 + (y - 68) ** 2 / 58 ** 2 < 1),)


def landscape(x, y):
    """A house before hills, with sharp edges, thin lines and slopes."""
    if 40 <= x < 88 and 64 <= y < 104:
        if 58 <= x < 70 and y >= 82:
            return 90, 50, 30
        if 68 <= y < 80 and (46 <= x < 56 or 72 <= x < 82):
            return (250, 220, 120) if x % 5 and y % 6 else (60, 40, 30)
        return (200, 90, 70) if y % 4 else (150, 60, 50)
    if 40 <= y < 64 and abs(x - 64) < 1.4 * (y - 40):
        return 80, 40, 90
    if (x - 104) ** 2 + (y - 24) ** 2 < 144:
        return 255, 220, 60
    hill = 70 + (x - 30) ** 2 // 160 if x < 75 else 82 + (x - 110) ** 2 // 90
    return (60 + y // 3, 190 - y // 2, 60) if y > hill else (90 + y, 160 + y // 2, 250)


def beside(pictures):
    """One row of pictures on white."""
    height, rows = max(h for _, h, _ in pictures), []
    for y in range(height):
        row = b""
        for w, h, lines in pictures:
            top = (height - h) // 2
            row += (lines[y - top] if top <= y < top + h else b"\xff" * (3 * w)) + b"\xff" * (3 * GAP)
        rows.append(row[:-3 * GAP])
    return len(rows[0]) // 3, height, rows


def write_png(path, picture):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    w, h, rows = picture
    header = struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)
    filtered = []   # each byte less the one of the pixel before it (filter 1), which deflates better
    for row in rows:
        filtered.append(b"\1" + bytes((v - u) & 255 for v, u in zip(row, b"\0\0\0" + row)))
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"".join(filtered), 9)) +
                chunk(b"IEND", b""))


def channels_of(path, name):
    """A tensor [1,4,h,w] of a safetensors file, two channels above two, grey from -2.5 to 2.5 deviations."""
    with open(path, "rb") as f:
        about = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))[name]
        data = f.read()[slice(*about["data_offsets"])]
    _, n, h, w = about["shape"]
    x = struct.unpack("<%df" % (n * h * w), data)
    grey = []
    for k in range(n):
        part = x[k * h * w:(k + 1) * h * w]
        mean = sum(part) / len(part)
        deviation = (sum((v - mean) ** 2 for v in part) / len(part)) ** 0.5 or 1
        grey.append([min(max(127.5 + 51 * (v - mean) / deviation, 0), 255) for v in part])
    size = SIDE // 2 // h   # pixels of a latent

    def colour(px, py):
        k, cell = 2 * (py // (SIDE // 2)) + px // (SIDE // 2), (py // size % h) * w + px // size % w
        return 3 * (grey[k][cell],)
    return by_formula(SIDE, SIDE, colour)


# ------------------------------------------------------------------------------------------------ the rows

class Studio:
    """The program, and a folder for what it draws."""

    def __init__(self, a, folder):
        self.command, self.folder, self.drawn = [a.program], folder, 0
        self.model = ["-m", a.model] if a.model else []

    def path(self, name):
        return os.path.join(self.folder, name)

    def run(self, *arguments):
        subprocess.run([*self.command, *arguments, *self.model, "-q"], check=True, stdout=subprocess.DEVNULL)

    def draw(self, prompt, seed, *arguments):
        """The path of the picture."""
        self.drawn += 1
        path = self.path("%d.ppm" % self.drawn)
        self.run("-p", prompt, "-s", str(seed), "-o", path, *arguments)
        return path


def image_to_image(s):
    first = s.draw(CAR, 3)
    return [first] + [s.draw(NIGHT, 7, "-i", first, "--strength", str(v)) for v in STRENGTHS]


def inpainting(s):
    first, mask = s.draw(SNOWMAN, 2), s.path("mask.ppm")
    write_ppm(mask, by_formula(SIDE, SIDE, oval))
    return [first, mask] + [s.draw(other, 3, "-i", first, "--mask", mask) for other in OTHERS]


def outpainting(s):
    snowman, castle = s.draw(SNOWMAN, 2), s.draw(CASTLE, 4)
    return [snowman, s.draw(SNOWMAN, 1, "-i", snowman, "--outpaint", "48,0,48,0"),
            castle, s.draw(CASTLE, 2, "-i", castle, "--outpaint", "32,32,32,16")]


def round_trip(s):
    first, latents, grey, back = [s.path(n) for n in ("first.ppm", "first.safetensors", "grey.ppm", "back.ppm")]
    write_ppm(first, by_formula(SIDE, SIDE, landscape))
    s.run("encode", first, "-s", "0", "-o", latents)
    write_ppm(grey, channels_of(latents, "latents"))
    s.run("decode", latents, "-o", back)
    return [first, grey, back]


ROWS = {"img2img": image_to_image, "inpainting": inpainting, "outpainting": outpainting, "roundtrip": round_trip}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--program", default="./sd")
    parser.add_argument("--model", help="a model's directory and not the program's default")
    parser.add_argument("--out", default="docs")
    a = parser.parse_args()
    for name, row in ROWS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(a.out, name + ".png")
            write_png(path, beside([read_ppm(p) for p in row(Studio(a, folder))]))
            print(path, os.path.getsize(path))


if __name__ == "__main__":
    main()

"""Procedural backgrounds: every function draws one picture (256 x 256, halved later for smooth edges)."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

W = 256


def jit(rng, c, k=12):
    return tuple(int(min(255, max(0, x + rng.integers(-k, k + 1)))) for x in c)


def mix(a, b, t):
    return tuple(int(a[i] + (b[i] - a[i]) * t) for i in range(3))


def vgrad(stops):
    """stops: [(y 0..1, colour)]"""
    y = np.linspace(0, 1, W)
    a = np.stack([np.interp(y, [s[0] for s in stops], [s[1][i] for s in stops]) for i in range(3)], -1)
    return Image.fromarray(np.repeat(a[:, None], W, 1).astype(np.uint8))


def curve(rng, y, amp, n=3):
    x = np.arange(0, W + 4, 4)
    v = np.full(x.shape, float(y))
    for i in range(n):
        v += amp / (i + 1) * np.sin(x / W * 2 * np.pi * (0.4 + 0.6 * i + 0.5 * rng.random()) + rng.random() * 6.3)
    return x, v


def hill(d, rng, y, amp, col, n=3):
    x, v = curve(rng, y, amp, n)
    d.polygon([(0, W)] + list(zip(x.tolist(), v.tolist())) + [(W, W)], fill=col)
    return v


def peaks(d, rng, ybase, h, col, snow, n):
    xs = np.sort(rng.uniform(-30, W + 30, n))
    xs = np.linspace(-10, W + 10, n) + rng.uniform(-18, 18, n)
    for x in rng.permutation(xs):
        hh = h * rng.uniform(0.65, 1.1)
        w = hh * rng.uniform(0.75, 1.05)
        top = (x, ybase - hh)
        d.polygon([(x - w, ybase), top, (x + w, ybase)], fill=col)
        d.polygon([top, (x + w, ybase), (x + w * 0.15, ybase)], fill=mix(col, (20, 20, 50), 0.18))
        if snow:
            k = 0.34
            p = [
                top,
                (x + w * k, ybase - hh * (1 - k)),
                (x + w * k * 0.45, ybase - hh * (1 - k * 0.72)),
                (x, ybase - hh * (1 - k * 1.1)),
                (x - w * k * 0.5, ybase - hh * (1 - k * 0.75)),
                (x - w * k, ybase - hh * (1 - k)),
            ]
            d.polygon(p, fill=snow)


def cloud(d, x, y, s, col):
    for dx, dy, r in ((-1.1, 0.15, 0.55), (-0.45, -0.25, 0.7), (0.35, -0.12, 0.62), (1.0, 0.18, 0.5)):
        d.ellipse([x + (dx - r) * s, y + (dy - r) * s, x + (dx + r) * s, y + (dy + r) * s], fill=col)
    d.rounded_rectangle([x - 1.6 * s, y + 0.1 * s, x + 1.45 * s, y + 0.68 * s], radius=0.3 * s, fill=col)


def clouds(d, rng, n, ymax, col=(255, 255, 255), smin=9, smax=20):
    for _ in range(n):
        cloud(d, rng.uniform(0, W), rng.uniform(15, ymax), rng.uniform(smin, smax), jit(rng, col, 3))


def sun(im, rng, x, y, r, col=(255, 240, 170), glow=2.4):
    m = Image.new('L', (W, W), 0)
    ImageDraw.Draw(m).ellipse([x - r * glow, y - r * glow, x + r * glow, y + r * glow], fill=110)
    m = m.filter(ImageFilter.GaussianBlur(r * 0.6))
    im.paste(Image.new('RGB', (W, W), col), (0, 0), m)
    ImageDraw.Draw(im).ellipse([x - r, y - r, x + r, y + r], fill=col)


def stars(d, rng, n, ymax=W, cols=((255, 255, 255), (255, 245, 200), (210, 225, 255))):
    for _ in range(n):
        x, y, r = rng.uniform(0, W), rng.uniform(0, ymax), rng.choice([1.4, 1.8, 2.2, 2.8])
        d.ellipse([x - r, y - r, x + r, y + r], fill=cols[rng.integers(len(cols))])


def conifer(d, x, y, h, col):
    d.rectangle([x - h * 0.045, y - h * 0.15, x + h * 0.045, y], fill=(92, 64, 44))
    for i in range(3):
        w = h * (0.30 - 0.07 * i)
        yy = y - h * (0.12 + 0.26 * i)
        d.polygon([(x - w, yy), (x, yy - h * 0.42), (x + w, yy)], fill=mix(col, (255, 255, 255), 0.05 * i))


def roundtree(d, rng, x, y, h, col):
    d.rectangle([x - h * 0.06, y - h * 0.45, x + h * 0.06, y], fill=(105, 74, 50))
    for dx, dy, r in ((-0.2, -0.55, 0.24), (0.2, -0.55, 0.24), (0, -0.74, 0.27), (0, -0.5, 0.24)):
        d.ellipse(
            [x + (dx - r) * h, y + (dy - r) * h, x + (dx + r) * h, y + (dy + r) * h],
            fill=mix(col, (255, 255, 255), 0.06 if dy < -0.6 else 0),
        )


def flowers(d, rng, n, y0, y1):
    for _ in range(n):
        y = rng.uniform(y0, y1)
        x, r = rng.uniform(0, W), 1.6 + 2.2 * (y - y0) / max(1, y1 - y0)
        c = [(255, 255, 255), (255, 220, 80), (240, 110, 140), (190, 120, 230), (240, 90, 70)][rng.integers(5)]
        d.ellipse([x - r, y - r, x + r, y + r], fill=c)


def sky(rng, top=(80, 165, 235), bot=(200, 232, 250)):
    k = 14
    return vgrad([(0, jit(rng, top, k)), (0.75, jit(rng, bot, 8)), (1, bot)])


def meadow(rng):
    im = sky(rng)
    d = ImageDraw.Draw(im)
    if rng.random() < 0.4:
        sun(im, rng, rng.uniform(25, 230), rng.uniform(25, 55), rng.uniform(13, 18), (255, 225, 90))
    clouds(d, rng, rng.integers(1, 4), 75)
    y = rng.uniform(125, 150)
    hill(d, rng, y, 12, jit(rng, (150, 205, 110)))
    hill(d, rng, y + 25, 9, jit(rng, (122, 190, 84)))
    hill(d, rng, y + 52, 7, jit(rng, (98, 172, 66)))
    flowers(d, rng, rng.integers(0, 22), y + 66, W)
    return im


def beach(rng):
    im = sky(rng, (70, 165, 235), (190, 232, 248))
    d = ImageDraw.Draw(im)
    if rng.random() < 0.5:
        sun(im, rng, rng.uniform(25, 230), rng.uniform(25, 50), rng.uniform(13, 18), (255, 228, 100))
    clouds(d, rng, rng.integers(0, 3), 60)
    y = rng.uniform(105, 125)
    a, b = jit(rng, (30, 130, 195)), jit(rng, (90, 205, 215))
    for i in range(40):
        d.rectangle([0, y + i * 1.5, W, W + 40], fill=mix(a, b, i / 39))
    for _ in range(8):
        x, yy = rng.uniform(0, W), rng.uniform(y + 6, y + 45)
        d.line([x, yy, x + rng.uniform(12, 34), yy], fill=(225, 245, 250), width=2)
    ys = y + rng.uniform(45, 60)
    hill(d, rng, ys - 4, 4, (240, 250, 250))
    hill(d, rng, ys + 2, 4, jit(rng, (246, 220, 160), 8))
    hill(d, rng, ys + 35, 5, jit(rng, (238, 206, 140), 8))
    return im


def underwater(rng):
    im = vgrad([(0, jit(rng, (70, 185, 225))), (0.6, jit(rng, (25, 115, 185))), (1, jit(rng, (12, 66, 130)))])
    ov = Image.new('L', (W, W), 0)
    o = ImageDraw.Draw(ov)
    for _ in range(rng.integers(2, 5)):
        x = rng.uniform(0, W)
        o.polygon(
            [(x, 0), (x + rng.uniform(14, 30), 0), (x + rng.uniform(40, 90), 210), (x - rng.uniform(0, 30), 210)],
            fill=38,
        )
    im.paste((255, 255, 255), (0, 0), ov.filter(ImageFilter.GaussianBlur(7)))
    d = ImageDraw.Draw(im)
    hill(d, rng, rng.uniform(215, 228), 5, jit(rng, (205, 185, 130)))
    for _ in range(rng.integers(1, 6)):
        x, h, c = rng.uniform(5, W - 5), rng.uniform(30, 80), jit(rng, (40, 150, 95), 20)
        ph = rng.random() * 6
        pts = [(x + 6 * np.sin(ph + t / 9), 238 - t) for t in np.arange(0, h, 4)]
        d.line(pts, fill=c, width=7, joint='curve')
    for _ in range(rng.integers(5, 16)):
        x, y, r = rng.uniform(0, W), rng.uniform(5, 200), rng.uniform(2, 6)
        d.ellipse([x - r, y - r, x + r, y + r], outline=(205, 238, 250), width=2)
    return im


def night(rng):
    im = vgrad([(0, jit(rng, (10, 16, 48), 6)), (0.8, jit(rng, (38, 54, 112))), (1, jit(rng, (60, 76, 136)))])
    d = ImageDraw.Draw(im)
    stars(d, rng, rng.integers(28, 52), 190)
    if rng.random() < 0.6:
        x, y, r = rng.uniform(30, 226), rng.uniform(28, 62), rng.uniform(15, 22)
        sun(im, rng, x, y, r, (252, 244, 205), 1.5)
        d = ImageDraw.Draw(im)
        if rng.random() < 0.5:
            d.ellipse([x - r * 0.35, y - r * 1.15, x + r * 1.5, y + r * 0.8], fill=im.getpixel((int(x), 2)))
    hill(d, rng, rng.uniform(196, 212), 8, jit(rng, (22, 40, 62), 6))
    hill(d, rng, rng.uniform(222, 232), 6, jit(rng, (15, 30, 44), 5))
    return im


def space(rng):
    base = [(14, 10, 38), (8, 12, 34), (24, 10, 44), (6, 8, 22)][rng.integers(4)]
    a = np.zeros((W, W, 3), np.float32) + base
    yy, xx = np.mgrid[0:W, 0:W]
    for _ in range(rng.integers(2, 5)):
        cx, cy, sx, sy = rng.uniform(0, W), rng.uniform(0, W), rng.uniform(35, 90), rng.uniform(35, 90)
        c = np.array([(120, 40, 160), (40, 70, 180), (190, 50, 120), (30, 130, 150)][rng.integers(4)], np.float32)
        a += np.exp(-(((xx - cx) / sx) ** 2 + ((yy - cy) / sy) ** 2))[..., None] * c * rng.uniform(0.35, 0.75)
    im = Image.fromarray(np.clip(a, 0, 255).astype(np.uint8))
    d = ImageDraw.Draw(im)
    stars(d, rng, rng.integers(35, 65))
    if rng.random() < 0.35:
        x, y, r = rng.uniform(20, 236), rng.choice([rng.uniform(15, 50), rng.uniform(205, 240)]), rng.uniform(10, 20)
        c = jit(rng, [(210, 120, 80), (110, 160, 220), (200, 180, 120), (150, 110, 190)][rng.integers(4)])
        d.ellipse([x - r, y - r, x + r, y + r], fill=mix(c, (0, 0, 0), 0.45))
        d.ellipse([x - r, y - r, x + r * 0.7, y + r * 0.75], fill=c)
    return im


def moon(rng):
    im = vgrad([(0, (5, 6, 16)), (1, (20, 20, 40))])
    d = ImageDraw.Draw(im)
    stars(d, rng, rng.integers(28, 52), 190)
    if rng.random() < 0.7:
        x, y, r = rng.uniform(35, 221), rng.uniform(30, 60), rng.uniform(16, 24)
        d.ellipse([x - r, y - r, x + r, y + r], fill=(45, 120, 215))
        for _ in range(4):
            a, b, q = x + rng.uniform(-0.5, 0.5) * r, y + rng.uniform(-0.5, 0.5) * r, rng.uniform(0.2, 0.4) * r
            d.ellipse([a - q, b - q * 0.7, a + q, b + q * 0.7], fill=(80, 180, 95))
    y = rng.uniform(165, 180)
    hill(d, rng, y, 8, jit(rng, (150, 150, 156), 8))
    hill(d, rng, y + 28, 6, jit(rng, (176, 176, 182), 8))
    for _ in range(rng.integers(4, 9)):
        x, yy, r = rng.uniform(0, W), rng.uniform(y + 30, W - 4), rng.uniform(6, 16)
        d.ellipse([x - r, yy - r * 0.4, x + r, yy + r * 0.4], fill=(134, 134, 142))
        d.ellipse([x - r * 0.85, yy - r * 0.2, x + r * 0.9, yy + r * 0.4], fill=(158, 158, 166))
    return im


def sunset(rng):
    p = [
        ((92, 52, 130), (236, 98, 92), (255, 186, 92)),
        ((60, 60, 140), (240, 120, 110), (255, 205, 120)),
        ((170, 60, 90), (250, 120, 60), (255, 210, 90)),
    ][rng.integers(3)]
    im = vgrad([(0, jit(rng, p[0])), (0.45, jit(rng, p[1])), (0.78, jit(rng, p[2], 8)), (1, p[2])])
    x, y = rng.uniform(50, 206), rng.uniform(135, 165)
    sun(im, rng, x, y, rng.uniform(22, 32), (255, 232, 150), 1.9)
    d = ImageDraw.Draw(im)
    if rng.random() < 0.6:
        clouds(d, rng, rng.integers(1, 4), 90, mix(p[1], (255, 255, 255), 0.35), 7, 15)
    c = mix(p[0], (20, 10, 40), 0.6)
    if rng.random() < 0.5:
        hill(d, rng, 178, 8, mix(c, p[1], 0.3))
        hill(d, rng, 204, 6, c)
    else:
        a, b = mix(p[1], (60, 30, 90), 0.45), mix(p[0], (20, 10, 50), 0.5)
        for i in range(30):
            d.rectangle([0, 176 + i * 2.7, W, W + 40], fill=mix(a, b, i / 29))
        for i in range(9):
            yy = 180 + i * 7
            w = (30 - i * 2) * rng.uniform(0.6, 1.1)
            d.line([x - w, yy, x + w, yy], fill=(255, 220, 140), width=3)
    return im


def snow(rng):
    im = vgrad([(0, jit(rng, (150, 190, 225))), (0.7, jit(rng, (218, 232, 244), 6)), (1, (235, 242, 250))])
    d = ImageDraw.Draw(im)
    y = rng.uniform(140, 160)
    hill(d, rng, y - 8, 10, jit(rng, (205, 220, 236), 5))
    for _ in range(rng.integers(1, 6)):
        xx, h = rng.uniform(0, W), rng.uniform(38, 66)
        conifer(d, xx, y + rng.uniform(4, 16), h, jit(rng, (70, 120, 105)))
    hill(d, rng, y + 14, 6, jit(rng, (232, 240, 248), 4))
    hill(d, rng, y + 50, 5, (246, 250, 255))
    for _ in range(rng.integers(28, 60)):
        x, yy, r = rng.uniform(0, W), rng.uniform(0, W), rng.uniform(1.3, 3)
        d.ellipse([x - r, yy - r, x + r, yy + r], fill=(255, 255, 255))
    return im


def desert(rng):
    im = vgrad([(0, jit(rng, (95, 180, 235))), (0.6, jit(rng, (250, 226, 176), 8)), (1, (250, 226, 176))])
    if rng.random() < 0.7:
        sun(im, rng, rng.uniform(25, 230), rng.uniform(25, 65), rng.uniform(14, 19), (255, 236, 140))
    d = ImageDraw.Draw(im)
    y = rng.uniform(128, 148)
    hill(d, rng, y, 15, jit(rng, (236, 190, 116)))
    hill(d, rng, y + 28, 11, jit(rng, (226, 172, 94)))
    hill(d, rng, y + 58, 8, jit(rng, (214, 156, 78)))
    if rng.random() < 0.5:
        for _ in range(rng.integers(1, 3)):
            x, yy, h = rng.uniform(15, 241), y + rng.uniform(25, 40), rng.uniform(24, 40)
            c = jit(rng, (70, 140, 80))
            w = h * 0.13
            d.rounded_rectangle([x - w, yy - h, x + w, yy], radius=w, fill=c)
            for s in (-1, 1):
                d.line(
                    [x, yy - h * 0.4, x + s * h * 0.38, yy - h * 0.4, x + s * h * 0.38, yy - h * 0.75],
                    fill=c,
                    width=int(w * 1.5),
                    joint='curve',
                )
    return im


def forest(rng):
    im = vgrad([(0, jit(rng, (175, 220, 225))), (0.7, jit(rng, (205, 232, 200))), (1, (190, 220, 170))])
    d = ImageDraw.Draw(im)
    for row, (yb, h, col) in enumerate(
        ((150, 95, (120, 170, 135)), (172, 115, (74, 134, 92)), (196, 128, (44, 104, 66)))
    ):
        hill(d, rng, yb - 8, 5, mix(col, (120, 180, 90), 0.4))
        n = 9 - row * 2
        for i in rng.permutation(n):
            x = (i + 0.5) * W / n + rng.uniform(-12, 12)
            if rng.random() < 0.75:
                conifer(d, x, yb + rng.uniform(-4, 4), h * rng.uniform(0.8, 1.15), jit(rng, col, 8))
            else:
                roundtree(
                    d,
                    rng,
                    x,
                    yb + rng.uniform(-4, 4),
                    h * rng.uniform(0.7, 0.95),
                    jit(rng, mix(col, (120, 180, 60), 0.3), 8),
                )
    hill(d, rng, 196, 5, jit(rng, (96, 152, 70)))
    hill(d, rng, 222, 4, jit(rng, (80, 134, 58)))
    return im


def mountains(rng):
    im = sky(rng, (95, 160, 225), (215, 234, 246))
    d = ImageDraw.Draw(im)
    clouds(d, rng, rng.integers(0, 3), 50)
    peaks(d, rng, 178, rng.uniform(90, 125), jit(rng, (138, 152, 182)), (246, 250, 255), 4)
    if rng.random() < 0.7:
        peaks(d, rng, 182, rng.uniform(50, 75), jit(rng, (108, 128, 158)), (238, 244, 252), 5)
    g = jit(rng, (110, 170, 90))
    hill(d, rng, 172, 6, g)
    hill(d, rng, 204, 5, mix(g, (50, 110, 50), 0.35))
    return im


def buildings(d, rng, ybase, cols, lit, hmin=40, hmax=130):
    x = -rng.uniform(0, 20)
    while x < W:
        w, h = rng.uniform(24, 44), rng.uniform(hmin, hmax)
        c = jit(rng, cols[rng.integers(len(cols))], 10)
        d.rectangle([x, ybase - h, x + w, ybase], fill=c)
        if rng.random() < 0.2:
            d.polygon([(x, ybase - h), (x + w / 2, ybase - h - 12), (x + w, ybase - h)], fill=c)
        nx = max(2, int(w // 10))
        for iy in range(int((h - 8) // 13)):
            for ix in range(nx):
                wx = x + (ix + 0.5) * w / nx
                wy = ybase - h + 8 + iy * 13
                if lit:
                    f = (255, 222, 120) if rng.random() < 0.6 else mix(c, (0, 0, 0), 0.3)
                else:
                    f = mix(c, (255, 255, 255), 0.5)
                d.rectangle([wx - 2.6, wy, wx + 2.6, wy + 6], fill=f)
        x += w + rng.choice([0, 2, 5])


def street(d, rng, y, night_=False):
    d.rectangle([0, y - 10, W, W], fill=(96, 98, 112) if night_ else jit(rng, (196, 196, 196), 6))
    d.rectangle([0, y + 4, W, W], fill=(48, 50, 62) if night_ else jit(rng, (110, 112, 120), 6))
    ym = (y + 4 + W) / 2 + 4
    o = rng.uniform(0, 40)
    for i in range(-1, 8):
        d.rectangle([i * 40 + o, ym - 2, i * 40 + o + 22, ym + 2], fill=(240, 236, 210))


def city(rng):
    im = sky(rng, (110, 180, 235), (214, 234, 246))
    d = ImageDraw.Draw(im)
    clouds(d, rng, rng.integers(0, 3), 55)
    buildings(d, rng, 200, [(170, 190, 212), (160, 178, 200)], False, 80, 150)
    buildings(
        d,
        rng,
        202,
        [(205, 120, 96), (120, 140, 176), (222, 190, 140), (150, 160, 170), (186, 140, 120)],
        False,
        35,
        105,
    )
    street(d, rng, 208)
    return im


def citynight(rng):
    im = vgrad([(0, jit(rng, (12, 16, 46), 6)), (0.8, jit(rng, (58, 50, 110))), (1, (80, 60, 120))])
    d = ImageDraw.Draw(im)
    stars(d, rng, 35, 120)
    if rng.random() < 0.5:
        sun(im, rng, rng.uniform(30, 226), rng.uniform(26, 50), rng.uniform(13, 18), (252, 244, 205), 1.5)
        d = ImageDraw.Draw(im)
    buildings(d, rng, 200, [(40, 44, 84), (34, 38, 74)], True, 80, 145)
    buildings(d, rng, 202, [(28, 30, 58), (46, 36, 66), (24, 34, 56)], True, 35, 100)
    street(d, rng, 208, True)
    return im


def room(rng):
    wall = jit(
        rng, [(244, 226, 196), (200, 222, 232), (226, 210, 230), (214, 230, 204), (246, 214, 204)][rng.integers(5)], 8
    )
    im = vgrad([(0, mix(wall, (255, 255, 255), 0.15)), (1, mix(wall, (0, 0, 0), 0.06))])
    d = ImageDraw.Draw(im)
    if rng.random() < 0.35:
        for x in range(int(rng.integers(0, 24)), W, 28):
            d.rectangle([x, 0, x + 12, W], fill=mix(wall, (255, 255, 255), 0.3))
    y = rng.uniform(168, 184)
    if rng.random() < 0.75:
        x, w, h = rng.choice([rng.uniform(12, 40), rng.uniform(165, 185)]), 60, 66
        yy = rng.uniform(24, 40)
        d.rectangle([x - 5, yy - 5, x + w + 5, yy + h + 5], fill=(250, 248, 244))
        d.rectangle([x, yy, x + w, yy + h], fill=jit(rng, (150, 205, 240)))
        d.rectangle([x + w / 2 - 2, yy, x + w / 2 + 2, yy + h], fill=(250, 248, 244))
        d.rectangle([x, yy + h / 2 - 2, x + w, yy + h / 2 + 2], fill=(250, 248, 244))
    f = jit(rng, [(196, 144, 92), (176, 124, 78), (214, 170, 120)][rng.integers(3)], 8)
    d.rectangle([0, y - 8, W, y], fill=(250, 246, 238))
    d.rectangle([0, y, W, W], fill=f)
    for i, yy in enumerate(np.linspace(y + 18, W, 5)):
        d.line([0, yy, W, yy], fill=mix(f, (60, 30, 10), 0.25), width=2)
    return im


def table(rng):
    wall = jit(
        rng, [(236, 228, 214), (206, 224, 226), (232, 206, 196), (200, 212, 190), (210, 206, 228)][rng.integers(5)], 8
    )
    im = vgrad([(0, mix(wall, (255, 255, 255), 0.2)), (1, mix(wall, (0, 0, 0), 0.12))])
    d = ImageDraw.Draw(im)
    y = rng.uniform(150, 172)
    f = jit(rng, [(178, 122, 74), (160, 104, 62), (198, 146, 96)][rng.integers(3)], 8)
    for i in range(40):
        d.rectangle([0, y + i * 1.7, W, W + 40], fill=mix(f, mix(f, (255, 230, 190), 0.25), i / 39))
    for _ in range(9):
        yy, x = rng.uniform(y + 8, 228), rng.uniform(-60, W)
        d.line([x, yy, x + rng.uniform(40, 130), yy + rng.uniform(-2, 2)], fill=mix(f, (60, 30, 10), 0.22), width=2)
    d.rectangle([0, 228, W, W], fill=mix(f, (40, 20, 5), 0.38))
    d.rectangle([0, 226, W, 230], fill=mix(f, (40, 20, 5), 0.2))
    return im


def skyscene(rng):
    im = vgrad([(0, jit(rng, (60, 150, 232))), (1, jit(rng, (180, 222, 250), 8))])
    d = ImageDraw.Draw(im)
    for _ in range(rng.integers(3, 8)):
        cloud(d, rng.uniform(0, W), rng.uniform(10, W - 10), rng.uniform(11, 27), jit(rng, (248, 251, 255), 4))
    return im


def rain(rng):
    im = vgrad([(0, jit(rng, (104, 116, 134))), (1, jit(rng, (166, 178, 190)))])
    d = ImageDraw.Draw(im)
    for _ in range(rng.integers(3, 6)):
        cloud(d, rng.uniform(0, W), rng.uniform(10, 40), rng.uniform(18, 30), jit(rng, (84, 94, 110), 10))
    g = jit(rng, (88, 116, 96))
    hill(d, rng, 196, 6, g)
    hill(d, rng, 218, 4, mix(g, (40, 60, 70), 0.3))
    for _ in range(45):
        x, y, l = rng.uniform(0, W + 20), rng.uniform(30, W), rng.uniform(10, 18)
        d.line([x, y, x - l * 0.3, y + l], fill=(196, 216, 236), width=2)
    return im


def road(rng):
    im = sky(rng)
    d = ImageDraw.Draw(im)
    clouds(d, rng, rng.integers(0, 4), 70)
    y = rng.uniform(130, 150)
    hill(d, rng, y, 12, jit(rng, (140, 196, 106)))
    for _ in range(rng.integers(0, 5)):
        roundtree(d, rng, rng.uniform(0, W), y + rng.uniform(18, 30), rng.uniform(36, 60), jit(rng, (84, 150, 70)))
    hill(d, rng, y + 28, 4, jit(rng, (112, 176, 80)))
    street(d, rng, 198)
    return im


def sea(rng):
    im = sky(rng, (80, 170, 236), (205, 234, 248))
    if rng.random() < 0.4:
        sun(im, rng, rng.uniform(25, 230), rng.uniform(25, 55), rng.uniform(13, 18), (255, 228, 100))
    d = ImageDraw.Draw(im)
    clouds(d, rng, rng.integers(1, 4), 80)
    y = rng.uniform(128, 148)
    a, b = jit(rng, (60, 150, 210)), jit(rng, (16, 84, 150))
    for i in range(60):
        d.rectangle([0, y + i * 2, W, W + 40], fill=mix(a, b, i / 59))
    for _ in range(26):
        yy = rng.uniform(y + 5, W - 3)
        k = (yy - y) / (W - y)
        x, l = rng.uniform(-10, W), 8 + 22 * k
        d.arc([x, yy, x + l, yy + 5 + 6 * k], 190, 350, fill=(190, 226, 242), width=2)
    return im


def autumn(rng):
    im = vgrad([(0, jit(rng, (190, 214, 226))), (0.7, jit(rng, (250, 232, 196), 8)), (1, (246, 220, 170))])
    d = ImageDraw.Draw(im)
    cols = [(226, 120, 40), (208, 78, 44), (238, 174, 52), (190, 96, 46)]
    for yb, h, n in ((160, 80, 8), (182, 104, 6)):
        hill(d, rng, yb - 6, 5, jit(rng, (216, 168, 90)))
        for i in rng.permutation(n):
            roundtree(
                d,
                rng,
                (i + 0.5) * W / n + rng.uniform(-14, 14),
                yb + rng.uniform(-4, 5),
                h * rng.uniform(0.8, 1.1),
                jit(rng, cols[rng.integers(4)]),
            )
    hill(d, rng, 188, 5, jit(rng, (206, 146, 70)))
    hill(d, rng, 220, 4, jit(rng, (190, 126, 58)))
    for _ in range(rng.integers(15, 40)):
        x, y, r = rng.uniform(0, W), rng.uniform(60, W), rng.uniform(2, 4.5)
        d.ellipse([x - r, y - r * 0.6, x + r, y + r * 0.6], fill=jit(rng, cols[rng.integers(4)]))
    return im


def rainbow(rng):
    im = sky(rng, (100, 170, 232), (214, 234, 248))
    d = ImageDraw.Draw(im)
    cx, cy, r = rng.uniform(105, 151), rng.uniform(172, 190), rng.uniform(128, 142)
    cols = [(232, 72, 72), (244, 150, 60), (250, 222, 84), (96, 190, 98), (76, 148, 230), (140, 92, 200)]
    for i, c in enumerate(cols):
        q = r - i * 7
        d.ellipse([cx - q, cy - q, cx + q, cy + q], fill=c)
    q = r - len(cols) * 7
    inner = sky(rng, (120, 182, 236), (220, 238, 250))
    m = Image.new('L', (W, W), 0)
    ImageDraw.Draw(m).ellipse([cx - q, cy - q, cx + q, cy + q], fill=255)
    im.paste(inner, (0, 0), m)
    d = ImageDraw.Draw(im)
    clouds(d, rng, rng.integers(1, 3), 40)
    hill(d, rng, 168, 8, jit(rng, (140, 200, 104)))
    hill(d, rng, 200, 6, jit(rng, (104, 178, 72)))
    return im


# name: (painter, ground range of an object's lower edge or None, phrases for things on the ground, phrases for things
#        in the air, names of the scene itself)
SCENES = {
    'meadow': (
        meadow,
        (0.80, 0.97),
        ['in a meadow', 'in a field', 'on the grass', 'in a green field', 'on a green hill', 'in the countryside'],
        ['over a meadow', 'above a green field', 'in a meadow'],
        ['a green meadow', 'a field', 'a meadow with green hills'],
    ),
    'beach': (
        beach,
        (0.84, 0.97),
        ['on the beach', 'on a beach', 'at the beach', 'on a sandy beach', 'by the sea'],
        ['at the beach', 'over the beach', 'above the beach'],
        ['a beach', 'a sandy beach', 'a beach by the sea'],
    ),
    'underwater': (
        underwater,
        (0.86, 0.97),
        ['underwater', 'under the sea', 'at the bottom of the sea', 'in the ocean', 'under water'],
        ['underwater', 'under the sea', 'in the ocean', 'in the deep sea', 'under water'],
        ['the bottom of the sea', 'an underwater scene', 'the ocean floor'],
    ),
    'night': (
        night,
        (0.88, 0.98),
        ['at night', 'under the stars', 'under a starry sky', 'in the night', 'under the night sky'],
        ['in the night sky', 'at night', 'in a starry sky', 'among the stars at night'],
        ['a night sky', 'a starry night', 'a night sky full of stars'],
    ),
    'space': (
        space,
        None,
        ['in space', 'in outer space', 'floating in space', 'in the galaxy', 'among the stars'],
        ['in space', 'in outer space', 'flying through space', 'in the galaxy', 'among the stars'],
        ['outer space', 'space with stars', 'a galaxy', 'a nebula'],
    ),
    'moon': (
        moon,
        (0.80, 0.97),
        ['on the moon', 'on the surface of the moon', 'on the Moon'],
        ['over the moon', 'above the surface of the moon', 'on the moon'],
        ['the surface of the moon', 'the moon landscape'],
    ),
    'sunset': (
        sunset,
        (0.86, 0.98),
        ['at sunset', 'in front of a sunset', 'in the sunset', 'at dusk'],
        ['at sunset', 'in a sunset sky', 'in an orange sky', 'at dusk'],
        ['a sunset', 'an orange sunset', 'a beautiful sunset'],
    ),
    'snow': (
        snow,
        (0.80, 0.97),
        ['in the snow', 'in winter', 'on a snowy day', 'in a snowy landscape', 'on the snow'],
        ['in the falling snow', 'in winter', 'on a snowy day', 'in the snow'],
        ['a snowy landscape', 'a winter landscape', 'snow'],
    ),
    'desert': (
        desert,
        (0.82, 0.97),
        ['in the desert', 'in a desert', 'on the sand', 'in a sandy desert'],
        ['over the desert', 'in the desert', 'above the sand dunes'],
        ['a desert', 'a sandy desert', 'sand dunes'],
    ),
    'forest': (
        forest,
        (0.84, 0.97),
        ['in the forest', 'in a forest', 'in the woods', 'among the trees'],
        ['in the forest', 'in a forest', 'in the woods', 'among the trees'],
        ['a forest', 'a green forest', 'the woods'],
    ),
    'mountains': (
        mountains,
        (0.82, 0.97),
        [
            'in the mountains',
            'in front of mountains',
            'in front of snowy mountains',
            'with mountains in the background',
        ],
        ['over the mountains', 'in the mountains', 'above the mountains', 'in front of snowy mountains'],
        ['mountains', 'snowy mountains', 'a mountain landscape'],
    ),
    'city': (
        city,
        (0.86, 0.97),
        ['in the city', 'in a city', 'in front of a city skyline', 'on a city street', 'downtown'],
        ['over the city', 'in the city', 'above a city'],
        ['a city', 'a city skyline', 'a big city'],
    ),
    'citynight': (
        citynight,
        (0.86, 0.97),
        ['in the city at night', 'in a city at night', 'on a city street at night'],
        ['over the city at night', 'in the city at night', 'above a city at night'],
        ['a city at night', 'a city skyline at night'],
    ),
    'room': (
        room,
        (0.80, 0.97),
        ['in a room', 'indoors', 'in a living room', 'on the floor', 'in a house', 'on a wooden floor'],
        ['in a room', 'indoors', 'on the wall of a room'],
        ['an empty room', 'a room with a wooden floor', 'a room'],
    ),
    'table': (
        table,
        (0.72, 0.88),
        ['on a table', 'on a wooden table', 'on the table', 'on a desk'],
        ['over a table', 'above a table', 'above a wooden table'],
        ['a wooden table', 'an empty table'],
    ),
    'sky': (
        skyscene,
        None,
        ['in the sky', 'in the clouds', 'in a blue sky', 'among the clouds', 'in a cloudy sky'],
        ['in the sky', 'in the clouds', 'in a blue sky', 'among the clouds', 'flying in the sky'],
        ['a blue sky', 'a sky with clouds', 'clouds in a blue sky'],
    ),
    'rain': (
        rain,
        (0.86, 0.97),
        ['in the rain', 'on a rainy day', 'in the pouring rain'],
        ['in the rain', 'on a rainy day', 'in a rainy sky'],
        ['rain', 'a rainy day', 'rainy weather'],
    ),
    'road': (
        road,
        (0.84, 0.95),
        ['on the road', 'on a road', 'on the street', 'on a street'],
        ['over the road', 'above a road', 'over a street'],
        ['a road', 'an empty road', 'a road in the countryside'],
    ),
    'sea': (
        sea,
        (0.72, 0.95),
        ['on the sea', 'on the water', 'in the sea', 'on the ocean', 'at sea'],
        ['over the sea', 'above the ocean', 'over the water'],
        ['the sea', 'the ocean', 'a blue sea'],
    ),
    'autumn': (
        autumn,
        (0.86, 0.97),
        ['in autumn', 'in an autumn forest', 'among autumn trees', 'in the fall'],
        ['in autumn', 'in an autumn forest', 'among falling leaves'],
        ['an autumn forest', 'autumn trees', 'an autumn landscape'],
    ),
    'rainbow': (
        rainbow,
        (0.82, 0.97),
        ['under a rainbow', 'with a rainbow', 'in front of a rainbow'],
        ['in front of a rainbow', 'with a rainbow', 'under a rainbow'],
        ['a rainbow', 'a rainbow over a meadow', 'a rainbow in the sky'],
    ),
}

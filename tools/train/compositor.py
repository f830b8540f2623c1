#!/usr/bin/env python3
"""Text-to-image training pairs, made on the fly from the cut-outs.

    from compositor import Sampler
    s = Sampler(level=3)                 # 1: 163 objects, 2: 348, 3: all 508; root: where make_dataset.py put its files
    rng = random.Random(0)
    image, caption = s.sample(rng)       # uint8 128 x 128 x 3, str

Needs numpy and Pillow. Every caption is true of its picture. (object, scene) pairs for which held_out() is
true are never drawn, so that they can be used to test composition.
"""

import argparse
import json
import os
import random
import time
import zlib

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from scenes import SCENES
from words import (BG, BGW, BIG, COLORWORDS, FLY, FLYNAMES, MOUNTS, NEUTRAL_PRE, NEUTRAL_SUF, NOCOUNT, NOFLIP,
                   NUM, PREFIX, RIDERS, SUFFIX, article, plural)

S = 128
SIZES = [30, 34, 38, 42, 46, 51, 56, 62, 68, 75, 83, 91, 100, 110, 120]


def held_out(obj, scene):
    """One in forty pairs, always the same: kept out of training to see whether a model can combine what it knows."""
    return zlib.crc32(('%s|%s' % (obj, scene)).encode()) % 40 == 0


class Sampler:
    """Draws pictures with captions. pool: variants of each scene; neutral: share of captions with empty words around
    them; holdout: never draw the pairs of held_out."""
    def __init__(self, root='run/data', level=3, level_weights=(1.0, .6, .4), pool=48, seed=1, flip=.5, neutral=.12,
                 holdout=True):
        z = np.load(os.path.join(root, 'images.npz'))
        self.im = z['images']
        self.objs = [o for o in json.load(open(os.path.join(root, 'captions.json')))['objects'] if o['level'] <= level]
        self.byname = {o['name']: o for o in self.objs}
        self.flip, self.neutral, self.holdout = flip, neutral, holdout
        boxes = {}
        for o in self.objs:
            o['fly'] = o['place'] == 'f' and (o['name'] in FLYNAMES or bool(FLY & set(o['groups'])))
            o['noflip'] = o['name'] in NOFLIP
            o['count_ok'] = o['place'] != 'b' and o['names'][0]['article'] and o['name'] not in NOCOUNT
            o['nw'] = [0.4 if n['vague'] else (2.5 if i == 0 else 1.0) for i, n in enumerate(o['names'])]
            for n in o['names']:
                n['colored'] = bool(COLORWORDS & set(n['text'].lower().split()))
            o['nwc'] = [0 if n['colored'] else w for n, w in zip(o['names'], o['nw'])]
            assert len(o['images']) == 1 or sum(o['nwc']), o['name']
            o['big'] = bool(BIG & set(o['groups']))
            for i in o['images']:
                ys, xs = np.nonzero(self.im[i][..., 3] > 8)
                boxes[i] = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
                b = boxes[i]
                a = self.im[i][b[1] : b[3], b[0] : b[2]].astype(np.float32)
                o.setdefault('mean', {})[i] = tuple((a[..., :3] * a[..., 3:]).sum((0, 1)) / a[..., 3].sum())
        self.boxes = boxes
        self.weights = np.cumsum([level_weights[o['level'] - 1] for o in self.objs]).tolist()
        self.cache, self.shadows = {}, {}
        self.riders = [r for r in RIDERS if r in self.byname]
        self.mounts = [m for m in MOUNTS if m in self.byname]
        r = np.random.default_rng(seed)
        half = lambda im: im.resize((S, S), Image.BOX)
        self.scenes = {k: [half(v[0](r)) for _ in range(pool)] for k, v in SCENES.items()}
        self.patterns = [self._pattern(r) for _ in range(pool * 2)]
        self.scene_names = list(SCENES)

    # ---- backgrounds
    def _pattern(self, r):
        kind = ['polka dot', 'striped', 'checkered', 'rainbow'][r.integers(4)]
        names = list(BG)
        a, b = [names[i] for i in r.choice(len(names), 2, replace=False)]
        ca, cb = BG[a], BG[b]
        if sum(abs(x - y) for x, y in zip(ca, cb)) < 150:
            b, cb = ('white', BG['white']) if sum(ca) < 500 else ('dark blue', BG['dark blue'])
        im = Image.new('RGB', (256, 256), ca)
        d = ImageDraw.Draw(im)
        if kind == 'polka dot':
            st, ra = int(r.integers(40, 66)), r.uniform(9, 14)
            for j, y in enumerate(range(-st, 256 + st, st)):
                for x in range(-st, 256 + st, st):
                    x2 = x + (st // 2 if j % 2 else 0)
                    d.ellipse([x2 - ra, y - ra, x2 + ra, y + ra], fill=cb)
        elif kind == 'striped':
            w, v = int(r.integers(18, 34)), r.integers(2)
            for x in range(0, 256, 2 * w):
                d.rectangle([x, 0, x + w - 1, 256] if v else [0, x, 256, x + w - 1], fill=cb)
        elif kind == 'checkered':
            w = int(r.choice([32, 42, 64]))
            for y in range(0, 256, w):
                for x in range(0, 256, w):
                    if (x // w + y // w) % 2:
                        d.rectangle([x, y, x + w - 1, y + w - 1], fill=cb)
        else:
            cols = [(232, 72, 72), (244, 150, 60), (250, 222, 84), (96, 190, 98), (76, 148, 230), (140, 92, 200)]
            v = r.integers(2)
            for i, c in enumerate(cols):
                q = 256 / 6
                d.rectangle([i * q, 0, i * q + q, 256] if v else [0, i * q, 256, i * q + q], fill=c)
            a = b = None
        im = im.resize((S, S), Image.BOX)
        ph = ['on a %s background' % kind, 'on a %s pattern' % kind if kind != 'rainbow' else 'on a rainbow background']
        if a:
            ph += ['on a %s and %s %s background' % (a, b, kind)] * 2
        return im, ph, np.asarray(im).reshape(-1, 3).mean(0)

    def _plain(self, rng, mean):
        for _ in range(6):
            c = rng.choices(list(BG), BGW)[0]
            col = BG[c]
            if mean is None or sum(abs(x - y) for x, y in zip(col, mean)) > 110:
                break
        k = 2 if c in ('white', 'black') else 9
        col = tuple(min(255, max(0, x + rng.randint(-k, k))) for x in col)
        ph = (
            rng.choices(
                [
                    'on a %s background',
                    'on %s',
                    'with a %s background',
                    'against a %s background',
                    'in front of a %s wall',
                ],
                [6, 1.2, 2, 1.2, 0.8],
            )[0]
            % c
        )
        return Image.new('RGB', (S, S), col), ph

    def _gradient(self, rng):
        a, b = rng.sample(list(BG), 2)
        t = np.linspace(0, 1, S, dtype=np.float32)[:, None]
        g = (np.array(BG[a], np.float32) * (1 - t) + np.array(BG[b], np.float32) * t).astype(np.uint8)
        if rng.random() < 0.3:
            im = Image.fromarray(np.ascontiguousarray(np.repeat(g[None], S, 0)))
        else:
            im = Image.fromarray(np.repeat(g[:, None], S, 1))
        return im, rng.choice(
            ['on a %s and %s background', 'on a %s and %s gradient background', 'on a gradient from %s to %s']
        ) % (a, b)

    # ---- cut-outs
    def cut(self, idx, size, flip):
        """A cut-out whose longer side is size pixels; kept, since sizes are few"""
        k = (idx, size)
        p = self.cache.get(k)
        if p is None:
            b = self.boxes[idx]
            im = Image.fromarray(self.im[idx][b[1] : b[3], b[0] : b[2]])
            q = size / max(im.size)
            p = (
                im.convert('RGBa')
                .resize((max(1, round(im.width * q)), max(1, round(im.height * q))), Image.LANCZOS)
                .convert('RGBA')
            )
            self.cache[k] = p
        return p.transpose(Image.FLIP_LEFT_RIGHT) if flip else p

    def shadow(self, w):
        w = max(8, w // 4 * 4)
        m = self.shadows.get(w)
        if m is None:
            h = max(4, w // 6)
            m = Image.new('L', (w + 12, h + 12), 0)
            ImageDraw.Draw(m).ellipse([6, 6, w + 6, h + 6], fill=88)
            m = self.shadows[w] = m.filter(ImageFilter.GaussianBlur(2.2))
        return m

    def pick_image(self, rng, o, want_color=None):
        """-> (index, colour or None, say the colour?)"""
        cols, ims = o['colors'], o['images']
        if len(ims) == 1 or (want_color is None and rng.random() < 0.42):
            i = 0
        else:
            i = rng.randrange(len(ims))
        c = cols[i]
        if i == 0:
            say = c is not None and rng.random() < 0.35
        else:
            say = rng.random() < 0.9
        return ims[i], c, say

    def noun(self, rng, o, c, say, size=None, n=1, bare=False):
        """What a thing is called: article or number, size, colour if say, one of its names"""
        if c == o['color']:
            e = rng.choices(o['names'], o['nw'])[0]
        else:  # a recoloured one: not "a pink brown bear"
            e = rng.choices(o['names'], o['nwc'])[0]
        if n > 1 and not e['article']:
            e = o['names'][0]
        t = e['text']
        if e['colored']:
            say = False
        adj = []
        if size and rng.random() < 0.45:
            if size >= 104:
                adj.append(rng.choice(['big', 'large', 'huge', 'giant', 'big']))
            elif size <= 52:
                adj.append(rng.choice(['small', 'tiny', 'little', 'small']))
        if say and c:
            adj.append(
                'grey' if c == 'gray' and rng.random() < 0.3 else 'golden' if c == 'gold' and rng.random() < 0.5 else c
            )
        if n > 1:
            return ' '.join([NUM[n]] + adj + [plural(t)])
        t = ' '.join(adj + [t])
        if not e['article'] or bare:
            return t
        a = rng.random()
        if a < 0.05:
            return 'the ' + t
        if a < 0.08:
            return 'one ' + t
        return article(t) + ' ' + t

    def scene_for(self, rng, objs):
        """A scene, mostly one where one of the things is at home; never a pair kept out of training"""
        for _ in range(20):
            if rng.random() < 0.68:
                k = rng.choice(rng.choice(objs)['scene_weights'])
            else:
                k = rng.choice(self.scene_names)
            if not (self.holdout and any(held_out(o['name'], k) for o in objs)):
                return k
        return 'meadow'

    # ---- drawing
    def put(self, rng, bg, o, idx, size, cx, scene, flip, bottom=None, cy=None):
        """draws one cut-out; returns its box"""
        p = self.cut(idx, size, flip and not o['noflip'])
        w, h = p.size
        x = int(min(max(cx - w / 2, 1), S - w - 1)) if w < S - 2 else (S - w) // 2
        if bottom is not None:
            y = int(bottom - h)
            if y < 1 and o['place'] != 'b':
                y = min(1, S - h)
        else:
            y = int(min(max(cy - h / 2, 1), S - h - 1)) if h < S - 2 else (S - h) // 2
        if scene is not None and bottom is not None and o['place'] not in 'bw':
            sw = int(w * 0.82)
            m = self.shadow(sw)
            bg.paste((0, 0, 0), (x + (w - m.width) // 2, y + h - m.height // 2 - 1), m)
        bg.paste(p, (x, y), p)
        return x, y, x + w, y + h

    def where(self, rng, o, scene, size, cx, floaty=None):
        """-> keyword arguments of put()"""
        if scene is None or SCENES[scene][1] is None:
            if o['place'] == 'b' and rng.random() < 0.6:
                return dict(cx=cx, bottom=S + 1)
            return dict(cx=cx, cy=floaty if floaty is not None else rng.uniform(0.36, 0.64) * S)
        g0, g1 = SCENES[scene][1]
        if o['place'] == 'b':
            return dict(cx=cx, bottom=S + 1)
        if o['fly'] or (o['place'] == 'w' and scene == 'underwater'):
            return dict(cx=cx, cy=rng.uniform(0.24, 0.56) * S)
        t = min(1, max(0, (size - 45) / 60 + rng.uniform(-0.3, 0.3)))
        return dict(cx=cx, bottom=(g0 + (g1 - g0) * t) * S)

    def background(self, rng, objs, mean):
        """-> image, scene or None, phrases(ground), phrases(air), scene names"""
        r = rng.random()
        if r < 0.27:
            im, ph = self._plain(rng, mean)
            return im, None, [ph], [ph], None
        if r < 0.33:
            im, ph = self._gradient(rng)
            return im, None, [ph], [ph], None
        if r < 0.37:
            im, ph, _ = rng.choice(self.patterns)
            return im.copy(), None, ph, ph, None
        k = self.scene_for(rng, objs)
        im = rng.choice(self.scenes[k])
        im = im.transpose(Image.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else im.copy()
        return im, k, SCENES[k][2], SCENES[k][3], SCENES[k][4]

    def pick(self, rng):
        return rng.choices(self.objs, cum_weights=self.weights)[0]

    def finish(self, rng, cap):
        """Words around a caption: 'a drawing of', 'digital art', 'highly detailed'"""
        r = rng.random()
        if r < self.neutral * 0.4:
            p = rng.choice(NEUTRAL_PRE)
            if p.endswith((' of ', 'draw ', 'me ', 'want ', 'is ')):
                if p == 'there is ' and cap.startswith(('two ', 'three ', 'four ')):
                    p = 'there are '
                cap = p + cap
            elif cap.startswith(('a ', 'an ')):
                cap = p + cap.split(' ', 1)[1]
        elif r < self.neutral:
            cap += rng.choice(NEUTRAL_SUF)
            if rng.random() < 0.3:
                s = rng.choice(NEUTRAL_SUF)
                cap += s if cap[-1] not in '.!' else ''
        elif r < self.neutral + 0.16:
            cap = rng.choice(PREFIX) + cap
        elif r < self.neutral + 0.22:
            cap += rng.choice(SUFFIX)
        cap = cap.replace(' a orange ', ' an orange ')
        if rng.random() < 0.08:
            cap = cap[0].upper() + cap[1:]
        return cap

    def sample(self, rng):
        """-> uint8 [128, 128, 3], caption"""
        r = rng.random()
        if r < 0.58:
            im, cap = self.one(rng)
        elif r < 0.80:
            im, cap = self.two(rng)
        elif r < 0.88:
            im, cap = self.many(rng)
        elif r < 0.91 and self.riders and self.mounts:
            im, cap = self.ride(rng)
        elif r < 0.94:
            im, cap = self.over(rng)
        elif r < 0.97:
            k = rng.choice(self.scene_names)
            im = rng.choice(self.scenes[k])
            im = im.transpose(Image.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else im
            cap = rng.choice(SCENES[k][4])
        else:
            im, cap = self.one(rng)
        return np.asarray(im), self.finish(rng, cap)

    def one(self, rng, o=None):
        """One thing somewhere"""
        o = o or self.pick(rng)
        idx, c, say = self.pick_image(rng, o)
        im, scene, pg, pa, names = self.background(rng, [o], o['mean'][idx])
        size = rng.choices(SIZES[5:], [1, 1, 2, 2, 3, 4, 5, 5, 4, 3])[0] if o['place'] != 'b' else rng.choice(SIZES[9:])
        if scene and SCENES[scene][1] and size > 110 and o['place'] != 'b':
            size = 100
        m = size / 2
        free = scene is None or SCENES[scene][1] is None
        cx = rng.uniform(m, S - m) if rng.random() < 0.6 else S / 2 + rng.uniform(-8, 8)
        fy = rng.uniform(m, S - m) if rng.random() < 0.5 else S / 2 + rng.uniform(-6, 6)
        kw = self.where(rng, o, scene, size, cx, fy)
        x0, y0, x1, y1 = self.put(rng, im, o, idx, size, scene=scene, flip=rng.random() < self.flip, **kw)
        big = max(x1 - x0, y1 - y0)
        f = rng.random()
        ph = rng.choice(pa if (o['fly'] or (o['place'] == 'w' and scene == 'underwater')) else pg)
        nn = lambda **k: self.noun(rng, o, c, say, big, **k)
        if f < 0.26:
            cap = nn()
        elif f < 0.30:
            cap = nn(bare=True)
        elif f < 0.80 or (names is None and f < 0.92):
            cap = nn() + ' ' + ph
        elif f < 0.92:
            cap = rng.choice(names) + ' with ' + nn()
        elif names is not None:
            k = rng.choice(names)
            cap = nn(bare=True) + ', ' + (k[2:] if k.startswith('a ') else k[3:] if k.startswith('an ') else k)
        else:
            cap = nn() + ' ' + ph
        if free and f < 0.85 and big < 84 and rng.random() < 0.5:
            px, py = (x0 + x1) / 2 / S, (y0 + y1) / 2 / S
            hx = 'left' if px < 0.40 else 'right' if px > 0.60 else ''
            hy = 'top' if py < 0.38 else 'bottom' if py > 0.62 else ''
            if hx and hy:
                cap += rng.choice([' in the %s %s corner' % (hy, hx), ' at the %s %s' % (hy, hx)])
            elif hx:
                cap += rng.choice([' on the %s', ' on the %s side']) % hx
            elif hy:
                cap += ' at the ' + hy
            elif abs(px - 0.5) < 0.06 and abs(py - 0.5) < 0.06:
                cap += rng.choice([' in the middle', ' in the center'])
        return im, cap

    def two(self, rng):
        """Two things side by side"""
        a = self.pick(rng)
        b = self.pick(rng)
        if rng.random() < 0.6:  # things that go together
            sw = set(a['scene_weights'])
            for _ in range(6):
                if b is not a and sw & set(b['scene_weights']):
                    break
                b = self.pick(rng)
        if b is a:
            return self.one(rng, a)
        (ia, ca, sa), (ib, cb, sb) = self.pick_image(rng, a), self.pick_image(rng, b)
        im, scene, pg, pa, names = self.background(rng, [a, b], None if rng.random() < 0.5 else a['mean'][ia])
        if a['color'] and ca == cb and rng.random() < 0.5:
            sa = False
        sz = []
        for o in (a, b):
            s = rng.choices(SIZES[4:9], [1, 2, 3, 3, 3])[0]
            if o['big']:
                s = rng.choice(SIZES[7:9])
            sz.append(s)
        xs = (rng.uniform(29, 36), rng.uniform(92, 99))
        ys = rng.uniform(0.42, 0.6) * S
        ka = self.where(rng, a, scene, sz[0], xs[0], ys + rng.uniform(-8, 8))
        kb = self.where(rng, b, scene, sz[1], xs[1], ys + rng.uniform(-8, 8))
        for o, i, s, k in ((a, ia, sz[0], ka), (b, ib, sz[1], kb)):
            self.put(rng, im, o, i, s, scene=scene, flip=rng.random() < self.flip, **k)
        na, nb = self.noun(rng, a, ca, sa), self.noun(rng, b, cb, sb)
        ph = rng.choice(pg if not (a['fly'] and b['fly']) else pa)
        l, rr = na, nb
        f = rng.random()
        if f < 0.5:
            x, y = (l, rr) if rng.random() < 0.5 else (rr, l)
            cap = '%s %s %s' % (
                x,
                rng.choices(['and', 'next to', 'with', 'beside', 'near'], [6, 2, 1.5, 0.7, 0.5])[0],
                y,
            )
        elif f < 0.66:
            cap = rng.choice(['%s to the left of %s', '%s on the left of %s', '%s left of %s']) % (l, rr)
        elif f < 0.82:
            cap = rng.choice(['%s to the right of %s', '%s on the right of %s', '%s right of %s']) % (rr, l)
        else:
            cap = '%s on the left and %s on the right' % (l, rr)
        q = rng.random()
        if q < 0.55:
            cap += ' ' + ph
        elif q < 0.68 and names:
            cap = rng.choice(names) + ' with ' + cap
        return im, cap

    def many(self, rng):
        """Two to four of the same thing"""
        for _ in range(10):
            o = self.pick(rng)
            if o['count_ok']:
                break
        else:
            return self.one(rng)
        n = rng.choices([2, 3, 4], [5, 4, 2])[0]
        idx, c, say = self.pick_image(rng, o)
        im, scene, pg, pa, names = self.background(rng, [o], o['mean'][idx])
        ground = (
            scene is not None
            and SCENES[scene][1] is not None
            and not o['fly']
            and not (o['place'] == 'w' and scene == 'underwater')
        )
        s = {2: rng.choice(SIZES[5:8]), 3: rng.choice(SIZES[2:4]), 4: rng.choice(SIZES[1:3] if ground else SIZES[4:6])}[
            n
        ]
        flip = rng.random() < self.flip
        if n == 4 and not ground:
            pts = [(34, 34), (94, 34), (34, 94), (94, 94)]
        elif n == 3 and not ground and rng.random() < 0.5:
            pts = [(64, 34), (33, 92), (95, 92)]
            s = rng.choice(SIZES[4:7])
        else:
            y = rng.uniform(0.44, 0.58) * S
            pts = [((i + 0.5) * S / n, y) for i in range(n)]
        base = self.where(rng, o, scene, s, 0)
        for x, y in pts:
            k = dict(base)
            k['cx'] = x + rng.uniform(-2, 2)
            if not ground:
                k['cy'] = y + rng.uniform(-3, 3)
            self.put(rng, im, o, idx, s, scene=scene, flip=flip, **k)
        ph = rng.choice(pg if ground else pa)
        cap = self.noun(rng, o, c, say, n=n)
        if rng.random() < 0.65:
            cap += ' ' + ph
        return im, cap

    def ride(self, rng):
        """One thing on another"""
        a, b = self.byname[rng.choice(self.riders)], self.byname[rng.choice(self.mounts)]
        (ia, ca, sa), (ib, cb, sb) = self.pick_image(rng, a), self.pick_image(rng, b)
        im, scene, pg, pa, names = self.background(rng, [a, b], None)
        s = rng.choice(SIZES[8:11])
        t = rng.choice(SIZES[5:8])
        pb = self.cut(ib, s, False)
        g = SCENES[scene][1] if scene else None
        bottom = (g[0] + g[1]) / 2 * S if g else rng.uniform(0.84, 0.95) * S
        cx = S / 2 + rng.uniform(-12, 12)
        top = bottom - pb.height
        fl = rng.random() < self.flip and not b['noflip']
        q = pb.transpose(Image.FLIP_LEFT_RIGHT) if fl else pb
        qx = int(min(max(cx - q.width / 2, 0), S - q.width))
        al = np.asarray(q.getchannel('A')) > 100
        k = al.argmax(0)[al.any(0)]  # the upper outline of the mount
        w4 = len(k) // 4
        seat = int(np.median(k[w4:-w4])) if w4 else int(np.median(k))
        sx = qx + q.width / 2
        if g and b['place'] not in 'w':
            m = self.shadow(int(pb.width * 0.82))
            im.paste((0, 0, 0), (int(cx - m.width / 2), int(bottom - m.height / 2 - 1)), m)
        pa_ = self.cut(ia, t, rng.random() < self.flip and not a['noflip'])
        y = int(max(1, top + seat + pa_.height * 0.2 - pa_.height))
        im.paste(pa_, (int(min(max(sx - pa_.width / 2, 0), S - pa_.width)), y), pa_)
        im.paste(q, (qx, int(top)), q)
        cap = '%s %s %s' % (
            self.noun(rng, a, ca, sa),
            rng.choices(['riding', 'riding on', 'on', 'on top of'], [6, 1, 1, 1])[0],
            self.noun(rng, b, cb, sb),
        )
        if rng.random() < 0.6:
            cap += ' ' + rng.choice(pg)
        return im, cap

    def over(self, rng):
        """one thing above another"""
        for _ in range(8):
            a = self.pick(rng)
            if a['place'] == 'f':
                break
        b = self.pick(rng)
        if a['place'] != 'f' or b is a or b['fly']:
            return self.two(rng)
        (ia, ca, sa), (ib, cb, sb) = self.pick_image(rng, a), self.pick_image(rng, b)
        im, scene, pg, pa, names = self.background(rng, [a, b], None)
        sb_, sa_ = rng.choice(SIZES[6:9]), rng.choice(SIZES[4:7])
        cx = rng.uniform(40, 88)
        g = SCENES[scene][1] if scene else None
        self.put(
            rng,
            im,
            b,
            ib,
            sb_,
            cx,
            scene if g else None,
            rng.random() < self.flip,
            bottom=(S + 1 if b['place'] == 'b' else (g[1] if g else 0.97) * S),
        )
        top = (g[1] if g else 0.97) * S - self.cut(ib, sb_, False).height
        self.put(
            rng,
            im,
            a,
            ia,
            sa_,
            cx + rng.uniform(-14, 14),
            None,
            rng.random() < self.flip,
            cy=max(self.cut(ia, sa_, False).height / 2 + 2, top / 2),
        )
        na, nb = self.noun(rng, a, ca, sa), self.noun(rng, b, cb, sb)
        cap = (
            rng.choice(['%s above %s', '%s over %s', '%s above %s']) % (na, nb)
            if rng.random() < 0.65
            else rng.choice(['%s below %s', '%s under %s']) % (nb, na)
        )
        if rng.random() < 0.5:
            cap += ' ' + rng.choice(pg)
        return im, cap


def contact(s, path, n=64, seed=7, cols=8, labels=True):
    rng = random.Random(seed)
    cell, th = S + 6, 40 if labels else 0
    im = Image.new('RGB', (cols * cell, (n // cols) * (cell + th)), (255, 255, 255))
    d = ImageDraw.Draw(im)
    for i in range(n):
        a, cap = s.sample(rng)
        x, y = (i % cols) * cell + 3, (i // cols) * (cell + th) + 3
        im.paste(Image.fromarray(a), (x, y))
        line, ly = '', y + S + 1
        for w in cap.split(' '):
            if d.textlength(line + ' ' + w) > S:
                d.text((x, ly), line, fill=(0, 0, 0))
                line, ly = w, ly + 11
            else:
                line = (line + ' ' + w).strip()
        d.text((x, ly), line, fill=(0, 0, 0))
    im.save(path)


if __name__ == '__main__':
    ap = argparse.ArgumentParser()
    ap.add_argument('--data', default='run/data')
    ap.add_argument('--level', type=int, default=3)
    ap.add_argument('--contact', default='')
    ap.add_argument('--seed', type=int, default=7)
    ap.add_argument('--bench', type=int, default=0)
    ap.add_argument('--captions', type=int, default=0)
    a = ap.parse_args()
    t = time.time()
    s = Sampler(a.data, a.level)
    print('ready in %.1f s, %d objects' % (time.time() - t, len(s.objs)))
    if a.contact:
        contact(s, a.contact, seed=a.seed)
    if a.captions:
        r = random.Random(a.seed)
        for _ in range(a.captions):
            print(s.sample(r)[1])
    if a.bench:
        r = random.Random(0)
        for k in range(3):
            t = time.process_time()
            for _ in range(a.bench):
                s.sample(r)
            print('%.0f images/s of one core' % (a.bench / (time.process_time() - t)))

#!/usr/bin/env python3
"""Extracts the cut-outs: NotoColorEmoji.ttf -> images.npz (RGBA 128x128), captions.json, eval_prompts.json

    apt-get install fonts-noto-color-emoji     (artwork: Apache-2.0; font file: SIL OFL 1.1)
    apt-get install unicode-cldr-core          (optional: official keywords, Unicode licence)
    pip install numpy pillow fonttools
    python tools/train/make_dataset.py --out run/data

With Debian 12's font (2.042-0+deb12u1) and the pinned numpy and Pillow, images.npz comes out byte for byte alike.
"""

import argparse
import io
import json
import os
import shutil
import xml.etree.ElementTree as ET

import numpy as np
from fontTools.ttLib import TTFont
from PIL import Image

import eval_prompts
from objects import TABLE, GROUPS, MINI

# target colours: hue (degrees), saturation, value, hue spread kept
COLORS = {
    'red': (2, 0.80, 0.90),
    'orange': (28, 0.92, 0.98),
    'yellow': (49, 0.80, 1.0),
    'green': (120, 0.58, 0.66),
    'blue': (212, 0.80, 0.90),
    'purple': (282, 0.68, 0.72),
    'pink': (338, 0.45, 0.98),
    'white': (220, 0.03, 0.97),
    'black': (220, 0.10, 0.22),
    'gray': (220, 0.04, 0.62),
    'brown': (20, 0.55, 0.52),
}
ALL = 'red orange yellow green blue purple pink white black gray brown'.split()


def rgb2hsv(a):
    """uint8 [H, W, 3] -> hue in degrees, saturation, value, each float32 [H, W]"""
    a = a.astype(np.float32) / 255
    mx, mn = a.max(-1), a.min(-1)
    d = mx - mn
    dd = np.where(d == 0, 1, d)
    r, g, b = a[..., 0], a[..., 1], a[..., 2]
    h = np.where(mx == r, ((g - b) / dd) % 6, np.where(mx == g, (b - r) / dd + 2, (r - g) / dd + 4)) * 60
    return np.where(d == 0, 0, h), np.where(mx == 0, 0, d / np.where(mx == 0, 1, mx)), mx


def hsv2rgb(h, s, v):
    h = (h % 360) / 60
    k = lambda n: (n + h) % 6
    f = lambda n: v - v * s * np.clip(np.minimum(k(n), 4 - k(n)), 0, 1)
    return np.clip(np.stack([f(5), f(3), f(1)], -1) * 255 + 0.5, 0, 255).astype(np.uint8)


def smooth(x, a, b):
    """0 below a, 1 above b, a smooth step between"""
    t = np.clip((x - a) / (b - a), 0, 1)
    return t * t * (3 - 2 * t)


def wmedian(x, w, q):
    """the q-quantile of x, each value counted w times"""
    o = np.argsort(x)
    c = np.cumsum(w[o])
    return float(x[o][np.searchsorted(c, q * c[-1])])


def recolor(img, spec, color):
    """Another colour for the pixels that the spec of objects.py names, or None if there are hardly any."""
    th, ts, tv = COLORS[color]
    rgb, al = img[..., :3], img[..., 3]
    h, s, v = rgb2hsv(rgb)
    if spec == 't':
        m = smooth(v, 0.22, 0.42)
        dh = np.zeros_like(h)
    else:
        c, w = map(float, spec.split(':'))
        dh = (h - c + 180) % 360 - 180
        m = (1 - smooth(np.abs(dh), w, w + 12)) * smooth(s, 0.16, 0.34) * smooth(v, 0.08, 0.2)
    wgt = (m * (al > 128)).ravel()
    if wgt.sum() < 50:
        return None
    sref = max(wmedian(s.ravel(), wgt, 0.6), 0.05)
    vref = wmedian(v.ravel(), wgt, 0.5)
    rel = np.clip(v / vref, 0.35, 1.5)
    if spec == 't':
        ns = np.clip(ts * np.clip(1.25 - 0.25 * rel, 0.5, 1.3), 0, 1)
        nv = tv * rel ** (1.0 if color != 'white' else 0.6)
    else:
        rs = np.clip(s / sref, 0.25, 1.25)
        ns = ts * rs
        nv = tv * rel**0.85
        # keep highlights (low saturation, bright) bright
        hl = np.clip(1 - s / sref, 0, 1) * smooth(v, 0.75, 1.0)
        nv = nv + (1 - nv) * hl * 0.8
    out = hsv2rgb(th + dh * 0.35, np.clip(ns, 0, 1), np.clip(nv, 0, 1))
    m = m[..., None]
    res = img.copy()
    res[..., :3] = (out * m + rgb * (1 - m) + 0.5).astype(np.uint8)
    return res


class Font:
    """The bitmaps of a colour font, by code points; several of them make one picture through the ligatures of GSUB."""

    def __init__(self, path):
        f = TTFont(path)
        self.cm, self.sd, self.lig = f.getBestCmap(), f['CBDT'].strikeData[0], {}
        for lk in f['GSUB'].table.LookupList.Lookup:
            for st in lk.SubTable:
                st = st.ExtSubTable if st.LookupType == 7 else st
                if st.LookupType == 4:
                    for first, ls in st.ligatures.items():
                        for l in ls:
                            self.lig[tuple([first] + l.Component)] = l.LigGlyph

    def image(self, cps):
        if len(cps) == 1:
            g = self.cm[cps[0]]
        else:
            k = tuple(self.cm[c] for c in cps)
            g = self.lig.get(k) or self.lig[k[::-1]]
        im = Image.open(io.BytesIO(self.sd[g].imageData)).convert('RGBA')
        a = np.asarray(im).copy()
        a[a[..., 3] == 0] = 0
        return Image.fromarray(a)


def fit128(im):
    """crop to the visible part, centre in 128 x 128 (shrunk only if wider)"""
    im = im.crop(im.getchannel('A').point(lambda x: 255 if x > 8 else 0).getbbox())
    if max(im.size) > 128:
        k = 128 / max(im.size)
        im = (
            im.convert('RGBa')
            .resize((max(1, round(im.width * k)), max(1, round(im.height * k))), Image.LANCZOS)
            .convert('RGBA')
        )
    out = Image.new('RGBA', (128, 128))
    out.paste(im, ((128 - im.width) // 2, (128 - im.height) // 2))
    return np.asarray(out)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument('--font', default='/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf')
    ap.add_argument('--cldr', default='/usr/share/unicode/cldr/common/annotations/en.xml')
    ap.add_argument('--tokenizer', default='weights/tiny/tokenizer', help='its vocab.json and merges.txt are copied')
    ap.add_argument('--out', default='run/data')
    a = ap.parse_args()
    os.makedirs(os.path.join(a.out, 'tokenizer'), exist_ok=True)
    for name in ('vocab.json', 'merges.txt'):
        shutil.copyfile(os.path.join(a.tokenizer, name), os.path.join(a.out, 'tokenizer', name))
    font = Font(a.font)
    ann = {}
    if os.path.exists(a.cldr):
        for n in ET.parse(a.cldr).getroot().iter('annotation'):
            e = ann.setdefault(n.get('cp').replace('\ufe0f', ''), {})
            if n.get('type') == 'tts':
                e['name'] = n.text
            else:
                e['keywords'] = [x.strip() for x in n.text.split('|')]
    imgs, img_obj, img_col, objs = [], [], [], []
    for line in TABLE.strip().splitlines():
        if line.startswith('#'):
            continue
        cps, names, color, groups, flags, rc = line.split('|')
        cps = [int(x, 16) for x in cps.split()]
        names = names.split(',')
        base = fit128(font.image(cps))
        first = len(imgs)
        variants = [(base, None if color == '-' else color)]
        if cps == [0x1F408]:
            variants.append((fit128(font.image([0x1F408, 0x200D, 0x2B1B])), 'black'))
        if cps == [0x1F34E]:
            variants.append((fit128(font.image([0x1F34F])), 'green'))
        if cps == [0x1F4D5]:
            for cp, c in ((0x1F4D7, 'green'), (0x1F4D8, 'blue'), (0x1F4D9, 'orange')):
                variants.append((fit128(font.image([cp])), c))
        if rc != '-':
            spec, _, cols = rc.partition('/')
            for c in (ALL if cols == 'all' else cols.split()):
                if c not in [v[1] for v in variants]:
                    r = recolor(base, spec, c)
                    if r is None:
                        print('no pixels to recolour:', names[0], spec)
                    else:
                        variants.append((r, c))
        scenes = []
        for g in groups.split():
            scenes += GROUPS[g].split() if g in GROUPS else [g]
        key = ''.join(chr(c) for c in cps)
        name = names[0].lstrip('+^')
        objs.append(
            {
                'id': len(objs),
                'codepoints': ' '.join('%X' % c for c in cps),
                'name': name,
                'names': [
                    {'text': n.lstrip('+^'), 'article': not n.startswith('+'), 'vague': n.startswith('^')}
                    for n in names
                ],
                'color': None if color == '-' else color,
                'groups': groups.split(),
                'scenes': sorted(set(scenes)),
                'scene_weights': scenes,
                'place': [f for f in 'fwb' if f in flags][0] if any(f in flags for f in 'fwb') else 'g',
                'level': 1 if name in MINI else 2 if '*' in flags else 3,
                'images': list(range(first, first + len(variants))),
                'colors': [v[1] for v in variants],
                'cldr_name': ann.get(key, {}).get('name'),
                'cldr_keywords': ann.get(key, {}).get('keywords', []),
            }
        )
        for im, c in variants:
            imgs.append(im)
            img_obj.append(len(objs) - 1)
            img_col.append(c or '')
    miss = set(MINI) - {o['name'] for o in objs}
    if miss:
        print('MINI names without an object:', miss)
    np.savez_compressed(
        os.path.join(a.out, 'images.npz'),
        images=np.stack(imgs),
        obj=np.array(img_obj, np.int32),
        color=np.array(img_col),
        name=np.array([objs[i]['name'] for i in img_obj]),
    )
    json.dump(
        {
            'source': 'Noto Color Emoji (Debian fonts-noto-color-emoji), artwork Apache-2.0, font SIL OFL 1.1',
            'keywords_source': 'Unicode CLDR annotations (en), Unicode-DFS-2016',
            'objects': objs,
        },
        open(os.path.join(a.out, 'captions.json'), 'w'),
        indent=1,
        ensure_ascii=False,
    )
    eval_prompts.write(a.out)
    lv = [o['level'] for o in objs]
    print(
        len(objs),
        'objects (levels 1/2/3: %d/%d/%d),' % (lv.count(1), lv.count(2), lv.count(3)),
        len(imgs),
        'images,',
        os.path.getsize(os.path.join(a.out, 'images.npz')) >> 10,
        'KiB',
    )


if __name__ == '__main__':
    main()

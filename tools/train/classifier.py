#!/usr/bin/env python3
"""Trains the judge of drawn pictures: a small convolutional network that names thing, colour and place of a picture.

    python tools/train/classifier.py --objects weights/tiny/objects.txt --out run/classifier.pt

It learns from the compositor's own pictures, four of five drawn as the model's training pictures are and one with free
sizes and places, blurred and noised a little, for a decoder's pictures are softer than the compositor's. Its own
accuracy is measured on renderings that it has not seen: other random numbers, for the free ones other scenes too.
"""
import argparse
import random
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from aligned import is_named
from labelled import COLORS, PLACES, Labelled, read_names

SIDE = 64   # pixels the network looks at: half of the model's 128
HEADS = ("object", "color", "place")


class Judge(nn.Module):
    """[B, 3, 64, 64] in -1..1 -> logits of the three heads, and the 192 features below them"""

    def __init__(self, names):
        super().__init__()
        self.labels = {"object": list(names), "color": list(COLORS), "place": list(PLACES)}

        def layer(a, b, stride):
            return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True))

        self.body = nn.Sequential(layer(3, 32, 2), layer(32, 48, 1), layer(48, 64, 2), layer(64, 64, 1),
                                  layer(64, 128, 2), layer(128, 128, 1), layer(128, 192, 2), layer(192, 192, 1))
        self.heads = nn.ModuleDict({head: nn.Linear(192, len(self.labels[head])) for head in HEADS})

    def features(self, x):
        return self.body(x).mean((2, 3))

    def forward(self, x):
        features = self.features(x)
        return {head: layer(features) for head, layer in self.heads.items()}

    def save(self, path):
        torch.save({"names": self.labels["object"], "state": self.state_dict()}, path)

    @classmethod
    def load(cls, path):
        saved = torch.load(path, weights_only=True)
        judge = cls(saved["names"])
        judge.load_state_dict(saved["state"])
        return judge.eval()


def to_input(images):
    """uint8 [B, H, W, 3] -> float [B, 3, 64, 64] in -1..1"""
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    return F.interpolate(x, (SIDE, SIDE), mode="area") / 127.5 - 1


def soften(x, rng):
    """What a decoder does to a picture, roughly: a blur for half of them, noise and a shift of brightness for all."""
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    share = torch.from_numpy(np.maximum(0, rng.uniform(-1, 1, (len(x), 1, 1, 1))).astype(np.float32))
    x = x + share * (blurred - x)
    level = torch.from_numpy(rng.uniform(0, .08, (len(x), 1, 1, 1)).astype(np.float32))
    shift = torch.from_numpy(rng.uniform(-.06, .06, (len(x), 3, 1, 1)).astype(np.float32))
    return x + level * torch.randn(x.shape) + shift


def labels_of(judge, pictures):
    """Indices of the right answers; -100, which the loss leaves out, for things of no single colour."""
    def index(head, value):
        return judge.labels[head].index(value) if value is not None else -100
    rows = [(index("object", p.name), index("color", p.color), index("place", p.place)) for p in pictures]
    return dict(zip(HEADS, torch.tensor(rows).T))


def draw(show, things, weights, rng, count, kind=None):
    chosen = rng.choices(things, weights, k=count)
    return [show.aligned(rng, t) if (kind or ("aligned" if rng.random() < .8 else "free")) == "aligned"
            else show.free(rng, t) for t in chosen]


@torch.no_grad()
def accuracy(judge, pictures):
    judge.eval()
    hits = {head: [] for head in HEADS}
    for at in range(0, len(pictures), 200):
        part = pictures[at:at + 200]
        answers = judge(to_input(np.stack([p.image for p in part])))
        for head, truth in labels_of(judge, part).items():
            asked = truth >= 0
            hits[head] += (answers[head].argmax(1) == truth)[asked].tolist()
    return {head: 100 * sum(h) / len(h) for head, h in hits.items()}


def report(judge, show, things, known, count):
    for title, chosen in (("all things", things), ("the model's things", known)):
        for kind in ("aligned", "free"):
            result = accuracy(judge, draw(show, chosen, None, random.Random(10 ** 6), count, kind))
            print("held-out %-8s pictures of %-18s (%3d): object %.1f%%, colour %.1f%%, place %.1f%%"
                  % (kind, title, len(chosen), *(result[head] for head in HEADS)), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="run/data")
    parser.add_argument("--objects", help="file with the names of the things the model learns, one a line")
    parser.add_argument("--out", default="run/classifier.pt")
    parser.add_argument("--minutes", type=float, default=8, help="of processor time")
    parser.add_argument("--resume", action="store_true", help="go on with the one in --out")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--held-out", type=int, default=2000, help="pictures of each kind for its own accuracy")
    parser.add_argument("--only-report", action="store_true", help="measure the classifier that is there")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    names = read_names(args.objects)
    show = Labelled(args.data, level=2, pool=24, seed=1)
    known = [o for o in show.objs if names is None or is_named(o, names)]
    things = [o for o in show.objs if o["level"] == 1 or o in known]

    if args.only_report:
        judge = Judge.load(args.out)
    else:
        judge = Judge.load(args.out) if args.resume else Judge([o["name"] for o in things])
        judge.to(memory_format=torch.channels_last)
        train(judge, show, things, [2 if o in known else 1 for o in things], args)
        judge.save(args.out)
    held = Labelled(args.data, level=2, pool=24, seed=2)
    for name in held.scenes:   # aligned pictures use the first of each scene, the one the model is trained on
        held.scenes[name][0] = show.scenes[name][0]
    by_name = {o["name"]: o for o in held.objs}
    report(judge, held, [by_name[o["name"]] for o in things], [by_name[o["name"]] for o in known], args.held_out)


def train(judge, show, things, weights, args):
    rng, noise = random.Random(args.seed), np.random.default_rng(args.seed)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=args.rate, weight_decay=1e-2)
    begin, step, seen, shown = time.process_time(), 0, 0, 0
    while (spent := (time.process_time() - begin) / 60 / args.minutes) < 1:   # fair on a busy machine
        for group in optimizer.param_groups:   # a short rise, then down to zero as the time runs out
            group["lr"] = args.rate * min(1, (step + 1) / 50) * (1 - spent) ** .8
        pictures = draw(show, things, weights, rng, args.batch)
        x = soften(to_input(np.stack([p.image for p in pictures])), noise).contiguous(memory_format=torch.channels_last)
        judge.train()
        answers, truth = judge(x), labels_of(judge, pictures)
        loss = sum(F.cross_entropy(answers[head], truth[head]) for head in HEADS)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step, seen = step + 1, seen + args.batch
        if spent * args.minutes * 2 > shown:
            shown += 1
            print("%4.0f s, %6d pictures, loss %.3f" % (spent * args.minutes * 60, seen, loss.item()), flush=True)


if __name__ == "__main__":
    main()

"""Labelled pictures for measuring: the compositor's own, with what is in them written down.

    show = Labelled('run/data', level=2)
    picture = show.aligned(rng, thing)     # as the model's training pictures are drawn: one size, whole-cell places
    picture = show.free(rng, thing)        # any size and place, any background
    picture.image, picture.name, picture.color, picture.place

The place is a scene's name, a plain colour ('plain red'), 'gradient' or 'pattern'; the colour is None for things of
many colours.
"""
import collections
import re

import numpy as np

from compositor import BG, S, Sampler
from scenes import SCENES

CELL = 8   # pixels a latent cell
COLORS = ("black", "blue", "brown", "gold", "gray", "green", "orange", "pink", "purple", "red", "white", "yellow")
PLAIN = tuple("plain " + color for color in BG)
PLACES = tuple(SCENES) + PLAIN + ("gradient", "pattern")
LONGEST_FIRST = re.compile("|".join(sorted(BG, key=len, reverse=True)))   # 'light blue' before 'blue'

Picture = collections.namedtuple("Picture", "image name color place")


def read_names(path):
    """One name a line, or separated by commas; an empty path gives None: no choice is made."""
    if not path:
        return None
    with open(path, encoding="utf-8") as file:
        return {name.strip() for name in re.split(r"[\n,]", file.read()) if name.strip()}


def is_named(thing, names):
    """Training knows a thing by its first two names only: the later ones are vague or shared with others."""
    return any(name["text"] in names for name in thing["names"][:2])


class Labelled(Sampler):
    def _plain(self, rng, mean):
        image, phrase = super()._plain(rng, mean)
        self.place = "plain " + LONGEST_FIRST.search(phrase).group()
        return image, phrase

    def _gradient(self, rng):
        self.place = "gradient"
        return super()._gradient(rng)

    def background(self, rng, objs, mean):
        self.place = "pattern"   # unless one of the others is drawn
        result = super().background(rng, objs, mean)
        if result[1]:
            self.place = result[1]
        return result

    def pick_image(self, rng, o, want_color=None):
        """Each colour of a thing equally often."""
        which = rng.randrange(len(o["images"]))
        self.color = o["colors"][which]
        return o["images"][which], self.color, False

    def free(self, rng, thing):
        image, _ = self.one(rng, thing)
        return Picture(np.asarray(image), thing["name"], self.color, self.place)

    def aligned(self, rng, thing, size=100, variants=1):
        index, color, _ = self.pick_image(rng, thing)
        if rng.random() < .5:
            image, _ = self._plain(rng, thing["mean"][index])
        else:
            self.place = self.scene_for(rng, [thing])
            image = self.scenes[self.place][rng.randrange(variants)].copy()
        cutout = self.cut(index, size, False)
        x, y = (S - cutout.width) // 2 + CELL * rng.randint(-1, 1), (S - cutout.height) // 2 + CELL * rng.randint(-1, 1)
        if thing["place"] == "b":
            y = S - cutout.height
        image.paste(cutout, (x, y), cutout)
        return Picture(np.asarray(image), thing["name"], color, self.place)

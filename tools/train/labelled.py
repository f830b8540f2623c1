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

from aligned import Aligned
from compositor import BG, Sampler
from scenes import SCENES

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


class Labelled(Sampler):
    def __init__(self, root, **options):
        super().__init__(root, **options)
        self.aligning = Aligned(sampler=self, shifted=1.)   # all the places, equally often

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

    def aligned(self, rng, thing):
        index, color, _ = self.pick_image(rng, thing)
        image, _, _, scene = self.aligning.background(rng, thing, index)
        cutout = self.cut(index, self.aligning.size, False)
        image.paste(cutout, self.aligning.place(rng, thing, cutout), cutout)
        return Picture(np.asarray(image), thing["name"], color, scene or self.place)

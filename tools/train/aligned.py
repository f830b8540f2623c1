"""Pictures that a small model learns quickly: one object of one size, mostly in its usual place, otherwise a whole number of
latent cells (8 pixels) away from it, on a plain colour or a scene; captions as the compositor makes them. A cell of the
latents then means the same piece of picture again and again."""
import random

import numpy as np

import compositor
from common import WORK


def is_named(thing, names):
    """A thing is chosen by its first two names; the later ones are vague or shared with other things."""
    return any(name["text"] in names for name in thing["names"][:2])


class Aligned:
    def __init__(self, level=1, keep=None, size=100, shift=1, shifted=.25, variants=1, sampler=None):
        self.compositor = sampler or compositor.Sampler(f"{WORK}/data", level=level, neutral=.03, flip=0.)
        self.size, self.shift, self.shifted, self.variants = size, shift, shifted, variants
        self.objects = [o for o in self.compositor.objs if keep is None or is_named(o, keep)]
        if not self.objects:
            raise ValueError(f"no object of level 1 to {level} has one of the names asked for")

    def background(self, rng, thing, image):
        """Picture, phrases for something that stands, phrases for something that flies, name of the scene or None."""
        c = self.compositor
        if rng.random() < .5:
            picture, phrase = c._plain(rng, thing["mean"][image])
            return picture, [phrase], [phrase], None
        scene = c.scene_for(rng, [thing])
        drawn = c.scenes[scene]
        picture = drawn[rng.randrange(min(self.variants, len(drawn)))].copy()
        return picture, *compositor.SCENES[scene][2:4], scene

    def place(self, rng, thing, cut):
        side, (w, h) = compositor.S, cut.size
        x, y = (side - w) // 2, side - h if thing["place"] == "b" else (side - h) // 2
        if rng.random() < self.shifted:
            x += 8 * rng.randint(-self.shift, self.shift)
            y += 0 if thing["place"] == "b" else 8 * rng.randint(-self.shift, self.shift)
        return x, y

    def sample(self, rng):
        """A picture [128, 128, 3] of bytes, and its caption."""
        c = self.compositor
        thing = rng.choice(self.objects)
        images, colors = thing["images"], thing["colors"]
        i = 0 if rng.random() < .6 else rng.randrange(len(images))
        say_color = colors[i] is not None and (i > 0 or rng.random() < .4)
        picture, on_ground, in_air, scene = self.background(rng, thing, images[i])
        cut = c.cut(images[i], self.size, False)
        picture.paste(cut, self.place(rng, thing, cut), cut)
        flies = thing["fly"] or (thing["place"] == "w" and scene == "underwater")
        noun = c.noun(rng, thing, colors[i], say_color)
        alone = rng.random() < .12 and (scene or "white" in on_ground[0])
        return np.asarray(picture), c.finish(rng, noun if alone else f"{noun} {rng.choice(in_air if flies else on_ground)}")


def sheet(path, seed=1):
    """32 of them with their captions, to look at."""
    from PIL import Image, ImageDraw
    source, rng = Aligned(), random.Random(seed)
    page = Image.new("RGB", (8 * 136, 4 * 150), "white")
    pen = ImageDraw.Draw(page)
    for k in range(32):
        picture, caption = source.sample(rng)
        x, y = k % 8 * 136, k // 8 * 150
        page.paste(Image.fromarray(picture), (x, y))
        pen.text((x, y + 130), caption[:24], fill="black")
    page.save(path)


if __name__ == "__main__":
    sheet("aligned.png")

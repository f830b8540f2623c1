#!/usr/bin/env python3
"""Writes eval_prompts.json: the prompts a model is judged by, with what a picture of each has to show.

    python tools/train/eval_prompts.py --data run/data        (make_dataset.py does it too)

Kinds:
    seen       36 prompts that a newcomer might type; those that name one thing have an answer
    level1     one for each thing of level 1, in a place it is at home in or on a plain colour, some with its colour
    held_out   a thing of level 1 in a place where the training pictures never have it (compositor.held_out)
    tuning     as level1 with other random numbers: for choosing guidance and steps, never for a result
"""
import argparse
import json
import os
import random

from compositor import BG, article, held_out
from scenes import SCENES

# prompt | thing | colour | places that are right; only the prompt where it shows several things
NEWCOMER = """
a cat|cat||
a red apple|apple|red|
a dog in the snow|dog||snow
a rocket in space|rocket||space
an astronaut on the moon|astronaut||moon
a house under a rainbow|house||rainbow
a red car on the road|car|red|road
a blue car in the city at night|car|blue|citynight
a pizza on a wooden table|pizza||table
a penguin in the snow|penguin||snow
a green dragon over the mountains|dragon|green|mountains
an owl in the forest at night|owl||forest,night
a sailboat on the sea at sunset|sailboat||sea,sunset
two apples on a table
a cat and a dog in a meadow
an astronaut riding a horse
a yellow banana on a blue background|banana|yellow|plain blue
a pink elephant in the desert|elephant|pink|desert
a castle in the mountains|castle||mountains
a birthday cake on a table|birthday cake||table
a tree in autumn|tree||autumn
a robot in a living room|robot||room
a shark under the sea|shark||underwater
a purple butterfly on a white background|butterfly|purple|plain white
a cup of coffee on a desk|cup of coffee||table
a teddy bear to the left of a gift
a fox in the forest, digital art|fox||forest
a photo of a lion|lion||
three balloons in the sky
a guitar on a polka dot background|guitar||pattern
a flying saucer over the city at night|flying saucer||citynight
a wizard riding a tiger
a snowman in winter|snowman||snow
a volcano by the sea|volcano||sea,beach
a sunflower in a field|sunflower||meadow
a black cat on a pink background|cat|black|plain pink
""".strip().splitlines()


def newcomer(line):
    prompt, *answer = line.split("|")
    entry = {"prompt": prompt, "kind": "seen"}
    if answer:
        thing, color, places = answer
        entry.update(object=thing, color=color or None, places=[p for p in places.split(",") if p])
    return entry


def phrase_of(thing, scene):
    return SCENES[scene][3 if thing["place"] == "f" else 2][0]


def noun(thing, color=None):
    text = " ".join(([color] if color else []) + [thing["name"]])
    return article(text) + " " + text if thing["names"][0]["article"] else text


def at_home(thing, kind, rng):
    """One prompt for a thing: every second one with its colour where it comes in several."""
    color = rng.choice([c for c in thing["colors"] if c]) if len(thing["colors"]) > 1 and rng.random() < .5 else None
    scenes = [s for s in thing["scenes"] if not held_out(thing["name"], s)]
    if rng.random() < .5 and scenes:
        place = rng.choice(scenes)
        phrase = phrase_of(thing, place)
    else:
        own = set(thing["colors"][:1]) | {color}
        plain = rng.choice([c for c in ("red", "yellow", "green", "blue", "purple", "pink", "white", "black", "gray")
                            if c in BG and c not in own])
        place, phrase = "plain " + plain, "on a %s background" % plain
    return {"prompt": noun(thing, color) + " " + phrase, "kind": kind, "object": thing["name"], "color": color,
            "places": [place]}


def write(data):
    with open(os.path.join(data, "captions.json"), encoding="utf-8") as file:
        things = [o for o in json.load(file)["objects"] if o["level"] == 1]
    prompts = [newcomer(line) for line in NEWCOMER]
    for seed, kind in ((1, "level1"), (2, "tuning")):
        rng = random.Random(seed)
        prompts += [at_home(thing, kind, rng) for thing in things]
    prompts += [{"prompt": noun(thing) + " " + phrase_of(thing, scene), "kind": "held_out", "object": thing["name"],
                 "color": None, "places": [scene]}
                for thing in things if thing["names"][0]["article"]
                for scene in SCENES if held_out(thing["name"], scene)]
    with open(os.path.join(data, "eval_prompts.json"), "w", encoding="utf-8") as file:
        json.dump(prompts, file, indent=0)
    kinds = [p["kind"] for p in prompts]
    print("prompts:", ", ".join("%d %s" % (kinds.count(kind), kind)
                                for kind in ("seen", "level1", "held_out", "tuning")))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="run/data", help="where captions.json is and eval_prompts.json goes")
    write(parser.parse_args().data)

"""Traces of diffusers of every family have the names of `sd --trace` and, up to rounding, its numbers. The models are small
ones of tools/synth.py."""
import json
import os
import sys
import tempfile
import unittest

import common
import numpy as np

STEPS, GUIDANCE = "2", "7.5"
LARGEST = 1e-4   # relative L2 error of any tensor; measured: 2.2e-5, behind a norm of what inpainting keeps
DRAW = {
    "sd2-small": [], "sdxl-small": [], "lcm-small": [],
    "refiner-small": ["-i", "PICTURE", "--strength", "0.9"],
    "inpaint-small": ["-i", "PICTURE", "--mask", "MASK", "--strength", "0.9"],
    "inpaint-xl-small": ["-i", "PICTURE", "--mask", "MASK", "--strength", "0.9"],
    "pix2pix-small": ["-i", "PICTURE", "--image-cfg-scale", "1.4"],
    "depth-small": ["-i", "PICTURE", "--depth", "DEPTH", "--strength", "0.9"],
    "x4-small": ["-i", "SMALL", "--noise-level", "30"],
}
PIPELINE = {"refiner-small": ["--pipeline", "StableDiffusionXLImg2ImgPipeline"]}   # which the published index names


def picture(path, width, height, mask=False):
    from PIL import Image
    x = np.random.default_rng(width).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    made = Image.fromarray(x).resize((width, height), Image.BICUBIC)
    if mask:
        x = np.zeros((height, width), np.uint8)
        x[:, width // 2:] = 255
        made = Image.fromarray(x)
    made.save(path)
    return path


@common.needs("torch", "diffusers", "transformers")
class Families(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.files = {"PICTURE": picture(cls.path("init.png"), 64, 64), "MASK": picture(cls.path("mask.png"), 64, 64, True),
                     "SMALL": picture(cls.path("small.png"), 16, 24), "DEPTH": picture(cls.path("depth.png"), 64, 64)}

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    @classmethod
    def path(cls, name):
        return os.path.join(cls.folder.name, name)

    def model(self, name):
        """A directory with the index that diffusers writes: it has a version, by which pipelines choose what to warn of."""
        sys.path.append(os.path.join(common.ROOT, "tools"))
        import synth
        made = self.path(name)
        synth.write_model(name, made, merges=os.path.join(common.ROOT, "weights", "merges.txt"))
        index = os.path.join(made, "model_index.json")
        with open(index, encoding="utf-8") as f:
            said = dict(json.load(f), _diffusers_version="0.21.0")
        with open(index, "w", encoding="utf-8") as f:
            json.dump(said, f)
        return made

    def theirs(self, model, run, path):
        """The command, without another process, whose imports would take longer than all it does."""
        from sd_reference import trace
        trace.main([model, *run, "--quiet", "--threads", "1", "-o", path])

    def test_each_family_agrees_by_name_and_number(self):
        for name, more in DRAW.items():
            with self.subTest(name):
                more = [self.files.get(word, word) for word in more]
                run = ["-p", "a red apple", "--steps", STEPS, "--cfg-scale", GUIDANCE, "-s", "4", *more]
                if name != "lcm-small":
                    run += ["-n", "a pear"]
                model, ours, theirs = self.model(name), self.path("ours.safetensors"), self.path("theirs.safetensors")
                self.theirs(model, run + PIPELINE.get(name, []), theirs)
                code, text = common.run("-m", model, *run, "--trace", ours, "-o", self.path("ours.png"), "-q")
                self.assertEqual(code, 0, text)
                code, text = common.run("compare", "--json", ours, theirs)
                said = json.loads(text)["compared"][0]
                self.assertGreater(len(said["tensors"]), 500)
                alone = [t["name"] for t in said["tensors"] if "relative_l2" not in t]
                self.assertEqual(alone, [])
                self.assertEqual(said["other_settings"], [])
                worst = max(said["tensors"], key=lambda t: t["relative_l2"])
                self.assertLess(worst["relative_l2"], LARGEST, worst["name"])


if __name__ == "__main__":
    unittest.main()

"""The examples of docs/VALIDATING.md in Python do what they say, from the first line to the last."""
import os
import re
import subprocess
import sys
import tempfile
import unittest

import common
import numpy as np


def blocks():
    """The blocks of code of the chapter, by their first line."""
    with open(os.path.join(common.ROOT, "docs", "VALIDATING.md"), encoding="utf-8") as f:
        chapter = re.search(r"\n## Python\n(.*?)\n## ", f.read(), re.S)[1]
    found = re.findall(r"^```\n(.*?)^```\n", chapter, re.S | re.M)
    return {text.split("\n", 1)[0]: text for text in found}


class Examples(unittest.TestCase):
    def setUp(self):
        self.folder, self.before = tempfile.TemporaryDirectory(), os.getcwd()
        os.chdir(self.folder.name)
        os.symlink(os.path.join(common.ROOT, "weights"), "weights")
        os.symlink(common.SD, "sd")

    def tearDown(self):
        os.chdir(self.before)
        self.folder.cleanup()

    def run_block(self, begins, **given):
        text, = [text for first, text in blocks().items() if first.startswith(begins)]
        exec(compile(text, begins, "exec"), given)
        return given

    def test_the_library(self):
        for name in ("ours", "theirs"):
            common.run("-p", "a", "--steps", "1", "-s", "1", "-q", "-o", os.path.abspath("a.ppm"), "--trace",
                       os.path.abspath(name + ".safetensors"))
        made = self.run_block("import sd_reference as sd", np=np)
        self.assertEqual(made["pictures"].shape, (1, 3, 128, 128))
        self.assertEqual(made["mean"].shape, (1, 4, 16, 16))
        bytes_of = np.rint(np.clip(made["pictures"][0] / 2 + 0.5, 0, 1) * 255).transpose(1, 2, 0)
        self.assertLessEqual(np.abs(bytes_of - made["drawn"].images[0]).max(), 1)

    def test_a_program_with_arrays(self):
        self.run_block("import numpy as np", h=np.ones((1, 4, 8, 8), np.float32))
        self.assertIn("step.0.unet.conv_in", common.run("show", os.path.abspath("mine.safetensors"))[1])

    @common.needs("torch")
    def test_any_model(self):
        import torch

        class Unet(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.conv_in = torch.nn.Conv2d(4, 8, 3)

            def forward(self, latents, timestep, context):
                return self.conv_in(latents)
        self.run_block("import sd_reference.trace", unet=Unet(), latents=torch.zeros(1, 4, 8, 8), timestep=1, context=None)
        self.assertIn("step.0.unet.conv_in", common.run("show", os.path.abspath("mine.safetensors"))[1])

    @common.needs("torch", "diffusers", "transformers")
    def test_diffusers_and_what_the_program_says_of_it(self):
        import diffusers
        import torch
        commands, = [text.split("\n", 1)[1] for first, text in blocks().items() if first.startswith("pip install ")]
        environment = dict(os.environ, PYTHONPATH=os.path.join(common.ROOT, "bindings", "python"))
        commands = commands.replace("python -m", '"%s" -m' % sys.executable)
        done = subprocess.run(["sh", "-ec", commands], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("no divergence", done.stdout)
        pipe = diffusers.StableDiffusionPipeline.from_pretrained("weights/tiny", dtype=torch.float32, local_files_only=True)
        pipe.set_progress_bar_config(disable=True)
        os.remove("theirs.safetensors")
        self.run_block("from sd_reference.trace import", pipe=pipe, torch=torch)
        self.assertTrue(os.path.getsize("theirs.safetensors"))


if __name__ == "__main__":
    unittest.main()

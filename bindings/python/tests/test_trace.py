"""Traces of diffusers have the names, the order and, up to rounding, the numbers of `sd --trace`."""
import json
import os
import subprocess
import sys
import tempfile
import unittest

import common
import numpy as np

RUN = dict(prompt="a red apple", negative_prompt="a pear", num_inference_steps=2, guidance_scale=7.5)
OURS = ["-m", common.TINY, "-p", "a red apple", "-n", "a pear", "--steps", "2", "--cfg-scale", "7.5", "-s", "4"]


def pipeline():
    import diffusers
    import torch
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(common.TINY, dtype=torch.float32, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def listed(*more):
    """The names of a run, by the program."""
    code, text = common.run("trace", "--list", *OURS, *more)
    assert code == 0, text
    return [line.split()[0] for line in text.splitlines() if line.count("[") == 1 and line.rstrip().split()[0] != "name"]


@common.needs("torch", "diffusers", "transformers")
class Pipelines(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.pipe = pipeline()
        cls.folder = tempfile.TemporaryDirectory()

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def trace(self, path=None, pipe=None, **more):
        import torch
        from sd_reference.trace import trace_pipeline
        return trace_pipeline(pipe or self.pipe, path, generator=torch.Generator().manual_seed(4), **dict(RUN, **more))

    def compared(self, theirs, *how, options=()):
        ours = self.path("ours.safetensors")
        code, text = common.run(*OURS, *options, "--trace", ours, "-o", self.path("ours.png"))
        self.assertEqual(code, 0, text)
        return common.run("compare", *how, ours, theirs)

    def test_names_and_order_are_those_of_the_program(self):
        found, wanted = list(self.trace()), listed()
        self.assertGreater(len(wanted), 800)
        self.assertEqual([n for n in found if n in set(wanted)], wanted)
        more = [n for n in found if n not in set(wanted)]
        self.assertTrue(all("noise_pred_" in n for n in more), more)

    def test_a_clean_run_agrees_and_a_fault_is_found_at_its_module(self):
        theirs = self.path("theirs.safetensors")
        self.trace(theirs)
        code, text = self.compared(theirs, "--json")
        self.assertEqual(code, 0, text)
        said = json.loads(text)["compared"][0]
        self.assertGreaterEqual(said["settings"], 10)
        self.assertEqual(said["other_settings"], [])
        conv = self.pipe.unet.mid_block.resnets[0].conv1
        saved = conv.bias.data.clone()
        conv.bias.data += 0.1
        try:
            self.trace(theirs)
        finally:
            conv.bias.data = saved
        code, text = self.compared(theirs)
        self.assertEqual(code, 1, text)
        self.assertIn("diverges first at step.0.unet.mid_block.resnets.0.conv1:", text.split("\n")[0])

    def test_pictures_and_masks(self):
        import diffusers
        from PIL import Image
        picture, mask = self.path("init.png"), self.path("mask.png")
        x = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(x).resize((128, 128), Image.BICUBIC).save(picture)
        half = np.zeros((128, 128), np.uint8)
        half[:, 64:] = 255
        Image.fromarray(half).save(mask)
        for cls, more, options in (
                ("StableDiffusionImg2ImgPipeline", {}, []),
                ("StableDiffusionInpaintPipeline", {"mask_image": Image.open(mask)}, ["--mask", mask])):
            theirs = self.path(cls + ".safetensors")
            pipe = getattr(diffusers, cls)(**self.pipe.components, requires_safety_checker=False)
            pipe.set_progress_bar_config(disable=True)
            pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
            self.trace(theirs, pipe, image=Image.open(picture), strength=0.5, **more)
            options = ["-i", picture, "--strength", "0.5", "--sampling-method", "ddim", *options]
            code, text = self.compared(theirs, options=options)
            self.assertEqual(code, 0, text)
            if "not compared" in text.split("\n")[0]:
                self.assertNotIn("for only REF has them", text)

    def test_nothing_is_left_behind(self):
        from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion as module
        from diffusers.utils import torch_utils
        self.trace()
        self.assertNotIn("step", vars(self.pipe.scheduler))
        self.assertNotIn("prepare_latents", vars(self.pipe))
        self.assertFalse(any(m._forward_hooks or m._forward_pre_hooks for m in self.pipe.unet.modules()))
        self.assertIs(module.randn_tensor, torch_utils.randn_tensor)

    def test_watching_changes_no_bit(self):
        import torch
        plain = self.pipe(generator=torch.Generator().manual_seed(4), output_type="np", **RUN).images
        np.testing.assert_array_equal(self.trace()["image"], plain.transpose(0, 3, 1, 2))

    def test_a_run_that_fails_leaves_no_file(self):
        with self.assertRaises(Exception):
            self.trace(self.path("failed.safetensors"), callback_on_step_end_tensor_inputs=["none"])
        self.assertFalse([n for n in os.listdir(self.folder.name) if n.startswith("failed")])

    def test_the_command_does_the_same_without_the_library(self):
        path = self.path("command.safetensors")
        environment = dict(os.environ, PYTHONPATH=os.path.join(common.ROOT, "bindings", "python"))
        done = subprocess.run([sys.executable, "-m", "sd_reference.trace", *OURS[1:], "-o", path, "--quiet",
                               "--filter", "latents.*,noise"], env=environment, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        self.assertEqual(done.returncode, 0, done.stdout)
        code, text = self.compared(path)
        self.assertEqual(code, 0, text)
        self.assertIn("5 tensors agree", text)


@common.needs("torch")
class Modules(unittest.TestCase):
    def test_any_tree_of_modules(self):
        import sd_reference.trace
        import torch
        tree = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Sequential(torch.nn.ReLU()))
        x = torch.ones(1, 2)
        with sd_reference.trace(tree, prefix="a.") as t:
            y = tree(x)
            tree(x)
        found = t.result()
        self.assertEqual(list(found), ["a.0", "a.1.0", "a.1", "a", "a.0:2", "a.1.0:2", "a.1:2", "a:2"])
        np.testing.assert_array_equal(found["a"], y.detach().numpy())
        self.assertFalse(tree._forward_hooks)


if __name__ == "__main__":
    unittest.main()

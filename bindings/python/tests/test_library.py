"""The bindings compute what the program does, and their structs are those of sd.h."""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import common
import numpy as np
import sd_reference as sd
from sd_reference import structs

DRAW = dict(steps=2, guidance_scale=4, seed=3)
OPTIONS = ["-p", "a red apple", "-n", "a pear", "--steps", "2", "--cfg-scale", "4", "-s", "3"]


def fields(s):
    """Room that is left to grow becomes fields of the library's that have their defaults."""
    return [f for f, _ in s._fields_ if f != "reserved"]


def declared():
    """The fields of every struct in the headers, by its name, in their order."""
    structs = {}
    for header in ("sd.h", "sd_tools.h"):
        with open(os.path.join(common.ROOT, header), encoding="utf-8") as f:
            text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
        for name, body in re.findall(r"typedef struct (\w+) \{(.*?)\} \1;", text, re.S):
            names = structs[name] = []
            for declaration in filter(None, (d.strip() for d in body.split(";"))):
                function = re.search(r"\(\*(\w+)\)", declaration)
                names += [function[1]] if function else re.findall(r"(\w+)(?:\[\w+\])*\s*(?:,|$)", declaration)
    return structs


def c_program():
    """Prints the size of each struct and the place and the size of each field, as a C compiler has them."""
    lines = ["#include <stdio.h>", '#include "sd.h"', "int main(void) {"]
    for name, s in structs.KNOWN.items():
        lines.append('printf("%s %%zu\\n", sizeof(%s));' % (name, name))
        for field in fields(s):
            lines.append('printf("%s.%s %%zu %%zu\\n", offsetof(%s, %s), sizeof(((%s *)0)->%s));' % (
                (name, field, name, field, name, field)))
    for group, prefix in ((structs.PARTS, "SD_PART_"), (structs.RESIDENCY, "SD_RESIDENCY_"), (structs.GEMM, "SD_GEMM_")):
        lines += ['printf("%s%s %%d\\n", %s%s);' % (prefix, w.upper(), prefix, w.upper()) for w in group]
    for name in ("TEXT", "FILE", "INT", "BOOL", "NUMBER", "SEED", "LIST", "MARGINS", "PAIR"):
        lines.append('printf("SD_PARAM_%s %%d\\n", SD_PARAM_%s);' % (name, name))
    lines += ['printf("SD_%s %%d\\n", SD_%s);' % (n, n) for n in ("DEFAULT", "F32", "I64", "TOKENS")]
    return "\n".join(lines + ["return 0; }"])


def here():
    """The same lines, as the bindings have them; of a struct that may grow, its size is left out."""
    lines = []
    for name, s in structs.KNOWN.items():
        first = s._fields_[0][0]
        grows = first == "size" or name in ("sd_model_info", "sd_param_info", "sd_sampler_info", "sd_progress")
        lines.append(name if grows else "%s %d" % (name, structs.C.sizeof(s)))
        lines += ["%s.%s %d %d" % (name, f, getattr(s, f).offset, getattr(s, f).size) for f in fields(s)]
    for group, prefix in ((structs.PARTS, "SD_PART_"), (structs.RESIDENCY, "SD_RESIDENCY_"), (structs.GEMM, "SD_GEMM_")):
        lines += ["%s%s %d" % (prefix, w.upper(), n) for w, n in group.items()]
    for name in ("TEXT", "FILE", "INT", "BOOL", "NUMBER", "SEED", "LIST", "MARGINS", "PAIR"):
        lines.append("SD_PARAM_%s %d" % (name, getattr(structs, name)))
    return lines + ["SD_DEFAULT %d" % structs.DEFAULT, "SD_F32 %d" % structs.F32, "SD_I64 %d" % structs.I64_TYPE, "SD_TOKENS 77"]


class Structs(unittest.TestCase):
    @unittest.skipUnless(shutil.which(os.environ.get("CC", "cc")), "needs a C compiler")
    def test_structs_are_those_of_the_header(self):
        with tempfile.TemporaryDirectory() as folder:
            source, program = os.path.join(folder, "sizes.c"), os.path.join(folder, "sizes")
            with open(source, "w", encoding="ascii") as f:
                f.write(c_program())
            subprocess.run([os.environ.get("CC", "cc"), "-std=c99", "-I", common.ROOT, "-o", program, source], check=True)
            printed = subprocess.run([program], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
        mine = here()
        self.assertEqual(len(printed), len(mine))
        for c, python in zip(printed, mine):
            self.assertEqual(c if " " in python else c.split()[0], python)


    def test_no_struct_lacks_a_field_of_the_headers(self):
        header = declared()
        self.assertEqual(header["sd_image"], ["width", "height", "channels", "data"])   # that they are read at all
        for name, s in structs.KNOWN.items():
            self.assertEqual([f for f, _ in s._fields_], header[name], name)


class Parameters(unittest.TestCase):
    def example(self, info):
        """A value that is not the default, as text."""
        number = info.most if info.initial != info.most and info.most < 1e9 else info.least
        return {structs.TEXT: "words", structs.FILE: "file", structs.INT: "%.0f" % number,
                structs.BOOL: "true" if info.initial != 1 else "false", structs.NUMBER: repr(number),
                structs.SEED: "18446744073709551615", structs.LIST: "3.5,2,0", structs.MARGINS: "1,2,3,4",
                structs.PAIR: "32%s16" % (info.words or b"").decode()}[info.type]

    def test_every_parameter_begins_with_its_default_and_can_be_set(self):
        infos = sd.parameters()
        self.assertGreater(len(infos), 40)
        for info in infos:
            p, key, value = sd.Params(), info.key.decode(), self.example(info)
            self.assertIsNone(p.get(key), key)
            p.set(**{key: value})
            if info.type == structs.NUMBER:
                self.assertEqual(float(p.get(key)), float(value), key)
            else:
                self.assertEqual(p.get(key), value, key)

    def test_lists_of_numbers_are_taken(self):
        p = sd.Params(sigmas=np.array([5.5, 1, 0]), outpaint=[0, 64, 0, 64], timesteps=None)
        self.assertEqual(p.get("sigmas"), "5.5,1,0")
        self.assertEqual(p.get("outpaint"), "0,64,0,64")

    def test_a_value_that_is_none_is_an_error_with_the_librarys_sentence(self):
        with self.assertRaises(sd.Error) as caught:
            sd.Params(steps="many")
        self.assertEqual(caught.exception.status, "argument")
        self.assertIn('"many"', str(caught.exception))
        with self.assertRaises(sd.Error):
            sd.Params(noise=np.zeros(4))


class Models(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = sd.Model(common.TINY, threads=2)
        cls.folder = tempfile.TemporaryDirectory()

    @classmethod
    def tearDownClass(cls):
        cls.model.close()
        cls.folder.cleanup()

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def test_a_run_and_its_trace_are_the_programs(self):
        ours, file = self.path("ours.ppm"), self.path("ours.safetensors")
        code, text = common.run("-m", common.TINY, *OPTIONS, "-o", ours, "--trace", file)
        self.assertEqual(code, 0, text)
        told = []
        got = self.model.generate("a red apple", "a pear", trace=True, progress=lambda *a: told.append(a), **DRAW)
        with open(ours, "rb") as f:
            data = f.read()
        np.testing.assert_array_equal(np.frombuffer(data[-128 * 128 * 3:], np.uint8).reshape(1, 128, 128, 3), got.images)
        self.assertEqual([(s, d, n) for s, d, n, _ in told],
                         [("text", 1, 1), ("step", 1, 3), ("step", 2, 3), ("step", 3, 3), ("vae", 1, 1)])
        listed = self.model.trace_list("a red apple", "a pear", **DRAW)
        self.assertEqual({k: v.shape for k, v in got.trace.items()}, listed)
        self.assertEqual(list(got.trace), list(listed))
        from sd_reference import store
        mine = store.File(self.path("mine.safetensors"))
        for name, x in got.trace.items():
            mine(name, x)
        mine.close()
        said = sd.compare(file, self.path("mine.safetensors"))
        self.assertEqual(said["compared"], len(listed))
        self.assertFalse(said["different"])
        self.assertTrue(all(t.get("relative_l2") == 0 for t in said["tensors"]))

    def test_comparisons_have_the_programs_options(self):
        from sd_reference import store
        whole, page, floor = self.path("whole.safetensors"), self.path("page.html"), self.path("floor.txt")
        parts = [self.path("part%d.safetensors" % i) for i in range(2)]
        x = np.random.default_rng(1).standard_normal((2, 4, 8, 8)).astype(np.float32)
        for path, part in zip([whole, *parts], [x, x[:1], x[1:] * np.float32(1.00001)]):
            f = store.File(path)
            f("step.0.unet.conv_in", part)
            f.close()
        with open(floor, "w", encoding="ascii") as f:
            f.write("1e-9 step.0.unet.conv_in\n")
        self.assertFalse(sd.compare(whole, parts, html=page)["different"])
        self.assertTrue(os.path.getsize(page))
        self.assertTrue(sd.compare(whole, parts, floor=floor)["different"])
        self.assertGreater(sd.compare(whole, parts, rtol=0, atol=0)["tensors"][0]["outside"], 0)
        with self.assertRaises(sd.Error):
            sd.compare(whole, parts, columns=3)

    def test_stages_make_what_a_run_makes(self):
        m, t = self.model, self.model.generate("a red apple", "a pear", trace=True, **DRAW).trace
        self.assertEqual(m.tokenize("a red apple")["ids"].tolist(), t["tokens"][1].tolist())
        self.assertEqual(m.pieces("a red apple")[1:-1], ["a</w>", "red</w>", "apple</w>"])
        context = m.encode_text(["a pear", "a red apple"])
        np.testing.assert_array_equal(context, t["prompt_embeds"])
        np.testing.assert_array_equal(sd.randn(3, 1, 4, 16, 16), t["noise"])
        noise_pred, modules = m.unet(np.repeat(t["latents.0"], 2, 0), t["timestep.0"], context, trace="unet.conv_out")
        np.testing.assert_array_equal(noise_pred, t["step.0.unet.conv_out"])
        np.testing.assert_array_equal(modules["unet.conv_out"], noise_pred)
        last = t["latents.3"].astype(np.float64) / m.info["scaling_factor"]
        np.testing.assert_array_equal(np.clip(m.decode(last).astype(np.float64) / 2 + 0.5, 0, 1).astype(np.float32), t["image"])
        mean, logvar = m.encode(np.zeros((2, 3, 128, 64)))
        self.assertEqual((mean.shape, logvar.shape), ((2, 4, 16, 8),) * 2)
        latents = m.generate_latents("a red apple", "a pear", **DRAW).latents
        np.testing.assert_array_equal(latents, t["latents.3"])
        s = m.schedule(steps=2)
        self.assertEqual(s["timesteps"].tolist(), [float(t["timestep.%d" % i][0]) for i in range(3)])
        self.assertEqual(len(s["sigmas"]), 4)

    def test_arrays_go_in(self):
        noise = sd.randn(3, 1, 4, 16, 16)
        same = self.model.generate("a red apple", "a pear", noise=noise, **dict(DRAW, seed=9)).images
        np.testing.assert_array_equal(same, self.model.generate("a red apple", "a pear", **DRAW).images)
        picture = np.random.default_rng(1).integers(0, 256, (128, 128, 3), dtype=np.uint8)
        mask = np.zeros((128, 128), np.uint8)
        mask[:, 64:] = 255
        out = self.model.generate("a red apple", image=picture, mask=mask, strength=0.5, **DRAW).images[0]
        np.testing.assert_array_equal(out[:, :64], picture[:, :64])
        self.assertTrue((out[:, 64:] != picture[:, 64:]).any())

    def test_several_pictures(self):
        self.assertEqual(self.model.generate("a", batch=2, **DRAW).images.shape, (2, 128, 128, 3))
        self.assertEqual(self.model.generate("a", batch=2, keep=2, **DRAW).images.shape, (1, 128, 128, 3))

    def test_what_a_callback_raises_ends_the_run_and_is_raised(self):
        class Enough(Exception):
            pass

        def stop(stage, done, total, seconds):
            if stage == "step":
                raise Enough
        with self.assertRaises(Enough):
            self.model.generate("a", progress=stop, **dict(DRAW, steps=50))
        self.assertEqual(len(self.model.generate("a", **DRAW).images), 1)   # the model is as good as before

    def test_errors_are_sentences(self):
        for status, call in (("argument", lambda: self.model.generate("a", steps=0)),
                             ("argument", lambda: self.model.generate("a", trace="latent.*", **DRAW)),
                             ("shape", lambda: self.model.decode(np.zeros((1, 3, 8, 8)))),
                             ("shape", lambda: self.model.encode(np.zeros((1, 3, 100, 128)))),
                             ("argument", lambda: self.model.unet(np.zeros((1, 4, 8, 8)), 1, np.zeros((1, 77, 96)), words=1)),
                             ("argument", lambda: sd.Model(common.TINY, colour=1)),
                             ("argument", lambda: self.model.encode_text([])),
                             ("argument", lambda: self.model.tokenize("a\0b")),
                             ("shape", lambda: self.model.generate("a", noise=np.zeros((1, 16, 16, 4)), **DRAW)),
                             ("missing", lambda: sd.Model(self.path("none")))):
            with self.assertRaises(sd.Error) as caught:
                call()
            self.assertEqual(caught.exception.status, status, str(caught.exception))
            self.assertTrue(str(caught.exception))

    def test_bytes_are_a_text(self):
        self.assertEqual(self.model.resolve(prompt=b"a pear")["prompt"], "a pear")
        np.testing.assert_array_equal(self.model.encode_text(b"a pear"), self.model.encode_text("a pear"))

    def test_a_closed_model_says_so(self):
        model = sd.Model(common.TINY)
        model.close()
        with self.assertRaisesRegex(sd.Error, "the model is closed"):
            model.generate("a", **DRAW)

    def test_parts_of_a_model(self):
        with sd.Model(common.TINY, parts=["tokenizer", "text"]) as m:
            self.assertEqual(m.encode_text("a").shape, (77, 96))
        with sd.Model(common.TINY, parts="unet") as m:
            self.assertEqual(m.unet(np.zeros((1, 4, 8, 8)), 1, np.zeros((1, 77, 96))).shape, (1, 4, 8, 8))
        with sd.Model(common.TINY, parts="vae") as m:
            self.assertEqual(m.decode(np.zeros((1, 4, 8, 8))).shape, (1, 3, 64, 64))

    def test_what_needs_no_model(self):
        self.assertEqual(sd.inspect(common.TINY)["path"], common.TINY)
        self.assertEqual(sd.plan("sd15")["family"], "sd15")
        self.assertIn("EulerDiscreteScheduler", [s["diffusers"] for s in sd.samplers()])
        self.assertIn("karras", sd.schedules())
        self.assertTrue(sd.version())

    def test_the_trace_scripts_need_no_library(self):
        code = "import sd_reference.trace, sd_reference.store, sys; assert 'sd_reference.library' not in sys.modules"
        environment = dict(os.environ, PYTHONPATH=os.path.join(common.ROOT, "bindings", "python"), SD_LIBRARY="/nowhere")
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)


if __name__ == "__main__":
    unittest.main()

"""The Python reader of a minimal case, as it stands in docs/VALIDATING.md, computes what the program does."""
import os
import subprocess
import sys
import tempfile
import unittest

import common

RUN = ["-p", "a red apple", "-s", "5", "--steps", "1", "--cfg-scale", "7.5"]
MODULES = [   # together every operation that a case can have
    "step.0.unet.down_blocks.1.resnets.0", "step.0.unet.mid_block.attentions.0",
    "step.0.unet.up_blocks.0.resnets.0.norm1", "step.0.unet.up_blocks.0.upsamplers.0.conv",
    "text_encoder.text_model.encoder.layers.1", "text_encoder.text_model.final_layer_norm",
    "vae.decoder.mid_block.attentions.0.group_norm"]


def reader():
    """The program in the document."""
    with open(os.path.join(common.ROOT, "docs", "VALIDATING.md"), encoding="utf-8") as f:
        return f.read().split("```python\nimport json, sys, torch", 1)[1].split("```\n", 1)[0]


class Reader(unittest.TestCase):
    @common.needs("torch", "safetensors")
    def test_the_reader_in_the_document_computes_cases(self):
        source = "import json, sys, torch" + reader()
        self.assertLessEqual(len(source.splitlines()), 30)
        with tempfile.TemporaryDirectory() as folder:
            trace = os.path.join(folder, "t.safetensors")
            self.assertEqual(common.run(*RUN, "--trace", trace, "-o", os.path.join(folder, "a.ppm"))[0], 0)
            files = [os.path.join(folder, "%d.safetensors" % i) for i in range(len(MODULES))]
            for path, module in zip(files, MODULES):
                self.assertEqual(common.run("extract", *RUN, "--trace", trace, "--module", module, "-o", path)[0], 0)
            for_all = "import sys\nfor path in sys.argv[1:]:\n    sys.argv[1] = path\n    exec(%r, {})\n" % source
            said = subprocess.run([sys.executable, "-c", for_all] + files, check=True, capture_output=True, text=True)
            for i, line in enumerate(said.stdout.split("\n")[:-1]):
                self.assertLess(float(line.split()[1]), 2e-6, (MODULES[i // 2], line))
            self.assertEqual(said.stdout.count("theirs"), len(MODULES))


if __name__ == "__main__":
    unittest.main()

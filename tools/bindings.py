"""The package in bindings/python for the tools, which need not have it installed: `from bindings import sd_reference`."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bindings", "python"))

import sd_reference

"""What the tests share: the program beside them, and reasons to skip."""
import importlib.util
import os
import subprocess
import sys
import unittest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
TINY = os.path.join(ROOT, "weights", "tiny")
SD = os.environ.get("SD_PROGRAM", os.path.join(ROOT, "sd"))
sys.path.insert(0, os.path.join(ROOT, "bindings", "python"))


def needs(*modules):
    """Skips a test where one of these modules is not installed."""
    missing = [m for m in modules if importlib.util.find_spec(m) is None]
    return unittest.skipIf(missing, "needs %s" % " and ".join(missing))


def run(*arguments):
    """The exit code of the program, and what it printed."""
    done = subprocess.run([SD, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout

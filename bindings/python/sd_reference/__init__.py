"""Stable Diffusion from Python: the library libsd with numpy arrays, and traces of other implementations in its names.

Model, generate, compare and the like are library.py's, loaded when they are first asked for: the trace scripts need no libsd.
"""
import importlib

FROM_LIBRARY = ("Drawn", "Error", "Model", "Params", "compare", "default", "find", "inspect", "load", "parameters", "plan",
                "randn", "samplers", "schedules", "version")
__all__ = [*FROM_LIBRARY, "trace"]


def __getattr__(name):
    if name in FROM_LIBRARY:
        return getattr(importlib.import_module(".library", __name__), name)
    if name == "trace":   # a module that can be called: sd_reference.trace(model)
        return importlib.import_module(".trace", __name__)
    raise AttributeError("module %r has no attribute %r" % (__name__, name))

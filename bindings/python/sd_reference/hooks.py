"""What the modules of a torch model put out, by their paths in the tree (named_modules)."""
import contextlib
import functools
import re

from .store import open_store

# What `sd --trace` has no name for: containers, dropout, and modules that run twice in one pass.
UNTRACED = re.compile(
    r"^$|\.to_out\.1$|\.ff\.net\.1$|\.dropout$|\.nonlinearity$|samplers\.[0-9]$|^(encoder|decoder)$|(^|\.)mid_block$|"
    r"(^|\.)(up|down)_blocks\.[0-9]+$|(token|position)_embedding$|\.mlp$|self_attn$|^text_model(\.encoder)?$")


def one_tensor(output):
    """The tensor that a module put out, if it is one."""
    if isinstance(output, (tuple, list)) and len(output) == 1:
        output = output[0]
    elif hasattr(output, "sample") and hasattr(output.sample, "detach"):
        output = output.sample
    return output if hasattr(output, "detach") else None


class Recorder:
    """Hands the output of every module, if it is one tensor, to emit(path, tensor). emit None: to nobody. `skip`: a
    pattern of paths that are left out."""

    def __init__(self, module, emit, prefix="", skip=UNTRACED):
        self.handles = []
        for name, m in module.named_modules() if emit else ():
            if not skip or not skip.search(prefix + name):
                self.handles.append(m.register_forward_hook(functools.partial(self.hook, emit, prefix + name)))

    @staticmethod
    def hook(emit, path, module, args, output):
        x = one_tensor(output)
        if x is not None:
            emit(path, x)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for h in self.handles:
            h.remove()


@contextlib.contextmanager
def trace(model, path=None, prefix="", only=None):
    """While active, every module of a torch model that runs is recorded.

        with trace(unet, prefix="step.0.unet.") as t:
            unet(latents, timestep, context)
        t.result()["step.0.unet.conv_in"]

    path: a file or a directory to write instead, see store.open_store. A module that runs again has its name with :2.
    """
    store = open_store(path, only)
    try:
        with Recorder(model, lambda name, x: store(prefix + name if name else prefix.rstrip(".") or "output", x),
                      skip=None):
            yield store
    except BaseException:
        store.abort()
        raise
    store.close()

"""Named tensors in the order in which they were computed: in memory, in a safetensors file, in a directory of .npy files.

The file is what `sd --trace` writes and `sd compare` reads. safetensors' own writers sort by name, so that the order is
lost; here the numbers lie in the order of execution. Needs numpy alone.
"""
import fnmatch
import json
import os
import struct
import tempfile

import numpy as np

DTYPES = {"float32": "F32", "float64": "F64", "int64": "I64"}
BLOCK = 1 << 20


def numbers(x):
    """A tensor of torch, or what numpy takes for an array: as float32, float64 or int64. bfloat16 has no other type."""
    if hasattr(x, "detach"):
        x = x.detach().cpu()
        x = (x.float() if x.is_floating_point() and x.element_size() < 4 else x).numpy()
    x = np.asarray(x)
    kind = "int64" if x.dtype.kind in "iub" else "float64" if x.dtype == np.float64 else "float32"
    return np.ascontiguousarray(x, dtype=kind).reshape(x.shape)   # ascontiguousarray makes a scalar [1]


class Store:
    """Takes tensors by store(name, tensor). `only`: a list of globs, as that of `sd --trace-filter`; None: all.

    A tensor that becomes known late can be put where it belongs: at = store.mark() before, store(name, x, at) later.
    A name that comes again becomes name:2, name:3.
    """

    def __init__(self, only=None):
        self.globs = only.split(",") if only else ["*"]
        self.places, self.counts, self.metadata = {}, {}, {}   # metadata: texts for a file's header

    def mark(self):
        return len(self.places)

    def __call__(self, name, x, at=None):
        if not name or name == "__metadata__":
            raise ValueError("a tensor cannot have the name %r" % name)
        n = self.counts[name] = self.counts.get(name, 0) + 1
        name = name if n == 1 else "%s:%d" % (name, n)
        if not any(fnmatch.fnmatchcase(name, g) for g in self.globs):
            return
        here = self.mark()
        self.places[name] = (here if at is None else at, at is None, here)   # before what came after the mark
        self.keep(name, numbers(x))

    def names(self):
        """In the order of execution."""
        return sorted(self.places, key=self.places.get)


class Memory(Store):
    """result() is a dictionary of numpy arrays."""

    def __init__(self, only=None):
        super().__init__(only)
        self.arrays = {}

    def keep(self, name, x):
        self.arrays[name] = x.copy()

    def result(self):
        return {name: self.arrays[name] for name in self.names()}

    close = result

    def abort(self):
        self.arrays = {}


class Directory(Store):
    """NAME.npy for each tensor, and tensors.json with their order and the metadata, as `sd --trace DIRECTORY/` has it."""

    def __init__(self, path, only=None):
        super().__init__(only)
        self.path, self.written = path, []
        os.makedirs(path, exist_ok=True)
        self.clear()

    def file(self, name):
        if not name or name != os.path.basename(name):
            raise ValueError("%r cannot be the name of a file in %s: a trace in one file may have it" % (name, self.path))
        return os.path.join(self.path, name + ".npy")

    def clear(self):
        """Takes away the trace that is there. Any other tensor would be read as one of this trace's."""
        listed = os.path.join(self.path, "tensors.json")
        if os.path.exists(listed):
            with open(listed, encoding="utf-8") as f:
                files = [self.file(name) for name in json.load(f)["tensors"]]
            for file in filter(os.path.exists, files):
                os.remove(file)
            os.remove(listed)
        other = next((name for name in sorted(os.listdir(self.path)) if name.endswith(".npy")), None)
        if other:
            raise FileExistsError("%s has %s, which is of no trace that was written there; give another directory" % (
                self.path, other))

    def keep(self, name, x):
        self.written.append(self.file(name))
        np.save(self.written[-1], x)

    def close(self):
        with open(os.path.join(self.path, "tensors.json"), "w", encoding="utf-8") as f:
            json.dump({"settings": {k: str(v) for k, v in self.metadata.items()}, "tensors": self.names()}, f,
                      ensure_ascii=False, indent=0)

    def abort(self):
        for file in filter(os.path.exists, self.written):
            os.remove(file)


class File(Store):
    """A safetensors file, which appears at close(), whole. Until then the numbers are in a file without a name beside it,
    so that a trace may be larger than memory. Numbers of 8 bytes come first, so that all are aligned."""

    def __init__(self, path, only=None):
        super().__init__(only)
        self.path, self.parts, self.size = path, {}, 0
        self.spool = tempfile.TemporaryFile(dir=os.path.dirname(os.path.abspath(path)))

    def keep(self, name, x):
        self.spool.write(x.data if x.size else b"")
        self.parts[name] = (DTYPES[x.dtype.name], list(x.shape), self.size, x.nbytes)
        self.size += x.nbytes

    def header(self, names):
        entries, at = {"__metadata__": {k: str(v) for k, v in self.metadata.items()}} if self.metadata else {}, 0
        for name in names:
            dtype, shape, _, size = self.parts[name]
            entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
            at += size
        text = json.dumps(entries, ensure_ascii=False).encode()
        return text + b" " * (-len(text) % 8)

    def copy(self, name, to):
        _, _, start, left = self.parts[name]
        self.spool.seek(start)
        while left:
            block = self.spool.read(min(left, BLOCK))
            to.write(block)
            left -= len(block)

    def close(self):
        names = sorted(self.names(), key=lambda name: self.parts[name][0] == "F32")
        text, temporary = self.header(names), "%s.%d.tmp" % (self.path, os.getpid())
        try:
            with open(temporary, "wb") as f:
                f.write(struct.pack("<Q", len(text)) + text)
                for name in names:
                    self.copy(name, f)
            os.replace(temporary, self.path)
        finally:
            self.spool.close()
            if os.path.exists(temporary):
                os.remove(temporary)

    def abort(self):
        self.spool.close()


def open_store(path=None, only=None):
    """None: in memory; a path that ends with a slash: a directory of .npy files; else a safetensors file."""
    if path is None:
        return Memory(only)
    return Directory(path, only) if str(path).endswith(("/", os.sep)) else File(str(path), only)

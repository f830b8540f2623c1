"""Files of named tensors keep the order of execution, and say the same as safetensors' own."""
import json
import os
import struct
import tempfile
import unittest

import common
import numpy as np
from sd_reference import store


def read(path):
    """names by place, arrays, metadata"""
    with open(path, "rb") as f:
        size, = struct.unpack("<Q", f.read(8))
        header, data = json.loads(f.read(size)), f.read()
    metadata, arrays = header.pop("__metadata__", {}), {}
    names = sorted(header, key=lambda n: header[n]["data_offsets"])
    for name in names:
        start, end = header[name]["data_offsets"]
        kind = {"F32": "<f4", "F64": "<f8", "I64": "<i8"}[header[name]["dtype"]]
        arrays[name] = np.frombuffer(data[start:end], kind).reshape(header[name]["shape"])
    return names, arrays, metadata


class Files(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "t.safetensors")

    def tearDown(self):
        self.folder.cleanup()

    def fill(self, s):
        s("z", np.float32([1, 2, 3]))
        at = s.mark()
        s("y", np.float16([[0.5]]))
        s("early", np.arange(6, dtype=np.float32).reshape(2, 3).T, at)
        s("early2", np.float32(7), at)
        s("tokens", np.int32([[49406, 49407]]))
        s("z", np.float32([4]))
        return s

    def test_tensors_lie_in_the_order_of_execution(self):
        s = self.fill(store.File(self.path))
        s.metadata["seed"] = 1
        s.close()
        names, arrays, metadata = read(self.path)
        self.assertEqual(names, ["tokens", "z", "early", "early2", "y", "z:2"])   # whole numbers of 8 bytes first
        self.assertEqual(metadata, {"seed": "1"})
        np.testing.assert_array_equal(arrays["early"], np.arange(6).reshape(2, 3).T)
        np.testing.assert_array_equal(arrays["tokens"], [[49406, 49407]])
        self.assertEqual(arrays["early2"].shape, ())
        self.assertEqual(os.listdir(self.folder.name), ["t.safetensors"])

    def test_memory_and_directories_have_the_same(self):
        self.fill(store.File(self.path)).close()
        memory = self.fill(store.Memory()).close()
        self.assertEqual(list(memory), ["z", "early", "early2", "y", "tokens", "z:2"])
        folder = os.path.join(self.folder.name, "d/")
        s = self.fill(store.open_store(folder))
        s.metadata["seed"] = 1
        s.close()
        with open(folder + "tensors.json", encoding="utf-8") as f:
            self.assertEqual(json.load(f), {"settings": {"seed": "1"}, "tensors": list(memory)})
        for name, x in read(self.path)[1].items():
            np.testing.assert_array_equal(memory[name], x)
            np.testing.assert_array_equal(np.load(folder + name + ".npy"), x)

    def test_a_directory_has_one_trace(self):
        folder = os.path.join(self.folder.name, "d/")
        for names in ("ab", "c"):
            s = store.open_store(folder)
            for name in names:
                s(name, np.zeros(2))
            s.close()
        self.assertEqual(sorted(os.listdir(folder)), ["c.npy", "tensors.json"])
        np.save(folder + "old.npy", np.zeros(2))
        with self.assertRaisesRegex(FileExistsError, "old.npy"):
            store.open_store(folder)
        other = store.open_store(os.path.join(self.folder.name, "e/"))
        other("a", np.zeros(2))
        for name in ("../x", "a/b", "", "__metadata__"):
            with self.assertRaises(ValueError):
                other(name, np.zeros(2))
        other.abort()
        self.assertEqual(os.listdir(other.path), [])

    def test_memory_does_not_change_with_its_source(self):
        s, x = store.Memory(), np.zeros(2, np.float32)
        s("x", x)
        x[0] = 1
        self.assertEqual(s.result()["x"][0], 0)

    def test_globs_choose(self):
        self.assertEqual(list(self.fill(store.Memory("e*,y")).close()), ["early", "early2", "y"])

    def test_what_is_aborted_leaves_nothing(self):
        self.fill(store.File(self.path)).abort()
        self.assertEqual(os.listdir(self.folder.name), [])

    @common.needs("safetensors")
    def test_safetensors_reads_it(self):
        import safetensors.numpy
        self.fill(store.File(self.path)).close()
        theirs, ours = safetensors.numpy.load_file(self.path), read(self.path)[1]
        self.assertEqual(sorted(theirs), sorted(ours))
        for name in ours:
            np.testing.assert_array_equal(theirs[name], ours[name])


if __name__ == "__main__":
    unittest.main()

"""Writes tests/golden/pickle: small files as torch.save, Lightning, A1111 and others write them, and in expected.safetensors what is in
them according to torch: each tensor contiguous, under "FILE/NAME".

usage: python tools/golden_pickle.py
"""
import argparse
import io
import os
import sys
import types
import warnings
import zipfile
from collections import OrderedDict

import numpy
import torch
from safetensors.torch import save_file
from torch import nn

warnings.filterwarnings("ignore")
OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "golden", "pickle")
expected = {}


def numbers(*shape, dtype=torch.float32):
    """Different numbers that every dtype has."""
    n = 1
    for d in shape:
        n *= d
    return (torch.arange(n) % 13 - 3).to(dtype).reshape(shape)


def imitate(module, name, bases=()):
    """A class of a package that is not installed: a pickle has only its name."""
    made = type(name, bases, {"__module__": module})
    parts = module.split(".")
    for i in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))
    setattr(sys.modules[module], name, made)
    return made


def tensors(new_types):
    """A state dict with everything that a tensor can be; in the legacy form, types without a storage of their own are not possible."""
    shared = numbers(4, 6)
    out = OrderedDict(
        plain=numbers(3, 4), transposed=numbers(3, 4).t(), offset=shared[2:], row=shared[1], column=shared[:, 2], all=shared,
        every_other=shared[::2, 1::2], channels_last=numbers(2, 3, 2, 2).contiguous(memory_format=torch.channels_last),
        expanded=numbers(1, 3).expand(4, 3), parameter=nn.Parameter(numbers(2, 2)), scalar=torch.tensor(2.5),
        nothing=torch.zeros(0, 4), ones_aside=numbers(3, 1, 1).transpose(1, 2),
    )
    types_ = dict(half=torch.float16, bfloat16=torch.bfloat16, double=torch.float64, long=torch.int64, int=torch.int32, short=torch.int16,
                  char=torch.int8, bool=torch.bool)
    if new_types:
        types_.update(e4m3=torch.float8_e4m3fn, e5m2=torch.float8_e5m2)
    for name, dtype in types_.items():
        out[name] = numbers(3, dtype=dtype)
    out["byte"] = torch.tensor([1, 2, 250], dtype=torch.uint8)
    return out


def lightning(state):
    """What Lightning keeps beside a state dict: its callbacks' state under their classes, numpy's scalars in it, settings, an optimizer."""
    checkpoint = imitate("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")
    attributes = argparse.Namespace(base_learning_rate=1.0e-4, name="a name", flags={"use_ema": True, "layers": [1, 2]})
    return {
        "epoch": 3, "global_step": 470000, "pytorch-lightning_version": "1.4.2", "state_dict": state,
        "callbacks": {checkpoint: {"best_model_score": numpy.float64(0.25), "best_model_path": "x.ckpt", "dirpath": None}},
        "optimizer_states": [{"state": {0: {"step": 1, "exp_avg": numbers(3, 4)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}],
        "lr_schedulers": [], "hyper_parameters": attributes, "numpy": numpy.arange(3), "names": {"a"}, "big": 1 << 80, "ratio": 0.5,
    }


class Net(nn.Module):
    """A whole network: modules in modules, tied weights, buffers that are saved and one that is not."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 2)
        self.rest = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.ModuleList([nn.LayerNorm(3)]))
        self.tied = self.first
        self.scales = nn.ParameterDict({"a": nn.Parameter(numbers(2)), "b": nn.Parameter(numbers(3))})
        self.bias = None
        self.register_parameter("absent", None)
        self.register_buffer("steps", torch.tensor(7))
        self.register_buffer("cache", numbers(5), persistent=False)
        self.plain = numbers(2)


def save(name, obj, state, **how):
    path = os.path.join(OUT, name)
    torch.save(obj, path, **how)
    for key, value in state.items():
        expected[name + "/" + key] = value.detach().clone(memory_format=torch.contiguous_format)


def zip_again(inside, name, method):
    """The same archive as Python's zipfile writes it, without what TorchScript knows of places in source files."""
    with zipfile.ZipFile(os.path.join(OUT, name), "w") as out:
        for item in zipfile.ZipFile(inside).infolist():
            if not item.filename.endswith("debug_pkl"):
                out.writestr(zipfile.ZipInfo(item.filename, (1980, 1, 1, 0, 0, 0)), zipfile.ZipFile(inside).read(item.filename), method)


def deflate(source, name):
    """Compressed, as a person might do it by hand."""
    with open(os.path.join(OUT, source), "rb") as f:
        zip_again(io.BytesIO(f.read()), name, zipfile.ZIP_DEFLATED)
    for key in [k for k in expected if k.startswith(source + "/") and source != name]:
        expected[name + key[len(source):]] = expected[key].clone()


def main():
    torch.manual_seed(0)
    os.makedirs(OUT, exist_ok=True)
    full, old = tensors(True), tensors(False)
    few = OrderedDict(list(old.items())[:3])
    save("lightning.ckpt", lightning(full), full)
    save("legacy.ckpt", lightning(old), old, _use_new_zipfile_serialization=False)
    for protocol in 3, 4, 5:
        save(f"protocol{protocol}.pt", few, few, pickle_protocol=protocol)
    save("legacy4.pt", few, few, pickle_protocol=4, _use_new_zipfile_serialization=False)
    deflate("protocol4.pt", "deflated.pt")
    latents = {"latents": numbers(1, 4, 8, 8) / 4}   # for tests/faults
    save("latents.pt", latents, latents)
    deflate("latents.pt", "latents.pt")
    net = Net()
    for parameter in net.parameters():
        parameter.data = numbers(*parameter.shape)
    save("network.pth", net, net.state_dict())
    # torch adds the source of each class, where it finds it: not of one that is made like this
    small = imitate("models.small", "Small", (nn.Module,))()
    small.weight = nn.Parameter(numbers(2, 3))
    save("network_legacy.pth", {"model": small, "epoch": 1}, small.state_dict(), _use_new_zipfile_serialization=False)
    embedding = {"string_to_token": {"*": 265}, "string_to_param": {"*": nn.Parameter(numbers(2, 8))}, "name": "a style", "step": 900,
                 "sd_checkpoint": "c0ffee42", "sd_checkpoint_name": None}
    save("embedding.pt", embedding, {"string_to_param.*": embedding["string_to_param"]["*"]})
    embedding["string_to_param"] = nn.ParameterDict({"*": nn.Parameter(numbers(2, 8))})
    save("embedding_dict.pt", embedding, {"string_to_param.*": numbers(2, 8)})
    save("learned_embeds.bin", {"<cat>": numbers(8)}, {"<cat>": numbers(8)})
    save("upscaler.pth", {"params": {"body.0.weight": numbers(2)}, "params_ema": few}, few)
    save("hypernetwork.pt", {"name": "h", 768: (few, {"bias": numbers(2)})},
         {"768.0." + k: v for k, v in few.items()} | {"768.1.bias": numbers(2)})
    save("alone.pt", numbers(2, 3), {"tensor": numbers(2, 3)})
    script = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Sequential(nn.Conv2d(1, 2, 1)), torch.zeros(1, 1, 2, 2)), script)
    zip_again(script, "script.pt", zipfile.ZIP_STORED)
    for key, value in torch.jit.load(io.BytesIO(script.getvalue())).state_dict().items():
        expected["script.pt/" + key] = value.detach().clone()
    for name in "lightning.ckpt", "network.pth", "script.pt":   # for tools/fuzz.sh
        inside = zipfile.ZipFile(os.path.join(OUT, name))
        member = next(m for m in inside.namelist() if m.endswith("/data.pkl"))
        with open(os.path.join(OUT, name.split(".")[0] + ".pkl"), "wb") as f:
            f.write(inside.read(member))
    save_file(expected, os.path.join(OUT, "expected.safetensors"))
    os.chmod(os.path.join(OUT, "expected.safetensors"), 0o644)


if __name__ == "__main__":
    main()

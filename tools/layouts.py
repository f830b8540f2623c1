"""Models in the layouts that people have: the tensors of a small model (tools/synth.py) under the names, in the shapes
and in the files that published models come in.

Names: a map says how each network's modules are called elsewhere. Layouts are composed of maps, as
tests/golden/layouts/layouts.txt has them:
    layout NAME CONFIG                      CONFIG: whose numbers, of tools/synth.py
    what TEXT
    part PREFIX PART MAP [STRIP]            a network's tensors under the map's names; STRIP: a prefix that goes;
                                            - : none
    ema PREFIX PART MAP                     other numbers under the same names without dots: the average that a
                                            training kept
    own NAME TYPE SHAPE GAIN                a tensor that no network has; I64: n-1, n-2 .. 0
and a map, <map>.txt, has lines
    module NEW OLD                          all tensors of a module
    conv1 NEW OLD                           the same; its weight is a convolution's [o,i,1,1]
    tensor NEW OLD                          one tensor
    transpose NEW OLD
    join NEW OLD OLD OLD                    one below the other
Anything not mentioned keeps its name. write() knows the kinds of files.
"""
import collections
import json
import math
import os
import re
import struct
import zipfile

import numpy as np
import torch

import golden_keys
import synth

# ------------------------------------------------------------------------------------------ maps

SD1_UNET = golden_keys.UNETS["sd1"]


def unet_map(config=SD1_UNET, names=None):
    """module lines. names: diffusers' tensors."""
    modules = collections.OrderedDict.fromkeys(k.rpartition(".")[0] for k in names)
    for m in modules:
        new = golden_keys.exported_name(m + ".", config)[:-1]
        if new != m:
            yield "module", new, m


def vae_name(module, levels=4):
    """diffusers' module -> CompVis'. levels: how many resolutions."""
    w = module.split(".")
    if w[0] not in ("encoder", "decoder"):
        return module
    if w[1] == "mid_block":
        if w[2] == "resnets":
            w[1:4] = ["mid", "block_%d" % (int(w[3]) + 1)]
        else:
            inside = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out": "proj_out"}
            return ".".join([w[0], "mid.attn_1", inside[w[4]]])
    elif w[1] in ("down_blocks", "up_blocks"):
        level = int(w[2]) if w[1] == "down_blocks" else levels - 1 - int(w[2])
        if w[3] == "resnets":
            w[1:5] = [w[1].split("_")[0], str(level), "block", w[4]]
        else:
            w[1:5] = [w[1].split("_")[0], str(level), w[3][:-len("ers")].replace("sampl", "sample")]
    elif w[1] == "conv_norm_out":
        w[1] = "norm_out"
    return ".".join("nin_shortcut" if x == "conv_shortcut" else x for x in w)


def vae_map(names):
    for m in collections.OrderedDict.fromkeys(k.rpartition(".")[0] for k in names):
        new = vae_name(m)
        if new != m:
            yield ("conv1" if re.search(r"attn_1\.(q|k|v|proj_out)$", new) else "module"), new, m


def openclip_map(layers):
    yield "module", "token_embedding", "text_model.embeddings.token_embedding"
    yield "tensor", "positional_embedding", "text_model.embeddings.position_embedding.weight"
    yield "module", "ln_final", "text_model.final_layer_norm"
    yield "transpose", "text_projection", "text_projection.weight"
    for i in range(layers):
        old, new = "text_model.encoder.layers.%d." % i, "transformer.resblocks.%d." % i
        for a, b in (("ln_1", "layer_norm1"), ("ln_2", "layer_norm2"), ("attn.out_proj", "self_attn.out_proj"),
                     ("mlp.c_fc", "mlp.fc1"), ("mlp.c_proj", "mlp.fc2")):
            yield "module", new + a, old + b
        for leaf in ("weight", "bias"):
            three = [old + "self_attn.%s_proj.%s" % (x, leaf) for x in "qkv"]
            yield ("join", new + "attn.in_proj_" + leaf, *three)


def old_vae_map():
    for side in ("encoder", "decoder"):
        for new, old in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")):
            at = side + ".mid_block.attentions.0."
            yield "module", at + new, at + old


def maps():
    vae = synth.shapes("sd1-small", "vae")
    xl = unet_map(golden_keys.UNETS["sdxl"], synth.shapes("sdxl-file", "unet"))
    return {"unet": list(unet_map(names=synth.shapes("sd1-small", "unet"))), "unet_xl": list(xl), "vae": list(vae_map(vae)),
            "openclip": list(openclip_map(23)), "vae_old": list(old_vae_map())}


def renamed(tensors, lines):
    """name -> array under the map's names."""
    modules, out, gone = {}, {}, set()
    for kind, new, *old in lines:
        if kind in ("module", "conv1"):
            modules[old[0]] = kind, new
        elif all(k in tensors for k in old):
            gone.update(old)
            x = [tensors[k] for k in old]
            out[new] = x[0].T if kind == "transpose" else np.concatenate(x) if kind == "join" else x[0]
    for name, x in tensors.items():
        module, _, leaf = name.rpartition(".")
        kind, new = modules.get(module, (None, module))
        if kind == "conv1" and leaf == "weight":
            x = x[:, :, None, None]
        if name not in gone:
            out[new + "." + leaf] = x
    return out


# ------------------------------------------------------------------------------------------ layouts

U, V = "model.diffusion_model.", "first_stage_model."
T1, T2 = "cond_stage_model.transformer.", "cond_stage_model.model."
XL = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
SCHEDULE = ["own %s F32 1000 0.5" % k for k in ("betas", "alphas_cumprod", "alphas_cumprod_prev")]
NETWORKS = ["part %s unet unet" % U, "part %s vae vae" % V]


def layer_24(prefix, width=16, ff=32):
    """What the single file of SD 2 has and nothing reads: the last layer, the projection, a scale."""
    p = prefix + "transformer.resblocks.23."
    shapes = {"ln_1": (width,), "ln_2": (width,), "attn.out_proj": (width, width), "mlp.c_fc": (ff, width),
              "mlp.c_proj": (width, ff)}
    lines = []
    for name, s in shapes.items():
        lines += ["own %s%s.weight F %s 0.5" % (p, name, ",".join(map(str, s))),
                  "own %s%s.bias F %d 0.1" % (p, name, s[0])]
    lines += ["own %sattn.in_proj_weight F %d,%d 0.5" % (p, 3 * width, width),
              "own %sattn.in_proj_bias F %d 0.1" % (p, 3 * width)]
    return lines + ["own %stext_projection F %d,%d 0.5" % (prefix, width, width), "own %slogit_scale F - 4" % prefix]


POSITIONS = "own %stext_model.embeddings.position_ids I64 1,77 0" % T1
# name -> config, what it is, lines
LAYOUTS = {
    "sd1": ("sd1-small", "SD 1", NETWORKS + ["part %s text_encoder -" % T1, POSITIONS]),
    "sd1-bare-text": ("sd1-small", "SD 1, text encoder without text_model.",
                      NETWORKS + ["part %s text_encoder - text_model." % T1]),
    "sd1-ema": ("sd1-small", "SD 1 with EMA copies and buffers",
                NETWORKS + ["part %s text_encoder -" % T1, POSITIONS, "ema model_ema.diffusion_model unet unet",
                            "own model_ema.decay F32 - 1", "own model_ema.num_updates I32 - 0"] + SCHEDULE),
    "sd1-inpaint": ("inpaint-small", "SD 1 inpainting", NETWORKS + ["part %s text_encoder -" % T1, POSITIONS]),
    "sd2": ("sd2-file", "SD 2: OpenCLIP's names, 24 layers, projection",
            NETWORKS + ["part %s text_encoder openclip" % T2] + layer_24(T2)),
    "sd2-sgm": ("sd2-file", "SD 2 as sgm names it",
                NETWORKS + ["part conditioner.embedders.0.model. text_encoder openclip"] +
                layer_24("conditioner.embedders.0.model.")),
    "sd2-exported": ("sd2-file", "SD 2 as diffusers exports it: 23 layers, no projection",
                     NETWORKS + ["part %s text_encoder openclip" % T2]),
    "sdxl": ("sdxl-file", "SDXL: two text encoders, the second's projection transposed",
             ["part %s unet unet_xl" % U, "part %s vae vae" % V, "part %s text_encoder -" % XL[0],
              "own %stext_model.embeddings.position_ids I64 1,77 0" % XL[0], "part %s text_encoder_2 openclip" % XL[1],
              "own %slogit_scale F - 4" % XL[1]]),
    "ckpt": ("ckpt-small", "SD 1, small enough to be kept", NETWORKS + ["part %s text_encoder -" % T1, POSITIONS]),
    "ckpt-ema": ("ckpt-small", "the same with EMA copies and buffers",
                 NETWORKS + ["part %s text_encoder -" % T1, POSITIONS, "ema model_ema.diffusion_model unet unet",
                             "own model_ema.decay F32 - 1", "own model_ema.num_updates I32 - 0"] + SCHEDULE),
    "vae": ("sd1-small", "a VAE, LDM's names", ["part - vae vae"]),
    "vae-whole": ("sd1-small", "a VAE, LDM's names with their prefix", ["part %s vae vae" % V]),
    "vae-old": ("sd1-small", "a VAE, diffusers' old names", ["part - vae vae_old"]),
    "vae-diffusers": ("sd1-small", "a VAE, diffusers' names", ["part - vae -"]),
    "unet": ("sd1-small", "a UNet, LDM's names", ["part - unet unet"]),
    "unet-prefixed": ("sd1-small", "a UNet, LDM's names with their prefix", ["part %s unet unet" % U]),
}


def own_numbers(name, kind, shape, gain):
    n = math.prod(shape)
    if kind in ("I64", "I32"):
        return np.arange(n - 1, -1, -1, dtype=np.int64 if kind == "I64" else np.int32).reshape(shape)
    return synth.fill("own." + name, n, np.float32(gain), 0, "bf16").reshape(shape)


def other_numbers(config, part):
    """An average's numbers: those of other streams."""
    for name, shape in synth.shapes(config, part).items():
        gain, offset = synth.gain_offset(part, name, shape)
        x = synth.fill("ema.%s.%s" % (part, name), math.prod(shape), gain, offset, synth.CONFIGS[config]["round_to"])
        yield name, x.reshape(shape)


def compose(layout, known=None):
    """name -> array."""
    config, _, lines = LAYOUTS[layout]
    known = known or maps()
    out = {}
    for line in lines:
        word, prefix, *rest = line.split(" ")
        prefix = "" if prefix == "-" else prefix
        if word == "own":
            out[prefix] = own_numbers(prefix, rest[0], golden_keys.shape_of(rest[1]), float(rest[2]))
            continue
        tensors = dict(synth.tensors(config, rest[0]) if word == "part" else other_numbers(config, rest[0]))
        named = renamed(tensors, known.get(rest[1], []))
        for name, x in named.items():
            if len(rest) > 2 and name.startswith(rest[2]):
                name = name[len(rest[2]):]
            out[prefix + (name.replace(".", "") if word == "ema" else name)] = x
    return out


def write_tables(directory):
    os.makedirs(directory, exist_ok=True)
    head = "# made by tools/golden_layouts.py; tools/layouts.py explains it\n"
    for name, lines in maps().items():
        with open(os.path.join(directory, "map_%s.txt" % name), "w", encoding="utf-8", newline="\n") as f:
            f.write(head + "".join(" ".join(x) + "\n" for x in lines))
    with open(os.path.join(directory, "layouts.txt"), "w", encoding="utf-8", newline="\n") as f:
        f.write(head)
        for name, (config, what, lines) in LAYOUTS.items():
            f.write("layout %s %s\nwhat %s\n%s\n" % (name, config, what, "\n".join(lines)))


# ------------------------------------------------------------------------------------------ files

TORCH = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64,
         "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}


def as_torch(tensors, dtype="F32"):
    """Floats as dtype; views stay views (a token embedding in diagonals keeps its strides)."""
    out = {}
    for name, x in tensors.items():
        t = torch.from_numpy(x)
        if t.is_floating_point() and dtype != "F32":
            if t.dim() == 2 and t.stride() == (1, 1) and t.shape[0] > 1:
                row = torch.as_strided(t, (t.shape[0] + t.shape[1] - 1,), (1,)).to(TORCH[dtype])
                t = torch.as_strided(row, t.shape, (1, 1))
            else:
                t = t.to(TORCH[dtype])
        out[name] = t
    return out


def write_safetensors(path, tensors, dtype="F32", metadata=None):
    from safetensors.torch import save_file
    save_file({k: v.contiguous() for k, v in as_torch(tensors, dtype).items()}, path,
              metadata={"format": "pt"} if metadata is None else metadata)


def not_contiguous(t):
    """The same numbers with other strides."""
    return t.transpose(0, -1).contiguous().transpose(0, -1) if t.dim() > 1 and t.stride() != (1, 1) else t


class ModelCheckpoint:
    """A stand-in under pytorch_lightning's name: what a Lightning checkpoint has as a key, and no reader may need."""


ModelCheckpoint.__module__ = "pytorch_lightning.callbacks.model_checkpoint"


def lightning(state):
    import sys
    import types
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks", "pytorch_lightning.callbacks.model_checkpoint"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["pytorch_lightning.callbacks.model_checkpoint"].ModelCheckpoint = ModelCheckpoint
    return {"epoch": 0, "global_step": 470000, "pytorch-lightning_version": "1.4.2", "state_dict": state,
            "callbacks": {ModelCheckpoint: {"monitor": "val/loss_simple_ema",
                                            "best_model_score": np.float32(0.25), "dirpath": "logs"}},
            "optimizer_states": [], "lr_schedulers": [], "hyper_parameters": {"base_learning_rate": 1e-4}}


def write_pickle(path, tensors, dtype="F32", legacy=False, wrap=None, strides=False):
    """wrap: None (the dictionary itself), "state_dict", "lightning", "parameters"."""
    state = as_torch(tensors, dtype)
    if strides:
        state = {k: not_contiguous(v) for k, v in state.items()}
    if wrap == "parameters":
        state = {k: torch.nn.Parameter(v, requires_grad=False) if v.is_floating_point() else v
                 for k, v in state.items()}
    state = collections.OrderedDict(state)
    top = {None: state, "parameters": state, "state_dict": {"state_dict": state},
           "lightning": lightning(state) if wrap == "lightning" else None}[wrap]
    torch.save(top, path, _use_new_zipfile_serialization=not legacy)


def write_deflated(path, tensors, dtype="F32"):
    """A torch zip that somebody packed again, compressed."""
    write_pickle(path + ".stored", tensors, dtype)
    with zipfile.ZipFile(path + ".stored") as a, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as b:
        for item in a.infolist():
            b.writestr(item.filename, a.read(item), zipfile.ZIP_DEFLATED)
    os.remove(path + ".stored")


def scale_of(x):
    """A power of two, by which a matrix fits 8 bits well; so the numbers are the same wherever they are multiplied."""
    return 2.0 ** math.floor(math.log2(max(float(np.abs(x).max()), 1e-30) / 256))


def write_scaled(path, tensors, dtype="F8_E4M3", spelling="scale_weight", which=lambda name, x: x.ndim == 2):
    """8-bit floats with a scale beside each: `scale_weight` as ComfyUI has it, `weight_scale` as diffusers."""
    from safetensors.torch import save_file
    out = {}
    for name, t in as_torch(tensors).items():
        x = t.numpy()
        if not name.endswith(".weight") or not which(name, x):
            out[name] = t.contiguous()
            continue
        scale = scale_of(x)
        out[name] = (t.contiguous() / scale).to(TORCH[dtype])
        out[name[:-len("weight")] + spelling] = torch.tensor(scale)
    save_file(out, path)


def write_gguf(path, tensors, kind="F32", quantize=lambda name, x: x.ndim == 2 and x.shape[1] % 32 == 0):
    """As stable-diffusion.cpp writes it: no keys are needed; what no block fits stays F32."""
    import gguf
    w = gguf.GGUFWriter(path, "sd1")
    for name, x in tensors.items():
        x = np.ascontiguousarray(x)
        if x.dtype in (np.int64, np.int32):
            continue
        x = x.reshape(x.shape or (1,))
        if kind == "F16" and x.ndim > 1:
            w.add_tensor(name, x.astype(np.float16))
        elif kind in ("F32", "F16") or not quantize(name, x):
            w.add_tensor(name, x.astype(np.float32))
        else:
            q = gguf.GGMLQuantizationType[kind]
            w.add_tensor(name, gguf.quants.quantize(x, q), raw_dtype=q)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def write_shards(directory, stem, tensors, dtype="F32", n=3):
    synth.write_weights(directory, stem, {k: v.shape for k, v in tensors.items()}, tensors.__getitem__, dtype, n, False)


def read_back(path):
    """A file's tensors as float64, by the real readers."""
    if path.endswith(".safetensors"):
        from safetensors.torch import load_file
        state = load_file(path)
    else:
        state = torch.load(path, map_location="cpu", weights_only=False)
        while "state_dict" in state:
            state = state["state_dict"]
    return state

#!/usr/bin/env python3
"""Writes the lists of tensors of published files: tests/golden/keys/*.txt.

    python tools/golden_keys.py --sources DIR [--packages DIR] [--out tests/golden/keys]

No weights are needed: the classes that wrote the files are built on torch's meta device. DIR has checkouts of
    CompVis/stable-diffusion             SD 1, its VAE, its schedule's buffers, the names of EMA copies
    Stability-AI/stablediffusion         SD 2, inpainting, depth, x4-upscaler
    Stability-AI/generative-models       SDXL, refiner, SD 2 as sgm saves it
    lllyasviel/ControlNet, madebyollin/taesd
each in DIR/owner+name; --packages has open_clip_torch, timm, omegaconf, einops, torchvision (pip install --target).
SSD-1B, Vega, small-sd and tiny-sd have no original class: diffusers' modules, renamed as its export script does
(scripts/convert_diffusers_to_original_stable_diffusion.py counts two resnets a level whatever the model has, which is
why small-sd's blocks are numbered with gaps and some of tiny-sd's keep their diffusers names). So have the lists in
diffusers' and transformers' own names.

<part>.txt: a line is one module: NAME TYPE LEAF SHAPE [LEAF SHAPE]...; the tensor's name is NAME.LEAF, NAME - is none.
TYPE F is the file's own type of floats; a shape is 320,4,3,3 or - for a single number.
families.txt composes files of parts: a file begins with `file`, the lines after it add tensors in turn:
    file NAME TYPE BYTES      a published file's name, its floats' type, its size if known (else 0)
    what TEXT                 what it is
    meta KEY VALUE            of the header
    part PREFIX PART          all tensors of a part; prefix - is none
    ema PART                  the EMA copy of a UNet, as LitEma names it: without dots
    lora PREFIX PART RANK STYLE GLOB     factors for each weight with at least two dimensions whose module matches GLOB
    without GLOB              takes tensors away again
    tensor NAME TYPE SHAPE    adds one or replaces it
A published size is met to the byte where tensors, types, names and header text are what was published, so it is
checked here: `exact` below says how the header's entries were ordered.
"""
import argparse
import collections
import contextlib
import fnmatch
import importlib
import importlib.machinery
import io
import json
import logging
import math
import os
import sys
import types

import torch
from torch import nn

logging.disable(logging.CRITICAL)

# ------------------------------------------------------------------------------------------ classes of other people


class Stub(types.ModuleType):
    """A package of which nothing but names is needed: classes are empty modules, functions return their argument."""
    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        value = type(name, (nn.Module,), {}) if name[0].isupper() else lambda x=None, *a, **k: x
        setattr(self, name, value)
        return value


class Stubs:
    NAMES = ("pytorch_lightning", "kornia", "clip", "taming", "cv2")

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.NAMES:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return Stub(spec.name)

    def exec_module(self, module):
        pass


def prepare(packages):
    """Makes the originals importable and constructible without weights, GPUs and training libraries."""
    sys.path.append(packages)
    sys.meta_path.append(Stubs())
    library = torch.library.Library("torchvision", "DEF")   # torchvision's compiled part may be of another build
    for name in ("nms", "qnms"):
        library.define(name + "(Tensor a, Tensor b, float c) -> Tensor")
    prepare.library = library
    import open_clip
    import transformers
    linspace, isnan = torch.linspace, torch.isnan

    def caller():
        return sys._getframe(2).f_code.co_name
    # Schedules are computed with NumPy, on the CPU.
    torch.linspace = lambda *a, **k: linspace(*a, **dict(k, device="cpu"))
    torch.isnan = lambda x: torch.zeros(1, device="cpu").bool() if caller() == "register_schedule" else isnan(x)

    class OldCLIPTextModel(nn.Module):
        """Of transformers before 5: with the prefix text_model., and position_ids saved."""

        def __init__(self):
            super().__init__()
            self.text_model = clip_text_model(**CLIP_L)
            e = self.text_model.embeddings
            ids = e.position_ids
            del e.position_ids
            e.register_buffer("position_ids", ids, persistent=True)

    transformers.CLIPTextModel.from_pretrained = classmethod(lambda cls, *a, **k: OldCLIPTextModel())
    transformers.CLIPTokenizer.from_pretrained = classmethod(lambda cls, *a, **k: None)

    def create(arch, **kwargs):
        path = os.path.join(os.path.dirname(open_clip.__file__), "model_configs", arch + ".json")
        with open(path) as f:
            return open_clip.model.CLIP(**json.load(f)), None, None
    open_clip.create_model_and_transforms = create


@contextlib.contextmanager
def source(root, repository):
    """Packages ldm, sgm, cldm of one repository; forgotten afterwards, for they have the same names in all."""
    path = os.path.join(root, repository.replace("/", "+"))
    sys.path.insert(0, path)
    try:
        with contextlib.redirect_stdout(io.StringIO()), torch.device("meta"):
            yield path
    finally:
        sys.path.remove(path)
        for m in [m for m in sys.modules if m.split(".")[0] in ("ldm", "sgm", "cldm", "taesd")]:
            del sys.modules[m]


def original(root, repository, config, **unet):
    """The state dict's names and shapes of a whole published model."""
    from omegaconf import OmegaConf
    with source(root, repository) as path:
        c = OmegaConf.load(os.path.join(path, config)).model
        use_ema = unet.pop("use_ema", None)
        if use_ema is not None:
            c.params.use_ema = use_ema
        if unet:
            c.params.unet_config.params.update(unet)
        package = "sgm" if "generative" in repository else "ldm"
        if package == "sgm":
            c = OmegaConf.to_container(c)
        with contextlib.suppress(ImportError):   # the depth model would read its weights
            importlib.import_module("ldm.modules.midas.midas.base_model").BaseModel.load = lambda *a: None
        return listed(importlib.import_module(package + ".util").instantiate_from_config(c).state_dict())


TYPES = {torch.float32: "F", torch.int64: "I64", torch.int32: "I32"}


def listed(state):
    return {k: (TYPES[v.dtype], tuple(v.shape)) for k, v in state.items()}


def beneath(tensors, prefix):
    return {k[len(prefix):]: v for k, v in tensors.items() if k.startswith(prefix)}


# ------------------------------------------------------------------------------------------ diffusers and its names

CLIP_L = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
CLIP_H = dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16)
CLIP_G = dict(hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20,
              projection_dim=1280)
C, D = "CrossAttnDownBlock2D", "DownBlock2D"
X, U = "CrossAttnUpBlock2D", "UpBlock2D"
SD1 = dict(block_out_channels=(320, 640, 1280, 1280), down_block_types=(C, C, C, D), up_block_types=(U, X, X, X),
           cross_attention_dim=768, attention_head_dim=8)
SDXL = dict(block_out_channels=(320, 640, 1280), down_block_types=(D, C, C), up_block_types=(X, X, U),
            cross_attention_dim=2048, attention_head_dim=(5, 10, 20), use_linear_projection=True,
            addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
            transformer_layers_per_block=(1, 2, 10))
SMALL_MID = dict(SDXL, mid_block_type="UNetMidBlock2D")
UNETS = {
    "sd1": SD1, "lcm": dict(SD1, time_cond_proj_dim=256), "sdxl": SDXL,
    "sd2": dict(SD1, cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True),
    "ssd1b": dict(SMALL_MID, transformer_layers_per_block=[1, [2, 2], [4, 4]],
                  reverse_transformer_layers_per_block=[[4, 4, 10], [2, 1, 1], 1]),
    "vega": dict(SMALL_MID, transformer_layers_per_block=(1, 1, 2)),
    "small": dict(SD1, layers_per_block=1),
    "tiny": dict(SD1, layers_per_block=1, block_out_channels=(320, 640, 1280), down_block_types=(C, C, C),
                 up_block_types=(X, X, X), mid_block_type=None),
}


def clip_text_model(**config):
    from transformers import CLIPTextConfig, CLIPTextModel
    return CLIPTextModel(CLIPTextConfig(max_position_embeddings=77, vocab_size=49408, **config))


def diffusers_unet(name):
    from diffusers import UNet2DConditionModel
    with torch.device("meta"):
        return listed(UNet2DConditionModel(**UNETS[name]).state_dict())


def diffusers_vae():
    from diffusers import AutoencoderKL
    with torch.device("meta"):
        return listed(AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, latent_channels=4).state_dict())


def old_attention(name):
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        name = name.replace("attentions.0.%s." % new, "attentions.0.%s." % old)
    return name


def transformers_clip(config, projection=False):
    """As transformers before 5 names it."""
    with torch.device("meta"):
        t = {"text_model." + k: v for k, v in listed(clip_text_model(**config).state_dict()).items()}
    if projection:
        t["text_projection.weight"] = ("F", (config["projection_dim"], config["hidden_size"]))
    return t


RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
          "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
AROUND = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
          "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
          "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2"}


def exported_name(name, config, per_level=2, all_attentions=True):
    """diffusers' name -> CompVis'. per_level: how many resnets a level the counting goes by. The export script knows
    no attention in the first block on the way up: all_attentions False."""
    for mine, theirs in AROUND.items():
        if name.startswith(mine + "."):
            return theirs + name[len(mine):]
    words = name.split(".")
    if words[0] not in ("down_blocks", "up_blocks", "mid_block"):
        return name
    at = 1 if words[0] == "mid_block" else 2
    kind, j, rest = words[at], int(words[at + 1]), words[at + 2:]
    if kind == "resnets":
        rest = RESNET[rest[0]].split(".") + rest[1:]
    if words[0] == "mid_block":
        place = ["middle_block", str(2 * j if kind == "resnets" else 1)]
    else:
        level = int(words[1])
        n = per_level + 1
        if words[0] == "down_blocks":
            place = ["input_blocks", str(n * level + 1 + (per_level if kind == "downsamplers" else j))]
        else:
            place = ["output_blocks", str(n * level + (per_level if kind == "upsamplers" else j))]
        if kind == "attentions" and words[0] == "up_blocks" and level == 0 and not all_attentions:
            return name
        if kind == "upsamplers":
            attends = config["up_block_types"][level] == X and (all_attentions or level > 0)
            place.append("2" if attends else "1")
        else:
            place.append("1" if kind == "attentions" else "0")
        if kind == "downsamplers":
            rest = ["op"] + rest[1:]
    return ".".join(place + rest)


def exported(name, **how):
    t = diffusers_unet(name)
    out = {exported_name(k, UNETS[name], **how): v for k, v in t.items()}
    assert len(out) == len(t)
    return out


# ------------------------------------------------------------------------------------------ files

def lora_factors(prefix, part, rank, style, glob, parts):
    out = {}
    for k, (dt, shape) in parts[part].items():
        module, _, leaf = k.rpartition(".")
        if leaf != "weight" or len(shape) < 2 or not fnmatch.fnmatchcase(module, glob):
            continue
        down = (rank,) + shape[1:]
        up = (shape[0], rank) + (1,) * (len(shape) - 2)
        name = prefix + (module.replace(".", "_") if style == "kohya" else module)
        names = (".lora_down.weight", ".lora_up.weight") if style == "kohya" else (".lora_A.weight", ".lora_B.weight")
        out.update({name + names[0]: ("F", down), name + names[1]: ("F", up)})
        if style == "kohya":
            out[name + ".alpha"] = ("F", ())
    return out


def compose(lines, parts):
    """name -> (type, shape) of a file's lines."""
    out = {}
    for line in lines:
        word, *rest = line.split(" ")
        if word == "part":
            prefix = "" if rest[0] == "-" else rest[0]
            out.update({prefix + k: v for k, v in parts[rest[1]].items()})
        elif word == "ema":
            out.update({"model_ema.diffusion_model" + k.replace(".", ""): v for k, v in parts[rest[0]].items()})
        elif word == "lora":
            out.update(lora_factors(rest[0], rest[1], int(rest[2]), rest[3], rest[4], parts))
        elif word == "without":
            out = {k: v for k, v in out.items() if not fnmatch.fnmatchcase(k, rest[0])}
        elif word == "tensor":
            out[rest[0]] = (rest[1], shape_of(rest[2]))
        else:
            assert word in ("what", "meta"), line
    return out


def shape_of(text):
    return () if text == "-" else tuple(int(x) for x in text.split(","))


def text_of(shape):
    return ",".join(map(str, shape)) or "-"


BYTES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4}
RANK = {"I64": 0, "F32": 1, "I32": 2, "F16": 3, "BF16": 4}   # newer writers put wide types first


def file_size(tensors, float_type, meta, by_type):
    """Bytes of the safetensors file, without padding of its header: as the old writers did."""
    items = sorted((k, float_type if dt == "F" else dt, shape) for k, (dt, shape) in tensors.items())
    if by_type:
        items.sort(key=lambda v: (RANK[v[1]], v[0]))
    header, at = {}, 0
    if meta:
        header["__metadata__"] = meta
    for name, dt, shape in items:
        end = at + BYTES[dt] * math.prod(shape)
        header[name] = {"dtype": dt, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    return 8 + len(json.dumps(header, separators=(",", ":"))) + at


def close_to(size, tensors, float_type, meta):
    """How the published size comes about, or by how much it does not."""
    found = {}
    for by_type in (False, True):
        n = file_size(tensors, float_type, meta, by_type)
        for padded in (False, True):
            m = (n + 7) // 8 * 8 if padded else n
            found["%s%s" % ("types, names" if by_type else "names", ", padded" if padded else "")] = m - size
    for how, d in found.items():
        if d == 0:
            return "exact (%s)" % how
    return "off by %+d" % min(found.values(), key=abs)


def write_part(path, tensors, head):
    modules = collections.OrderedDict()
    for name, (dt, shape) in tensors.items():
        module, _, leaf = name.rpartition(".")
        modules.setdefault((module or "-", dt), []).append("%s %s" % (leaf, text_of(shape)))
    with open(path, "w", encoding="utf-8", newline="\n") as f:
        f.write("# made by tools/golden_keys.py, which explains it: %s\n" % head)
        for (module, dt), leaves in modules.items():
            f.write("%s %s %s\n" % (module, dt, " ".join(leaves)))


POSITIONS = "cond_stage_model.transformer.text_model.embeddings.position_ids"
UNET, VAE = "model.diffusion_model.", "first_stage_model."
CONV_IN = "tensor %sinput_blocks.0.0.weight F 320,%%d,3,3" % UNET
EMA_COUNTERS = ["tensor model_ema.decay F32 -", "tensor model_ema.num_updates I32 -"]
PT = ["meta format pt"]
SD1_FILE = ["part %s unet_sd1" % UNET, "part %s vae" % VAE, "part cond_stage_model.transformer. clip_l",
            "tensor %s I64 1,77" % POSITIONS]
SD2_FILE = ["part %s unet_sd2" % UNET, "part %s vae" % VAE, "part cond_stage_model.model. openclip_h"]
SDXL_TEXT = ["part conditioner.embedders.0.transformer. clip_l",
             "tensor conditioner.embedders.0.transformer.text_model.embeddings.position_ids I64 1,77",
             "part conditioner.embedders.1.model. openclip_bigg"]
SDXL_FILE = ["part %s unet_sdxl" % UNET, "part %s vae" % VAE] + SDXL_TEXT
SCHEDULE = ["part - schedule"]
SD1_EMA = ["ema unet_sd1"]
LORA_UNET = "*attentions*"

# name, type, published size, what it is, lines
FILES = [
    ("v1-5-pruned-emaonly.safetensors", "F32", 4265146304, "SD 1.4, 1.5", PT + SD1_FILE + SCHEDULE + EMA_COUNTERS),
    ("v1-5-pruned.safetensors", "F32", 7703324286, "SD 1.5 with EMA copies",
     PT + SD1_FILE + SCHEDULE + EMA_COUNTERS + SD1_EMA),
    ("sd-v1-5-inpainting.safetensors", "F32", 0, "SD 1.5 inpainting",
     PT + SD1_FILE + SCHEDULE + EMA_COUNTERS + [CONV_IN % 9]),
    ("instruct-pix2pix-00-22000.safetensors", "F32", 7703416451, "instruct-pix2pix with EMA copies",
     PT + SD1_FILE + SCHEDULE + EMA_COUNTERS + SD1_EMA +
     [CONV_IN % 8, "tensor model_ema.diffusion_modelinput_blocks00weight F 320,8,3,3"]),
    ("sd1-finetune-fp16.safetensors", "F16", 2132625462, "a fine-tune of SD 1 as diffusers exports it with --half",
     PT + SD1_FILE + ["tensor %s F16 1,77" % POSITIONS]),
    ("sd1-finetune-old.safetensors", "F16", 0, "a fine-tune of SD 1 whose text encoder has no text_model.",
     PT + ["part %s unet_sd1" % UNET, "part %s vae" % VAE, "part cond_stage_model.transformer. clip_l_bare"]),
    ("v2-1_768-ema-pruned.safetensors", "F32", 5214604494, "SD 2.0, 2.1 (768, v prediction)",
     PT + SD2_FILE + SCHEDULE + EMA_COUNTERS),
    ("v2-1_512-ema-pruned.safetensors", "F32", 5214604494, "SD 2.0, 2.1 base",
     PT + SD2_FILE + SCHEDULE + EMA_COUNTERS),
    ("512-inpainting-ema.safetensors", "F32", 5214662094, "SD 2 inpainting",
     PT + SD2_FILE + SCHEDULE + EMA_COUNTERS + [CONV_IN % 9]),
    ("512-depth-ema.safetensors", "F32", 0, "SD 2 depth, with the model that guesses depths",
     PT + SD2_FILE + SCHEDULE + EMA_COUNTERS + [CONV_IN % 5, "part depth_model. midas_dpt_hybrid"]),
    ("x4-upscaler-ema.safetensors", "F32", 0, "x4-upscaler",
     PT + ["part %s unet_x4" % UNET, "part %s vae_x4" % VAE, "part cond_stage_model.model. openclip_h",
           "part low_scale_model. schedule_short"] + SCHEDULE + EMA_COUNTERS),
    ("sd2-sgm.safetensors", "F16", 0, "SD 2 as sgm saves it",
     ["part %s unet_sd2" % UNET, "part %s vae" % VAE, "part conditioner.embedders.0.model. openclip_h",
      "tensor denoiser.sigmas F 1000"]),
    ("sd2-exported.safetensors", "F16", 0, "SD 2 as diffusers exports it: 23 layers, no projection",
     PT + SD2_FILE + ["without *.resblocks.23.*", "without *.text_projection", "without *.logit_scale"]),
    ("sd_xl_base_1.0.safetensors", "F16", 6938078334, "SDXL base; its header has about 37 KB of other texts",
     SDXL_FILE),
    ("sd_xl_refiner_1.0.safetensors", "F16", 6075981930, "SDXL refiner; its header has about 38 KB of other texts",
     ["part %s unet_refiner" % UNET, "part %s vae" % VAE, "part conditioner.embedders.0.model. openclip_bigg"]),
    ("sd_xl_base_1.0_inpainting_0.1.safetensors", "F16", 0, "SDXL inpainting", SDXL_FILE + [CONV_IN % 9]),
    ("sd_xl_turbo_1.0_fp16.safetensors", "F16", 6938081905, "SDXL-Turbo; its header has about 41 KB of other texts",
     SDXL_FILE),
    ("SSD-1B.safetensors", "F16", 0, "SSD-1B",
     PT + ["part %s unet_ssd1b" % UNET, "part %s vae" % VAE] + SDXL_TEXT),
    ("segmind-vega.safetensors", "F16", 0, "Segmind-Vega",
     PT + ["part %s unet_vega" % UNET, "part %s vae" % VAE] + SDXL_TEXT),
    ("small-sd.safetensors", "F16", 0, "small-sd, exported",
     PT + ["part %s unet_small" % UNET, "part %s vae" % VAE, "part cond_stage_model.transformer. clip_l"]),
    ("tiny-sd.safetensors", "F16", 0, "tiny-sd, exported",
     PT + ["part %s unet_tiny" % UNET, "part %s vae" % VAE, "part cond_stage_model.transformer. clip_l"]),
    ("LCM_Dreamshaper_v7.safetensors", "F32", 0, "LCM",
     PT + SD1_FILE + ["tensor %stime_embedding.cond_proj.weight F 320,256" % UNET]),
    ("vae-ft-mse-840000-ema-pruned.safetensors", "F32", 334641190, "a VAE alone", PT + ["part - vae"] + EMA_COUNTERS),
    # Published folders in diffusers layout.
    ("vae/diffusion_pytorch_model.safetensors", "F32", 0, "a VAE in diffusers' names", PT + ["part - vae_diffusers"]),
    ("vae-old/diffusion_pytorch_model.safetensors", "F32", 334643276,
     "a VAE in diffusers' names, its attention named as before 2023", PT + ["part - vae_diffusers_old"]),
    ("unet/diffusion_pytorch_model.safetensors", "F32", 3438167540, "SD 1's UNet in diffusers' names",
     PT + ["part - unet_sd1_diffusers"]),
    ("unet-lcm/diffusion_pytorch_model.safetensors", "F32", 0, "LCM's UNet in diffusers' names",
     PT + ["part - unet_sd1_diffusers", "tensor time_embedding.cond_proj.weight F 320,256"]),
    ("unet-xl/diffusion_pytorch_model.safetensors", "F32", 10270077736, "SDXL's UNet in diffusers' names",
     PT + ["part - unet_sdxl_diffusers"]),
    ("text_encoder/model.safetensors", "F32", 492265874, "CLIP-L in transformers' names",
     PT + ["part - clip_l", "tensor text_model.embeddings.position_ids I64 1,77"]),
    ("text_encoder-xl/model.fp16.safetensors", "F16", 246144152, "SDXL's CLIP-L", PT + ["part - clip_l"]),
    ("text_encoder_2/model.fp16.safetensors", "F16", 1389382176, "bigG in transformers' names",
     PT + ["part - clip_bigg"]),
    ("text_encoder-2-1/model.safetensors", "F32", 1361597018, "OpenCLIP-H in transformers' names: 23 layers",
     PT + ["part - clip_h", "tensor text_model.embeddings.position_ids I64 1,77"]),
    # Not models.
    ("control_v11p_sd15_canny.safetensors", "F32", 0, "ControlNet 1.1 of SD 1.5", ["part control_model. controlnet_sd1"]),
    ("taesd_encoder.safetensors", "F32", 0, "TAESD's encoder", ["part - taesd_encoder"]),
    ("taesd_decoder.safetensors", "F32", 0, "TAESD's decoder", ["part - taesd_decoder"]),
    ("lora-sd1-kohya.safetensors", "F16", 0, "LoRA of SD 1, kohya",
     ["meta ss_network_module networks.lora", "meta ss_network_dim 8", "meta ss_base_model_version sd_v1",
      "lora lora_unet_ unet_sd1_diffusers 8 kohya %s" % LORA_UNET, "without *norm*",
      "lora lora_te_ clip_l 8 kohya *encoder.layers*"]),
    ("lora-sdxl-kohya.safetensors", "F16", 0, "LoRA of SDXL, kohya",
     ["meta ss_network_module networks.lora", "meta ss_network_dim 16", "meta ss_base_model_version sdxl_base_v1-0",
      "lora lora_unet_ unet_sdxl 16 kohya *.transformer_blocks.*", "lora lora_unet_ unet_sdxl 16 kohya *.proj_in",
      "lora lora_unet_ unet_sdxl 16 kohya *.proj_out", "lora lora_te1_ clip_l 16 kohya *encoder.layers*",
      "lora lora_te2_ clip_bigg 16 kohya *encoder.layers*"]),
    ("lora-sd1-diffusers.safetensors", "F32", 0, "LoRA of SD 1, diffusers (PEFT)",
     PT + ["lora unet. unet_sd1_diffusers 4 peft *.to_?", "lora unet. unet_sd1_diffusers 4 peft *.to_out.0",
           "lora text_encoder. clip_l 4 peft *_proj"]),
    ("lcm-lora-sdxl.safetensors", "F16", 393854624, "LCM-LoRA of SDXL",
     PT + ["lora lora_unet_ unet_sdxl_diffusers 64 kohya down_blocks*",
           "lora lora_unet_ unet_sdxl_diffusers 64 kohya mid_block*",
           "lora lora_unet_ unet_sdxl_diffusers 64 kohya up_blocks*"]),
    ("embedding-kohya.safetensors", "F32", 0, "textual inversion of SD 1, kohya", ["tensor emb_params F 4,768"]),
    ("learned_embeds.safetensors", "F32", 0, "textual inversion of SD 2, diffusers",
     PT + ["tensor <token> F 1024"]),
    ("embedding-sdxl.safetensors", "F16", 0, "textual inversion of SDXL",
     ["tensor clip_g F 3,1280", "tensor clip_l F 3,768"]),
]


def originals(root):
    """parts by name, and whole models that the composed files must equal."""
    compvis, stability, sgm = ("CompVis/stable-diffusion", "Stability-AI/stablediffusion",
                               "Stability-AI/generative-models")
    v1, v2 = "configs/stable-diffusion/v1-inference.yaml", "configs/stable-diffusion/"
    whole = {
        "v1-5-pruned.safetensors": original(root, compvis, v1, use_ema=True),
        "sd-v1-5-inpainting.safetensors": original(root, compvis, v1, in_channels=9),
        "instruct-pix2pix-00-22000.safetensors": original(root, compvis, v1, use_ema=True, in_channels=8),
        "v2-1_768-ema-pruned.safetensors": original(root, stability, v2 + "v2-inference-v.yaml"),
        "512-inpainting-ema.safetensors": original(root, stability, v2 + "v2-inpainting-inference.yaml"),
        "512-depth-ema.safetensors": original(root, stability, v2 + "v2-midas-inference.yaml"),
        "x4-upscaler-ema.safetensors": original(root, stability, v2 + "x4-upscaling.yaml"),
        "sd2-sgm.safetensors": original(root, sgm, "configs/inference/sd_2_1_768.yaml"),
        "sd_xl_base_1.0.safetensors": original(root, sgm, "configs/inference/sd_xl_base.yaml"),
        "sd_xl_refiner_1.0.safetensors": original(root, sgm, "configs/inference/sd_xl_refiner.yaml"),
    }
    sd1, sd2 = whole["v1-5-pruned.safetensors"], whole["v2-1_768-ema-pruned.safetensors"]
    x4, xl = whole["x4-upscaler-ema.safetensors"], whole["sd_xl_base_1.0.safetensors"]
    refiner = whole["sd_xl_refiner_1.0.safetensors"]
    for t in (xl, refiner):
        del t["denoiser.sigmas"]   # the published files are older than this buffer
    with source(root, "lllyasviel/ControlNet") as path:
        from omegaconf import OmegaConf
        c = OmegaConf.load(os.path.join(path, "models/cldm_v15.yaml")).model.params.control_stage_config
        controlnet = listed(importlib.import_module("ldm.util").instantiate_from_config(c).state_dict())
    with source(root, "madebyollin/taesd"):
        taesd = importlib.import_module("taesd")
        tiny = {k: listed(getattr(taesd, k)().state_dict()) for k in ("Encoder", "Decoder")}
    clip_l = {k: v for k, v in beneath(sd1, "cond_stage_model.transformer.").items() if "position_ids" not in k}
    parts = {
        "unet_sd1": beneath(sd1, UNET), "unet_sd2": beneath(sd2, UNET), "unet_x4": beneath(x4, UNET),
        "unet_sdxl": beneath(xl, UNET), "unet_refiner": beneath(refiner, UNET),
        "unet_ssd1b": exported("ssd1b"), "unet_vega": exported("vega"),
        "unet_small": exported("small", all_attentions=False), "unet_tiny": exported("tiny", all_attentions=False),
        "unet_sd1_diffusers": diffusers_unet("sd1"), "unet_sdxl_diffusers": diffusers_unet("sdxl"),
        "vae": beneath(sd1, VAE), "vae_x4": beneath(x4, VAE), "vae_diffusers": diffusers_vae(),
        "vae_diffusers_old": {old_attention(k): v for k, v in diffusers_vae().items()},
        "clip_l": clip_l, "clip_l_bare": beneath(clip_l, "text_model."), "clip_h": transformers_clip(CLIP_H),
        "clip_bigg": transformers_clip(CLIP_G, projection=True),
        "openclip_h": beneath(sd2, "cond_stage_model.model."),
        "openclip_bigg": beneath(xl, "conditioner.embedders.1.model."),
        "schedule": {k: v for k, v in sd1.items() if "." not in k},
        "schedule_short": beneath(x4, "low_scale_model."),
        "midas_dpt_hybrid": beneath(whole["512-depth-ema.safetensors"], "depth_model."),
        "controlnet_sd1": controlnet, "taesd_encoder": tiny["Encoder"], "taesd_decoder": tiny["Decoder"],
    }
    return parts, whole


def check_parts(parts):
    """The counts that are known otherwise, and the renaming against the originals."""
    for name in ("sd1", "sd2", "sdxl"):
        assert exported(name) == parts["unet_" + name], name
    numbers = {k: (len(t), sum(math.prod(s) for _, s in t.values())) for k, t in parts.items()}
    known = {"unet_sd1": (686, 859520964), "unet_sd2": (686, 865910724), "unet_x4": (687, 473398020),
             "unet_sdxl": (1680, 2567463684), "unet_refiner": (1220, 2259526660), "unet_ssd1b": (944, 1331334404),
             "unet_vega": (564, 745225604), "unet_small": (442, 579384964), "unet_tiny": (358, 323384964),
             "vae": (248, 83653863), "vae_x4": (204, 55325927), "clip_l": (196, 123060480),
             "clip_h": (372, 340387840), "clip_bigg": (517, 694659840), "controlnet_sd1": (340, 361279120),
             "taesd_encoder": (67, 1222532), "taesd_decoder": (67, 1222531)}
    for name, (tensors, n) in numbers.items():
        print("%-20s %5d tensors %13d numbers%s" % (name, tensors, n, "" if name in known else "  (not known before)"))
        assert known.get(name, (tensors, n)) == (tensors, n), (name, known[name])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sources", required=True)
    parser.add_argument("--packages", default="")
    parser.add_argument("--out", default="tests/golden/keys")
    a = parser.parse_args()
    prepare(a.packages)
    parts, whole = originals(a.sources)
    check_parts(parts)
    os.makedirs(a.out, exist_ok=True)
    for name, tensors in parts.items():
        write_part(os.path.join(a.out, name + ".txt"), tensors, "%d tensors" % len(tensors))
    with open(os.path.join(a.out, "families.txt"), "w", encoding="utf-8", newline="\n") as f:
        f.write("# made by tools/golden_keys.py, which explains it\n")
        for name, kind, size, what, lines in FILES:
            tensors = compose(lines, parts)
            meta = {w[1]: w[2] for w in (x.split(" ", 2) for x in lines) if w[0] == "meta"}
            if name in whole:
                mine = {k: v for k, v in tensors.items() if "model_ema." not in k or "decay" not in k and
                        "num_updates" not in k}
                theirs = {k: v for k, v in whole[name].items() if k in mine or not k.startswith("model_ema.") or
                          k[10:] not in ("decay", "num_updates")}
                assert mine == theirs, (name, set(mine) ^ set(theirs))
            how = close_to(size, tensors, kind, meta) if size else "size not known"
            print("%-46s %s %5d tensors %14d  %s%s" % (name, kind, len(tensors), size, how,
                                                      ", equals the original class" if name in whole else ""))
            f.write("file %s %s %d\nwhat %s\n%s\n" % (name, kind, size, what, "\n".join(lines)))


if __name__ == "__main__":
    main()

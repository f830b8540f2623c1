#!/usr/bin/env python3
"""Synthetic models: Stable Diffusion's topology with weights from a formula, so that none need be stored.

    python tools/synth.py --config sd1-small OUTDIR [--dtype F32|F16|BF16] [--shards N] [--no-prefix] [--variant]
    python tools/synth.py --list

Number i of tensor `name` (with the part's name before it: "unet.conv_in.weight") is

    gain * u_i + offset,   u_i = (splitmix64(fnv1a64(name) + (i + 1) * GOLDEN) >> 40) / 2^23 - 1   in [-1,1)

computed in double (u is exact), rounded to float32, and, in configurations with round_to "bf16", to bfloat16
(nearest, halves to even; below 2^-14 in size: to 0). Such a model is the same numbers in files of F32, BF16 and F16.
tests/synth.c has the same arithmetic and reads gain and offset from the lists that make_golden.py writes, so the two
agree in every bit.

Gains and offsets are chosen so that every module matters to the result (defaults hide bugs: biases of 0, norm gains
of 1, a faint cross-attention) and that known mistakes can be seen: the residual streams begin small (about 0.1), and
so do the sums in resnets, or else the epsilon of a norm would not show; queries and keys are large, or else a softmax
would be flat. tools/make_golden.py measures both.
"""
import argparse
import json
import math
import os
import re
import shutil

import numpy as np

# ------------------------------------------------------------------------------------------------ configurations

UNET_TYPES = {"C": ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D"), "D": ("DownBlock2D", "UpBlock2D")}
SD_BETAS = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000,
                trained_betas=None)


def unet_config(levels, channels, layers, heads, context, groups, sample, linear=False):
    return dict(_class_name="UNet2DConditionModel", act_fn="silu", attention_head_dim=heads,
                block_out_channels=list(channels), center_input_sample=False, cross_attention_dim=context,
                down_block_types=[UNET_TYPES[k][0] for k in levels], downsample_padding=1, flip_sin_to_cos=True,
                freq_shift=0, in_channels=4, layers_per_block=layers,
                mid_block_scale_factor=1, norm_eps=1e-5, norm_num_groups=groups, out_channels=4, sample_size=sample,
                up_block_types=[UNET_TYPES[k][1] for k in reversed(levels)], use_linear_projection=linear)


def unet_alone(levels, channels, layers, heads, context, groups, linear=False, **more):
    return dict(unet=dict(unet_config(levels, channels, layers, heads, context, groups, 8, linear), **more),
                round_to="f32")


def text_time(pooled, ids):
    """SDXL's further inputs: a vector of so many numbers, so many time ids of 8 columns each."""
    return dict(addition_embed_type="text_time", addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=pooled + 8 * ids)


def vae_config(channels, layers, groups, sample):
    n = len(channels)
    return dict(_class_name="AutoencoderKL", act_fn="silu", block_out_channels=list(channels),
                down_block_types=["DownEncoderBlock2D"] * n, in_channels=3, latent_channels=4, layers_per_block=layers,
                norm_num_groups=groups, out_channels=3, sample_size=sample, scaling_factor=0.18215,
                up_block_types=["UpDecoderBlock2D"] * n)


def tiny_vae_config(encoder, decoder, width):
    """A TAESD: blocks of each level on either way; width: (encoder's, decoder's) channels."""
    return dict(_class_name="AutoencoderTiny", act_fn="relu", encoder_block_out_channels=[width[0]] * len(encoder),
                decoder_block_out_channels=[width[1]] * len(decoder), force_upcast=False, in_channels=3,
                latent_channels=4, latent_magnitude=3, latent_shift=0.5, num_decoder_blocks=list(decoder),
                num_encoder_blocks=list(encoder), out_channels=3, scaling_factor=1.0, shift_factor=0.0,
                upsample_fn="nearest", upsampling_scaling_factor=2)


def clip_config(width, layers, heads, ff, act, pad):
    return dict(architectures=["CLIPTextModel"], attention_dropout=0.0, bos_token_id=49406, eos_token_id=49407,
                hidden_act=act, hidden_size=width, intermediate_size=ff, layer_norm_eps=1e-5,
                max_position_embeddings=77, model_type="clip_text_model", num_attention_heads=heads,
                num_hidden_layers=layers, pad_token_id=pad, projection_dim=width, vocab_size=49408)


def scheduler_config(class_name, **more):
    return dict(_class_name=class_name, **SD_BETAS, **more)


PUBLISHED = dict(clip_sample=False, set_alpha_to_one=False, skip_prk_steps=True, steps_offset=1)
PUBLISHED_PNDM = scheduler_config("PNDMScheduler", **PUBLISHED)
PUBLISHED_DDIM_V = scheduler_config("DDIMScheduler", prediction_type="v_prediction", **PUBLISHED)
UPSCALER_BETAS = dict(beta_start=0.0001, beta_end=0.02)

# pad: the token that special_tokens_map.json names. round_to: see above.
CONFIGS = {
    # The published sizes.
    "sd15": dict(unet=unet_config("CCCD", (320, 640, 1280, 1280), 2, 8, 768, 32, 64),
                 vae=vae_config((128, 256, 512, 512), 2, 32, 512),
                 text_encoder=clip_config(768, 12, 12, 3072, "quick_gelu", 49407), scheduler=PUBLISHED_PNDM,
                 pad="<|endoftext|>", round_to="f32"),
    "sd21": dict(unet=unet_config("CCCD", (320, 640, 1280, 1280), 2, [5, 10, 20, 20], 1024, 32, 96, linear=True),
                 vae=vae_config((128, 256, 512, 512), 2, 32, 768),
                 text_encoder=clip_config(1024, 23, 16, 4096, "gelu", 0), scheduler=PUBLISHED_DDIM_V, pad="!",
                 round_to="f32"),
    # SD 1.5 inpainting's: 9 channels go in, latents, mask and the latents of what is kept.
    "sd15-inpaint": dict(unet=dict(unet_config("CCCD", (320, 640, 1280, 1280), 2, 8, 768, 32, 64), in_channels=9),
                         vae=vae_config((128, 256, 512, 512), 2, 32, 512),
                         text_encoder=clip_config(768, 12, 12, 3072, "quick_gelu", 49407), scheduler=PUBLISHED_PNDM,
                         pad="<|endoftext|>", round_to="f32"),
    # SD 1's topology, a few channels. 2 heads at every level (a count: 4, 8, 12, 12 columns each).
    "sd1-small": dict(unet=unet_config("CCCD", (8, 16, 24, 24), 2, 2, 16, 4, 8),
                      vae=vae_config((4, 8, 16, 16), 2, 2, 64),
                      text_encoder=clip_config(16, 3, 2, 64, "quick_gelu", 49407), scheduler=PUBLISHED_PNDM,
                      pad="<|endoftext|>", round_to="bf16"),
    # SD 2's: a head count per level (8 columns each), linear projections, gelu, v prediction, pad 0.
    "sd2-small": dict(unet=unet_config("CCD", (8, 16, 32), 2, [1, 2, 4], 24, 2, 8, linear=True),
                      vae=vae_config((4, 4, 8, 8), 1, 2, 64), text_encoder=clip_config(24, 4, 3, 96, "gelu", 0),
                      scheduler=PUBLISHED_DDIM_V, pad="!", round_to="f32"),
    # Uneven: one layer per block, attention on the coarse levels only, widths that are no powers of two; the
    # scheduler's file leaves most to the class' defaults.
    "asym-small": dict(unet=unet_config("DCC", (12, 20, 28), 1, 2, 20, 4, 8), vae=vae_config((4, 12, 8, 16), 1, 1, 64),
                       text_encoder=clip_config(20, 2, 2, 48, "quick_gelu", 49407),
                       scheduler=scheduler_config("DDIMScheduler", timestep_spacing="trailing"), pad="<|endoftext|>",
                       round_to="f32"),
    # SD 1.5 inpainting's topology, a few channels.
    "inpaint-small": dict(unet=dict(unet_config("CCCD", (8, 16, 24, 24), 2, 2, 16, 4, 8), in_channels=9),
                          vae=vae_config((4, 8, 16, 16), 2, 2, 64),
                          text_encoder=clip_config(16, 2, 2, 64, "quick_gelu", 49407),
                          scheduler=scheduler_config("DDIMScheduler", **PUBLISHED), pad="<|endoftext|>",
                          round_to="f32"),
    # SD 2's published topology, so that a single file can have its names: 23 layers of text encoder (and a 24th there).
    "sd2-file": dict(unet=unet_config("CCCD", (8, 16, 24, 24), 2, [1, 2, 3, 3], 16, 4, 8, linear=True),
                     vae=vae_config((4, 8, 16, 16), 2, 2, 64), text_encoder=clip_config(16, 23, 2, 32, "gelu", 0),
                     scheduler=PUBLISHED_DDIM_V, pad="!", round_to="bf16"),
    # SD 1's, so small that its files can be kept: number (i,j) of the token embedding is number i + j of one row.
    "ckpt-small": dict(unet=unet_config("CCCD", (4, 6, 8, 8), 2, 2, 8, 2, 8), vae=vae_config((2, 4, 6, 6), 2, 2, 64),
                       text_encoder=clip_config(8, 2, 2, 16, "quick_gelu", 49407), scheduler=PUBLISHED_PNDM,
                       pad="<|endoftext|>", round_to="bf16", diagonals=True),
    # SDXL's topology, a few channels: two text encoders, a pooled vector, sizes.
    "sdxl-small": dict(unet_alone("DCC", (8, 16, 24), 2, [1, 2, 3], 36, 4, linear=True,
                                  transformer_layers_per_block=[1, 2, 3], **text_time(12, 6)),
                       vae=dict(vae_config((4, 8, 16, 16), 2, 2, 64), scaling_factor=0.13025, force_upcast=False),
                       text_encoder=clip_config(16, 3, 2, 64, "quick_gelu", 49407),
                       text_encoder_2=dict(clip_config(20, 4, 2, 80, "gelu", 0), projection_dim=12,
                                           architectures=["CLIPTextModelWithProjection"]),
                       # an offset of 0 stays: StableDiffusionPipeline would make it 1
                       scheduler=scheduler_config("EulerDiscreteScheduler", timestep_spacing="leading"),
                       pad="<|endoftext|>"),
    # The same with a square projection, which can be transposed without anybody noticing a shape.
    "sdxl-file": dict(unet_alone("DCC", (8, 16, 24), 2, [1, 2, 3], 36, 4, linear=True,
                                 transformer_layers_per_block=[1, 2, 3], **text_time(20, 6)),
                      vae=dict(vae_config((4, 8, 16, 16), 2, 2, 64), scaling_factor=0.13025),
                      text_encoder=clip_config(16, 3, 2, 64, "quick_gelu", 49407),
                      text_encoder_2=dict(clip_config(20, 4, 2, 80, "gelu", 0), projection_dim=20,
                                          architectures=["CLIPTextModelWithProjection"]),
                      scheduler=scheduler_config("EulerDiscreteScheduler", timestep_spacing="leading", steps_offset=1),
                      pad="<|endoftext|>"),
    # The same made for inpainting: 9 channels go in.
    "inpaint-xl-small": dict(unet_alone("DCC", (8, 16, 24), 2, [1, 2, 3], 36, 4, linear=True, in_channels=9,
                                        transformer_layers_per_block=[1, 1, 2], **text_time(12, 6)),
                             vae=dict(vae_config((4, 8, 16, 16), 2, 2, 64), scaling_factor=0.13025, force_upcast=False),
                             text_encoder=clip_config(16, 3, 2, 64, "quick_gelu", 49407),
                             text_encoder_2=dict(clip_config(20, 4, 2, 80, "gelu", 0), projection_dim=12,
                                                 architectures=["CLIPTextModelWithProjection"]),
                             scheduler=scheduler_config("EulerDiscreteScheduler", timestep_spacing="leading",
                                                        steps_offset=1),
                             pad="<|endoftext|>"),
    # Its refiner's: the second text encoder alone, an aesthetic score among the ids.
    "refiner-small": dict(unet_alone("DCCD", (8, 16, 24, 24), 2, [1, 2, 3, 3], 20, 4, linear=True,
                                     transformer_layers_per_block=2, **text_time(12, 5)),
                          vae=dict(vae_config((4, 8, 16, 16), 2, 2, 64), scaling_factor=0.13025, force_upcast=False),
                          text_encoder_2=dict(clip_config(20, 4, 2, 80, "gelu", 0), projection_dim=12,
                                              architectures=["CLIPTextModelWithProjection"]),
                          scheduler=scheduler_config("EulerDiscreteScheduler", timestep_spacing="leading", steps_offset=1),
                          pad="!"),
    # SD 2's topology with a depth map: 5 channels go in.
    "depth-small": dict(unet=dict(unet_config("CCCD", (8, 16, 24, 24), 1, [1, 2, 3, 3], 16, 4, 8, linear=True),
                                  in_channels=5),
                        vae=vae_config((4, 8, 16, 16), 1, 2, 64), text_encoder=clip_config(16, 3, 2, 64, "gelu", 0),
                        scheduler=PUBLISHED_PNDM, pad="!", round_to="f32",
                        index=dict(_class_name="StableDiffusionDepth2ImgPipeline", depth_estimator=[None, None])),
    # The upscaler's: a small picture with noise beside the latents (7 channels go in), how much noise as a class, a VAE
    # of a level less.
    "x4-small": dict(unet=dict(unet_config("DCCC", (8, 16, 16, 24), 1, 2, 20, 4, 8, linear=True), in_channels=7,
                               num_class_embeds=1000, only_cross_attention=[True, True, True, False]),
                     vae=dict(vae_config((4, 8, 16), 1, 2, 32), scaling_factor=0.08333),
                     text_encoder=clip_config(20, 3, 2, 64, "gelu", 0),
                     scheduler=dict(PUBLISHED_DDIM_V, **UPSCALER_BETAS),
                     low_res_scheduler=dict(scheduler_config("DDPMScheduler", clip_sample=True,
                                                             prediction_type="epsilon", variance_type="fixed_small"),
                                            **UPSCALER_BETAS),
                     pad="!", round_to="f32",
                     index=dict(_class_name="StableDiffusionUpscalePipeline", max_noise_level=350,
                                low_res_scheduler=["diffusers", "DDPMScheduler"], watermarker=[None, None])),
    # InstructPix2Pix': SD 1's with 8 channels, latents and the latents of the picture to be edited.
    "pix2pix-small": dict(unet=dict(unet_config("CCCD", (8, 16, 24, 24), 1, 2, 16, 4, 8), in_channels=8),
                          vae=vae_config((4, 8, 16, 16), 1, 2, 64),
                          text_encoder=clip_config(16, 3, 2, 64, "quick_gelu", 49407),
                          scheduler=scheduler_config("EulerAncestralDiscreteScheduler", **PUBLISHED),
                          pad="<|endoftext|>", round_to="f32",
                          index=dict(_class_name="StableDiffusionInstructPix2PixPipeline")),
    # A latent consistency model of SD 1's topology: the UNet is told the guidance scale.
    "lcm-small": dict(unet=dict(unet_config("CCCD", (8, 16, 24, 24), 2, 2, 16, 4, 8), time_cond_proj_dim=12),
                      vae=vae_config((4, 8, 16, 16), 2, 2, 64),
                      text_encoder=clip_config(16, 2, 2, 64, "quick_gelu", 49407),
                      scheduler=scheduler_config("LCMScheduler", timestep_spacing="leading", original_inference_steps=50,
                                                 timestep_scaling=10.0, clip_sample=False, set_alpha_to_one=True,
                                                 steps_offset=1),
                      pad="<|endoftext|>", round_to="f32",
                      index=dict(_class_name="LatentConsistencyModelPipeline")),
    # UNets alone, a few channels each: what SDXL, its refiner, SSD-1B, tiny-sd, the x4 upscaler and LCM have that SD 1
    # and 2 have not.
    "sdxl-unet": unet_alone("DCC", (8, 16, 24), 2, [1, 2, 3], 24, 4, linear=True, transformer_layers_per_block=[1, 2, 3],
                            **text_time(12, 6)),
    "refiner-unet": unet_alone("DCCD", (8, 16, 24, 24), 2, [1, 2, 3, 3], 20, 4, linear=True,
                               transformer_layers_per_block=2, **text_time(12, 5)),
    "ssd-unet": unet_alone("DCC", (8, 16, 24), 2, [1, 2, 3], 24, 4, linear=True,
                           transformer_layers_per_block=[1, [2, 2], [1, 3]],
                           reverse_transformer_layers_per_block=[[3, 1, 2], [2, 1, 1], 1],
                           mid_block_type="UNetMidBlock2D", **text_time(12, 6)),
    "tiny-sd-unet": unet_alone("CCC", (8, 16, 24), 1, 2, 16, 4, mid_block_type=None),
    "x4-unet": unet_alone("DCCC", (8, 16, 16, 24), 2, 2, 20, 4, linear=True, in_channels=7, num_class_embeds=10,
                          only_cross_attention=[True, True, True, False]),
    # A TAESD alone, a few channels, ways of different widths and depths.
    "taesd-small": dict(vae=tiny_vae_config((1, 2, 1, 2), (2, 1, 2, 1), (12, 8)), round_to="f32"),
    "lcm-unet": unet_alone("CCCD", (8, 16, 24, 24), 2, 2, 16, 4, time_cond_proj_dim=12),
}

# Part of a model: the stem of its weight files, and the prefix of published keys that transformers 5 does not write.
PARTS = {"unet": ("diffusion_pytorch_model", ""), "vae": ("diffusion_pytorch_model", ""),
         "text_encoder": ("model", "text_model."), "text_encoder_2": ("model", "")}

SPECIAL_TOKENS = dict(bos_token="<|startoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>")


SD_INDEX = dict(_class_name="StableDiffusionPipeline", requires_safety_checker=False, safety_checker=[None, None])
XL_INDEX = dict(_class_name="StableDiffusionXLPipeline", force_zeros_for_empty_prompt=True,
                text_encoder_2=["transformers", "CLIPTextModelWithProjection"],
                tokenizer_2=["transformers", "CLIPTokenizer"])


def tokenizer_files(directory, pad):
    return {
        directory + "/special_tokens_map.json": dict(SPECIAL_TOKENS, pad_token=pad),
        directory + "/tokenizer_config.json": dict(
            SPECIAL_TOKENS, pad_token="<|endoftext|>", add_prefix_space=False, do_lower_case=True, errors="replace",
            model_max_length=77, tokenizer_class="CLIPTokenizer"),
    }


def json_files(config):
    """Every JSON file of the model's directory but vocab.json: path -> object."""
    c, more = CONFIGS[config], {}
    if "text_encoder_2" in c:
        more = {"text_encoder_2/config.json": c["text_encoder_2"], **tokenizer_files("tokenizer_2", "!")}
    first = {}
    if "text_encoder" in c:
        first = {"text_encoder/config.json": c["text_encoder"], **tokenizer_files("tokenizer", c["pad"])}
    if "unet" not in c:
        return {"vae/config.json": c["vae"]}
    if "vae" not in c:
        return {"unet/config.json": c["unet"], "scheduler/scheduler_config.json": PUBLISHED_PNDM}
    return {
        "model_index.json": dict(
            XL_INDEX if more else SD_INDEX, feature_extractor=[None, None], image_encoder=[None, None],
            scheduler=["diffusers", c["scheduler"]["_class_name"]],
            text_encoder=["transformers", "CLIPTextModel"] if first else [None, None],
            tokenizer=["transformers", "CLIPTokenizer"] if first else [None, None],
            unet=["diffusers", "UNet2DConditionModel"], vae=["diffusers", "AutoencoderKL"],
            **({} if first else dict(force_zeros_for_empty_prompt=False, requires_aesthetics_score=True)),
            **c.get("index", {})),
        "scheduler/scheduler_config.json": c["scheduler"],
        **{k + "/scheduler_config.json": c[k] for k in ("low_res_scheduler",) if k in c},
        **first,
        "unet/config.json": c["unet"],
        "vae/config.json": c["vae"],
        **more,
    }


# ------------------------------------------------------------------------------------------------ numbers

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def fnv1a64(text):
    h = 0xCBF29CE484222325
    for byte in text.encode():
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h


def uniform(name, n, first=0):
    """Numbers first .. first+n-1 of the stream `name`, float32 in [-1,1)."""
    z = np.arange(first + 1, first + n + 1, dtype=np.uint64)
    z *= GOLDEN
    z += np.uint64(fnv1a64(name))
    t = z >> np.uint64(30)
    for multiplier, shift in ((0xBF58476D1CE4E5B9, 27), (0x94D049BB133111EB, 31)):   # splitmix64 [Steele et al. 2014]
        z ^= t
        z *= np.uint64(multiplier)
        np.right_shift(z, np.uint64(shift), out=t)
    z ^= t
    z >>= np.uint64(40)
    return (z.astype(np.float32) - np.float32(2**23)) / np.float32(2**23)


def to_bf16(x):
    """float32 numbers that bfloat16 (and float16: no exponent is too small) has."""
    bits = x.view(np.uint32)
    bits = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    y = bits.view(np.float32)
    y[np.abs(y) < 2.0**-14] = 0
    return y


CHUNK = 1 << 18   # stays in the cache


def fill(name, n, gain, offset, round_to="f32"):
    out = np.empty(n, np.float32)
    for i in range(0, n, CHUNK):
        m = min(CHUNK, n - i)
        y = (np.float64(gain) * uniform(name, m, i) + np.float64(offset)).astype(np.float32)
        out[i:i + m] = to_bf16(y) if round_to == "bf16" else y
    return out


def noise_like(name, shape):
    """An input of unit variance (uniform, sqrt(3) in size)."""
    return fill(name, math.prod(shape), np.float32(math.sqrt(3)), 0).reshape(shape)


# ------------------------------------------------------------------------------------------------ gains

STREAM = 0.1   # size of the residual streams
# (pattern of the module's path, gain of its weights relative to sqrt(3 / fan_in), which keeps variances): the first
# match counts.
GAINS = {
    "unet": [
        (r"conv_in$", STREAM), (r"conv_out$", 1.7), (r"(time|add|class)_embedding", 1.5), (r"time_emb_proj$", 1.7 * STREAM),
        (r"conv1$", 1.7 * STREAM),
        # On the way up every skip dilutes what came from below: it is kept loud.
        (r"mid_block.*(conv2|proj_out)$", 6 * STREAM), (r"up_blocks.*(conv2|proj_out)$", 4 * STREAM),
        (r"up_blocks.*conv_shortcut$", 1.1), (r"upsamplers\.0\.conv$", 1.1),
        (r"conv2$", 2 * STREAM), (r"conv_shortcut$", 0.8), (r"downsamplers\.0\.conv$", 1.0),
        (r"proj_in$", 0.4), (r"proj_out$", 2.5 * STREAM),
        (r"attn1\.to_[qk]$", 1.4), (r"attn2\.to_[qk]$", 1.3), (r"to_v$", 1.0),
        (r"attn1\.to_out\.0$", 1.2), (r"attn2\.to_out\.0$", 1.4), (r"ff\.net\.0\.proj$", 1.2), (r"ff\.net\.2$", 0.6),
    ],
    "vae": [
        (r"decoder\.layers\.14$", 0.05), (r"layers\.[0-9]+\.conv\.4$", 0.8), (r"layers\.[0-9]+(\.conv\.[02])?$", 1.35),   # of a TAESD
        (r"coder\.conv_in$", STREAM), (r"conv_out$", 1.2), (r"quant_conv$", 1.0), (r"conv1$", STREAM),
        (r"conv2$", 2.5 * STREAM), (r"conv_shortcut$", 0.8), (r"samplers\.0\.conv$", 1.0),
        (r"to_[qk]$", 1.4), (r"to_v$", 1.0), (r"to_out\.0$", 6 * STREAM),
    ],
    "text_encoder": [
        (r"[qk]_proj$", 1.4), (r"v_proj$", 1.0), (r"out_proj$", 3 * STREAM), (r"fc1$", 1.5), (r"fc2$", 3 * STREAM),
        (r"_embedding$", STREAM),
    ],
}
GAINS["text_encoder_2"] = GAINS["text_encoder"] + [(r"text_projection$", 1.0)]
NORM = r"norm([0-9]|_out)?$"


def gain_offset(part, name, shape):
    """float32 gain and offset of a tensor."""
    module, leaf = name.rsplit(".", 1)
    if re.search(NORM, module):
        return np.float32(0.3), np.float32(1.0 if leaf == "weight" else 0.0)
    for pattern, gain in GAINS[part]:
        if re.search(pattern, module):
            break
    else:
        raise KeyError("no gain for %s of the %s" % (name, part))
    if leaf == "bias":
        return np.float32(0.3 * gain), np.float32(0.5 if module == "decoder.layers.14" else 0)   # between 0 and 1
    fan_in = 1 if module.endswith("_embedding") else math.prod(shape[1:])
    return np.float32(gain * math.sqrt(3 / fan_in)), np.float32(0)


def in_diagonals(config, name):
    return CONFIGS[config].get("diagonals", False) and name.endswith("token_embedding.weight")


def tensor(config, part, name, shape):
    gain, offset = gain_offset(part, name, shape)
    c = CONFIGS[config]
    if in_diagonals(config, name):
        row = fill(part + "." + name, shape[0] + shape[1] - 1, gain, offset, c["round_to"])
        return np.lib.stride_tricks.as_strided(row, shape, (row.itemsize, row.itemsize))
    return fill(part + "." + name, math.prod(shape), gain, offset, c["round_to"]).reshape(shape)


# ------------------------------------------------------------------------------------------------ shapes and files

def empty_model(config, part):
    """The library's own module without memory behind it, for its keys and shapes."""
    import torch
    from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
    c = {k: v for k, v in CONFIGS[config][part].items() if not k.startswith("_")}
    with torch.device("meta"):
        if part == "unet":
            return UNet2DConditionModel(**c)
        if part == "vae":
            tiny = CONFIGS[config][part]["_class_name"] == "AutoencoderTiny"
            return (AutoencoderTiny if tiny else AutoencoderKL)(**c)
        return (CLIPTextModel if part == "text_encoder" else CLIPTextModelWithProjection)(CLIPTextConfig(**c))


def shapes(config, part):
    """Published keys (text encoder: with `text_model.`) and shapes, in the library's order."""
    state = empty_model(config, part).state_dict()
    return {PARTS[part][1] + k: tuple(v.shape) for k, v in state.items() if "position_ids" not in k}


def tensors(config, part):
    for name, shape in shapes(config, part).items():
        yield name, tensor(config, part, name, shape)


def read_merges(path):
    with open(path, encoding="utf-8") as f:
        return f.read().split("\n")[1:49152 - 256 - 2 + 1]


def vocabulary(merges):
    """CLIP's vocab.json: 256 byte symbols, these at the end of a word, what the merges make, two specials."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    pieces = symbols + [s + "</w>" for s in symbols] + ["".join(m.split()) for m in merges]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    return {piece: i for i, piece in enumerate(pieces)}


def write_json(path, value, **more):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="\n") as f:
        json.dump(value, f, **more)


def write_file(path, shapes, number, dtype):
    """A safetensors file, tensor by tensor, so that memory holds one of them. number(name): its float32 numbers."""
    import torch
    kind = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[dtype]
    at, header = 0, {"__metadata__": {"format": "pt"}}
    for name in sorted(shapes):
        end = at + math.prod(shapes[name]) * kind.itemsize
        header[name] = dict(dtype=dtype, shape=list(shapes[name]), data_offsets=[at, end])
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for name in sorted(shapes):
            x = torch.from_numpy(np.ascontiguousarray(number(name))).to(kind)
            f.write(memoryview(x.reshape(-1).view(torch.uint8).numpy()))


def write_weights(directory, stem, shapes, number, dtype, shards, variant):
    """stem.safetensors, or shards and their index; in the order of the names in each file. number: as write_file's."""
    suffix = ".fp16" if variant else ""
    files = [{} for _ in range(shards)]
    total, size = 0, sum(math.prod(shape) for shape in shapes.values())
    where = {}
    for name, shape in shapes.items():
        k = min(shards - 1, total * shards // size)
        total += math.prod(shape)
        files[k][name] = shape
        part = "" if shards == 1 else "-%05d-of-%05d" % (k + 1, shards)
        where[name] = stem + suffix + part + ".safetensors"
    os.makedirs(directory, exist_ok=True)
    for f in files:
        if f:
            write_file(os.path.join(directory, where[next(iter(f))]), f, number, dtype)
    if shards > 1:
        index = dict(metadata=dict(total_size=size * (4 if dtype == "F32" else 2)), weight_map=where)
        write_json(os.path.join(directory, stem + ".safetensors.index" + suffix + ".json"), index, indent=1)


def parts(config):
    return {part: v for part, v in PARTS.items() if part in CONFIGS[config]}


def tokenizers(config):
    """Directories with merges.txt."""
    return [part.replace("text_encoder", "tokenizer") for part in parts(config) if part.startswith("text_encoder")]


def write_model(config, out, dtype="F32", shards=1, prefix=True, variant=False, merges=None, quiet=True):
    """A model directory in diffusers layout."""
    merges = merges or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "weights", "merges.txt")
    for path, value in json_files(config).items():
        write_json(os.path.join(out, path), value, indent=2)
    for directory in tokenizers(config):
        shutil.copyfile(merges, os.path.join(out, directory, "merges.txt"))
        write_json(os.path.join(out, directory, "vocab.json"), vocabulary(read_merges(merges)), ensure_ascii=False)
    for part, (stem, text) in parts(config).items():
        cut = 0 if prefix or not text else len(text)
        of = shapes(config, part)
        write_weights(os.path.join(out, part), stem, {name[cut:]: shape for name, shape in of.items()},
                      lambda name, part=part, of=of, cut=text[:cut]: tensor(config, part, cut + name, of[cut + name]), dtype, shards,
                      variant)
        if not quiet:
            print("%-13s %5d tensors %12d parameters" % (part, len(of), sum(map(math.prod, of.values()))))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("outdir", nargs="?")
    parser.add_argument("--config", choices=CONFIGS, default="sd1-small")
    parser.add_argument("--dtype", choices=("F32", "F16", "BF16"), default="F32")
    parser.add_argument("--shards", type=int, default=1, help="weight files per part, with their index")
    parser.add_argument("--no-prefix", action="store_true", help="text encoder keys as transformers 5 writes them")
    parser.add_argument("--variant", action="store_true", help="file names with .fp16")
    parser.add_argument("--list", action="store_true", help="name the configurations")
    a = parser.parse_args()
    if a.list or not a.outdir:
        print("\n".join(CONFIGS))
        return
    write_model(a.config, a.outdir, a.dtype, a.shards, not a.no_prefix, a.variant, quiet=False)


if __name__ == "__main__":
    main()

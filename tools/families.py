"""The published families at full size, as tools/synth.py writes them: their configurations as published, not as
model_families.c has them, so that a mistake there is seen.

A family is named as `sd plan --config` names it. find("refiner") is the only one whose name has that word in it.
"""
import synth
from synth import clip_config, scheduler_config, unet_config, vae_config

CLIP_L = clip_config(768, 12, 12, 3072, "quick_gelu", 49407)
CLIP_H = clip_config(1024, 23, 16, 4096, "gelu", 0)
CLIP_G = dict(clip_config(1280, 32, 20, 5120, "gelu", 0), architectures=["CLIPTextModelWithProjection"])
VAE = vae_config((128, 256, 512, 512), 2, 32, 512)
FOUR = (320, 640, 1280, 1280)
LEADING = scheduler_config("EulerDiscreteScheduler", timestep_spacing="leading", steps_offset=1)
PUBLISHED_DDIM = scheduler_config("DDIMScheduler", **synth.PUBLISHED)
PUBLISHED_LCM = scheduler_config("LCMScheduler", original_inference_steps=50, timestep_scaling=10.0,
                                 **synth.PUBLISHED)


def sd1(unet=None, scheduler=synth.PUBLISHED_PNDM, **more):
    """more: of the UNet."""
    unet = unet or unet_config("CCCD", FOUR, 2, 8, 768, 32, 64)
    return dict(unet=dict(unet, **more), vae=VAE, text_encoder=CLIP_L, scheduler=scheduler, pad="<|endoftext|>",
                round_to="f32")


def sd2(scheduler=synth.PUBLISHED_PNDM, sample=64, **more):
    unet = unet_config("CCCD", FOUR, 2, [5, 10, 20, 20], 1024, 32, sample, linear=True)
    return dict(unet=dict(unet, **more), vae=VAE, text_encoder=CLIP_H, scheduler=scheduler, pad="!", round_to="f32")


def x4():
    unet = unet_config("DCCC", (256, 512, 512, 1024), 2, 8, 1024, 32, 128, linear=True)
    betas = dict(synth.PUBLISHED_DDIM_V, beta_start=0.0001, beta_end=0.02)
    return dict(unet=dict(unet, in_channels=7, num_class_embeds=1000, only_cross_attention=[True, True, True, False]),
                vae=dict(vae_config((128, 256, 512), 2, 32, 256), scaling_factor=0.08333), text_encoder=CLIP_H,
                scheduler=betas, pad="!", round_to="f32")


def text_time(ids):
    return dict(addition_embed_type="text_time", addition_time_embed_dim=256,
                projection_class_embeddings_input_dim=1280 + 256 * ids)


def xl(depths, scheduler=LEADING, sample=128, **more):
    """depths: transformer_layers_per_block."""
    unet = unet_config("DCC", (320, 640, 1280), 2, [5, 10, 20], 2048, 32, sample, linear=True)
    return dict(unet=dict(unet, transformer_layers_per_block=depths, **text_time(6), **more),
                vae=dict(VAE, scaling_factor=0.13025, sample_size=1024), text_encoder=CLIP_L, text_encoder_2=CLIP_G,
                scheduler=scheduler, pad="<|endoftext|>", round_to="f32")


def refiner():
    unet = unet_config("DCCD", (384, 768, 1536, 1536), 2, [6, 12, 24, 24], 1280, 32, 128, linear=True)
    return dict(unet=dict(unet, transformer_layers_per_block=4, **text_time(5)),
                vae=dict(VAE, scaling_factor=0.13025, sample_size=1024), text_encoder_2=CLIP_G, scheduler=LEADING,
                pad="!", round_to="f32")


def trailing(name):
    return scheduler_config(name, timestep_spacing="trailing")


SMALL = unet_config("CCCD", FOUR, 1, 8, 768, 32, 64)
TINY = dict(unet_config("CCC", FOUR[:3], 1, 8, 768, 32, 64), mid_block_type=None)
# In the order of model_families.c.
FAMILIES = {
    "sd15": sd1(),
    "sd15-inpaint": sd1(scheduler=PUBLISHED_DDIM, in_channels=9),
    "instruct-pix2pix": sd1(scheduler=scheduler_config("EulerAncestralDiscreteScheduler"), in_channels=8),
    "lcm": sd1(scheduler=PUBLISHED_LCM, time_cond_proj_dim=256, sample_size=96),
    "small-sd": sd1(SMALL, scheduler_config("DPMSolverMultistepScheduler")),
    "bk-sdm-small": sd1(SMALL, scheduler_config("DPMSolverMultistepScheduler"), mid_block_type=None),
    "tiny-sd": sd1(TINY, scheduler_config("DPMSolverMultistepScheduler")),
    "sd21": sd2(synth.PUBLISHED_DDIM_V, 96),
    "sd21-base": sd2(),
    "sd21-inpaint": sd2(in_channels=9),
    "sd2-depth": sd2(in_channels=5),
    "sd-turbo": sd2(trailing("EulerDiscreteScheduler")),
    "x4-upscaler": x4(),
    "sdxl": xl([1, 2, 10]),
    "sdxl-inpaint": xl([1, 2, 10], in_channels=9),
    "sdxl-turbo": xl([1, 2, 10], trailing("EulerAncestralDiscreteScheduler"), 64),
    "sdxl-lightning": xl([1, 2, 10], trailing("EulerDiscreteScheduler")),
    "ssd-1b": xl([1, [2, 2], [4, 4]], reverse_transformer_layers_per_block=[[4, 4, 10], [2, 1, 1], 1],
                 mid_block_type="UNetMidBlock2D"),
    "vega": xl([1, 1, 2], mid_block_type="UNetMidBlock2D"),
    "sdxl-refiner": refiner(),
}


def find(word):
    """The family of that name, or the only one with the word in its name."""
    names = [word] if word in FAMILIES else [name for name in FAMILIES if word in name]
    if len(names) != 1:
        raise KeyError("%s is %s: %s" % (word, "no family" if not names else "several families",
                                         ", ".join(names or FAMILIES)))
    return names[0]

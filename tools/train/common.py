"""What the training scripts share: shapes of the models, where the work lies, moving averages, learning rates."""
import math
import os

import numpy as np
import torch

WORK = os.environ.get("TINY_WORK", "run")                   # data, caches, checkpoints: ignored by git
BOS, EOS = 49406, 49407
VAE_CONFIG = {"in_channels": 3, "out_channels": 3, "down_block_types": ["DownEncoderBlock2D"] * 4,
              "up_block_types": ["UpDecoderBlock2D"] * 4, "block_out_channels": [16, 24, 48, 64], "layers_per_block": 1,
              "latent_channels": 4, "norm_num_groups": 1, "act_fn": "silu", "sample_size": 128}
UNET_CONFIG = {"sample_size": 16, "in_channels": 4, "out_channels": 4,
               "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
               "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
               "block_out_channels": (48, 96, 160), "layers_per_block": 1, "cross_attention_dim": 96,
               "attention_head_dim": 2, "norm_num_groups": 16}
TEXT_CONFIG = {"hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 3, "num_attention_heads": 4,
               "max_position_embeddings": 77, "hidden_act": "quick_gelu", "projection_dim": 96, "bos_token_id": BOS,
               "eos_token_id": EOS, "pad_token_id": EOS}


def alphas_bar():
    """Products of 1 - beta of SD's scaled-linear schedule, float32 from float64, shape [1000]."""
    beta = torch.linspace(.00085 ** .5, .012 ** .5, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - beta, 0).float()


def learning_rate(frac, step, base, warm=100, floor=.02):
    """Warms up by steps, then falls along a cosine by the fraction of the TIME budget that is used up."""
    return base * min(1, (step + 1) / warm) * (floor + (1 - floor) * .5 * (1 + math.cos(math.pi * min(1, frac))))


def use_cores(device):
    if device == "cpu":
        torch.set_num_threads(os.cpu_count())


def to_tensor(pictures, device="cpu"):
    """Bytes [H, W, 3] each -> [B, 3, H, W] in -1..1."""
    x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).to(device).float().div(127.5).sub(1)
    return x.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def copy_all(to, source):
    """One list of tensors into another: parameters into their moving average or back."""
    for a, b in zip(to, source, strict=True):
        a.copy_(b)


class EMA:
    """Moving average of parameters; the average, not the last step, is what is exported."""

    def __init__(self, params, decay):
        self.params, self.decay, self.n = list(params), decay, 0
        self.shadow = [p.detach().clone() for p in self.params]

    @torch.no_grad()
    def update(self):
        self.n += 1
        decay = min(self.decay, (1 + self.n) / (10 + self.n))
        torch._foreach_lerp_(self.shadow, [p.detach() for p in self.params], 1 - decay)


def save_atomic(what, path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    torch.save(what, path + ".tmp")
    os.replace(path + ".tmp", path)

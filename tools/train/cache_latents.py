#!/usr/bin/env python3
"""Writes run/model/vae from run/ckpt/vae.pt, and the latents of N captioned pictures to run/cache.

    python tools/train/cache_latents.py [--n 18000] [--level 2] [--objects objects.txt] [--device cuda]

A shift and a scale of each latent channel are folded into quant_conv and post_quant_conv, so that the latents have mean 0
and the scaling factor is SD 1.x's 0.18215. run/recon.png shows pictures above what the VAE makes of them."""
import argparse
import math
import os
import random
import time

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image

from aligned import Aligned
from common import VAE_CONFIG, WORK, copy_all, to_tensor, use_cores
from labelled import read_names

SCALING = .18215


def arguments():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--n", type=int, default=18000)
    ap.add_argument("--minutes", type=float, default=9, help="at most")
    ap.add_argument("--device", default="cpu")
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--level", type=int, default=1, help="objects of levels 1 to this")
    ap.add_argument("--objects", help="file with the names of the only objects, one a line")
    ap.add_argument("--out", default=f"{WORK}/cache/a.npz")
    ap.add_argument("--vae-ckpt", default=f"{WORK}/ckpt/vae.pt")
    ap.add_argument("--keep-vae", action="store_true", help="use run/model/vae as it is")
    return ap.parse_args()


def draw(source, rng, n, device):
    return to_tensor([source.sample(rng)[0] for _ in range(n)], device)


def fold(vae, mean, std):
    """z' = (z - mean) / (0.18215 std) in quant_conv, and back again in post_quant_conv."""
    k = 1 / SCALING / std
    q, post = vae.quant_conv, vae.post_quant_conv
    q.weight[:4] *= k[:, None, None, None]
    q.bias[:4] = (q.bias[:4] - mean) * k
    q.bias[4:] += 2 * k.log()
    post.bias += (post.weight[:, :, 0, 0] * mean[None]).sum(1)
    post.weight /= k[None, :, None, None]


def compare(x, y, path):
    """Pairs of rows: pictures, and what came back."""
    rows = [((t.clamp(-1, 1).permute(0, 2, 3, 1) + 1) * 127.5).round().byte().cpu().numpy() for t in (x, y)]
    pairs = [np.concatenate([np.concatenate(list(r[i:i + 8]), 1) for r in rows], 0) for i in range(0, 32, 8)]
    Image.fromarray(np.concatenate(pairs, 0)).save(path)


def export_vae(a, source):
    vae = AutoencoderKL(**VAE_CONFIG, scaling_factor=SCALING)
    saved = torch.load(a.vae_ckpt, map_location="cpu")
    vae.load_state_dict(saved["vae"])
    copy_all(vae.parameters(), saved["ema"])
    vae.to(a.device, memory_format=torch.channels_last).eval()
    rng = random.Random(99)
    z = torch.cat([vae.encode(draw(source, rng, 32, a.device)).latent_dist.mean for _ in range(16)])
    print("correlations", np.round(np.corrcoef(z.permute(1, 0, 2, 3).reshape(4, -1).cpu().numpy()), 2).tolist())
    fold(vae, z.mean((0, 2, 3)), z.std((0, 2, 3)))
    x = draw(source, rng, 64, a.device)
    posterior = vae.encode(x).latent_dist
    y = vae.decode(posterior.mean).sample.clamp(-1, 1)
    z = posterior.mean * SCALING
    print(f"latents: mean {z.mean((0, 2, 3)).tolist()}, std {z.std((0, 2, 3)).tolist()}, of the posterior "
          f"{(posterior.std * SCALING).mean().item():.4f}; PSNR {-10 * math.log10(((y - x) / 2).square().mean().item()):.2f}")
    vae.half().save_pretrained(f"{WORK}/model/vae")
    compare(x, y, f"{WORK}/recon.png")


@torch.no_grad()
def main():
    a = arguments()
    use_cores(a.device)
    source, rng = Aligned(a.level, read_names(a.objects)), random.Random(a.seed)
    os.makedirs(os.path.dirname(a.out), exist_ok=True)
    if not a.keep_vae:
        export_vae(a, source)
    vae = AutoencoderKL.from_pretrained(f"{WORK}/model/vae").float().to(a.device, memory_format=torch.channels_last).eval()
    latents, captions, begun = [], [], time.time()
    while len(captions) < a.n and time.time() - begun < a.minutes * 60:
        batch = [source.sample(rng) for _ in range(32)]
        z = vae.encode(to_tensor([p for p, _ in batch], a.device)).latent_dist.mean * SCALING
        latents.append(z.permute(0, 2, 3, 1).half().cpu().numpy())
        captions += [c for _, c in batch]
        if len(captions) % 3200 == 0:
            print(f"{len(captions)} of {a.n}, {len(captions) / (time.time() - begun):.0f}/s", flush=True)
    np.savez(a.out, z=np.concatenate(latents), c=np.array(captions))
    print(f"{len(captions)} latents in {a.out}")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Trains the AutoencoderKL (8 pixels a cell, 4 latent channels); goes on from run/ckpt/vae.pt if it is there.

    python tools/train/train_vae.py --minutes 38 --level 2 [--device cuda]

On crops first, they are four times as fast, then on whole pictures. The penalty on squared correlations between the latent
channels matters: without it three of four channels carry the same and purple, pink and turquoise get lost.
--decoder-only leaves the latents as they are, so that a UNet that has been trained on them stays good."""
import argparse
import os
import random
import time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from aligned import Aligned
from common import EMA, VAE_CONFIG, WORK, copy_all, learning_rate, save_atomic, to_tensor, use_cores


def arguments():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--minutes", type=float, default=28, help="of training in all, earlier runs included")
    ap.add_argument("--device", default="cpu")
    ap.add_argument("--batch", type=int, default=8)
    ap.add_argument("--lr", type=float, default=1e-3, help="2e-3 is too high")
    ap.add_argument("--kl", type=float, default=3e-4, help="weight of the KL term, a mean over latent elements")
    ap.add_argument("--correlation", type=float, default=.05, help="weight of the squared correlations between channels")
    ap.add_argument("--crop", type=int, default=64, help="side of the crops")
    ap.add_argument("--crop-share", type=float, default=.75, help="of the time")
    ap.add_argument("--level", type=int, default=1, help="objects of levels 1 to this")
    ap.add_argument("--ckpt", default=f"{WORK}/ckpt/vae.pt")
    ap.add_argument("--fresh", action="store_true", help="begin anew")
    ap.add_argument("--decoder-only", action="store_true")
    return ap.parse_args()


def batch(source, rng, n, crop, device):
    pictures = []
    for _ in range(n):
        picture = source.sample(rng)[0]
        if crop:
            y, x = (8 * rng.randrange((128 - crop) // 8 + 1) for _ in range(2))
            picture = picture[y:y + crop, x:x + crop]
        pictures.append(picture)
    return to_tensor(pictures, device)


def reconstruction(y, x):
    """L1 of the picture, of its differences between neighbours (edges), and of its 4x4 means (colours)."""
    d = y - x
    edges = (d[..., 1:] - d[..., :-1]).abs().mean() + (d[..., 1:, :] - d[..., :-1, :]).abs().mean()
    return d.abs().mean() + .3 * edges + .5 * F.avg_pool2d(d, 4).abs().mean()


def losses(vae, x, step):
    mean, logvar = vae.quant_conv(vae.encoder(x)).chunk(2, 1)
    logvar = logvar.clamp(-20, 5)
    kl = .5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    z = mean + (.5 * logvar).exp() * torch.randn_like(mean) if step > 300 else mean
    flat = mean.permute(1, 0, 2, 3).flatten(1)
    correlation = (torch.corrcoef(flat) - torch.eye(4, device=x.device)).square().sum() / 12 if step > 50 else 0 * kl
    return reconstruction(vae.decoder(vae.post_quant_conv(z)), x), kl, correlation


def main():
    a = arguments()
    use_cores(a.device)
    vae = AutoencoderKL(**VAE_CONFIG).to(a.device, memory_format=torch.channels_last)
    ema, step, before = EMA(vae.parameters(), .998), 0, 0.
    saved = torch.load(a.ckpt, map_location=a.device) if os.path.exists(a.ckpt) and not a.fresh else None
    if saved:
        vae.load_state_dict(saved["vae"])
        copy_all(ema.shadow, saved["ema"])
        ema.n, step, before = saved["ema_n"], saved["step"], saved["spent"]
    if a.decoder_only:                                  # from the average, which the UNet's latents come from
        if not saved:
            raise SystemExit(f"--decoder-only needs a trained VAE at {a.ckpt}")
        copy_all(vae.parameters(), ema.shadow)
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
        before = 0.
    optimizer = torch.optim.AdamW([p for p in vae.parameters() if p.requires_grad], a.lr, betas=(.9, .99), weight_decay=.01)
    if saved and not a.decoder_only and len(saved["opt"]["state"]):
        optimizer.load_state_dict(saved["opt"])
    source, rng = Aligned(a.level, variants=2), random.Random(1000 + step)
    torch.manual_seed(1000 + step)
    begun = told = kept = time.time()
    budget, sums, count = a.minutes * 60, np.zeros(3), 0

    def save():
        save_atomic({"vae": vae.state_dict(), "ema": ema.shadow, "ema_n": ema.n, "opt": optimizer.state_dict(), "step": step,
                     "spent": before + time.time() - begun}, a.ckpt)

    while (spent := before + time.time() - begun) < budget:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(spent / budget, step, a.lr)
        x = batch(source, rng, a.batch, a.crop if spent / budget < a.crop_share else 0, a.device)
        terms = losses(vae, x, step)
        (terms[0] + (0 if a.decoder_only else a.kl * terms[1] + a.correlation * terms[2])).backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ema.update()
        step, sums, count = step + 1, sums + [t.item() for t in terms], count + 1
        if time.time() - told > 30:
            mean = sums / count
            print(f"{spent:5.0f}s step {step} pictures {step * a.batch} reconstruction {mean[0]:.4f} kl {mean[1]:.3f} "
                  f"correlation {mean[2]:.3f}", flush=True)
            told, sums, count = time.time(), np.zeros(3), 0
        if time.time() - kept > 120:
            save()
            kept = time.time()
    save()
    print(f"done: {step} steps, {step * a.batch} pictures")


if __name__ == "__main__":
    main()

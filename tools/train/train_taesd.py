#!/usr/bin/env python3
"""Trains a small autoencoder in place of a VAE (TAESD, diffusers' AutoencoderTiny): run/model-taesd. Goes on from
run/ckpt/taesd.pt if it is there.

    python tools/train/train_taesd.py --minutes 5 [--vae weights/tiny/vae]

The VAE is the teacher. Encoder: picture in [0,1] to the mean of the VAE's posterior times its scaling factor, which is
what the UNet works on. Decoder: such latents to the VAE's own decoded picture, for it shall look like the VAE's, not
better. Every fourth latent is smoothed or disturbed before the VAE decodes it: previews show what no encoder makes. The
teacher's answers are made first, all at once (--n pictures); that time counts. Crops come first, then whole pictures,
for only these have edges. A minute is a minute of two cores: two minutes of processor time."""
import argparse
import os
import random
import time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderTiny

from aligned import Aligned
from common import EMA, WORK, copy_all, learning_rate, save_atomic, to_tensor
from train_vae import reconstruction

WIDTH = 24                                              # AutoencoderTiny's levels are all as wide
CONFIG = {"encoder_block_out_channels": [WIDTH] * 4, "decoder_block_out_channels": [WIDTH] * 4,
          "num_encoder_blocks": [0, 2, 3, 3], "num_decoder_blocks": [4, 3, 2, 0], "latent_channels": 4}


def arguments():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--minutes", type=float, default=5, help="of two cores, teaching and earlier runs included")
    ap.add_argument("--vae", default="weights/tiny/vae")
    ap.add_argument("--n", type=int, default=2000, help="different pictures")
    ap.add_argument("--batch", type=int, default=8, help="pictures; twice as many crops")
    ap.add_argument("--crop", type=int, default=64, help="side of the crops, which come first")
    ap.add_argument("--crop-share", type=float, default=.7, help="of the time")
    ap.add_argument("--lr", type=float, default=2e-3)
    ap.add_argument("--ckpt", default=f"{WORK}/ckpt/taesd.pt")
    ap.add_argument("--to", default=f"{WORK}/model-taesd")
    ap.add_argument("--fresh", action="store_true", help="begin anew")
    ap.add_argument("--only-report", action="store_true", help="measure the one in --to")
    ap.add_argument("--threads", type=int, default=os.cpu_count(), help="fewer are faster on a machine with other work")
    ap.add_argument("--seed", type=int, default=5)
    return ap.parse_args()


def disturbed(z, rng):
    """One latent in four: its neighbours' mean mixed in, or noise upon it."""
    share = torch.from_numpy(rng.uniform(0, 1, (len(z), 1, 1, 1)).astype(np.float32))
    smooth = F.avg_pool2d(F.pad(z, (1, 1, 1, 1), mode="replicate"), 3, 1)
    which = torch.from_numpy(rng.integers(0, 8, (len(z), 1, 1, 1)))
    noisy = z + .4 * share * torch.randn_like(z)
    return torch.where(which == 0, z + share * (smooth - z), torch.where(which == 1, noisy, z))


def as_bytes(x):
    return ((x.clamp(-1, 1) + 1) * 127.5).round().byte()


@torch.no_grad()
def teach(vae, source, seed, n, change=True):
    """n pictures (bytes), their scaled latents, latents for the decoder, and the VAE's pictures (bytes) of these."""
    rng, noise = random.Random(seed), np.random.default_rng(seed)
    torch.manual_seed(seed)
    columns = []
    for at in range(0, n, 20):
        x = to_tensor([source.sample(rng)[0] for _ in range(min(20, n - at))])
        z = vae.encode(x).latent_dist.mean * vae.config.scaling_factor
        given = disturbed(z, noise) if change else z
        decoded = vae.decode(given / vae.config.scaling_factor).sample
        columns.append((as_bytes(x), z, given, as_bytes(decoded)))
    return [torch.cat(c) for c in zip(*columns)]


def psnr(a, b):
    """Mean of pictures' PSNR; [-1,1] in both, clamped."""
    return (-10 * ((a.clamp(-1, 1) - b.clamp(-1, 1)) / 2).square().mean((1, 2, 3)).log10()).mean().item()


@torch.no_grad()
def report(vae, tiny, source):
    """200 pictures that were not in the training: what the small one does where the VAE does it."""
    x, z, _, y = teach(vae, source, 10 ** 6, 200, change=False)
    x, y = to_float(x), to_float(y)
    parts = range(0, len(x), 20)
    encoded = torch.cat([tiny.encode(x[i:i + 20]).latents for i in parts])
    decode_tiny = lambda z: torch.cat([tiny.decode(z[i:i + 20]).sample for i in parts])
    decode_vae = lambda z: torch.cat([vae.decode(z[i:i + 20] / vae.config.scaling_factor).sample for i in parts])
    decoded = decode_tiny(z)
    print(f"decoder, against the VAE's decoded picture: {psnr(decoded, y):.2f} dB")
    print(f"both ways, against the picture: VAE {psnr(y, x):.2f} dB, its encoder with the small decoder "
          f"{psnr(decoded, x):.2f} dB, small encoder with the VAE's decoder {psnr(decode_vae(encoded), x):.2f} dB, "
          f"small ones {psnr(decode_tiny(encoded), x):.2f} dB")
    print(f"encoder: rms difference of latents {(encoded - z).square().mean().sqrt():.4f} where latents have "
          f"{z.square().mean().sqrt():.4f}; {sum(p.numel() for p in tiny.encoder.parameters())} parameters, decoder "
          f"{sum(p.numel() for p in tiny.decoder.parameters())}")
    for name, run in (("encode", lambda m: m.encode(x[:1])), ("decode", lambda m: m.decode(z[:1]))):
        took = []
        for model in (vae, tiny):
            run(model)
            times = []
            for _ in range(15):
                begun = time.process_time()
                run(model)
                times.append(time.process_time() - begun)
            took.append(1000 * float(np.median(times)))
        print(f"PyTorch, processor time to {name} one picture: VAE {took[0]:.1f} ms, small one {took[1]:.1f} ms")


def to_float(x):
    return x.float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)


class Training:
    def __init__(self, a):
        self.a = a
        self.tiny = AutoencoderTiny(**CONFIG).to(memory_format=torch.channels_last)
        self.ema, self.step, self.spent = EMA(self.tiny.parameters(), .998), 0, 0.
        self.optimizer = torch.optim.AdamW(self.tiny.parameters(), a.lr, betas=(.9, .99), weight_decay=.01)
        if os.path.exists(a.ckpt) and not a.fresh:
            saved = torch.load(a.ckpt)
            self.tiny.load_state_dict(saved["tiny"])
            copy_all(self.ema.shadow, saved["ema"])
            self.ema.n, self.step, self.spent = saved["ema_n"], saved["step"], saved["spent"]
            self.optimizer.load_state_dict(saved["optimizer"])

    def save(self, spent):
        save_atomic({"tiny": self.tiny.state_dict(), "ema": self.ema.shadow, "ema_n": self.ema.n, "step": self.step,
                     "optimizer": self.optimizer.state_dict(), "spent": spent}, self.a.ckpt)
        average = AutoencoderTiny(**CONFIG)
        copy_all(average.parameters(), self.ema.shadow)
        average.half().save_pretrained(self.a.to)
        os.chmod(f"{self.a.to}/diffusion_pytorch_model.safetensors", 0o644)

    def some(self, taught, pick, crop):
        """Columns of these rows; of `crop` pixels' side, at the same whole cells for all of them."""
        columns = [c[pick] for c in taught]
        if crop:
            top, left = torch.randint((columns[0].shape[2] - crop) // 8 + 1, (2,)).tolist()
            for k, side in enumerate((8, 1, 1, 8)):                # pixels or latents in a cell
                y, x, n = top * side, left * side, crop * side // 8
                columns[k] = columns[k][:, :, y:y + n, x:x + n]
        return columns

    def one_step(self, taught, share):
        crops = share < self.a.crop_share
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(share, self.step, self.a.lr)
        pick = torch.randint(self.a.n, (self.a.batch * (1 + crops),))
        x, z, given, y = self.some(taught, pick, crops and self.a.crop)
        encoding = (self.tiny.encode(to_float(x)).latents - z).abs().mean()
        decoding = reconstruction(self.tiny.decode(given).sample, to_float(y))
        (encoding + decoding).backward()
        torch.nn.utils.clip_grad_norm_(self.tiny.parameters(), 1.)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update()
        self.step += 1
        return np.array([encoding.item(), decoding.item()])

    def run(self, vae, source):
        a, budget, begun = self.a, self.a.minutes * 120, time.process_time()
        spent = lambda: self.spent + time.process_time() - begun
        taught = teach(vae, source, a.seed, a.n)
        print(f"{a.n} pictures taught after {spent():.0f} s of processor", flush=True)
        torch.manual_seed(a.seed + self.step)
        told, saved, sums, count = time.time(), time.time(), np.zeros(2), 0
        while spent() < budget:
            sums, count = sums + self.one_step(taught, spent() / budget), count + 1
            if time.time() - told > 30:
                print(f"{spent():5.0f}s of processor, step {self.step} encoder {sums[0] / count:.4f} decoder "
                      f"{sums[1] / count:.4f}", flush=True)
                told, sums, count = time.time(), np.zeros(2), 0
            if time.time() - saved > 120:
                self.save(spent())
                saved = time.time()
        self.save(spent())
        print(f"done: step {self.step}, {spent() / 120:.1f} minutes of two cores", flush=True)


def main():
    a = arguments()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    vae = AutoencoderKL.from_pretrained(a.vae).float().to(memory_format=torch.channels_last).eval()
    source = Aligned(1)
    if not a.only_report:
        Training(a).run(vae, source)
    report(vae, AutoencoderTiny.from_pretrained(a.to).float().eval(), source)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Trains UNet2DConditionModel and CLIPTextModel together on cached latents; goes on from run/ckpt/unet.pt if it is there.

    python tools/train/train_unet.py --minutes 60 [--device cuda] [--cache run/cache/a.npz,run/cache/b.npz]

The learning rate falls with the share of the time budget that is used up, so a budget can be any length; to go on after
the end, give a longer one. v-prediction: v = sqrt(ab) noise - sqrt(1 - ab) latents (Salimans and Ho 2022, appendix D).
The text encoder has rows only for tokens that occur in captions; export_model.py spreads them over the 49408 of CLIP.
Captions are padded to 77 tokens with the end token, as they are when a picture is drawn."""
import argparse
import os
import time

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from common import (BOS, EOS, EMA, TEXT_CONFIG, UNET_CONFIG, WORK, alphas_bar, copy_all, learning_rate, save_atomic,
                    use_cores)
from muon import Muon


def arguments():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--minutes", type=float, default=60, help="of training in all, earlier runs included")
    ap.add_argument("--device", default="cpu")
    ap.add_argument("--batch", type=int, default=32)
    ap.add_argument("--lr", type=float, default=.02, help="of Muon, for matrices")
    ap.add_argument("--adam-lr", type=float, default=1.5e-3, help="of AdamW, for vectors, tables, first and last layers")
    ap.add_argument("--drop", type=float, default=.1, help="share of captions left out, for guidance")
    ap.add_argument("--ema", type=float, default=.996)
    ap.add_argument("--cache", default=f"{WORK}/cache/a.npz", help="of cache_latents.py, comma separated")
    ap.add_argument("--ckpt", default=f"{WORK}/ckpt/unet.pt")
    ap.add_argument("--fresh", action="store_true", help="begin anew")
    ap.add_argument("--bench", type=int, default=0, help="run so many steps, print the speed, save nothing")
    ap.add_argument("--seed", type=int, default=0)
    return ap.parse_args()


def load_cache(paths, known):
    """Latents [n, 16, 16, 4] in fp16, tokens [n, 77] as rows of the compact table, and the table: token of each row."""
    latents, captions = [], []
    for path in paths.split(","):
        f = np.load(path)
        latents.append(f["z"])
        captions += f["c"].tolist()
    tokenizer = CLIPTokenizer(f"{WORK}/data/tokenizer/vocab.json", f"{WORK}/data/tokenizer/merges.txt", model_max_length=77)
    ids = [tokenizer(c, truncation=True, max_length=77).input_ids for c in captions]
    occurring = {i for x in ids for i in x} | {BOS, EOS}
    table = list(known) + sorted(occurring - set(known))
    row = {t: k for k, t in enumerate(table)}
    tokens = torch.full((len(ids), 77), row[EOS], dtype=torch.long)
    for k, x in enumerate(ids):
        tokens[k, :len(x)] = torch.tensor([row[i] for i in x])
    return torch.from_numpy(np.concatenate(latents)), tokens, table


def split_parameters(unet, text):
    """Matrices inside the networks, and all the rest."""
    matrices, rest = [], []
    for model in (unet, text):
        for name, p in model.named_parameters():
            inner = p.ndim >= 2 and not any(k in name for k in ("conv_in", "conv_out", "embedding."))
            (matrices if inner else rest).append(p)
    return matrices, rest


class Training:
    def __init__(self, a):
        self.a, self.dev = a, a.device
        use_cores(self.dev)
        saved = torch.load(a.ckpt, map_location=self.dev) if os.path.exists(a.ckpt) and not (a.fresh or a.bench) else None
        self.latents, self.tokens, self.table = load_cache(a.cache, saved["table"] if saved else [])
        torch.manual_seed(a.seed)
        self.unet = UNet2DConditionModel(**UNET_CONFIG).to(self.dev, memory_format=torch.channels_last)
        torch.nn.init.zeros_(self.unet.conv_out.weight)
        torch.nn.init.zeros_(self.unet.conv_out.bias)
        self.text = CLIPTextModel(CLIPTextConfig(vocab_size=len(self.table), **TEXT_CONFIG)).to(self.dev)
        matrices, rest = split_parameters(self.unet, self.text)
        self.params = list(self.unet.parameters()) + list(self.text.parameters())
        self.optimizers = [(Muon(matrices, a.lr), a.lr),
                           (torch.optim.AdamW(rest, a.adam_lr, betas=(.9, .99), weight_decay=.0), a.adam_lr)]
        self.ema = EMA(self.params, a.ema)
        self.step = self.samples = 0
        self.spent = 0.
        if saved:
            self.resume(saved)
        self.latents, self.tokens = self.latents.to(self.dev), self.tokens.to(self.dev)
        self.empty = torch.full((77,), self.table.index(EOS), dtype=torch.long, device=self.dev)
        self.empty[0] = self.table.index(BOS)
        self.alphas = alphas_bar().to(self.dev)
        torch.manual_seed(a.seed + self.step + 1)
        print(f"unet {sum(p.numel() for p in self.unet.parameters())} text {sum(p.numel() for p in self.text.parameters())} "
              f"(rows {len(self.table)}) latents {len(self.latents)}, from step {self.step} after {self.spent:.0f} s", flush=True)

    def resume(self, saved):
        self.unet.load_state_dict(saved["unet"])
        key = next(k for k in saved["text"] if k.endswith("token_embedding.weight"))
        rows = saved["text"][key]
        if len(rows) < len(self.table):                          # words that came with a new cache begin as the mean of the others
            grow = lambda x: torch.cat([x, x.mean(0, keepdim=True).repeat(len(self.table) - len(x), 1)])
            saved["text"][key] = grow(rows)
            saved["ema"] = [grow(e) if e.shape == rows.shape else e for e in saved["ema"]]
        elif "optimizers" in saved:
            for (optimizer, _), state in zip(self.optimizers, saved["optimizers"]):
                optimizer.load_state_dict(state)
        self.text.load_state_dict(saved["text"])
        copy_all(self.ema.shadow, saved["ema"])
        self.ema.n, self.step, self.spent, self.samples = saved["ema_n"], saved["step"], saved["spent"], saved["samples"]

    def save(self, spent):
        save_atomic({"unet": self.unet.state_dict(), "text": self.text.state_dict(), "ema": self.ema.shadow, "ema_n": self.ema.n,
                     "optimizers": [o.state_dict() for o, _ in self.optimizers], "table": self.table,
                     "step": self.step, "samples": self.samples, "spent": spent}, self.a.ckpt)

    def one_step(self, pick, frac):
        batch = len(pick)
        for optimizer, base in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(frac, self.step, base)
        z = self.latents[pick].float().permute(0, 3, 1, 2)       # [B, 4, 16, 16]
        tokens = torch.where(torch.rand(batch, 1, device=self.dev) < self.a.drop, self.empty[None], self.tokens[pick])
        u = (torch.randperm(batch, device=self.dev) + torch.rand(batch, device=self.dev)) / batch
        t = (1000 * u ** .6).long().clamp(0, 999)                # shapes are decided where there is much noise
        noise = torch.randn_like(z)
        ab = self.alphas[t].view(-1, 1, 1, 1)
        v = self.unet(ab.sqrt() * z + (1 - ab).sqrt() * noise, t, self.text(tokens).last_hidden_state).sample
        loss = (v - (ab.sqrt() * noise - (1 - ab).sqrt() * z)).square().mean((1, 2, 3))
        loss.mean().backward()
        torch.nn.utils.clip_grad_norm_(self.params, 1.)
        for optimizer, _ in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.ema.update()
        self.step += 1
        self.samples += batch
        return loss.detach(), t

    def run(self):
        a, budget, begun = self.a, self.a.minutes * 60, time.time()
        told = saved = begun
        order, at, sums = torch.randperm(len(self.latents)), 0, np.zeros((4, 2))
        while True:
            spent = self.spent + time.time() - begun
            if spent >= budget or a.bench and self.step >= a.bench:
                break
            if at + a.batch > len(order):
                order, at = torch.randperm(len(self.latents)), 0
            loss, t = self.one_step(order[at:at + a.batch].to(self.dev), spent / budget)
            at += a.batch
            np.add.at(sums, (t // 250).cpu().numpy(), np.stack([loss.cpu().numpy(), np.ones(a.batch)], 1))
            if time.time() - told > 30:
                print(f"{spent:5.0f}s step {self.step} samples {self.samples} {sums[:, 1].sum() / (time.time() - told):.1f}/s loss "
                      f"{sums[:, 0].sum() / sums[:, 1].sum():.4f} by t {np.round(sums[:, 0] / sums[:, 1], 3).tolist()}", flush=True)
                told = time.time()
                sums[:] = 0
            if time.time() - saved > 120 and not a.bench:
                self.save(spent)
                saved = time.time()
        if a.bench:
            print(f"{self.samples / (time.time() - begun):.1f} samples/s")
        else:
            self.save(self.spent + time.time() - begun)
            print(f"done: step {self.step}, {self.samples} samples")


if __name__ == "__main__":
    Training(arguments()).run()

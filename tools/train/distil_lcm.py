#!/usr/bin/env python3
"""Distils a model into a latent consistency model, which draws in 1 to 8 steps: run/model-lcm. Goes on from
run/ckpt/lcm.pt if it is there.

    python tools/train/distil_lcm.py --minutes 20 [--teacher weights/tiny] [--cache run/cache/lcm.npz]

Latent consistency distillation (Luo et al. 2023, algorithm 1; Song et al. 2023, algorithm 2). f(x_t, t, w) is the
student's guess of the latents without noise. For cached latents z, noise n, a time t and a guidance scale w, drawn at
random:

    x_t = sqrt(ab_t) z + sqrt(1 - ab_t) n
    x_s = one DDIM step of the guided teacher from t to s = t - skip
    loss = d(f(x_t, t, w), f'(x_s, s, w)),      d(a, b) = sqrt(|a - b|^2 + c^2) - c

f' is the moving average of f, and f'(x, s < 0, w) = x. Two things differ from the paper, for the sake of few samples.
The skip shrinks while the student learns: at first s < 0 and the target is the teacher's own guided guess, then fewer
and fewer time steps lie between t and s. And half of the times are those at which 1, 2, 4 and 8 steps of LCMScheduler
look.

w - 1 goes into the time embedding (time_cond_proj_dim), so that a step is one pass of the UNet. A minute of the budget
is a minute of two cores: two minutes of processor time, whatever else the machine does."""
import argparse
import json
import os
import shutil
import time

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTokenizer

from common import EMA, WORK, alphas_bar, copy_all, learning_rate, save_atomic
from export_model import INDEX, write_json
from muon import Muon
from train_unet import split_parameters

COND_DIM = 256
GRID = 20                                                        # LCMScheduler's times: 19, 39, ..., 999
LOOKED_AT = [999, 879, 759, 639, 499, 379, 259, 139]             # by 8 steps; 1, 2 and 4 steps look at some of these
CURRICULUM = ((.12, 1000), (.25, 240), (.45, 120), (1.01, 60))   # up to this share of the budget: the skip
SCHEDULER = {"_class_name": "LCMScheduler", "_diffusers_version": "0.22.0", "beta_start": .00085, "beta_end": .012,
             "beta_schedule": "scaled_linear", "clip_sample": False, "num_train_timesteps": 1000,
             "original_inference_steps": 1000 // GRID, "prediction_type": "v_prediction",
             "rescale_betas_zero_snr": False, "set_alpha_to_one": True, "steps_offset": 1, "timestep_scaling": 10.0,
             "timestep_spacing": "leading", "trained_betas": None, "_steps": 4}


def arguments():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--minutes", type=float, default=20, help="of two cores, earlier runs included")
    ap.add_argument("--teacher", default="weights/tiny")
    ap.add_argument("--cache", default=f"{WORK}/cache/lcm.npz", help="of cache_latents.py")
    ap.add_argument("--batch", type=int, default=32)
    ap.add_argument("--lr", type=float, default=.004, help="of Muon, for matrices")
    ap.add_argument("--adam-lr", type=float, default=4e-4, help="of AdamW, for the rest")
    ap.add_argument("--ema", type=float, default=.95, help="of the target")
    ap.add_argument("--guidance", default="1,4", help="least and most")
    ap.add_argument("--own-guidance", type=float, default=2.5, help="the exported model's")
    ap.add_argument("--ckpt", default=f"{WORK}/ckpt/lcm.pt")
    ap.add_argument("--to", default=f"{WORK}/model-lcm")
    ap.add_argument("--fresh", action="store_true", help="begin anew")
    ap.add_argument("--threads", type=int, default=os.cpu_count(), help="fewer are faster on a machine with other work")
    ap.add_argument("--seed", type=int, default=0)
    return ap.parse_args()


@torch.no_grad()
def encode_captions(teacher, captions):
    """Text states in fp16: of each caption [n, 77, D], of the empty one [77, D]; and the row of each latent."""
    tokenizer = CLIPTokenizer.from_pretrained(f"{teacher}/tokenizer")
    text = CLIPTextModel.from_pretrained(f"{teacher}/text_encoder").float().eval()
    different = sorted(set(captions))
    row = {c: k for k, c in enumerate(different)}
    states = []
    for at in range(0, len(different) + 1, 256):
        ids = tokenizer((different + [""])[at:at + 256], padding="max_length", truncation=True, max_length=77,
                        return_tensors="pt")
        states.append(text(ids.input_ids).last_hidden_state.half())
    states = torch.cat(states)
    return states[:-1], states[-1], torch.tensor([row[c] for c in captions])


def guidance_embedding(w):
    """[B] -> [B, 256]: sines, then cosines of 1000 w, as LatentConsistencyModelPipeline makes it."""
    half = COND_DIM // 2
    angles = 1000 * w[:, None] * torch.exp(torch.arange(half) * -(np.log(10000.) / (half - 1)))[None]
    return torch.cat([angles.sin(), angles.cos()], 1).float()


class Distillation:
    def __init__(self, a):
        self.a = a
        torch.set_num_threads(a.threads)
        torch.manual_seed(a.seed)
        cached = np.load(a.cache)
        self.latents = torch.from_numpy(cached["z"])
        self.states, self.empty, self.rows = encode_captions(a.teacher, cached["c"].tolist())
        load = lambda: UNet2DConditionModel.from_pretrained(f"{a.teacher}/unet", torch_dtype=torch.float32)
        self.teacher = load().to(memory_format=torch.channels_last).requires_grad_(False)
        config = {k: v for k, v in self.teacher.config.items() if not k.startswith("_")}
        config["time_cond_proj_dim"] = COND_DIM
        make = lambda: UNet2DConditionModel.from_config(config).to(memory_format=torch.channels_last)
        self.student, self.target = make(), make().requires_grad_(False)
        self.student.load_state_dict(self.teacher.state_dict(), strict=False)
        torch.nn.init.zeros_(self.student.time_embedding.cond_proj.weight)
        matrices, rest = split_parameters(self.student, torch.nn.Module())
        self.optimizers = [(Muon(matrices, a.lr, weight_decay=0.), a.lr),
                           (torch.optim.AdamW(rest, a.adam_lr, betas=(.9, .99), weight_decay=0.), a.adam_lr)]
        self.ema, self.step, self.spent = EMA(self.student.parameters(), a.ema), 0, 0.
        if os.path.exists(a.ckpt) and not a.fresh:
            saved = torch.load(a.ckpt)
            self.student.load_state_dict(saved["student"])
            copy_all(self.ema.shadow, saved["ema"])
            self.ema.n, self.step, self.spent = saved["ema_n"], saved["step"], saved["spent"]
            for (optimizer, _), state in zip(self.optimizers, saved["optimizers"]):
                optimizer.load_state_dict(state)
        copy_all(self.target.parameters(), self.ema.shadow)
        for p, shadow in zip(self.target.parameters(), self.ema.shadow):
            p.data = shadow                                      # the target is the moving average itself
        ab = alphas_bar()
        self.alphas = torch.cat([ab, torch.ones(1)])             # the last one, index -1: no noise
        print(f"{len(self.latents)} latents, {len(self.states)} captions, from step {self.step} after "
              f"{self.spent:.0f} s", flush=True)

    def ab(self, t):
        return self.alphas[t.clamp(min=-1)].view(-1, 1, 1, 1)

    def guess(self, x, t, v):
        """x0 and noise of v-prediction."""
        a, b = self.ab(t).sqrt(), (1 - self.ab(t)).sqrt()
        return a * x - b * v, b * x + a * v

    @torch.no_grad()
    def solver_step(self, x, t, s, w, text):
        """One DDIM step of the guided teacher from t to s."""
        texts = torch.cat([self.empty.float().expand_as(text), text])
        without, with_text = self.teacher(torch.cat([x, x]), torch.cat([t, t]), texts).sample.chunk(2)
        x0, noise = self.guess(x, t, without + w.view(-1, 1, 1, 1) * (with_text - without))
        return self.ab(s).sqrt() * x0 + (1 - self.ab(s)).sqrt() * noise

    @torch.no_grad()
    def targets(self, x, s, embedded, text):
        """f'(x_s, s, w); where s < 0 there is no noise left and x_s is the answer."""
        result, noisy = x.clone(), (s >= 0).nonzero()[:, 0]
        if len(noisy):
            v = self.target(x[noisy], s[noisy], text[noisy], timestep_cond=embedded[noisy]).sample
            result[noisy] = self.guess(x[noisy], s[noisy], v)[0]
        return result

    def one_step(self, pick, share):
        batch = len(pick)
        for optimizer, base in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(share, self.step, base, warm=30)
        skip = next(skip for until, skip in CURRICULUM if share < until)
        z, text = self.latents[pick].float().permute(0, 3, 1, 2), self.states[self.rows[pick]].float()
        least, most = (float(g) for g in self.a.guidance.split(","))
        w = least + (most - least) * torch.rand(batch)
        t = GRID * (1 + (torch.randperm(batch) * (1000 // GRID) / batch).long()) - 1
        t = torch.where(torch.rand(batch) < .5, torch.tensor(LOOKED_AT)[torch.randint(len(LOOKED_AT), (batch,))], t)
        s, embedded = (t - skip).clamp(min=-1), guidance_embedding(w - 1)
        x = self.ab(t).sqrt() * z + (1 - self.ab(t)).sqrt() * torch.randn_like(z)
        goal = self.targets(self.solver_step(x, t, s, w, text), s, embedded, text)
        guess, _ = self.guess(x, t, self.student(x, t, text, timestep_cond=embedded).sample)
        c = .1                                                   # of a norm over 1024 elements of size 1
        loss = ((guess - goal).square().sum((1, 2, 3)) + c * c).sqrt() - c
        loss.mean().backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), 10.)
        for optimizer, _ in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.ema.update()
        self.step += 1
        return loss.detach(), t, skip

    def save(self, spent):
        save_atomic({"student": self.student.state_dict(), "ema": self.ema.shadow, "ema_n": self.ema.n,
                     "optimizers": [o.state_dict() for o, _ in self.optimizers], "step": self.step, "spent": spent},
                    self.a.ckpt)
        self.export()

    def export(self):
        """The teacher's directory with another UNet and scheduler."""
        a = self.a
        for part in ("text_encoder", "tokenizer", "vae"):
            shutil.copytree(f"{a.teacher}/{part}", f"{a.to}/{part}", dirs_exist_ok=True)
        self.target.save_config(f"{a.to}/unet")
        weights = f"{a.to}/unet/diffusion_pytorch_model.safetensors"
        save_file({k: v.half().contiguous() for k, v in self.target.state_dict().items()}, weights, {"format": "pt"})
        os.chmod(weights, 0o644)
        write_json(f"{a.to}/scheduler/scheduler_config.json", {**SCHEDULER, "_guidance_scale": a.own_guidance})
        with open(f"{a.teacher}/model_index.json", encoding="utf-8") as f:
            index = json.load(f)
        write_json(f"{a.to}/model_index.json", {**INDEX, **index, "_class_name": "LatentConsistencyModelPipeline",
                                                "scheduler": ["diffusers", "LCMScheduler"]})

    def run(self):
        a, budget = self.a, self.a.minutes * 120
        spent = lambda: self.spent + time.process_time() - begun
        begun, wall = time.process_time(), time.time()
        told = saved = time.time()
        order, at, sums = torch.randperm(len(self.latents)), 0, np.zeros((4, 2))
        while spent() < budget:
            if at + a.batch > len(order):
                order, at = torch.randperm(len(self.latents)), 0
            loss, t, skip = self.one_step(order[at:at + a.batch], spent() / budget)
            at += a.batch
            np.add.at(sums, (t // 250).numpy(), np.stack([loss.numpy(), np.ones(a.batch)], 1))
            if time.time() - told > 30:
                print(f"{spent():5.0f}s of processor, {time.time() - wall:5.0f}s step {self.step} skip {skip} loss "
                      f"{sums[:, 0].sum() / sums[:, 1].sum():.3f} by t "
                      f"{np.round(sums[:, 0] / sums[:, 1], 2).tolist()}", flush=True)
                told = time.time()
                sums[:] = 0
            if time.time() - saved > 120:
                self.save(spent())
                saved = time.time()
        self.save(spent())
        print(f"done: step {self.step}, {self.step * a.batch} samples, {spent() / 120:.1f} minutes of two cores, "
              f"{(time.time() - wall) / 60:.1f} by the clock")


if __name__ == "__main__":
    Distillation(arguments()).run()

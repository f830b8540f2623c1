#!/usr/bin/env python3
"""Writes run/model, a model in diffusers' layout with the published key names in fp16, from run/ckpt/unet.pt (its moving average).

    python tools/train/export_model.py [--ckpt run/ckpt/unet.pt] [--to run/model]

run/model/vae is there already: cache_latents.py wrote it, since the latents depend on it."""
import argparse
import json
import os
import shutil

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from common import TEXT_CONFIG, UNET_CONFIG, WORK, copy_all

VOCABULARY = 49408
SCHEDULER = {"_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_start": .00085, "beta_end": .012,
             "beta_schedule": "scaled_linear", "clip_sample": False, "num_train_timesteps": 1000,
             "prediction_type": "v_prediction", "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1,
             "trained_betas": None, "_guidance_scale": 3.0}
INDEX = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.6.0", "feature_extractor": [None, None],
         "safety_checker": [None, None], "image_encoder": [None, None], "requires_safety_checker": False,
         "scheduler": ["diffusers", "PNDMScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
         "tokenizer": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"],
         "vae": ["diffusers", "AutoencoderKL"]}


def special(content):
    return {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}


def write_json(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="ascii") as f:
        f.write(json.dumps(value, indent=2) + "\n")


def write_text_encoder(text, table, to):
    """The trained rows where the published table has them; all other rows are the mean of these, and compress away."""
    tensors = {k if k.startswith("text_model.") else "text_model." + k: v.float() for k, v in text.state_dict().items()
               if "position_ids" not in k}
    key = "text_model.embeddings.token_embedding.weight"
    rows = tensors[key]
    tensors[key] = rows.mean(0, keepdim=True).repeat(VOCABULARY, 1)
    tensors[key][table] = rows
    os.makedirs(to, exist_ok=True)
    CLIPTextConfig(vocab_size=VOCABULARY, architectures=["CLIPTextModel"], dtype="float16", **TEXT_CONFIG).save_pretrained(to)
    with open(f"{to}/config.json", encoding="utf-8") as f:
        config = json.load(f)
    write_json(f"{to}/config.json", {**config, "model_type": "clip_text_model", "torch_dtype": "float16"})
    save_file({k: v.half().contiguous() for k, v in tensors.items()}, f"{to}/model.safetensors", metadata={"format": "pt"})


def write_tokenizer(to):
    os.makedirs(to, exist_ok=True)
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(f"{WORK}/data/tokenizer/{name}", f"{to}/{name}")
    begin, end = "<|startoftext|>", "<|endoftext|>"
    write_json(f"{to}/special_tokens_map.json", {"bos_token": special(begin), "eos_token": special(end), "pad_token": end,
                                                 "unk_token": special(end)})
    write_json(f"{to}/tokenizer_config.json", {"add_prefix_space": False, "bos_token": begin, "eos_token": end, "pad_token": end,
                                               "unk_token": end, "do_lower_case": True, "errors": "replace",
                                               "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"})


@torch.no_grad()
def check(text, table, to):
    """Does a stock loader see the text encoder that was trained?"""
    stock = CLIPTextModel.from_pretrained(to).float().eval()
    rows = torch.arange(len(table))[None, :20]
    a = stock(torch.tensor(table)[rows]).last_hidden_state
    b = text.float().eval()(rows).last_hidden_state
    print(f"text encoder, stock loader against the trained one: largest difference {(a - b).abs().max().item():.1e}")


@torch.no_grad()
def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--ckpt", default=f"{WORK}/ckpt/unet.pt")
    ap.add_argument("--to", default=f"{WORK}/model")
    a = ap.parse_args()
    saved = torch.load(a.ckpt, map_location="cpu")
    unet = UNet2DConditionModel(**UNET_CONFIG)
    text = CLIPTextModel(CLIPTextConfig(vocab_size=len(saved["table"]), **TEXT_CONFIG))
    copy_all(list(unet.parameters()) + list(text.parameters()), saved["ema"])
    unet.half().save_pretrained(f"{a.to}/unet")
    write_text_encoder(text, saved["table"], f"{a.to}/text_encoder")
    write_tokenizer(f"{a.to}/tokenizer")
    write_json(f"{a.to}/scheduler/scheduler_config.json", SCHEDULER)
    write_json(f"{a.to}/model_index.json", INDEX)
    check(text, saved["table"], f"{a.to}/text_encoder")
    size = sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(a.to) for f in files)
    print(f"step {saved['step']}, {saved['samples']} samples, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

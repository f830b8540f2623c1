#!/usr/bin/env python3
"""Writes tests/golden/config.txt: what each key of a model's configuration files does in the installed libraries.

    python tools/golden_config.py [--out tests/golden]

Every argument of the constructors of UNet2DConditionModel, AutoencoderKL, CLIPTextConfig and of the scheduler classes
gets several values, its default and null among them, in an otherwise fixed small configuration. A network has the same
weights whatever the value; a scheduler is handled as StableDiffusionPipeline handles it, and draws a run of six steps.

    base PART JSON                 the configuration without the key
    value PART KEY OUTCOME JSON    same:  the numbers that come out are those of the base
                                   other: they are not, or the weights do not fit
                                   error: the library refuses it
    step CLASS NAME DEFAULT        an argument of a scheduler's step that a pipeline may set, and what it is by default

PART is unet, vae, text_encoder or the name of a scheduler class.
"""
import argparse
import inspect
import json
import logging
import os
import warnings

import diffusers
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

import synth

SCHEDULERS = ["DDIMScheduler", "PNDMScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler",
              "HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
              "LMSDiscreteScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler",
              "UniPCMultistepScheduler", "DEISMultistepScheduler", "SASolverScheduler", "DDPMScheduler", "LCMScheduler",
              "TCDScheduler"]
STEPS = 6

# Values besides the default, null, and for flags true and false.
VALUES = {
    "unet": {
        "sample_size": [16, [16, 24]], "act_fn": ["swish", "mish", "gelu", "relu", "SiLU"],
        "only_cross_attention": [[False] * 4, [False, True, False, False]], "layers_per_block": [[2, 2, 2, 2], 1],
        "cross_attention_dim": [[16, 16, 16, 16], 24, [16, 16, 16, 24]],
        "transformer_layers_per_block": [[1, 1, 1, 1], 2], "reverse_transformer_layers_per_block": [[1, 1, 1, 1]],
        "attention_head_dim": [[2, 2, 2, 2], 4], "num_attention_heads": [2], "time_embedding_dim": [32, 64],
        "class_embed_type": ["timestep", "identity"], "num_class_embeds": [0, 10], "encoder_hid_dim": [32],
        "encoder_hid_dim_type": ["text_proj"], "resnet_time_scale_shift": ["scale_shift"],
        "resnet_out_scale_factor": [1, 2.0], "mid_block_scale_factor": [1.0, 2], "downsample_padding": [0],
        "time_embedding_type": ["fourier"], "time_embedding_act_fn": ["silu"], "timestep_post_act": ["silu"],
        "time_cond_proj_dim": [8], "conv_in_kernel": [1, 5], "conv_out_kernel": [1, 5],
        "mid_block_only_cross_attention": [False, True],
        "mid_block_type": ["UNetMidBlock2D", "UNetMidBlock2DSimpleCrossAttn"], "addition_embed_type": ["text", "image"],
        "addition_embed_type_num_heads": [8], "addition_time_embed_dim": [8], "cross_attention_norm": ["layer_norm"],
        "attention_type": ["gated"], "projection_class_embeddings_input_dim": [8], "dropout": [0.5],
        "norm_num_groups": [2], "norm_eps": [1e-6], "freq_shift": [1], "in_channels": [9], "out_channels": [8],
        "block_out_channels": [[8, 16, 24, 32]], "_diffusers_version": ["0.6.0"], "_some_key": [1], "unknown": [2],
    },
    "vae": {
        "act_fn": ["swish", "relu"], "shift_factor": [0, 0.0, 0.25], "latents_mean": [[0, 0, 0, 0], [0, 1, 0, 0]],
        "latents_std": [[1, 1, 1, 1], [1, 2, 1, 1]], "sample_size": [[64, 96], 128], "layers_per_block": [1],
        "norm_num_groups": [4], "latent_channels": [8], "scaling_factor": [0.13025], "block_out_channels": [[4, 8, 16, 8]],
        "_some_key": [1], "unknown": [2],
    },
    "text_encoder": {
        "hidden_act": ["gelu", "relu", "gelu_new"], "layer_norm_eps": [1e-6], "attention_dropout": [0.5],
        "initializer_range": [1.0], "initializer_factor": [2.0], "pad_token_id": [0, 49407], "bos_token_id": [0],
        "eos_token_id": [2], "projection_dim": [8], "num_attention_heads": [4], "num_hidden_layers": [2],
        "torch_dtype": ["float16"], "unknown": [2], "use_attention_mask": [False, True],
    },
    "scheduler": {
        "num_train_timesteps": [500], "beta_start": [0.001], "beta_end": [0.02],
        "beta_schedule": ["linear", "squaredcos_cap_v2"], "trained_betas": [[0.001] * 10],
        "prediction_type": ["v_prediction", "sample"], "timestep_spacing": ["leading", "trailing", "linspace"],
        "steps_offset": [0, 1], "clip_sample_range": [2.0], "dynamic_thresholding_ratio": [0.9],
        "sample_max_value": [2.0], "solver_order": [1, 2, 3], "algorithm_type": ["dpmsolver", "sde-dpmsolver++", "deis"],
        "solver_type": ["midpoint", "heun", "bh1", "bh2", "logrho"], "final_sigmas_type": ["zero", "sigma_min"],
        "lambda_min_clipped": [-5.0, -1.0], "variance_type": ["fixed_small", "fixed_large", "learned", "learned_range"],
        "interpolation_type": ["log_linear"], "timestep_type": ["continuous"], "sigma_min": [0.1], "sigma_max": [5.0],
        "disable_corrector": [[], [1]], "predict_x0": [False], "predictor_order": [1, 3], "corrector_order": [1, 3],
        "original_inference_steps": [20], "timestep_scaling": [5.0], "flow_shift": [3.0],
        "use_dynamic_shifting": [True], "time_shift_type": ["linear"], "shift_terminal": [0.1], "unknown": [2],
    },
}
SCHEDULER = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def run_unet(config, weights):
    torch.manual_seed(0)
    net = UNet2DConditionModel.from_config(config).eval()
    if weights is not None:
        net.load_state_dict(weights)
    with torch.no_grad():
        y = net(noise(1, config.get("in_channels", 4), 8, 16), torch.tensor([37.0]), noise(1, 77, 16)).sample
    return y, net.state_dict()


def run_vae(config, weights):
    torch.manual_seed(0)
    net = AutoencoderKL.from_config(config).eval()
    if weights is not None:
        net.load_state_dict(weights)
    with torch.no_grad():
        moments = net.encode(noise(1, 3, 32, 64)).latent_dist.parameters
        y = net.decode(noise(1, 4, 4, 8) / net.config.scaling_factor).sample
    return torch.cat([moments.flatten(), y.flatten()]), net.state_dict()


def run_text(config, weights):
    torch.manual_seed(0)
    net = CLIPTextModel(CLIPTextConfig(**config)).eval()
    if weights is not None:
        net.load_state_dict(weights)
    ids = torch.tensor([[49406, 320, 1125, 539, 49407] + [49407] * 72])
    mask = (ids != 49407).long() if config.get("use_attention_mask") else None  # as pipelines pass the tokenizer's
    with torch.no_grad():
        y = net(ids, attention_mask=mask).last_hidden_state
    return y, net.state_dict()


def run_scheduler(config, _):
    cls = getattr(diffusers, config["_class_name"])
    s = cls.from_config({k: v for k, v in config.items() if k != "_class_name"})
    p = StableDiffusionPipeline(vae=None, text_encoder=None, tokenizer=None, unet=None, scheduler=s, safety_checker=None,
                                feature_extractor=None, requires_safety_checker=False)
    s, g = p.scheduler, torch.Generator().manual_seed(2)
    extra = p.prepare_extra_step_kwargs(g, 0.0)
    s.set_timesteps(STEPS)
    x, out = noise(1, 4, 8, 8) * s.init_noise_sigma, []
    for t in s.timesteps:
        seen = s.scale_model_input(x, t)
        x = s.step(0.9 * torch.sin(1.3 * seen) + 0.05 * torch.cos(0.02 * t), t, x, **extra).prev_sample
        out += [torch.as_tensor(float(t)).reshape(1), x.flatten()]
    return torch.cat(out), None


def outcome(run, config, base):
    try:
        y, _ = run(config, base[1])
    except RuntimeError as e:
        return "other" if "state_dict" in str(e) else "error"
    except Exception:
        return "error"
    return "same" if y.shape == base[0].shape and torch.equal(y, base[0]) else "other"


def values_of(part, key, default):
    more = VALUES[part].get(key, [])
    flags = [True, False] if isinstance(default, bool) else []
    known = [] if default is inspect.Parameter.empty else [default]
    seen = []
    for v in known + [None] + flags + more:
        v = list(v) if isinstance(v, tuple) else v
        if not any(type(v) is type(w) and v == w for w in seen):
            seen.append(v)
    return seen


def arguments(cls):
    if cls is CLIPTextConfig:
        own = cls().to_dict()
        return {k: own[k] for k in cls.__annotations__ if k in own}
    return {k: p.default for k, p in inspect.signature(cls.__init__).parameters.items() if k not in ("self", "kwargs")}


def write_part(f, part, kind, run, base, defaults):
    truth = run(base, None)
    f.write("base %s %s\n" % (part, json.dumps(base, sort_keys=True)))
    extra = {k: inspect.Parameter.empty for k in VALUES[kind] if k not in defaults and (kind != "scheduler" or k == "unknown")}
    for key, default in {**defaults, **extra}.items():
        for v in values_of(kind, key, default):
            if key.startswith("_") or key == "unknown" and v is None:
                if v is None:
                    continue
            f.write("value %s %s %s %s\n" % (part, key, outcome(run, {**base, key: v}, truth), json.dumps(v)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="tests/golden")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    small = synth.CONFIGS["sd1-small"]
    text = dict(small["text_encoder"], vocab_size=49408)
    with open(os.path.join(args.out, "config.txt"), "w", encoding="ascii", newline="\n") as f:
        f.write("# made by tools/golden_config.py with diffusers %s, which explains it\n" % diffusers.__version__)
        write_part(f, "unet", "unet", run_unet, small["unet"], arguments(UNet2DConditionModel))
        write_part(f, "vae", "vae", run_vae, small["vae"], arguments(AutoencoderKL))
        write_part(f, "text_encoder", "text_encoder", run_text, text, arguments(CLIPTextConfig))
        for name in SCHEDULERS:
            cls = getattr(diffusers, name)
            write_part(f, name, "scheduler", run_scheduler, dict(SCHEDULER, _class_name=name), arguments(cls))
            for key, p in inspect.signature(cls.step).parameters.items():
                if key in ("eta", "s_churn", "s_noise", "order"):
                    f.write("step %s %s %s\n" % (name, key, json.dumps(p.default)))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""The networks of Stable Diffusion on a GPU: sd's through OpenCL, and PyTorch's on the same card, with the same weights.

    python tools/bench_gpu.py --library libsd.so --work DIR --model sd15|sdxl|small     prints one JSON object
    python tools/bench_gpu.py --table gpu.json                                    what bench_gpu.sh has written, as text

Weights are PyTorch's own first ones, rounded to F16: both compute with the same numbers in float32. SD_DEVICE says which
device sd takes. A step is guided: a batch of two. The error is |sd - torch| / |torch|, where torch does not use TF32.
"""
import argparse
import json
import os
import sys
import time

MODELS = ("sd15", "sdxl", "small")
ALLOWED = 1e-4      # errors above this mean another network


def configurations(model):
    """UNet's, side of its latents; VAE's or None."""
    import synth
    if model == "sdxl":
        unet = synth.unet_alone("DCC", (320, 640, 1280), 2, [5, 10, 20], 2048, 32, linear=True,
                                transformer_layers_per_block=[1, 2, 10], **synth.text_time(1280, 6))["unet"]
        return dict(unet, sample_size=128, addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816), 128, None
    c = synth.CONFIGS["sd15" if model == "sd15" else "sd1-small"]   # the small one tries this script on a CPU
    return c["unet"], 64 if model == "sd15" else 8, c["vae"]


def best_ms(work, synchronize, seconds):
    """The shortest of several takes, after two that find algorithms and build kernels."""
    for _ in range(2):
        work()
    synchronize()
    best, end, n = 1e30, time.perf_counter() + seconds, 0
    while n < 3 or (time.perf_counter() < end and n < 50):
        begin = time.perf_counter()
        work()
        synchronize()
        best, n = min(best, time.perf_counter() - begin), n + 1
    return best * 1e3


class Torch:
    def __init__(self, seconds):
        import torch
        self.seconds = seconds
        self.torch = torch
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.manual_seed(0)
        torch.backends.cudnn.benchmark = True

    def wait(self):
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def make(self, kind, config, directory):
        """A network, and its directory in diffusers' layout with F16 weights."""
        import diffusers
        from safetensors.torch import save_file
        with self.torch.device(self.device):
            net = getattr(diffusers, kind)(**{k: v for k, v in config.items() if not k.startswith("_")})
        net.eval().requires_grad_(False)
        for p in net.parameters():
            p.data = p.data.half().float()
        os.makedirs(directory)
        with open(os.path.join(directory, "config.json"), "w") as f:
            json.dump(config, f)
        state = {k: v.half().contiguous().cpu() for k, v in net.state_dict().items()}
        save_file(state, os.path.join(directory, "diffusion_pytorch_model.safetensors"))
        return net

    def figures(self, net, call):
        """Milliseconds for each setting; the result in plain float32."""
        ms, torch = {}, self.torch
        for last in (False, True):
            net.to(memory_format=torch.channels_last if last else torch.contiguous_format)
            for tf32 in (False, True):
                torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
                with torch.no_grad():
                    if not last and not tf32:
                        result = call(torch.contiguous_format).float().cpu().contiguous().numpy()
                    how = torch.channels_last if last else torch.contiguous_format
                    name = ("tf32" if tf32 else "fp32") + (" channels_last" if last else "")
                    ms[name] = best_ms(lambda: call(how), self.wait, self.seconds)
        return ms, result


def told(name, sd_ms, torch_ms, ours, theirs):
    import numpy as np
    error = float(np.linalg.norm(ours.astype(float) - theirs) / np.linalg.norm(theirs.astype(float)))
    fp32 = min(ms for key, ms in torch_ms.items() if key.startswith("fp32"))
    return dict(name=name, sd_ms=sd_ms, torch_ms=torch_ms, error=error, agrees=bool(error < ALLOWED), ratio_to_fp32=sd_ms / fp32)


def measure_unet(t, sd_reference, a, config, side):
    import numpy as np
    directory = os.path.join(a.work, a.model)
    net = t.make("UNet2DConditionModel", config, os.path.join(directory, "unet"))
    os.makedirs(os.path.join(directory, "scheduler"))
    import synth
    with open(os.path.join(directory, "scheduler", "scheduler_config.json"), "w") as f:
        json.dump(synth.PUBLISHED_PNDM, f)
    rng = np.random.default_rng(0)
    new = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    x = dict(sample=new(2, 4, side, side), timestep=np.full(2, 501, np.float32),
             encoder_hidden_states=new(2, 77, config["cross_attention_dim"]))
    if "addition_embed_type" in config:
        x["time_ids"] = np.tile(np.float32([8 * side, 8 * side, 0, 0, 8 * side, 8 * side]), (2, 1))
        x["text_embeds"] = new(2, config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"])
    on = {k: t.torch.from_numpy(v).to(t.device) for k, v in x.items()}
    more = {k: on[k] for k in ("time_ids", "text_embeds") if k in on}

    def call(how):
        return net(on["sample"].contiguous(memory_format=how), on["timestep"], on["encoder_hidden_states"],
                   added_cond_kwargs=more or None, return_dict=False)[0]
    torch_ms, theirs = t.figures(net, call)
    del net
    if t.device == "cuda":
        t.torch.cuda.empty_cache()
    sd = sd_reference.Model(directory, a.library, parts="unet")
    out = sd.unet(**x)
    sd_ms = best_ms(lambda: sd.unet(**x), lambda: None, t.seconds)
    return told("guided step, %dx%d" % (8 * side, 8 * side), sd_ms, torch_ms, out, theirs)


def measure_vae(t, sd_reference, a, config, side):
    import numpy as np
    directory = os.path.join(a.work, a.model + "-vae")
    net = t.make("AutoencoderKL", config, os.path.join(directory, "vae"))
    x = np.random.default_rng(1).standard_normal((1, 4, side, side)).astype(np.float32)
    on = t.torch.from_numpy(x).to(t.device)
    torch_ms, theirs = t.figures(net, lambda how: net.decode(on.contiguous(memory_format=how), return_dict=False)[0])
    del net
    sd = sd_reference.Model(directory, a.library, parts="vae")
    out = sd.decode(x)
    sd_ms = best_ms(lambda: sd.decode(x), lambda: None, t.seconds)
    return told("VAE decode, %dx%d" % theirs.shape[2:], sd_ms, torch_ms, out, theirs)


def run(a):
    from bindings import sd_reference
    try:
        t = Torch(a.seconds)
    except ImportError as e:
        print("there is nothing to compare with: %s" % e, file=sys.stderr)
        return 3
    if t.device == "cpu" and a.model != "small":
        print("there is nothing to compare with: PyTorch finds no GPU", file=sys.stderr)
        return 3
    unet, side, vae = configurations(a.model)
    name = t.torch.cuda.get_device_name() if t.device == "cuda" else "cpu"
    rows = [measure_unet(t, sd_reference, a, unet, side)]
    if vae:
        rows.append(measure_vae(t, sd_reference, a, vae, side))
    print(json.dumps(dict(model=a.model, card=name, torch=t.torch.__version__, rows=rows)))
    return 0 if all(row["agrees"] for row in rows) else 1


def table(path):
    with open(path) as f:
        all_ = json.load(f)
    compared = " and PyTorch's" if any(all_.get(model) for model in MODELS) else ""
    print("numbers agree with the CPU's%s: %s; %d s" % (compared, "yes" if all_["numbers_agree"] else "NO", all_["seconds"]))
    for d in (all_["devices"] or {}).get("devices", []):
        if d.get("chosen"):
            print("%s, %s, driver %s; self-test: %s cases, worst %s of its bound"
                  % (d["name"], d["platform_version"], d["driver"], d.get("checked"), d.get("check_worst")))
    tuned = (all_["tune"] or {}).get("products", [])
    for p in tuned:
        print("tune  %-12s %6d x %-6d sums of %-6d %-22s %9.1f GFLOP/s, before %9.1f"
              % (p["operation"], p["rows"], p["columns"], p["terms"], p["shape"], p["gflops"], p["before"]))
    o = all_["operations"]
    if o:
        print("FMAs %.0f GFLOP/s, copies %.0f GB/s" % (o["peak_gflops"], o["copy_gb_per_s"]))
        for p in o["operations"]:
            print("%-32s %-22s %9.3f ms %9.1f GFLOP/s  %.2f of the roof" % (p["name"], p["algorithm"], p["ms"], p["gflops"], p["roof"]))
    for model in MODELS:
        for r in (all_.get(model) or {}).get("rows", []):
            print("%s, %s: sd %.2f ms; torch %s; sd / torch's best fp32 %.2f; error %.1e"
                  % (model, r["name"], r["sd_ms"], ", ".join("%s %.2f" % kv for kv in r["torch_ms"].items()), r["ratio_to_fp32"],
                     r["error"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("library", "work", "model", "table"):
        parser.add_argument("--" + name)
    parser.add_argument("--seconds", type=float, default=3, help="how long each figure is looked for")
    a = parser.parse_args()
    if a.table:
        return table(a.table)
    return run(a)


if __name__ == "__main__":
    sys.exit(main())

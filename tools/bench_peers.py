#!/usr/bin/env python3
"""This program and diffusers on the same weights, in turn, several rounds: medians and ratios of one guided UNet step (a batch of
two), the VAE's decoder and the text encoder. --openvino adds OpenVINO in float32, if that package is installed.

    tools/bench_peers.py --model DIR [--program ./sd] [--rounds 3] [--size 512] [--json FILE]

DIR is a model in diffusers layout. Wall-clock seconds say what a user waits for; where others use the machine, the seconds of
processor time, which are printed beside them, are the steadier figure. Everything is in float32 and uses the same number of
threads; OMP_WAIT_POLICY=passive, so that waiting threads do not count as working ones."""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["OMP_WAIT_POLICY"] = "passive"


def clocks():
    me, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter(), me.ru_utime + me.ru_stime + children.ru_utime + children.ru_stime


def timed(work):
    wall, cpu = clocks()
    work()
    wall2, cpu2 = clocks()
    return {"wall": wall2 - wall, "cpu": cpu2 - cpu}


def run_program(args):
    """Stages by wall clock from --timings json. Processor time per stage: of a run with two steps less one with a single step, and so on."""
    with tempfile.TemporaryDirectory() as folder:
        def run(steps):
            command = [args.program, "-m", args.model, "-p", "a cat", "-s", "1", "-W", str(args.size), "-H", str(args.size), "-q", "-t", str(args.threads),
                       "--sampling-method", "ddim", "--steps", str(steps), "--timings", "json", "-o", os.path.join(folder, "x.png")]
            _, before = clocks()
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            return json.loads(out.strip().splitlines()[-1]), clocks()[1] - before
        one, cpu_one = run(1)
        two, cpu_two = run(2)
    step_cpu = cpu_two - cpu_one
    return {"unet": {"wall": min(one["steps"] + two["steps"]), "cpu": step_cpu},
            "vae_decode": {"wall": min(one["vae_decode"], two["vae_decode"]), "cpu": cpu_one - step_cpu},   # text and loading included
            "text": {"wall": min(one["text"], two["text"]), "cpu": None}}


class Diffusers:
    def __init__(self, args):
        import torch
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextModel
        self.torch = torch
        torch.set_num_threads(args.threads)
        torch.manual_seed(0)
        self.unet = UNet2DConditionModel.from_pretrained(args.model, subfolder="unet").eval()
        self.vae = AutoencoderKL.from_pretrained(args.model, subfolder="vae").eval()
        self.text = CLIPTextModel.from_pretrained(args.model, subfolder="text_encoder").eval()
        side = args.size // 8
        self.latents = torch.randn(2, self.unet.config.in_channels, side, side)
        self.context = torch.randn(2, 77, self.unet.config.cross_attention_dim)

    def round(self, layout):
        form = self.torch.channels_last if layout == "channels_last" else self.torch.contiguous_format
        self.unet.to(memory_format=form)
        self.vae.to(memory_format=form)
        x = self.latents.contiguous(memory_format=form)
        with self.torch.no_grad():
            return {"unet": timed(lambda: self.unet(x, 501, self.context)),
                    "vae_decode": timed(lambda: self.vae.decode(x[:1, :4])),
                    "text": timed(lambda: self.text(self.torch.zeros(2, 77, dtype=self.torch.long)))}


class OpenVino:
    """The same modules converted by openvino.convert_model, inference precision float32."""

    def __init__(self, args, peer):
        import openvino
        torch = peer.torch

        class Call(torch.nn.Module):
            """One call of a module as a module, with the result as a plain tensor."""
            def __init__(self, module, call):
                super().__init__()
                self.module, self.call = module, call

            def forward(self, *inputs):
                return self.call(self.module, *inputs)
        modules = {"unet": Call(peer.unet, lambda unet, x, t, c: unet(x, t, c, return_dict=False)[0]),
                   "vae_decode": Call(peer.vae, lambda vae, z: vae.decode(z, return_dict=False)[0])}
        core = openvino.Core()
        config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": args.threads}
        self.inputs = {"unet": [peer.latents.numpy(), torch.tensor(501).numpy(), peer.context.numpy()], "vae_decode": [peer.latents[:1, :4].numpy()]}
        examples = {"unet": (peer.latents, torch.tensor(501), peer.context), "vae_decode": (peer.latents[:1, :4],)}
        self.models = {}
        for name, module in modules.items():
            with torch.no_grad():
                self.models[name] = core.compile_model(openvino.convert_model(module.eval(), example_input=examples[name]), "CPU", config)

    def round(self):
        return {name: timed(lambda: model(self.inputs[name])) for name, model in self.models.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--program", default="./sd")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--layouts", default="nchw,channels_last", help="of diffusers")
    parser.add_argument("--openvino", action="store_true")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()

    peer = Diffusers(args)
    runners = {"sd": lambda: run_program(args)}
    for layout in args.layouts.split(","):
        runners["diffusers " + layout] = lambda layout=layout: peer.round(layout)
    if args.openvino:
        vino = OpenVino(args, peer)
        runners["openvino f32"] = vino.round
    results = {name: [] for name in runners}
    for number in range(args.rounds):
        for name, runner in runners.items():
            results[name].append(runner())
            print(f"round {number + 1}: {name} {results[name][-1]}", file=sys.stderr, flush=True)

    summary = {}
    print(f"{'':24} {'stage':12} {'wall s':>8} {'ratio':>6} {'cpu s':>8} {'ratio':>6}     (medians; ratio: sd's share of this)")
    for stage in ("unet", "vae_decode", "text"):
        for name in runners:
            rounds = [r[stage] for r in results[name] if stage in r]
            if not rounds:
                continue
            row = {}
            for clock in ("wall", "cpu"):
                values = [r[clock] for r in rounds if r[clock] is not None]
                row[clock] = statistics.median(values) if values else None
            summary.setdefault(stage, {})[name] = row
            ours = summary[stage]["sd"]
            cells = []
            for clock in ("wall", "cpu"):
                cells.append(f"{row[clock]:8.2f}" if row[clock] is not None else f"{'-':>8}")
                cells.append(f"{ours[clock] / row[clock]:6.2f}" if row[clock] and ours[clock] is not None else f"{'-':>6}")
            print(f"{name:24} {stage:12} " + " ".join(cells))
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"summary": summary, "rounds": results}, file, indent=1)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""This program, diffusers, OpenVINO and stable-diffusion.cpp on the same weights, in turn, several rounds: medians and
ratios.

    python tools/bench_peers.py --model DIR [--stages LIST] [--peers sd,diffusers,openvino] [--size 512] [--rounds 3]
    python tools/bench_peers.py --from FILE.json ... --markdown docs/SPEED.md [--machine NAME]

DIR is a model in diffusers layout. Stages:

    text          the text encoder on one prompt of 77 tokens
    unet          a guided step: one evaluation of the same latents with two texts; unet1, unet4: of one sample, and
                  of four that have nothing in common
    vae_decode    latents to a picture
    vae_encode    a picture to the moments of its latents
    start         from the start of a program to its first step: loading, the prompt and the empty prompt encoded
    picture       --steps guided steps with what is before and after them: two texts, the steps, decoding

For each stage every peer gets a process of its own, which loads what the stage needs, computes once to warm up (and to
see that all give the same numbers), and then takes its turn in every round. Seconds are per call: a round repeats a
short one. `cpu s` is processor time of all threads, the steadier figure where others use the machine. `peak MB` is
the largest resident memory of the process, Python included; mapped files count. For `start` and `picture` the program
sd itself runs, and its --timings count, without loading for `picture`; its other stages are the calls of libsd.so.
If `picture` is not among the stages but its parts are, it is composed of them, and marked so.

diffusers computes in float32 with its own layout and with channels_last, ratios to "best" are to the better one.
OpenVINO computes in float32 with static shapes; its models are converted once and kept in --work.
tools/requirements-bench.txt names its package. stable-diffusion.cpp is run as a program (--sdcpp BIN, with
--diffusion-fa) and its own times are taken: half of get_learned_condition for one text, sampling by the number of
steps (its first one counts too), decode_first_stage; it reads the model's directory as it is, with --type f32.

--markdown writes the table of a machine into a document, between the lines "<!-- peers: NAME -->" and
"<!-- end of peers -->": in the place of the table of the same name, or behind the last one. With --from it takes what
earlier runs wrote with --json, rounds of the same stage joined, and measures nothing.

OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE, which speed OpenBLAS up or down, are taken out of the environment of all.

Threads of sd sleep when they wait, as the program has it; the peers do
as they are used to, unless --passive makes their threads sleep too, or else waiting would count as processor time.
"""
import argparse
import json
import math
import multiprocessing
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time

# What a stage computes: module, batch.
CALLS = {"text": ("text", 1), "unet": ("unet", 2), "unet1": ("unet", 1), "unet4": ("unet", 4),
         "vae_decode": ("vae_decode", 1), "vae_encode": ("vae_encode", 1)}
STAGES = [*CALLS, "start", "picture"]
LABELS = {"text": "text encoder, one prompt", "unet": "guided UNet step, {size} (a batch of two)",
          "unet1": "one evaluation, {size}, batch 1", "unet4": "one evaluation, {size}, batch 4",
          "vae_decode": "VAE decode, {size}", "vae_encode": "VAE encode, {size}",
          "start": "from its start to its first step",
          "picture": "{steps} steps, two texts and decoding, {size}, run as a whole",
          "picture, composed": "{steps} steps, two texts and decoding, {size}, composed of the above"}
PARTS_OF_A_PICTURE = ("text", "unet", "vae_decode")
PROMPT = "a photograph of an astronaut riding a horse"
LEAST = 0.5   # seconds of a round


def config(model, part):
    with open(os.path.join(model, part, "config.json"), encoding="utf-8") as f:
        return json.load(f)


def inputs(args, stage):
    """NumPy arrays, the same in every process. Timestep 501."""
    import numpy as np
    module, batch = CALLS[stage]
    unet, vae = config(args.model, "unet"), config(args.model, "vae")
    side, random = args.size >> (len(vae["block_out_channels"]) - 1), np.random.default_rng(0)

    def normal(*shape):
        return random.standard_normal(shape, dtype=np.float32)
    if module == "unet":
        latents = normal(1 if stage == "unet" else batch, unet["in_channels"], side, side)
        return latents.repeat(batch // len(latents), 0), normal(batch, 77, unet["cross_attention_dim"])
    if module == "vae_decode":
        return (normal(batch, vae["latent_channels"], side, side),)
    if module == "vae_encode":
        return (random.uniform(-1, 1, (batch, 3, args.size, args.size)).astype(np.float32),)
    return (np.array([args.ids], dtype=np.int64),)


# ---------------------------------------------------------------------------------------------------- the peers
# call(stage, layout) returns a function that computes and returns an array.

class Sd:
    def __init__(self, args, stage):
        from bindings import sd_reference
        module = CALLS[stage][0]
        parts = {"text": ["tokenizer", "text"], "unet": "unet"}.get(module, "vae")
        self.args, self.model = args, sd_reference.Model(args.model, args.library, parts=parts, threads=args.threads)

    def call(self, stage, _):
        import numpy as np
        x, module = inputs(self.args, stage), CALLS[stage][0]
        return {"text": lambda: self.model.encode_text(PROMPT), "unet": lambda: self.model.unet(x[0], 501, x[1]),
                "vae_decode": lambda: self.model.decode(x[0]),
                "vae_encode": lambda: np.concatenate(self.model.encode(x[0]), 1)}[module]


def load_modules(args, names):
    """diffusers' and transformers' modules in float32, for text, unet, vae_decode, vae_encode."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel
    torch.set_num_threads(args.threads)
    kinds = {"text": (CLIPTextModel, "text_encoder"), "unet": (UNet2DConditionModel, "unet")}
    loaded = {}
    for name in names:
        kind, folder = kinds.get(name, (AutoencoderKL, "vae"))
        if folder not in loaded:
            loaded[folder] = kind.from_pretrained(args.model, subfolder=folder).float().eval().requires_grad_(False)
    return {name: loaded[kinds.get(name, (None, "vae"))[1]] for name in names}


def torch_call(module, name):
    """module as a function of the arrays of inputs() with a tensor as its result."""
    import torch
    if name == "unet":
        time_step = torch.tensor(501)
        return lambda x, context: module(x, time_step, context, return_dict=False)[0]
    if name == "vae_decode":
        return lambda z: module.decode(z, return_dict=False)[0]
    if name == "vae_encode":
        return lambda x: module.encode(x).latent_dist.parameters
    return lambda ids: module(ids).last_hidden_state


def modules_of(stage):
    return PARTS_OF_A_PICTURE if stage in ("picture", "start") else (CALLS[stage][0],)


class Diffusers:
    def __init__(self, args, stage):
        self.args, self.modules, self.layout = args, load_modules(args, modules_of(stage)), None

    def call(self, stage, layout):
        import torch
        form = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        if layout != self.layout:
            for module in self.modules.values():
                module.to(memory_format=form)
            self.layout = layout
        function = torch_call(self.modules[CALLS[stage][0]], CALLS[stage][0])
        x = [torch.from_numpy(a) for a in inputs(self.args, stage)]
        x = [t.contiguous(memory_format=form) if t.dim() == 4 else t for t in x]

        def compute():
            with torch.inference_mode():
                return function(*x).numpy()
        return compute


def converted_path(args, module):
    return os.path.join(args.work, os.path.basename(os.path.abspath(args.model)) + "." + module + ".xml")


def convert(args, module):
    """In a process of its own: OpenVINO's form of one of diffusers' modules, into --work."""
    import openvino
    import torch

    class Function(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.module = load_modules(args, (module,))[module]
            self.function = torch_call(self.module, module)

        def forward(self, *x):
            return self.function(*x)
    stage = next(s for s, (m, _) in CALLS.items() if m == module)
    example = tuple(torch.from_numpy(a) for a in inputs(args, stage))
    with torch.no_grad():
        model = openvino.convert_model(Function(), example_input=example)
    path = converted_path(args, module)
    openvino.save_model(model, path + ".part.xml", compress_to_fp16=False)
    os.replace(path + ".part.bin", path[:-4] + ".bin")
    os.replace(path + ".part.xml", path)


class OpenVino:
    def __init__(self, args, stage):
        import openvino
        self.args, self.core, self.compiled = args, openvino.Core(), {}
        for name in PARTS_OF_A_PICTURE if stage in ("picture", "start") else (stage,):
            self.compiled[name] = self.compile(name)

    def compile(self, stage):
        model = self.core.read_model(converted_path(self.args, CALLS[stage][0]))
        try:
            model.reshape({port: list(a.shape) for port, a in zip(model.inputs, inputs(self.args, stage))})
        except RuntimeError as error:   # then its shapes stay open
            print("openvino: %s keeps open shapes: %s" % (stage, str(error).splitlines()[0]), file=sys.stderr)
        return self.core.compile_model(model, "CPU", {
            "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": self.args.threads, "PERFORMANCE_HINT": "LATENCY"})

    def call(self, stage, _):
        compiled, x = self.compiled[stage], list(inputs(self.args, stage))
        return lambda: compiled(x)[0]


KINDS = {"sd": (Sd, [""]), "diffusers": (Diffusers, ["nchw", "channels_last"]), "openvino": (OpenVino, [""]),
         "sdcpp": (None, [""])}   # a program, see sdcpp_round


# ---------------------------------------------------------------------------------------------- processes, clocks

def clocks():
    u = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), u.ru_utime + u.ru_stime


def timed(work, least=LEAST):
    """Seconds of a call: the mean of as many as fit into `least`, or of one."""
    begin, n = clocks(), 0
    while n == 0 or clocks()[0] - begin[0] < least:
        work()
        n += 1
    end = clocks()
    return {"wall": (end[0] - begin[0]) / n, "cpu": (end[1] - begin[1]) / n}


def peak_mb():
    """Of this process' memory since it was started: ru_maxrss would remember the one it was forked from."""
    try:
        with open("/proc/self/status", encoding="ascii") as f:
            return next(int(line.split()[1]) / 1024 for line in f if line.startswith("VmHWM:"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1024)


def fingerprint(y):
    """At most 256 of its numbers."""
    y = y.reshape(-1)
    return [float(v) for v in y[::max(1, y.size // 256)][:256]]


def picture_calls(peer, args, layout):
    text, unet, decode = [peer.call(stage, layout) for stage in PARTS_OF_A_PICTURE]

    def compute():
        for work in [text] * 2 + [unet] * args.steps + [decode]:
            work()
    return [text, unet, decode], compute


def serve(pipe, kind, args, stage):
    """A peer's process. It is sent (what, layout): "warm" is answered with a fingerprint, "run" with seconds."""
    os.dup2(2, 1)   # libraries that print must not get into our output
    try:
        peer = KINDS[kind][0](args, stage)
        if stage == "start":
            for _ in range(2):
                peer.call("text", KINDS[kind][1][0])()
        pipe.send({"ready": True})
        for what, layout in iter(pipe.recv, None):
            if stage == "picture":
                warm, compute = picture_calls(peer, args, layout)
            else:
                compute = peer.call(stage, layout)
                warm = [compute]
            if what == "run":
                pipe.send({**timed(compute), "peak_mb": peak_mb()})
            else:
                pipe.send({"fingerprint": [fingerprint(w()) for w in warm][-1]})
    except Exception as error:   # the other peers go on
        pipe.send({"error": "%s: %s" % (type(error).__name__, str(error).strip().splitlines()[0] if str(error) else "")})


class Peer:
    """Another process that serves."""

    def __init__(self, kind, args, stage):
        here = os.environ.get("OMP_WAIT_POLICY")
        if kind == "sd" or args.passive:
            os.environ["OMP_WAIT_POLICY"] = "passive"
        context = multiprocessing.get_context("spawn")
        self.pipe, there = context.Pipe()
        start = time.perf_counter()
        self.process = context.Process(target=serve, args=(there, kind, args, stage), daemon=True)
        self.process.start()
        there.close()
        if here is None:
            os.environ.pop("OMP_WAIT_POLICY", None)
        self.answer()
        self.ready = time.perf_counter() - start

    def answer(self):
        try:
            reply = self.pipe.recv()
        except EOFError:
            raise RuntimeError("it died, out of memory perhaps") from None
        if "error" in reply:
            raise RuntimeError(reply["error"])
        return reply

    def ask(self, what, layout):
        self.pipe.send((what, layout))
        return self.answer()

    def close(self):
        self.pipe.send(None)
        self.process.join()


# ------------------------------------------------------------------------------------------------------ the stages

def run_program(args, steps):
    """The program sd. "begin": seconds from its start to the line with the seed, after which it only computes."""
    with tempfile.TemporaryDirectory() as folder:
        command = [args.program, "-m", args.model, "-p", PROMPT, "-s", "1", "-W", str(args.size), "-H", str(args.size), "-q",
                   "-t", str(args.threads), "--cfg-scale", "7.5", "--sampling-method", "ddim", "--steps", str(steps),
                   "--residency", args.residency, "--timings", "json", "-o", os.path.join(folder, "x.ppm")]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            child.stdout.readline()
            begin = time.perf_counter() - start
            out = child.stdout.read()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if child.returncode:
            sys.exit("%s failed" % args.program)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**json.loads(out.strip().splitlines()[-1]), "begin": begin, "cpu": cpu}


def program_round(args, stage):
    t = run_program(args, args.steps if stage == "picture" else 2)
    if stage == "start":
        return {"wall": t["begin"] + t["text"], "cpu": None, "peak_mb": None,
                "first_step_longer_by": t["steps"][0] - t["steps"][1]}
    return {"wall": t["text"] + sum(t["steps"]) + t["vae_decode"], "cpu": t["cpu"], "peak_mb": t["peak_rss_mb"]}


SDCPP_TIMES = {"text": r"get_learned_condition completed, taking ([0-9.]+) ?(m?s)",
               "unet": r"sampling completed, taking ([0-9.]+)(s)",
               "vae_decode": r"decode_first_stage completed, taking ([0-9.]+)(s)"}


def sdcpp_seconds(said, steps):
    """What stable-diffusion.cpp says of a guided picture -> seconds of one text, of one step, of decoding."""
    found = {}
    for stage, pattern in SDCPP_TIMES.items():
        match = re.search(pattern, said)
        if not match:
            raise RuntimeError("stable-diffusion.cpp did not say how long it took: %s" % pattern)
        found[stage] = float(match[1]) * (0.001 if match[2] == "ms" else 1)
    return {**found, "text": found["text"] / 2, "unet": found["unet"] / steps}


def sdcpp_round(args, stage):
    steps = args.steps if stage == "picture" else 2
    with tempfile.TemporaryDirectory() as folder:
        command = [args.sdcpp, "-m", args.model, "-p", PROMPT, "-s", "1", "-W", str(args.size), "-H", str(args.size),
                   "-t", str(args.threads), "--type", "f32", "--diffusion-fa", "--cfg-scale", "7.5",
                   "--sampling-method", "euler", "--steps", str(steps), "-v", "-o", os.path.join(folder, "x.png")]
        with tempfile.TemporaryFile("w+", errors="replace") as out:
            child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
            _, status, usage = os.wait4(child.pid, 0)
            out.seek(0)
            said = out.read()
    if status:
        sys.exit("%s failed:\n%s" % (args.sdcpp, said[-2000:]))
    t = sdcpp_seconds(said, steps)
    wall = 2 * t["text"] + steps * t["unet"] + t["vae_decode"] if stage == "picture" else t[stage]
    return {"wall": wall, "cpu": None, "peak_mb": usage.ru_maxrss / 1024}


def start_round(kind, args):
    peer = Peer(kind, args, "start")
    peer.close()
    return {"wall": peer.ready, "cpu": None, "peak_mb": None}


def runners(args, stage, prints):
    """Name of a row -> function that runs a round; and what to close in the end. prints: fingerprints by name."""
    rows, open_peers = {}, []
    for kind in args.peers:
        layouts = KINDS[kind][1]
        if kind == "sd" and stage in ("start", "picture"):
            rows["sd"] = lambda: program_round(args, stage)
            continue
        if kind == "sdcpp":
            if stage == "picture" or stage in SDCPP_TIMES:
                rows[kind] = lambda: sdcpp_round(args, stage)
            continue
        if stage == "start":
            rows[kind] = lambda kind=kind: start_round(kind, args)
            continue
        try:
            peer = Peer(kind, args, stage)
            for layout in layouts:
                name = " ".join([kind, layout]).strip()
                prints[name] = peer.ask("warm", layout)["fingerprint"]
                rows[name] = lambda peer=peer, layout=layout: peer.ask("run", layout)
            open_peers.append(peer)
        except RuntimeError as error:
            print("%s cannot do %s: %s" % (kind, stage, error), file=sys.stderr)
    return rows, open_peers


def measure(args, stage):
    """Name -> list of rounds; name -> distance of its numbers from the first peer's, relative."""
    prints = {}
    rows, open_peers = runners(args, stage, prints)
    rounds = {name: [] for name in rows}
    for number in range(args.rounds):
        for name, run in rows.items():
            rounds[name].append(run())
            print("%s, round %d: %s %s" % (stage, number + 1, name, json.dumps(rounds[name][-1])), file=sys.stderr, flush=True)
    for peer in open_peers:
        peer.close()
    reference = next(iter(prints.values()), [])
    norm = math.sqrt(sum(v * v for v in reference)) or 1
    return rounds, {name: math.dist(p, reference) / norm for name, p in prints.items()}


def median(rounds, key):
    values = [r[key] for r in rounds if r.get(key) is not None]
    return statistics.median(values) if values else None


def summarize(rounds, distances):
    """Name -> medians; "best": of diffusers' layouts."""
    keys = ("wall", "cpu", "peak_mb", "first_step_longer_by")
    rows = {name: {k: median(r, k) for k in keys if any(k in one for one in r)} for name, r in rounds.items()}
    for name, distance in distances.items():
        rows[name]["distance"] = distance
    add_ratios(rows)
    return rows


def add_ratios(rows):
    ours = rows.get("sd", {})
    for row in rows.values():
        for clock in ("wall", "cpu"):
            if ours.get(clock) and row.get(clock):
                row["ratio_" + clock] = ours[clock] / row[clock]
    best = max((row.get("ratio_wall", 0) for name, row in rows.items() if name.startswith("diffusers")), default=0)
    if best:
        rows["sd"]["ratio_to_best_of_diffusers"] = best


def composed(summary, steps):
    """A picture from its parts."""
    rows = {}
    for name in summary["unet"]:
        parts = [summary[part].get(name) for part in PARTS_OF_A_PICTURE]
        if all(parts):
            rows[name] = {clock: sum(n * part[clock] for n, part in zip((2, steps, 1), parts)) for clock in ("wall", "cpu")
                          if all(part.get(clock) is not None for part in parts)}
    add_ratios(rows)
    return rows


def show(stage, rows):
    def cell(x, form):
        return ("%" + form) % x if x is not None else "%*s" % (int(form.split(".")[0]), "-")
    for name, row in rows.items():
        print("%-18s %-24s %s %s  %s %s  %s  %s" % (
            stage, name, cell(row.get("wall"), "9.3f"), cell(row.get("ratio_wall"), "6.2f"), cell(row.get("cpu"), "9.3f"),
            cell(row.get("ratio_cpu"), "6.2f"), cell(row.get("peak_mb"), "8.0f"), cell(row.get("distance"), "9.1e")))
    extra = rows.get("sd", {}).get("first_step_longer_by")
    if extra is not None:
        print("%-18s sd's first step took %.3f s longer than its second" % ("", extra))
    sys.stdout.flush()


# ------------------------------------------------------------------------------------------------------------ main

def processor():
    """Model name, with the numbers of family and model: a virtual machine may hide the rest."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            facts = dict([part.strip() for part in line.split(":", 1)] for line in f if ":" in line)
        return "%s (family %s, model %s)" % (facts["model name"], facts["cpu family"], facts["model"])
    except (OSError, KeyError):
        return platform.processor()


def machine_facts(args):
    """Of this machine, as the program sees it: kernels, cores and caches are in `sd --version -v`."""
    said = subprocess.run([args.program, "--version", "-v"], check=True, capture_output=True, text=True).stdout
    line = next((line for line in said.splitlines() if line.startswith("this machine: ")), "")
    return {"processor": processor(), "machine": line[len("this machine: "):]}


# -------------------------------------------------------------------------------------------------- the document

END = "<!-- end of peers -->"
WIDTH = 140   # of its lines; tools/lint.sh allows 160


def seconds_cell(x):
    return "" if x is None else "%.2f" % x if x >= 1 else "%.3f" % x


def table(results):
    """The rows of results of one machine, a result being what --json writes."""
    with_sdcpp = any("sdcpp" in rows for r in results for rows in r["summary"].values())
    others = ["diffusers", "OpenVINO"] + (["stable-diffusion.cpp"] if with_sdcpp else [])
    lines = ["| | this program, s | " + " | ".join("%s, s | ratio" % name for name in others) + " |",
             "|---" * (2 + 2 * len(others)) + "|"]
    for r in results:
        size = "%dx%d" % (r["size"], r["size"])
        for stage in (s for s in LABELS if s in r["summary"]):
            rows = r["summary"][stage]
            if not rows.get("sd", {}).get("wall"):
                continue
            best = min((row["wall"] for name, row in rows.items() if name.startswith("diffusers")), default=None)
            walls = [best] + [rows.get(name, {}).get("wall") for name in (["openvino", "sdcpp"] if with_sdcpp else ["openvino"])]
            label = LABELS[stage].format(size=size, steps=r["steps"])
            if r["model"] != results[0]["model"]:
                label = "%s: %s" % (r["model"], label)
            cells = [label, seconds_cell(rows["sd"]["wall"])]
            for wall in walls:
                cells += [seconds_cell(wall), "**%.2f**" % (rows["sd"]["wall"] / wall) if wall else ""]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def join_results(results):
    """Rounds of one stage of one model from several runs become rounds of one."""
    joined = {}
    for r in results:
        to = joined.setdefault((r["model"], r["size"], r["steps"]), {**r, "rounds": {}, "summary": {}})
        for stage, rows in r["rounds"].items():
            for name, rounds in rows.items():
                to["rounds"].setdefault(stage, {}).setdefault(name, []).extend(rounds)
    for r in joined.values():
        r["summary"] = {stage: summarize(rounds, {}) for stage, rounds in r["rounds"].items()}
        add_composed(r)
    return list(joined.values())


def add_composed(result):
    summary = result["summary"]
    if "picture" not in summary and all(part in summary for part in PARTS_OF_A_PICTURE):
        summary["picture, composed"] = composed(summary, result["steps"])


def write_markdown(path, name, results):
    rounds = [len(one) for r in results for rows in r["rounds"].values() for one in rows.values()]
    many = "%d rounds in turn" % max(rounds) if min(rounds) == max(rounds) else "%d to %d rounds" % (min(rounds), max(rounds))
    facts = [results[0]["processor"], results[0].get("machine"), "%d threads" % results[0]["threads"]]
    about = textwrap.fill("%s (%s); %s:" % (name, ", ".join(f for f in facts if f),
                                            "one round" if max(rounds) == 1 else "medians of " + many), WIDTH)
    begin = "<!-- peers: %s -->" % name
    block = "\n".join([begin, about, "", *table(results), END])
    with open(path, encoding="utf-8") as f:
        text = f.read()
    old = re.search(re.escape(begin) + ".*?" + re.escape(END), text, re.S)
    last = text.rfind(END)
    if old:
        text = text[:old.start()] + block + text[old.end():]
    elif last >= 0:
        text = text[:last + len(END)] + "\n\n" + block + text[last + len(END):]
    else:
        sys.exit('%s has no line "%s" after which the table could go' % (path, END))
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--stages", default="text,unet,vae_decode", help="with commas, or all: %s" % ",".join(STAGES))
    parser.add_argument("--peers", default="sd,diffusers", help="with commas: %s" % ",".join(KINDS))
    parser.add_argument("--program", default="./sd")
    parser.add_argument("--library", default="./libsd.so")
    parser.add_argument("--sdcpp", metavar="BIN", help="stable-diffusion.cpp's program: one more peer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=512, help="pixels of a side")
    parser.add_argument("--steps", type=int, default=20, help="of a picture")
    parser.add_argument("--residency", default="map", help="of the program sd in start and picture: map, stream, ram")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--passive", action="store_true", help="the peers' threads sleep when they wait")
    parser.add_argument("--work", help="where OpenVINO's models are kept (default: only while this runs)")
    parser.add_argument("--json", metavar="FILE", help="all rounds, the medians and the ratios")
    parser.add_argument("--from", dest="from_files", nargs="+", metavar="FILE", help="what --json wrote; nothing is measured")
    parser.add_argument("--markdown", metavar="FILE", help="a document that gets the table of this machine")
    parser.add_argument("--machine", metavar="NAME", help="its name there (default: the processor's)")
    args = parser.parse_args()
    if not args.model and not args.from_files:
        parser.error("--model DIR, or --from FILE")
    if args.from_files and not args.markdown:
        parser.error("--from FILE needs --markdown FILE, into which its table goes")
    args.stages = STAGES if args.stages == "all" else args.stages.split(",")
    args.peers = args.peers.split(",")
    if args.sdcpp and "sdcpp" not in args.peers:
        args.peers.append("sdcpp")
    if "sdcpp" in args.peers and not args.sdcpp:
        parser.error("the peer sdcpp needs --sdcpp BIN")
    for name, known in [(s, STAGES) for s in args.stages] + [(p, KINDS) for p in args.peers]:
        if name not in known:
            parser.error("%s is none of %s" % (name, ", ".join(known)))
    return args


def convert_all(args):
    wanted = {m for stage in args.stages for m in modules_of(stage)}
    for module in sorted(wanted):
        if os.path.exists(converted_path(args, module)):
            continue
        print("converting %s" % module, file=sys.stderr, flush=True)
        child = multiprocessing.get_context("spawn").Process(target=convert, args=(args, module))
        child.start()
        child.join()
        if child.exitcode:
            sys.exit("OpenVINO could not convert %s" % module)


def main():
    args = arguments()
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        os.environ.pop(name, None)
    results = read_results(args.from_files) if args.from_files else [measure_all(args)]
    if args.markdown:
        results = join_results(results)
        write_markdown(args.markdown, args.machine or results[0]["processor"], results)


def read_results(paths):
    results = []
    for path in paths:
        try:
            with open(path, encoding="ascii") as f:
                results.append(json.load(f))
        except (OSError, ValueError) as error:
            sys.exit("%s: %s" % (path, error))
        missing = {"model", "size", "steps", "threads", "processor", "rounds"} - set(results[-1])
        if missing:
            sys.exit("%s: not what --json wrote, it has no %s" % (path, ", ".join(sorted(missing))))
    return results


def measure_all(args):
    with tempfile.TemporaryDirectory() as folder:
        args.work = args.work or folder
        os.makedirs(args.work, exist_ok=True)
        ids = subprocess.run([args.program, "tokenize", "-m", args.model, "--ids", PROMPT], check=True, capture_output=True, text=True)
        args.ids = [int(i) for i in ids.stdout.split()]
        if "openvino" in args.peers:
            convert_all(args)
        built = subprocess.run([args.program, "--version"], check=True, capture_output=True, text=True).stdout.strip()
        result = {**machine_facts(args), "threads": args.threads, "program": built,
                  "model": os.path.basename(os.path.abspath(args.model)), "size": args.size,
                  "steps": args.steps, "residency": args.residency, "summary": {}, "rounds": {}}
        print("%s, %d threads; medians of %d rounds; ratio: sd's share of it; distance: of the numbers, from the first peer's"
              % (result["processor"], args.threads, args.rounds))
        print("%-18s %-24s %9s %6s  %9s %6s  %8s  %9s" % ("stage", "", "wall s", "ratio", "cpu s", "ratio", "peak MB", "distance"))
        for stage in args.stages:
            result["rounds"][stage], distances = measure(args, stage)
            result["summary"][stage] = summarize(result["rounds"][stage], distances)
            show(stage, result["summary"][stage])
        add_composed(result)
        if "picture, composed" in result["summary"]:
            show("picture, composed", result["summary"]["picture, composed"])
            print("composed: two texts, %d steps and decoding by their medians, not run as a whole" % args.steps)
        if args.json:
            with open(args.json, "w", encoding="ascii") as file:
                json.dump(result, file, indent=1)
    return result


if __name__ == "__main__":
    main()

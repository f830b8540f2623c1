#!/usr/bin/env python3
"""A port of Stable Diffusion in NumPy with one mistake, for docs/VALIDATING.md to find.

    ./sd -p "a red apple" -s 1 --steps 2 --sampling-method ddim --trace ref.safetensors -o ref.png
    python tests/broken_port.py weights/tiny --run ref.safetensors --dump mine     # --mended: without the mistake

It takes tokens and noise from the trace, computes text encoder, UNet, DDIM and VAE, and dumps what each layer gives as
mine/NAME.npy: `dump` below is all that was added for that. It needs NumPy and the model in the box.
"""
import argparse
import json
import os

import numpy as np

MODEL = {"text_encoder": "text_encoder/model.safetensors", "unet": "unet/diffusion_pytorch_model.safetensors",
         "vae": "vae/diffusion_pytorch_model.safetensors"}
DTYPES = {"F16": np.float16, "F32": np.float32, "I64": np.int64}
HEADS, TEXT_HEADS, GROUPS, VAE_GROUPS, SCALING_FACTOR = 2, 4, 16, 1, 0.18215
folder, weights, prefix = None, {}, ""
mended = False


def dump(name, x):
    if folder:
        np.save(os.path.join(folder, prefix + name + ".npy"), x)
    return x


def load(path):
    """A safetensors file: eight bytes with the length of a JSON header, the header, the numbers."""
    with open(path, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        data = f.read()
    return {k: np.frombuffer(data[v["data_offsets"][0]:v["data_offsets"][1]], DTYPES[v["dtype"]]).reshape(v["shape"])
            for k, v in header.items() if k != "__metadata__"}


def weight(name):
    x = weights.get(name)
    return None if x is None else x.astype(np.float32)


# ---------------------------------------------------------------------------------------------- layers

def silu(x):
    return x / (1 + np.exp(-x))


def erf(x):
    """2/sqrt(pi) times the integral of exp(-t^2) from 0 to x, by 40 points of Gauss and Legendre."""
    points = zip(*np.polynomial.legendre.leggauss(40))
    half = np.clip(x.astype(np.float64), -6, 6) / 2
    return 2 / np.sqrt(np.pi) * sum(w * half * np.exp(-(half * (t + 1)) ** 2) for t, w in points)


def gelu(x):
    return (x * 0.5 * (1 + erf(x / np.sqrt(2)))).astype(np.float32)


def linear(name, x):
    y = x @ weight(name + ".weight").reshape(-1, x.shape[-1]).T
    b = weight(name + ".bias")
    return dump(name, y if b is None else y + b)


def conv(name, x, stride=1):
    """[N,C,H,W] by a 1x1 or 3x3 kernel, zeros around."""
    w, b = weight(name + ".weight"), weight(name + ".bias")
    k, (n, c, height, width) = w.shape[-1], x.shape
    x = np.pad(x, ((0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    rows = [x[:, :, i:i + height:stride, j:j + width:stride] for i in range(k) for j in range(k)]
    y = np.einsum("koc,knchw->nohw", w.transpose(2, 3, 0, 1).reshape(k * k, *w.shape[:2]), np.stack(rows), optimize=True)
    return dump(name, y + b[:, None, None])


def group_norm(name, x, groups, eps):
    n, c = x.shape[:2]
    g = x.reshape(n, groups, -1)
    y = ((g - g.mean(-1, keepdims=True)) / np.sqrt(g.var(-1, keepdims=True) + np.float32(eps))).reshape(x.shape)
    shape = (c,) + (1,) * (x.ndim - 2)
    return dump(name, y * weight(name + ".weight").reshape(shape) + weight(name + ".bias").reshape(shape))


def layer_norm(name, x):
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + np.float32(1e-5))
    return dump(name, y * weight(name + ".weight") + weight(name + ".bias"))


def attend(q, k, v, heads, mask=0.0):
    """[N,T,C]: softmax(q k^T / sqrt(C / heads)) v for each head."""
    def split(x):
        return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)
    q, k, v = split(q), split(k), split(v)
    s = q @ k.transpose(0, 1, 3, 2) * np.float32(q.shape[-1] ** -0.5) + np.float32(mask)
    p = np.exp(s - s.max(-1, keepdims=True))
    y = (p / p.sum(-1, keepdims=True)) @ v
    return y.transpose(0, 2, 1, 3).reshape(y.shape[0], y.shape[2], -1)


def resnet(name, x, temb, groups, eps):
    h = conv(name + ".conv1", silu(group_norm(name + ".norm1", x, groups, eps)))
    if temb is not None:
        h = h + linear(name + ".time_emb_proj", silu(temb))[:, :, None, None]
    h = conv(name + ".conv2", silu(group_norm(name + ".norm2", h, groups, eps)))
    return dump(name, (conv(name + ".conv_shortcut", x) if name + ".conv_shortcut.weight" in weights else x) + h)


def upsample(name, x):
    return conv(name + ".conv", x.repeat(2, axis=2).repeat(2, axis=3))


# ---------------------------------------------------------------------------------------------- text encoder

def text_encoder(ids):
    """[2,77] ids to [2,77,D]."""
    n = ids.shape[1]
    x = weight("text_model.embeddings.token_embedding.weight")[ids] + weight(
        "text_model.embeddings.position_embedding.weight")[None, :n]
    dump("text_model.embeddings", x)
    mask = np.triu(np.full((n, n), -np.inf), 1)
    i = 0
    while "text_model.encoder.layers.%d.layer_norm1.weight" % i in weights:
        at = "text_model.encoder.layers.%d" % i
        h = layer_norm(at + ".layer_norm1", x)
        q, k, v = (linear(at + ".self_attn.%s_proj" % c, h) for c in "qkv")
        x = x + linear(at + ".self_attn.out_proj", attend(q, k, v, TEXT_HEADS, mask))
        h = linear(at + ".mlp.fc1", layer_norm(at + ".layer_norm2", x))
        x = dump(at, x + linear(at + ".mlp.fc2", dump(at + ".mlp.activation_fn", h / (1 + np.exp(-1.702 * h)))))
        i += 1
    return layer_norm("text_model.final_layer_norm", x)


# ---------------------------------------------------------------------------------------------- UNet

def attention(name, x, context):
    q, k, v = linear(name + ".to_q", x), linear(name + ".to_k", context), linear(name + ".to_v", context)
    return linear(name + ".to_out.0", attend(q, k, v, HEADS))


def transformer(name, x, context):
    n, c, h, w = x.shape
    y = conv(name + ".proj_in", group_norm(name + ".norm", x, GROUPS, 1e-6))
    y, at = y.reshape(n, c, h * w).transpose(0, 2, 1), name + ".transformer_blocks.0"
    z = layer_norm(at + ".norm1", y)
    y = y + attention(at + ".attn1", z, z)
    y = y + attention(at + ".attn2", layer_norm(at + ".norm2", y), context)
    value, gate = np.split(linear(at + ".ff.net.0.proj", layer_norm(at + ".norm3", y)), 2, axis=-1)
    y = dump(at, y + linear(at + ".ff.net.2", dump(at + ".ff.net.0", value * gelu(gate))))
    return dump(name, x + conv(name + ".proj_out", y.transpose(0, 2, 1).reshape(n, c, h, w)))


def unet(x, t, context):
    """latents [2,4,h,w], a timestep, context [2,77,D] to [2,4,h,w]."""
    eps = 1e-5 if mended else 1e-6                                                    # the mistake
    half = weight("conv_in.weight").shape[0] // 2
    angle = t * np.exp(-np.log(10000) * np.arange(half) / half)
    temb = dump("time_proj", np.tile(np.concatenate([np.cos(angle), np.sin(angle)]), (2, 1)).astype(np.float32))
    temb = linear("time_embedding.linear_2", silu(linear("time_embedding.linear_1", temb)))
    x = conv("conv_in", x)
    skips, i = [x], 0
    while "down_blocks.%d.resnets.0.conv1.weight" % i in weights:
        at = "down_blocks.%d" % i
        x = resnet(at + ".resnets.0", x, temb, GROUPS, eps)
        if at + ".attentions.0.norm.weight" in weights:
            x = transformer(at + ".attentions.0", x, context)
        skips.append(x)
        if at + ".downsamplers.0.conv.weight" in weights:
            x = conv(at + ".downsamplers.0.conv", x, stride=2)
            skips.append(x)
        i += 1
    x = resnet("mid_block.resnets.0", x, temb, GROUPS, eps)
    x = resnet("mid_block.resnets.1", transformer("mid_block.attentions.0", x, context), temb, GROUPS, eps)
    for k in range(i):
        for j in range(2):
            at = "up_blocks.%d" % k
            x = resnet("%s.resnets.%d" % (at, j), np.concatenate([x, skips.pop()], 1), temb, GROUPS, eps)
            if "%s.attentions.%d.norm.weight" % (at, j) in weights:
                x = transformer("%s.attentions.%d" % (at, j), x, context)
        if at + ".upsamplers.0.conv.weight" in weights:
            x = upsample(at + ".upsamplers.0", x)
    return conv("conv_out", silu(group_norm("conv_norm_out", x, GROUPS, 1e-5)))


# ---------------------------------------------------------------------------------------------- VAE, sampler

def vae_decoder(z):
    """[1,4,h,w] to a picture [1,3,8h,8w] in [-1,1]."""
    x = conv("decoder.conv_in", conv("post_quant_conv", z))
    x = resnet("decoder.mid_block.resnets.0", x, None, VAE_GROUPS, 1e-6)
    at, (n, c, h, w) = "decoder.mid_block.attentions.0", x.shape
    y = group_norm(at + ".group_norm", x.reshape(n, c, h * w), VAE_GROUPS, 1e-6).transpose(0, 2, 1)
    y = linear(at + ".to_out.0", attend(*(linear(at + ".to_" + s, y) for s in "qkv"), 1))
    x = dump(at, x + y.transpose(0, 2, 1).reshape(n, c, h, w))
    x = resnet("decoder.mid_block.resnets.1", x, None, VAE_GROUPS, 1e-6)
    for i in range(4):
        for j in range(2):
            x = resnet("decoder.up_blocks.%d.resnets.%d" % (i, j), x, None, VAE_GROUPS, 1e-6)
        if i < 3:
            x = upsample("decoder.up_blocks.%d.upsamplers.0" % i, x)
    return conv("decoder.conv_out", silu(group_norm("decoder.conv_norm_out", x, VAE_GROUPS, 1e-6)))


def network(model, name, at=None):
    global weights, prefix
    weights, prefix = load(os.path.join(model, MODEL[name])), (at or name) + "."


def draw(model, tokens, noise, steps, guidance):
    """DDIM [Song et al. 2021], equation 12 without noise, for a model that predicts v; leading timesteps, offset 1."""
    global prefix
    network(model, "text_encoder")
    context = text_encoder(tokens)
    betas = np.linspace(0.00085 ** 0.5, 0.012 ** 0.5, 1000, dtype=np.float32) ** 2
    alphas, x = np.cumprod(1 - betas), noise
    network(model, "unet")
    for i, t in enumerate(range(1000 // steps * (steps - 1) + 1, 0, -(1000 // steps))):
        prefix = ""
        dump("latents.%d" % i, x)
        prefix = "step.%d.unet." % i
        uncond, cond = np.split(unet(np.concatenate([x, x]), t, context), 2)
        prefix = "step.%d." % i
        v = dump("noise_pred", uncond + guidance * (cond - uncond))
        a, b = alphas[t], alphas[max(t - 1000 // steps, 0)]
        x0 = dump("denoised", np.sqrt(a) * x - np.sqrt(1 - a) * v)
        x = np.sqrt(b) * x0 + np.sqrt(1 - b) * (np.sqrt(a) * v + np.sqrt(1 - a) * x)
    prefix = ""
    dump("latents.%d" % (i + 1), x)
    network(model, "vae")
    picture = vae_decoder(x / np.float32(SCALING_FACTOR))
    prefix = ""
    return dump("image", np.clip(picture / 2 + 0.5, 0, 1))


def main():
    global folder, mended
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--run", required=True, help="a trace, for its tokens and noise")
    parser.add_argument("--dump", help="a folder for .npy files")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--guidance", type=float, default=7.5)
    parser.add_argument("--mended", action="store_true", help="without the mistake")
    a = parser.parse_args()
    folder, mended, run = a.dump, a.mended, load(a.run)
    if folder:
        os.makedirs(folder, exist_ok=True)
    draw(a.model, run["tokens"], run["noise"], a.steps, a.guidance)


if __name__ == "__main__":
    main()

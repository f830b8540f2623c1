"""Known mistakes of other implementations, each as something that can be done to the oracle for a while.

A bound that the right code meets proves nothing unless the mistakes exceed it. make_golden.py makes each mistake in
float64, stores the size of the error, and refuses to write goldens in which one would go unnoticed.

The tables at the end: name -> function(pipe) that returns a context manager; one table for each result that is looked
at. The mistakes that are of use and not of code (a swapped prompt, a wrong pad token) are in make_golden.py.
"""
import contextlib
import types

import torch
import torch.nn.functional as F
from diffusers.models import embeddings
from diffusers.models.activations import GEGLU
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import Downsample2D, ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets import unet_2d_blocks


@contextlib.contextmanager
def changed(*triples):
    """Attributes set for a while: (object, name, value)."""
    saved = [(o, k, getattr(o, k)) for o, k, _ in triples]
    for o, k, v in triples:
        setattr(o, k, v)
    try:
        yield
    finally:
        for o, k, v in reversed(saved):
            setattr(o, k, v)


@contextlib.contextmanager
def hooked(*handles):
    """Hooks that are there for a while."""
    try:
        yield
    finally:
        for h in handles:
            h.remove()


def modules(root, kind, path=""):
    return [m for name, m in root.named_modules() if isinstance(m, kind) and path in name]


def eps(norms, value):
    return changed(*[(m, "eps", value) for m in norms])


def resnet_norms(root):
    return [n for r in modules(root, ResnetBlock2D) for n in (r.norm1, r.norm2)] + [root.conv_norm_out]


def unet_norms_1e6(pipe):
    return eps(resnet_norms(pipe.unet), 1e-6)


def transformer_norms_1e5(pipe):
    return eps([t.norm for t in modules(pipe.unet, Transformer2DModel)], 1e-5)


def layer_norms_1e6(pipe):
    return eps(modules(pipe.unet, torch.nn.LayerNorm), 1e-6)


def vae_norms_1e5(pipe):
    return eps(modules(pipe.vae, torch.nn.GroupNorm), 1e-5)


def clip_norms_1e6(pipe):
    return eps(modules(pipe.text_encoder, torch.nn.LayerNorm), 1e-6)


def quick(x):
    return x * torch.sigmoid(1.702 * x)


def tanh(x):
    return F.gelu(x, approximate="tanh")


def geglu(f):
    return lambda pipe: changed(*[(g, "gelu", f) for g in modules(pipe.unet, GEGLU)])


def gate_first(module):
    """A GEGLU whose halves are exchanged."""
    def forward(self, x, *args, **kwargs):
        gate, value = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)
    return module, "forward", types.MethodType(forward, module)


def geglu_swapped(pipe):
    return changed(*[gate_first(g) for g in modules(pipe.unet, GEGLU)])


class Activation(torch.nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x)


def clip_act(f):
    def twin(pipe):
        return changed(*[(m.mlp, "activation_fn", Activation(f)) for m in pipe.text_encoder.encoder.layers])
    return twin


def heads_as_columns(pipe):
    """attention_head_dim taken at its word: columns per head instead of heads."""
    return changed(*[(a, "heads", a.to_q.out_features // a.heads) for a in modules(pipe.unet, Attention)])


def one_head(pipe):
    return changed(*[(a, "heads", 1) for a in modules(pipe.unet, Attention)])


class Functional:
    """torch.nn.functional for a module under test, with some functions replaced."""

    def __init__(self, **replaced):
        self.__dict__.update(replaced)

    def __getattr__(self, name):
        return getattr(F, name)


def scaled_by_all_columns(pipe):
    """softmax(q k^T / sqrt(channels)) instead of sqrt(channels / heads)."""
    from diffusers.models import attention_processor

    def sdpa(q, k, v, **kwargs):
        return F.scaled_dot_product_attention(q, k, v, scale=(q.shape[-1] * q.shape[1]) ** -0.5, **kwargs)
    return changed((attention_processor, "F", Functional(scaled_dot_product_attention=sdpa)))


def sinusoid(**override):
    def twin(pipe):
        right = embeddings.get_timestep_embedding

        def wrong(t, dim, **kwargs):
            return right(t, dim, **dict(kwargs, **override))
        return changed((embeddings, "get_timestep_embedding", wrong))
    return twin


def time_without_silu(pipe):
    """Each resnet projects the time embedding itself, not its SiLU."""
    @contextlib.contextmanager
    def twin():
        kept = {}
        hooks = [pipe.unet.time_embedding.register_forward_hook(lambda m, a, out: kept.update(temb=out))]
        for r in modules(pipe.unet, ResnetBlock2D):
            hooks.append(r.time_emb_proj.register_forward_pre_hook(lambda m, a: (kept["temb"],)))
        try:
            yield
        finally:
            for h in hooks:
                h.remove()
    return twin()


def skips_first(pipe):
    """[skip | x] instead of [x | skip]."""
    class Torch:
        @staticmethod
        def cat(tensors, dim):
            return torch.cat(list(tensors)[::-1], dim=dim)

        def __getattr__(self, name):
            return getattr(torch, name)
    return changed((unet_2d_blocks, "torch", Torch()))


def downsampling_pads(root, n):
    """diffusers: 1 all round, 0 right and bottom only."""
    return changed(*[t for d in modules(root, Downsample2D) for t in ((d, "padding", n), (d.conv, "padding", (n, n)))])


def unet_pads_after(pipe):
    return downsampling_pads(pipe.unet, 0)


def vae_pads_around(pipe):
    return downsampling_pads(pipe.vae, 1)


def vae_two_heads(pipe):
    return changed(*[(a, "heads", 2) for a in modules(pipe.vae, Attention)])


def vae_attention_without_residual(pipe):
    return changed(*[(a, "residual_connection", False) for a in modules(pipe.vae, Attention)])


def transformer_without_residual(pipe):
    """Group norm's result instead of its input is what proj_out's result is added to."""
    @contextlib.contextmanager
    def twin():
        hooks = []
        for t in modules(pipe.unet, Transformer2DModel):
            hooks.append(t.register_forward_hook(
                lambda m, args, kwargs, out: (out[0] - args[0] + m.norm(args[0]),), with_kwargs=True))
        try:
            yield
        finally:
            for h in hooks:
                h.remove()
    return twin()


def not_causal(pipe):
    from transformers.models.clip import modeling_clip

    def sdpa(module, q, k, v, mask, scaling, **kwargs):
        return F.scaled_dot_product_attention(q, k, v, scale=scaling).transpose(1, 2), None
    return changed((modeling_clip.ALL_ATTENTION_FUNCTIONS, "get_interface", lambda *args: sdpa))


UNET = {
    "resnet_norm_eps_1e-6": unet_norms_1e6,                 # trap 1
    "transformer_norm_eps_1e-5": transformer_norms_1e5,
    "layer_norm_eps_1e-6": layer_norms_1e6,
    "geglu_tanh": geglu(tanh),                              # 2
    "geglu_quick": geglu(quick),
    "geglu_gate_first": geglu_swapped,                      # 3
    "heads_as_columns": heads_as_columns,                   # 4
    "one_head": one_head,
    "attention_scale_of_all_columns": scaled_by_all_columns,
    "sinusoid_sin_first": sinusoid(flip_sin_to_cos=False),  # 6
    "sinusoid_half_minus_1": sinusoid(downscale_freq_shift=1),
    "time_without_silu": time_without_silu,                 # 7
    "downsample_pads_after": unet_pads_after,               # 8
    "skip_first": skips_first,
    "transformer_residual_is_normed": transformer_without_residual,
}
DECODER = {"norm_eps_1e-5": vae_norms_1e5, "attention_two_heads": vae_two_heads,       # 1, 10
           "attention_without_residual": vae_attention_without_residual}
ENCODER = dict(DECODER, downsample_pads_around=vae_pads_around)                        # 8
CLIP = {"gelu": clip_act(F.gelu), "gelu_tanh": clip_act(tanh), "quick_gelu": clip_act(quick),          # 2
        "layer_norm_eps_1e-6": clip_norms_1e6, "not_causal": not_causal}                               # 17


TWINS = {"unet": UNET, "encoder": ENCODER, "decoder": DECODER, "text": CLIP}


def applies(pipe, name):
    """Some mistakes are none for some models: a mistaken gelu that is the right one, or one head where there is one."""
    if name == "heads_as_columns":
        return any(a.heads != a.to_q.out_features // a.heads for a in modules(pipe.unet, Attention))
    if name in ("gelu", "quick_gelu"):
        return pipe.text_encoder.config.hidden_act != name
    return True

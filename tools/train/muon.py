"""Muon: momentum whose matrices are made orthogonal before they are applied (Jordan et al. 2024).

A small network on two cores sees few samples, so each step has to teach as much as it can; an orthogonal step moves all
directions of a weight matrix alike, also those in which the gradient is small. Convolutions count as matrices of shape
[out, in * kh * kw]. Vectors, tables and the first and last layers stay with AdamW."""
import torch


def orthogonal(g, steps=4):
    """The nearest half-orthogonal matrix, by Newton and Schulz' iteration with a quintic: singular values end in 0.7 to 1.2."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = g.shape[-2] > g.shape[-1]
    x = g.mT if tall else g
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        y = x @ x.mT
        x = a * x + (b * y + c * (y @ y)) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr=.02, momentum=.95, weight_decay=.01):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            alike = {}
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                m = state["momentum"]
                m.lerp_(p.grad, 1 - group["momentum"])
                step = p.grad.lerp(m, group["momentum"]).reshape(p.shape[0], -1)
                alike.setdefault(step.shape, []).append((p, step))
            for shape, members in alike.items():            # matrices of one shape in one batched product
                steps = orthogonal(torch.stack([s for _, s in members]))
                scale = max(1, shape[0] / shape[1]) ** .5
                for (p, _), step in zip(members, steps):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(step.reshape(p.shape), alpha=-group["lr"] * scale)

"""Muon: momentum whose updates are made orthogonal, for matrices and convolutions.

Jordan et al., 2024, https://kellerjordan.github.io/posts/muon; the update's size follows AdamW's as in Liu et
al., arXiv 2502.16982.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """Nearly the nearest orthogonal matrices to a stack (n, rows, columns) of them, by Newton and Schulz."""
    x = matrices.bfloat16()
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    found: Tensor = x if wide else x.mT
    return found


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum; parameters of one shape are done together."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(list(parameters), {"lr": lr, "momentum": momentum, "weight_decay": 0.01})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """One update of all parameters that have a gradient."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes[parameter.shape].append(parameter)
            for alike in shapes.values():
                self._update(alike, group["lr"], group["momentum"], group["weight_decay"])

    def _update(self, alike: list[nn.Parameter], lr: float, momentum: float, decay: float) -> None:
        directions = []
        for parameter in alike:
            state, gradient = self.state[parameter], parameter.grad
            assert gradient is not None
            mean = state.setdefault("mean", torch.zeros_like(parameter))
            mean.lerp_(gradient, 1 - momentum)
            directions.append(gradient.lerp(mean, momentum).flatten(1))
        updates = orthogonal(torch.stack(directions)).float()
        size = 0.2 * math.sqrt(max(updates.shape[-2:]))
        for parameter, update in zip(alike, updates, strict=True):
            parameter.mul_(1 - lr * decay).add_(update.view_as(parameter), alpha=-lr * size)

"""Muon: momentum whose updates are made orthogonal, for matrices and convolutions.

Jordan et al., 2024, https://kellerjordan.github.io/posts/muon; the update's size follows AdamW's as in Liu et
al., arXiv 2502.16982. Each matrix keeps the norm it begins with, as Karras et al. (arXiv 2312.02696) found best:
otherwise the weights grow with every step, forty times in ten thousand steps, and the same update turns them less and
less. Several processes share the work: each makes some of the updates and sends them to the others.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, distributed, nn


def orthogonal(matrices: Tensor, bf16: bool = False, steps: int = 5) -> Tensor:
    """Nearly the nearest orthogonal matrices to a stack (n, rows, columns) of them, by Newton and Schulz.

    In float32 the steps are done on the small squares x x^T, with which all factors commute: fewer operations. In
    bfloat16 that would diverge.
    """
    x = matrices.float()
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    if bf16:
        x = x.bfloat16().contiguous()
        for _ in range(steps):
            square = x @ x.mT
            factor = torch.baddbmm(square, square, square, beta=-4.7750, alpha=2.0315)
            x = torch.baddbmm(x, factor, x, beta=3.4445)
    else:
        x = _product(x @ x.mT, steps) @ x
    found: Tensor = (x if wide else x.mT).float()
    return found


def _product(square: Tensor, steps: int) -> Tensor:
    """The product (n, rows, rows) of all steps' factors, from x x^T."""
    eye = torch.eye(square.shape[-1])
    product = None
    for _ in range(steps):
        factor = 3.4445 * eye - 4.7750 * square + 2.0315 * square @ square
        product = factor if product is None else factor @ product
        square = factor @ square @ factor
    assert product is not None
    return product


def own_share(stacks: list[Tensor], rank: int, processes: int) -> list[list[int]]:
    """For each stack the places of the matrices that this process makes orthogonal; the work is about equal."""
    costs = [(min(s.shape[1:]) ** 2 * max(s.shape[1:]), i, j) for i, s in enumerate(stacks) for j in range(len(s))]
    work, chosen = [0] * processes, [[] for _ in stacks]  # type: ignore[var-annotated]
    for cost, i, j in sorted(costs, reverse=True):
        worker = work.index(min(work))
        work[worker] += cost
        if worker == rank:
            chosen[i].append(j)
    return chosen


def orthogonal_together(stacks: list[Tensor], bf16: bool = False) -> list[Tensor]:
    """`orthogonal` of several stacks, the work split among all processes."""
    if not distributed.is_initialized():
        return [orthogonal(stack, bf16) for stack in stacks]
    shares = own_share(stacks, distributed.get_rank(), distributed.get_world_size())
    flat = torch.zeros(sum(stack.numel() for stack in stacks))
    parts = [part.view_as(stack) for part, stack in
             zip(torch.split_with_sizes(flat, [stack.numel() for stack in stacks]), stacks, strict=True)]  # fmt: skip
    for part, stack, share in zip(parts, stacks, shares, strict=True):
        if share:
            part[share] = orthogonal(stack[share], bf16)
    distributed.all_reduce(flat)
    return parts


Parameters = Iterable[nn.Parameter] | Iterable[dict[str, Any]]


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum; parameters of one shape are done together.

    A group of parameters with `"free": True` does not keep its norms.
    """

    def __init__(self, parameters: Parameters, lr: float, bf16: bool = False) -> None:
        self._bf16 = bf16
        super().__init__(list[Any](parameters), {"lr": lr, "momentum": 0.95, "free": False})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """One update of all parameters that have a gradient."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes[parameter.shape].append(parameter)
            stacks = [self._directions(alike, group["momentum"]) for alike in shapes.values()]
            updates = orthogonal_together(stacks, self._bf16)
            for alike, found in zip(shapes.values(), updates, strict=True):
                size = group["lr"] * 0.2 * math.sqrt(max(found.shape[-2:]))
                for parameter, update in zip(alike, found, strict=True):
                    state = self.state[parameter]
                    norm = state.setdefault("norm", parameter.norm() * (not group["free"]))
                    parameter.add_(update.view_as(parameter), alpha=-size)
                    if bool(norm > 0):  # a matrix that begins with zeros is free
                        parameter.mul_(norm / parameter.norm())

    def _directions(self, alike: list[nn.Parameter], momentum: float) -> Tensor:
        """The momenta of parameters of one shape as matrices (n, rows, columns)."""
        directions = []
        for parameter in alike:
            state, gradient = self.state[parameter], parameter.grad
            assert gradient is not None
            mean = state.setdefault("mean", torch.zeros_like(parameter))
            mean.lerp_(gradient, 1 - momentum)
            directions.append(gradient.lerp(mean, momentum).flatten(1))
        return torch.stack(directions)

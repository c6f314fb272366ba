"""The authors' way of running, for comparison: one full forward for each prompt variant, gradients always on.

Written from a description of their code. Each prompt's conditional and unconditional rows run as a pair with that
prompt's LoRA on. Every attention, self-attention included, computes all its probabilities. Maps of both rows are
averaged, and the gradient goes back through everything that was run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from benchmarks.unets import Bench
from clora.guidance.contrast import group_entries, info_nce
from clora.models import family_of


class _Probabilities:
    """An attention processor that computes all probabilities and keeps those of cross-attention at the map grid."""

    def __init__(self, kept: list[Tensor], cells: int, cross: bool) -> None:
        self.kept, self.cells, self.cross = kept, cells, cross

    def __call__(self, attention: Any, states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any) -> Tensor:
        context = states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = (
            attention.head_to_batch_dim(part)
            for part in (attention.to_q(states), attention.to_k(context), attention.to_v(context))
        )
        scores = attention.get_attention_scores(q, k)
        if self.cross and states.shape[1] == self.cells:
            self.kept.append(scores.unflatten(0, (states.shape[0], -1)).mean(1))
        out: Tensor = attention.to_out[0](attention.batch_to_head_dim(scores @ v))
        return out


class AuthorsWay:
    """Update and step as the authors run them, on the same UNet, LoRAs and plan."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.kept: list[Tensor] = []
        height, width = family_of(bench.unet).map_grid(*bench.latent.shape[-2:])
        self.cells = height * width

    @contextmanager
    def _tapped(self) -> Iterator[None]:
        unet = self.bench.unet
        before = unet.attn_processors
        try:
            unet.set_attn_processor({name: _Probabilities(self.kept, self.cells, "attn2" in name) for name in before})
            yield
        finally:
            unet.set_attn_processor(before)

    def _forwards(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Predictions and maps (cells, tokens) of every variant, one pair of rows at a time."""
        bench, predictions, maps = self.bench, [], []
        with bench.loras.installed(), self._tapped():
            for variant in range(bench.plan.variants):
                self.kept.clear()
                with bench.loras.rows([variant, variant]):
                    predictions.append(bench.forward(x.expand(2, -1, -1, -1), 2))
                maps.append(torch.stack(self.kept).mean((0, 1)))
        self.kept.clear()
        return predictions, maps

    def step(self) -> Tensor:
        """The averaged prediction of a step without update; gradients are on nevertheless."""
        self.bench.unet.requires_grad_(False)
        x = self.bench.latent.clone().requires_grad_(True)
        predictions, _ = self._forwards(x)
        return torch.stack(predictions).mean(0).detach()

    def update(self) -> Tensor:
        """The gradient of the loss over the maps, by a backward pass over everything."""
        self.bench.unet.requires_grad_(False)
        x = self.bench.latent.clone().requires_grad_(True)
        predictions, maps = self._forwards(x)
        entries = group_entries(self.bench.plan.concepts)
        chosen = torch.stack([maps[e.variant][:, e.position] for e in entries]).float()
        loss = info_nce(chosen, torch.tensor([e.concept for e in entries]), 0.5).loss
        # Zero times the predictions: the backward pass covers the whole model, as in their code, which returns both.
        total = loss + sum(0.0 * prediction.float().sum() for prediction in predictions)
        (gradient,) = torch.autograd.grad(total, x)
        return gradient

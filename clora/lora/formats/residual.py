"""LoRAs that start from a part of the base weight itself: PiSSA (arXiv 2404.02948), OLoRA (2406.01775), T-LoRA.

Their change is the trained product minus the product they started from. Files without the start (PEFT never writes it,
LyCORIS' T-LoRA neither) need it made again from the host's weight.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .base import Before, Delta, Move, Reading, Tensors, check_shapes
from .layer import Layer
from .lowrank import LowRank, wide

Start = Literal["principal", "middle", "last", "qr"]


class Residual(Delta):
    """W + s (trained - start): `start` names the part of the host's weight that `trained` has replaced."""

    needs = frozenset({"lora_up", "lora_down"})
    keys = LowRank.keys

    def __init__(self, trained: LowRank, start: Start, rank: int, factor: float = 1.0) -> None:
        super().__init__(trained.layer, trained.strength)
        self._trained, self._start, self._rank, self._factor = trained, start, rank, factor

    @classmethod
    def reads_with(cls, tensors: Tensors, how: Reading) -> bool:
        """True for a LoRA that PEFT's settings call PiSSA or OLoRA."""
        return cls.reads(tensors) and str(how.options.get("init_lora_weights")).split("_")[0] in ("pissa", "olora")

    @classmethod
    def read(cls, tensors: Tensors, layer: Layer, how: Reading) -> Delta:
        """The delta of one module."""
        trained = LowRank.read(tensors, layer, how)
        assert isinstance(trained, LowRank)
        rank = tensors["lora_down"].shape[0]
        if how.options["init_lora_weights"] == "olora":
            return cls(trained, "qr", rank, how.scale_of(rank))
        return cls(trained, "principal", rank)

    def forward(self, x: Tensor, y: Tensor, before: Before) -> Tensor:
        """y + s (h(x) - h0(x)) with h0 the product of the start's factors."""
        down, up = before.remember(y, lambda move, _: self._factors(move))
        begun = self.layer.pointwise(self.layer.apply(x, down), up)
        return torch.add(y, self._trained.change(x) - begun, alpha=self.strength)

    def merge(self, weight: Tensor) -> Tensor:
        """W + s (trained - start)."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.detach().to(weight)

        down, up = self._factors(move)
        begun = (up @ down.flatten(1)).reshape(weight.shape)
        return weight + self.strength * (self._trained.weight(move) - begun)

    def _factors(self, move: Move) -> tuple[Tensor, Tensor]:
        """The start, (rank, in, *kernel) and (out, rank), from the host's own weight."""
        weight = move(self.layer.weight).flatten(1)
        if self._start == "qr":
            q, r = torch.linalg.qr(weight)
            up, down = q[:, : self._rank], r[: self._rank]
        else:
            u, s, vh = torch.linalg.svd(weight, full_matrices=False)
            first = {"principal": 0, "middle": (len(s) - self._rank) // 2, "last": len(s) - self._rank}[self._start]
            chosen = slice(max(first, 0), max(first, 0) + self._rank)
            up, down = u[:, chosen] * s[chosen], vh[chosen]
        return down.reshape(-1, *self.layer.shape[1:]), up * self._factor


class TLoRA(Delta):
    """P diag(l) Q minus what it started from, at all ranks (arXiv 2507.05964; the trainer uses fewer at early steps).

    The authors' files hold the start (`base_p`, `base_lambda`, `base_q`); LyCORIS takes it from the host's weight.
    """

    needs = frozenset({"q_layer", "p_layer", "lambda_layer"})
    keys = needs | {"base_q", "base_p", "base_lambda"}

    @classmethod
    def read(cls, tensors: Tensors, layer: Layer, how: Reading) -> Delta:
        """A LowRank of both products, or a Residual."""
        down, up = _weighted(tensors["q_layer"], tensors["p_layer"], tensors["lambda_layer"], how.dyn)
        rank = tensors["q_layer"].shape[0]
        scale = how.scale_of(rank)
        if {"base_q", "base_p", "base_lambda"} <= tensors.keys():
            begun = _weighted(tensors["base_q"], tensors["base_p"], tensors["base_lambda"], how.dyn)
            down, up = torch.cat([down, begun[0]]), torch.cat([up, -begun[1]], dim=1)
            return LowRank(layer, how.strength, down, up, None, scale)
        check_shapes(rank <= min(layer.shape[:2]))
        sig_type = how.options.get("sig_type")
        start: Start = sig_type if sig_type in ("middle", "last") else "principal"
        return Residual(LowRank(layer, how.strength, down, up, None, scale), start, rank, scale)


def _weighted(down: Tensor, up: Tensor, values: Tensor, dyn: int | None) -> tuple[Tensor, Tensor]:
    check_shapes(down.ndim > 1 and up.ndim > 1 and values.numel() == down.shape[0])
    scaled = wide(down).flatten(1) * wide(values).reshape(-1, 1)
    return scaled[:dyn], wide(up).flatten(1)[:, :dyn]

"""GLoRA (arXiv 2306.07967): a low-rank product with the weight itself, plus a low-rank difference."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Before, Delta, Reading, Tensors, check_shapes
from .layer import Casts, Layer
from .lowrank import LowRank


class GLoRA(Delta):
    """W + s (W A + B) with A = a1 @ a2 (in, in) and B = b1 @ b2 (out, in): f(x) + s (f(A x) + B x)."""

    needs = frozenset({"a1", "a2", "b1", "b2"})
    keys = needs | {"bm", "alpha"}

    def __init__(self, layer: Layer, tensors: Tensors, how: Reading) -> None:
        super().__init__(layer, how.strength)
        check_shapes(layer.kind != "norm" and not layer.grouped and all(tensors[key].ndim > 1 for key in self.needs))
        a1, a2, b1, b2 = (tensors[key] for key in ("a1", "a2", "b1", "b2"))
        if not (b1.shape[0] == layer.shape[0] and b1.shape[1] == b2.shape[0]):
            a1, a2, b1, b2 = a2, a1, b2, b1  # files of LyCORIS before 2.0 swap the names of the factors
        features = layer.shape[1]
        check_shapes(b1.shape[1] == b2.shape[0] and a1.numel() == features * a1.shape[1])
        check_shapes(a1.shape[0] == features and a2.shape[0] == a1.shape[1] and a2.numel() == a1.numel())
        self._scale = how.scale_of(b2.shape[0])
        self._a = (a1.flatten(1)[:, : how.dyn], a2.flatten(1)[: how.dyn])
        self._b = LowRank(layer, how.strength, b2, b1, tensors.get("bm"), self._scale, how.dyn)
        self._casts = Casts()

    @classmethod
    def read(cls, tensors: Tensors, layer: Layer, how: Reading) -> Delta:
        """The delta of one module, scale = alpha / rank on both parts."""
        return cls(layer, tensors, how)

    def forward(self, x: Tensor, y: Tensor, before: Before) -> Tensor:
        """y + s f(A x) + s B x."""
        up, down = self._casts.get(x, lambda move: (move(self._a[0]), move(self._a[1])))
        inner = self.layer.pointwise(self.layer.pointwise(x, down) * self._scale, up)
        y = torch.add(y, before.linear(inner), alpha=self.strength)
        return torch.add(y, self._b.change(x), alpha=self.strength)

    def merge(self, weight: Tensor) -> Tensor:
        """W + s (W A + B)."""
        up, down = (part.to(weight) for part in self._a)
        product = torch.einsum("oi...,ij->oj...", weight, up @ down)
        return self._b.merge(weight + self.strength * self._scale * product)

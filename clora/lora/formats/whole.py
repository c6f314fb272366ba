"""Layers that PEFT trains as a whole (`modules_to_save`): the file holds their weights, not differences."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Before, Delta, Reading, Tensors, check_shapes
from .layer import Casts, Layer


class Whole(Delta):
    """`weight` of a file of PEFT: W + s (weight - W)."""

    needs = frozenset({"weight"})
    keys = frozenset({"weight"})

    def __init__(self, layer: Layer, strength: float, weight: Tensor) -> None:
        super().__init__(layer, strength)
        check_shapes(tuple(weight.shape) == layer.shape)
        self._weight = weight
        self._casts = Casts()

    @classmethod
    def reads_with(cls, tensors: Tensors, how: Reading) -> bool:
        """True for a file of PEFT: in others a bare weight is a checkpoint's."""
        return how.options.get("is_peft") is True and tensors.keys() <= {"weight", "bias"} and cls.reads(tensors)

    @classmethod
    def read(cls, tensors: Tensors, layer: Layer, how: Reading) -> Delta:
        """The delta of one module."""
        return cls(layer, how.strength, tensors["weight"])

    def forward(self, x: Tensor, y: Tensor, before: Before) -> Tensor:
        """y + s (the layer with its other weight - the output so far), without biases."""
        (weight,) = self._casts.get(x, lambda move: (move(self._weight),))
        return torch.add(y, self.layer.apply(x, weight) - before.without_bias(y), alpha=self.strength)

    def merge(self, weight: Tensor) -> Tensor:
        """W + s (weight - W)."""
        return torch.lerp(weight, self._weight.to(weight), self.strength)

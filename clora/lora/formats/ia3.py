"""IA3 (arXiv 2205.05638): the layer's output or input channels are scaled."""

from __future__ import annotations

from torch import Tensor

from .base import Before, Delta, Move, ScaleOf, Tensors, check_shapes
from .layer import Casts, Layer


class IA3(Delta):
    """W (1 + s w), w per output channel, or per input channel if `on_input` is set."""

    needs = frozenset({"weight", "on_input"})
    keys = needs | {"alpha"}

    def __init__(self, layer: Layer, strength: float, factor: Tensor, on_input: bool) -> None:
        super().__init__(layer, strength)
        check_shapes(layer.kind != "norm" and not layer.grouped and factor.numel() == layer.shape[1 if on_input else 0])
        self._factor, self._on_input = factor.reshape(-1), on_input
        self._casts = Casts()

    @classmethod
    def read(cls, tensors: Tensors, layer: Layer, strength: float, scale_of: ScaleOf, dyn: int | None) -> Delta:
        """The delta of one module; alpha and rank are not used."""
        return cls(layer, strength, tensors["weight"], bool(tensors["on_input"].reshape(-1)[:1].any()))

    def _vector(self, move: Move) -> tuple[Tensor]:
        return (self.strength * move(self._factor),)

    def forward(self, x: Tensor, y: Tensor, before: Before) -> Tensor:
        """y + s w (y - bias), or y + f(s w x)."""
        (factor,) = self._casts.get(y, self._vector)
        if self._on_input:
            return y + before.linear(x * self.layer.per_channel(factor, x))
        return y + before.without_bias(y) * self.layer.per_channel(factor, y)

    def merge(self, weight: Tensor) -> Tensor:
        """W scaled on its output or input axis."""
        axis = 1 if self._on_input else 0
        shape = [-1 if axis == i else 1 for i in range(weight.ndim)]
        return weight * (1 + self.strength * self._factor.to(weight)).reshape(shape)

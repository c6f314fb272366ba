"""IA3 (arXiv 2205.05638): the layer's output or input channels are scaled."""

from __future__ import annotations

from torch import Tensor

from .base import Before, Delta, Move, Reading, Tensors, check_shapes
from .layer import Casts, Layer
from .lowrank import wide


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
    def read(cls, tensors: Tensors, layer: Layer, how: Reading) -> Delta:
        """The delta of one module; alpha and rank are not used."""
        return cls(layer, how.strength, tensors["weight"], bool(tensors["on_input"].reshape(-1)[:1].any()))

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


class PeftIA3(IA3):
    """`ia3_l`, the factor itself: (out, 1) or (1, in) for linear layers, (1, channels, 1, 1) for convolutions.

    PEFT also scales the bias if the factor is per output (`bias_factor`).
    """

    needs = frozenset({"ia3_l"})
    keys = needs

    @classmethod
    def read(cls, tensors: Tensors, layer: Layer, how: Reading) -> Delta:
        """The delta of one module; a feedforward layer's factor is per input."""
        factor = tensors["ia3_l"]
        return cls(layer, how.strength, wide(factor) - 1, cls._is_on_input(factor, layer, how))

    @staticmethod
    def _is_on_input(factor: Tensor, layer: Layer, how: Reading) -> bool:
        told = how.options.get("feedforward")
        if isinstance(told, bool):
            return told
        if factor.ndim == 2:
            return factor.shape[0] == 1
        return factor.numel() != layer.shape[0]

    @property
    def bias_factor(self) -> Tensor | None:
        """What the bias is multiplied with, less 1; None if the factor is per input."""
        return None if self._on_input else self._factor

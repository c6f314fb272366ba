"""Changes of a layer's bias. They add up, so that the order of the LoRAs does not matter."""

from __future__ import annotations

from torch import Tensor

from .base import Before, Delta, check_shapes
from .layer import Casts, Layer


class Bias(Delta):
    """`diff_b`, `b_norm`, `lora_B.bias`: strength * diff is added to the bias."""

    needs = frozenset()
    keys = frozenset({"diff_b", "b_norm"})

    def __init__(self, layer: Layer, strength: float, diff: Tensor) -> None:
        super().__init__(layer, strength)
        check_shapes(diff.numel() == layer.shape[0])
        self._diff = diff.reshape(-1)
        self._casts = Casts()

    def forward(self, x: Tensor, y: Tensor, before: Before) -> Tensor:
        """y + strength * diff on the channel axis."""
        return self.shift(y)

    def shift(self, y: Tensor) -> Tensor:
        """y + strength * diff on the channel axis."""
        (diff,) = self._casts.get(y, lambda move: (self.strength * move(self._diff),))
        return y + self.layer.per_channel(diff, y)

    def merge(self, weight: Tensor) -> Tensor:
        """The weight unchanged; see `merge_bias`."""
        return weight

    def merge_bias(self, bias: Tensor | None) -> Tensor:
        """The bias (out,) with this change, also for a layer without a bias."""
        diff = self._diff if bias is None else self._diff.to(bias)
        return self.strength * diff if bias is None else bias + self.strength * diff


class BiasFromHost(Bias):
    """b + strength * (b * gain + shift) with the host's bias b: PEFT saves whole biases; its IA3 scales them."""

    def __init__(self, layer: Layer, strength: float, gain: Tensor, shift: Tensor) -> None:
        """gain, shift: (out,) each."""
        super().__init__(layer, strength, shift)
        check_shapes(gain.numel() == layer.shape[0])
        self._gain = gain.reshape(-1)

    @classmethod
    def instead(cls, layer: Layer, strength: float, bias: Tensor) -> BiasFromHost:
        """Another bias in place of the host's."""
        return cls(layer, strength, -bias.new_ones(bias.shape), bias)

    @classmethod
    def times(cls, layer: Layer, strength: float, factor: Tensor) -> BiasFromHost:
        """The host's bias times 1 + factor."""
        return cls(layer, strength, factor, factor.new_zeros(factor.shape))

    def _difference(self, like: Tensor) -> Tensor:
        shift, host = self._diff.to(like), self.layer.bias
        return shift if host is None else shift + self._gain.to(like) * host.detach().to(like)

    def shift(self, y: Tensor) -> Tensor:
        """y with the change on the channel axis."""
        return y + self.layer.per_channel(self.strength * self._difference(y), y)

    def merge_bias(self, bias: Tensor | None) -> Tensor:
        """The bias (out,) with this change."""
        if bias is None:
            return self.strength * self._difference(self._diff)
        return bias + self.strength * self._difference(bias)

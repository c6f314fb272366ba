"""The LoRAs of one set on one layer, in order: on activations, and merged into a dense weight.

Composition, as the hosts merge: each LoRA meets the weight that the earlier ones left, W_i = merge_i(W_{i-1}).
Additive formats (LoRA, LoCon, LoHa, LoKr, full) simply add up; for the others (OFT, BOFT, IA3, GLoRA, DoRA) the order
of the set counts. Bias differences add up and are never turned or scaled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .formats import Bias, Delta, Layer, cast_outside_autograd

Move = Callable[[Tensor], Tensor]


class Chain:
    """`deltas` one after the other on `layer`.

    What depends on the host's weight (DoRA's norm) is computed at first use and kept as long as this object: make a
    new one after the host's weights changed.
    """

    def __init__(self, layer: Layer, deltas: Sequence[Delta]) -> None:
        self.layer = layer
        self._biases = [delta for delta in deltas if isinstance(delta, Bias)]
        self._deltas = [delta for delta in deltas if not isinstance(delta, Bias)]
        self._biased = [_Place(self, i, biased=True) for i in range(len(self._deltas))]
        self._bare = [_Place(self, i, biased=False) for i in range(len(self._deltas))]
        self._kept: dict[tuple[int, torch.device, torch.dtype], tuple[Tensor, ...]] = {}

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The output with all LoRAs on, from input x and the host's own output y, both (rows, ...)."""
        y = self._weights(x, y, len(self._deltas), self._biased)
        for bias in self._biases:
            y = bias.shift(y)
        return y

    def thin(self, like: Tensor) -> tuple[Tensor, Tensor] | None:
        """(down (rank, in, *kernel), up (out, rank)) of all LoRAs together, None where they are not all thin."""
        factors = [delta.thin(like) for delta in self._deltas]
        found = [pair for pair in factors if pair is not None]
        if self._biases or not found or len(found) < len(factors):
            return None
        return torch.cat([down for down, _ in found]), torch.cat([up for _, up in found], dim=1)

    def dense(self) -> tuple[Tensor, Tensor | None]:
        """(weight, bias) with all LoRAs merged, in float32, or float64 where the host's weight is: the reference."""
        like = self.layer.weight.detach()
        work = torch.float64 if like.dtype == torch.float64 else torch.float32
        with torch.no_grad(), torch.autocast(like.device.type, enabled=False):
            weight = self._merged(like.to(work), len(self._deltas))
            bias = self.layer.bias
            bias = None if bias is None else bias.detach().to(work)
            for delta in self._biases:
                bias = delta.merge_bias(bias).to(weight)
        return weight, bias

    def _merged(self, weight: Tensor, count: int) -> Tensor:
        for delta in self._deltas[:count]:
            weight = delta.merge(weight)
        return weight

    def _weights(self, x: Tensor, y: Tensor, count: int, places: Sequence[_Place]) -> Tensor:
        for delta, place in zip(self._deltas[:count], places[:count], strict=True):
            y = delta.forward(x, y, place)
        return y


class _Place:
    """The layer as the first `index` deltas of a chain left it (the `Before` of formats/base.py)."""

    def __init__(self, chain: Chain, index: int, *, biased: bool) -> None:
        self._chain, self._index, self._with_bias = chain, index, biased

    def linear(self, x: Tensor) -> Tensor:
        chain = self._chain
        y = chain.layer.apply(x, chain.layer.weight.to(x))
        return chain._weights(x, y, self._index, chain._bare)

    def without_bias(self, y: Tensor) -> Tensor:
        layer = self._chain.layer
        bias = layer.bias if self._with_bias else None
        return y if bias is None else y - layer.per_channel(bias.to(y), y)

    def remember(self, like: Tensor, make: Callable[[Move, Tensor], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        chain, key = self._chain, (self._index, like.device, like.dtype)

        def made(move: Move) -> tuple[Tensor, ...]:
            return make(move, chain._merged(move(chain.layer.weight), self._index))

        kept = chain._kept.get(key)
        if kept is None:
            kept = chain._kept[key] = cast_outside_autograd(like, made)
        return kept

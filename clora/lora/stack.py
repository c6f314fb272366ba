"""The LoRAs of one set on one layer, in order: applied to activations, or merged into a dense weight.

They compose as the hosts merge: each LoRA changes the weight that the earlier ones left, W_i = merge_i(W_{i-1}).
Additive formats (LoRA, LoCon, LoHa, LoKr, full) add up. For the others (OFT, BOFT, IA3, GLoRA, DoRA) the order of the
set counts. Bias differences add up and are never rotated or scaled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .formats import Bias, Delta, Layer, cast_outside_autograd, without_autocast

Move = Callable[[Tensor], Tensor]


class Stack:
    """`deltas` applied one after the other on `layer`.

    What depends on the host's weight (DoRA's norm) is computed at first use and kept by this object: make a new one
    after the host's weights have changed.
    """

    def __init__(self, layer: Layer, deltas: Sequence[Delta]) -> None:
        self.layer = layer
        self._biases = [delta for delta in deltas if isinstance(delta, Bias)]
        self._deltas = [delta for delta in deltas if not isinstance(delta, Bias)]
        self._before = [_LayerBefore(self, i, with_bias=True) for i in range(len(self._deltas))]
        self._before_without_bias = [_LayerBefore(self, i, with_bias=False) for i in range(len(self._deltas))]
        self._kept: dict[tuple[int, torch.device, torch.dtype], tuple[Tensor, ...]] = {}

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The output with all LoRAs on, from input x and the host's own output y, both (rows, ...)."""
        y = self._apply(x, y, self._before)
        for bias in self._biases:
            y = bias.shift(y)
        return y

    def low_rank_factors(self, like: Tensor) -> tuple[Tensor, Tensor] | None:
        """(down (rank, in, *kernel), up (out, rank)) of all LoRAs together; None unless all of them are low-rank."""
        factors = [delta.low_rank_factors(like) for delta in self._deltas]
        pairs = [pair for pair in factors if pair is not None]
        if self._biases or not pairs or len(pairs) < len(factors):
            return None
        return torch.cat([down for down, _ in pairs]), torch.cat([up for _, up in pairs], dim=1)

    def dense(self) -> tuple[Tensor, Tensor | None]:
        """(weight, bias) with all LoRAs merged, in float32, or float64 if the host's weight is: the reference."""
        like = self.layer.weight.detach()
        work = torch.float64 if like.dtype == torch.float64 else torch.float32
        with torch.no_grad(), without_autocast(like.device):
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

    def _apply(self, x: Tensor, y: Tensor, before: Sequence[_LayerBefore]) -> Tensor:
        """The output after the first `len(before)` deltas."""
        for delta, layer in zip(self._deltas, before, strict=False):
            y = delta.forward(x, y, layer)
        return y


class _LayerBefore:
    """The layer before delta number `index` of a stack (the `Before` of formats/base.py)."""

    def __init__(self, stack: Stack, index: int, *, with_bias: bool) -> None:
        self._stack, self._index, self._with_bias = stack, index, with_bias

    def linear(self, x: Tensor) -> Tensor:
        stack = self._stack
        y = stack.layer.apply(x, stack.layer.weight.to(x))
        return stack._apply(x, y, stack._before_without_bias[: self._index])

    def without_bias(self, y: Tensor) -> Tensor:
        layer = self._stack.layer
        bias = layer.bias if self._with_bias else None
        return y if bias is None else y - layer.per_channel(bias.to(y), y)

    def remember(self, like: Tensor, make: Callable[[Move, Tensor], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        stack, key = self._stack, (self._index, like.device, like.dtype)

        def made(move: Move) -> tuple[Tensor, ...]:
            return make(move, stack._merged(move(stack.layer.weight), self._index))

        kept = stack._kept.get(key)
        if kept is None:
            kept = stack._kept[key] = cast_outside_autograd(like, made)
        return kept

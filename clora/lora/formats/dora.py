"""DoRA (arXiv 2402.09353): a learned magnitude times the direction of W + dW, over any additive format."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Additive, Before, Delta, Move, check_shapes


class DoRA(Delta):
    """W + s (m (W + dW) / |W + dW| - W), the norm per output channel or per input channel.

    The strength interpolates between W and the trained weight, as in the WebUI, ComfyUI and LyCORIS' functional form.
    (LyCORIS' module keeps dW at full strength and scales only the magnitude, so that strength 0 does not turn it off.)
    At strength 1 all agree. The norm is computed once from the dense weight; the rest runs on activations.
    """

    needs = frozenset()
    keys = frozenset({"dora_scale", "magnitude"})

    def __init__(self, inner: Additive, magnitude: Tensor, *, peft: bool = False) -> None:
        """magnitude: (out, 1, ...), (out,) or (1, in, 1, ...); PEFT's is per output: (out,) or (1, out, 1, 1)."""
        super().__init__(inner.layer, inner.strength)
        out, features = self.layer.shape[0], self.layer.shape[1]
        self._on_out = peft or magnitude.ndim == 1 or magnitude.shape[0] == out
        check_shapes(magnitude.numel() == (out if self._on_out else features))
        self._inner, self._magnitude = inner, magnitude.reshape(-1)

    def forward(self, x: Tensor, y: Tensor, before: Before) -> Tensor:
        """y + s (c (f(x) + h(x)) - f(x)) with c per output, or y + s (f(c x) + h(c x) - f(x)) with c per input."""
        (ratio,) = before.remember(y, lambda move, weight: (self._ratio(weight + self._inner.weight(move), move),))
        bare = before.without_bias(y)
        if self._on_out:
            full = (bare + self._inner.change(x)) * self.layer.per_channel(ratio, y)
        else:
            scaled = x * self.layer.per_channel(ratio, x)
            full = before.linear(scaled) + self._inner.change(scaled)
        return torch.add(y, full - bare, alpha=self.strength)

    def merge(self, weight: Tensor) -> Tensor:
        """W + s (m (W + dW) / |W + dW| - W)."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(weight)

        full = weight + self._inner.weight(move)
        shape = [-1 if i == (0 if self._on_out else 1) else 1 for i in range(weight.ndim)]
        return weight + self.strength * (full * self._ratio(full, move).reshape(shape) - weight)

    def _ratio(self, full: Tensor, move: Move) -> Tensor:
        """m / |W + dW|, (out,) or (in,)."""
        norm = (full if self._on_out else full.transpose(0, 1)).flatten(1).norm(dim=1)
        ratio: Tensor = move(self._magnitude) / (norm + torch.finfo(norm.dtype).eps)
        return ratio

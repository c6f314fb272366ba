"""LoRA sets confined to regions: in every layer, a set's change is multiplied by its weight at each image position.

out[position] = y[position] + sum over sets of weight_set[position] * (output with the set - y)[position]

Here y is the host's own output. This lets one row of a UNet draw several LoRAs at once. For low-rank LoRAs the weights
act between the two factors, so all LoRAs of a layer together cost two matrix products.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import CLoRAError
from .formats import Layer
from .stack import Stack


class Blend:
    """Weights of LoRA sets: `weights` (R, S, h, w) at the latent's size, of `sets` (S), for R rows.

    The text contexts are no image: they come in F rows, each with one set (`context_sets`) and its own weights
    `context_weights` (F, h, w), which add up to those of the sets; `text_layers` are the modules that take a context as
    input (key and value projections of cross-attention). A layer without image positions (the timestep's
    embedding) uses the mean over the image.
    """

    def __init__(
        self, weights: Tensor, sets: Sequence[int], context_sets: Sequence[int], context_weights: Tensor,
        text_layers: Collection[nn.Module] = (),
    ) -> None:  # fmt: skip
        self.weights, self.sets, self.context_sets = weights, tuple(sets), tuple(context_sets)
        self.context_weights, self.text_layers = context_weights, frozenset(text_layers)
        self._context_grids: dict[tuple[object, ...], Tensor] = {}
        self._grids: dict[tuple[int, int], Tensor] = {}
        self._channel_weights: dict[tuple[object, ...], Tensor] = {}
        height, width = int(weights.shape[-2]), int(weights.shape[-1])
        self._by_length: dict[int, tuple[int, int]] = {}
        for _ in range(6):
            self._by_length.setdefault(height * width, (height, width))
            height, width = (height + 1) // 2, (width + 1) // 2

    @property
    def rows(self) -> int:
        """R."""
        return self.weights.shape[0]

    def grid(self, height: int, width: int) -> Tensor:
        """The weights (R, S, height, width): the mean over each cell's area."""
        size = (height, width)
        if size not in self._grids:
            self._grids[size] = mean_of_area(self.weights, size)
        return self._grids[size]

    def grid_of_tokens(self, length: int) -> tuple[int, int]:
        """Height and width of a layer that has `length` tokens.

        Raises: CLoRAError if no grid of the image has that many cells.
        """
        if length not in self._by_length:
            raise CLoRAError(
                f"A layer of the model has {length} tokens, which matches no grid of this image: turn off extensions "
                "that merge tokens or split the image (ToMe, Hypertile), or choose a sampler that keeps the image's "
                "size (not Dy or SMEA), or set Fusion to exact."
            )
        return self._by_length[length]

    def context_rows_at(self, like: Tensor) -> Tensor:
        """Weights (F, n, 1) of the contexts' rows for an activation (F, n, C) of a layer with n tokens."""
        key = (like.shape[1], like.dtype)
        if key not in self._context_grids:
            grid = self.grid_of_tokens(like.shape[1])
            resized = mean_of_area(self.context_weights[None], grid)[0]
            self._context_grids[key] = resized.flatten(1)[..., None].to(like.dtype)
        return self._context_grids[key]

    def channel_weights(self, like: Tensor, channel_axis: int, slots: Sequence[int]) -> Tensor:
        """Weights that multiply an activation shaped as `like`: channel c has those of the set `sets[slots[c]]`."""
        shape = tuple(like.shape[2:]) if channel_axis == 1 else tuple(like.shape[1:-1])
        key = (shape, channel_axis, tuple(slots), like.dtype)
        if key not in self._channel_weights:
            self._channel_weights[key] = self._weights_on(shape, channel_axis, slots).to(like.dtype)
        return self._channel_weights[key]

    def _weights_on(self, shape: tuple[int, ...], channel_axis: int, slots: Sequence[int]) -> Tensor:
        index = torch.tensor(list(slots), device=self.weights.device)
        if len(shape) == 2 and channel_axis == 1:
            return self.grid(*shape).index_select(1, index)
        if len(shape) == 1 and channel_axis == -1:
            grid = self.grid(*self.grid_of_tokens(shape[0]))
            return grid.flatten(2).index_select(1, index).transpose(1, 2).contiguous()
        return self.weights.mean(dim=(2, 3)).index_select(1, index)


def mean_of_area(weights: Tensor, size: tuple[int, int]) -> Tensor:
    """Weights (R, S, h, w) at a smaller `size`: the mean over each cell's area."""
    try:
        return F.interpolate(weights, size, mode="area")
    except RuntimeError:  # MPS has it only for sizes that divide the weights'
        return F.interpolate(weights.cpu(), size, mode="area").to(weights.device)


class BlendedLayer:
    """The LoRA sets of one layer (`stacks` by set), each weighted by the blend."""

    def __init__(self, layer: Layer, stacks: Mapping[int, Stack]) -> None:
        self._layer, self._stacks = layer, stacks
        self._factors: dict[tuple[object, ...], tuple[Tensor, Tensor, tuple[int, ...]] | None] = {}

    def __call__(self, x: Tensor, y: Tensor, blend: Blend) -> Tensor | None:
        """The output from the layer's input x and the host's own output y; None where no set changes the layer."""
        slots = [slot for slot, index in enumerate(blend.sets) if index in self._stacks]
        if not slots:
            return None
        factors = self._low_rank_factors(y, blend, slots)
        if factors is not None:
            down, up, slot_of_rank = factors
            middle = self._layer.apply(x.to(y.dtype), down)
            middle = middle * blend.channel_weights(middle, self._layer.channel_axis, slot_of_rank)
            return y + self._layer.pointwise(middle, up)
        out = y
        for slot in slots:
            changed = self._stacks[blend.sets[slot]](x.to(y.dtype), y)
            out = out + blend.channel_weights(y, self._layer.channel_axis, (slot,)) * (changed - y)
        return out

    def _low_rank_factors(
        self, like: Tensor, blend: Blend, slots: Sequence[int]
    ) -> tuple[Tensor, Tensor, tuple[int, ...]] | None:
        """Factors of the sets in these slots side by side and the slot of each rank; None unless all are low-rank."""
        key = (blend.sets, like.device, like.dtype)
        if key not in self._factors:
            factors = [self._stacks[blend.sets[slot]].low_rank_factors(like) for slot in slots]
            pairs = [pair for pair in factors if pair is not None]
            self._factors[key] = None
            if len(pairs) == len(factors):
                slot_of_rank = tuple(
                    slot for slot, (down, _) in zip(slots, pairs, strict=True) for _ in range(down.shape[0])
                )
                down, up = torch.cat([d for d, _ in pairs]), torch.cat([u for _, u in pairs], dim=1)
                self._factors[key] = (down, up, slot_of_rank)
        return self._factors[key]

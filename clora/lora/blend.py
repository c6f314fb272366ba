"""LoRAs confined to places: in every layer a LoRA's change counts by its weight at that place of the picture.

out[place] = host's output[place] + sum over sets of weight_set[place] * (output with the set - host's output)[place]

That is what one row of a UNet needs to draw several LoRAs at once. Where a LoRA is a product of thin matrices the
weights act on the thin middle, and all LoRAs of a layer together are two matrix products.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import CLoRAError
from .formats import Layer
from .stack import Chain


class Blend:
    """Weights of LoRA sets: `weights` (R, S, h, w) at the latent's size, of `sets` (S), for R rows.

    The text contexts are not of this picture's places: they come in F rows, each with one set (`context_sets`) and its
    own weights `context_weights` (F, h, w), which add up to those of the sets. A layer without places (the timestep's
    embedding) takes the mean over the picture.
    """

    def __init__(
        self, weights: Tensor, sets: Sequence[int], context_sets: Sequence[int], context_weights: Tensor
    ) -> None:
        self.weights, self.sets, self.context_sets = weights, tuple(sets), tuple(context_sets)
        self.context_weights = context_weights
        self._context_grids: dict[tuple[object, ...], Tensor] = {}
        self._grids: dict[tuple[int, int], Tensor] = {}
        self._spread: dict[tuple[object, ...], Tensor] = {}
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
        """The weights (R, S, height, width): the mean over each place's area."""
        size = (height, width)
        if size not in self._grids:
            self._grids[size] = F.interpolate(self.weights, size, mode="area")
        return self._grids[size]

    def grid_of_tokens(self, length: int) -> tuple[int, int]:
        """Height and width of a layer that has `length` tokens. Errors: CLoRAError where no grid has so many."""
        if length not in self._by_length:
            raise CLoRAError(
                f"A layer of the model works on {length} places, which is none of this picture's grids: turn off "
                "extensions that merge tokens or cut the picture (ToMe, Hypertile), or set Fusion to exact."
            )
        return self._by_length[length]

    def rows_at(self, like: Tensor) -> Tensor:
        """Weights (F, n, 1) of the contexts' rows for an activation (F, n, C) of a layer with n tokens."""
        key = (like.shape[1], like.dtype)
        if key not in self._context_grids:
            grid = self.grid_of_tokens(like.shape[1])
            resized = F.interpolate(self.context_weights[None], grid, mode="area")[0]
            self._context_grids[key] = resized.flatten(1)[..., None].to(like.dtype)
        return self._context_grids[key]

    def spread(self, like: Tensor, channel_axis: int, places: Sequence[int]) -> Tensor:
        """Weights that multiply an activation shaped as `like` whose channels are the sets `places`, repeated: channel
        c has the weights of set number places[c] (an index into `sets`)."""
        shape = tuple(like.shape[2:]) if channel_axis == 1 else tuple(like.shape[1:-1])
        key = (shape, channel_axis, tuple(places), like.dtype)
        if key not in self._spread:
            self._spread[key] = self._made(shape, channel_axis, places).to(like.dtype)
        return self._spread[key]

    def _made(self, shape: tuple[int, ...], channel_axis: int, places: Sequence[int]) -> Tensor:
        index = torch.tensor(list(places), device=self.weights.device)
        if len(shape) == 2 and channel_axis == 1:
            return self.grid(*shape).index_select(1, index)
        if len(shape) == 1 and channel_axis == -1:
            grid = self.grid(*self.grid_of_tokens(shape[0]))
            return grid.flatten(2).index_select(1, index).transpose(1, 2).contiguous()
        return self.weights.mean(dim=(2, 3)).index_select(1, index)


class BlendedLayer:
    """The LoRA sets of one layer (`chains` by set), each confined to its places."""

    def __init__(self, layer: Layer, chains: Mapping[int, Chain]) -> None:
        self._layer, self._chains = layer, chains
        self._thin: dict[tuple[object, ...], tuple[Tensor, Tensor, tuple[int, ...]] | None] = {}

    def __call__(self, x: Tensor, y: Tensor, blend: Blend) -> Tensor | None:
        """The output from the layer's input x and the host's own output y; None where no set changes the layer."""
        present = [place for place, index in enumerate(blend.sets) if index in self._chains]
        if not present:
            return None
        thin = self._factors(y, blend, present)
        if thin is not None:
            down, up, places = thin
            middle = self._layer.apply(x.to(y.dtype), down)
            middle = middle * blend.spread(middle, self._layer.channel_axis, places)
            return y + self._layer.pointwise(middle, up)
        out = y
        for place in present:
            changed = self._chains[blend.sets[place]](x.to(y.dtype), y)
            out = out + blend.spread(y, self._layer.channel_axis, (place,)) * (changed - y)
        return out

    def _factors(
        self, like: Tensor, blend: Blend, present: Sequence[int]
    ) -> tuple[Tensor, Tensor, tuple[int, ...]] | None:
        """Thin factors of all present sets side by side and the set of each rank, made once."""
        key = (blend.sets, like.device, like.dtype)
        if key not in self._thin:
            factors = [self._chains[blend.sets[place]].thin(like) for place in present]
            found = [pair for pair in factors if pair is not None]
            self._thin[key] = None
            if len(found) == len(factors):
                places = tuple(
                    place for place, (down, _) in zip(present, found, strict=True) for _ in range(down.shape[0])
                )
                down, up = torch.cat([d for d, _ in found]), torch.cat([u for _, u in found], dim=1)
                self._thin[key] = (down, up, places)
        return self._thin[key]

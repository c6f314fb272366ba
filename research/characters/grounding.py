"""Teaches words where their subjects are: cross-attention maps are drawn to the silhouettes.

The idea is TokenCompose's (Wang et al., arXiv 2312.03626): subjects of a caption keep apart, and the words' maps
mean something long before a model of this size would find that out by itself.
"""

from __future__ import annotations

import math

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn import functional

from research.shared.recorder import Recorder

# Layers by the number of their cells, both ways.
_LAYERS = {8: ("down_blocks.2.", "up_blocks.1."), 16: ("down_blocks.1.", "up_blocks.2.")}

Spans = list[tuple[range, tuple[int, ...]]]  # of a caption: positions of tokens, and the subjects they name


class Maps:
    """Records the maps of a UNet's cross-attention at both grids, forward by forward."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self._kept: dict[int, list[Tensor]] = {grid: [] for grid in _LAYERS}
        processors = unet.attn_processors
        for name in processors:
            for grid, layers in _LAYERS.items():
                if "attn2" in name and name.startswith(layers):
                    processors[name] = Recorder(self._kept[grid])
        unet.set_attn_processor(processors)

    def take(self) -> dict[int, Tensor]:
        """By grid, the maps (rows, cells, tokens) since the last call, averaged over layers."""
        maps = {grid: torch.stack(kept).mean(0) for grid, kept in self._kept.items()}
        for kept in self._kept.values():
            kept.clear()
        return maps


def targets(spans: list[Spans], silhouettes: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Rows (words), positions (words) and silhouettes (words, h, w) of all tokens that name subjects.

    `silhouettes` holds, row by row, (subjects, h, w) in [0, 1]; a whole picture's are 16 x 16.
    """
    rows, positions, found = [], [], []
    for row, (own, shapes) in enumerate(zip(spans, silhouettes, strict=True)):
        for tokens, subjects in own:
            shape = shapes[list(subjects)].sum(0).clamp(max=1)
            for position in tokens:
                if position < 76:
                    rows.append(row)
                    positions.append(position)
                    found.append(shape)
    return torch.tensor(rows), torch.tensor(positions), torch.stack(found) if found else torch.zeros(0, 16, 16)


def loss(maps: dict[int, Tensor], rows: Tensor, positions: Tensor, shapes: Tensor) -> Tensor:
    """Mean over words and grids of 1 - the cosine between the word's map and its silhouette, as `targets` gives them.

    `maps` are, by grid of a whole picture, probabilities (rows, cells, tokens); those of a crop have fewer cells.
    """
    total = next(iter(maps.values())).new_zeros(())
    if not len(rows):
        return total
    for recorded in maps.values():
        wanted = functional.adaptive_avg_pool2d(shapes[:, None], math.isqrt(recorded.shape[1])).flatten(1)
        total = total + 1 - functional.cosine_similarity(recorded[rows, :, positions], wanted).mean()
    return total / len(maps)

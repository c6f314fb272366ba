"""A loss that pulls the words' cross-attention maps to the silhouettes of their things.

The idea is TokenCompose's (Wang et al., arXiv 2312.03626): the things of a caption stay separate, and the words'
maps become meaningful long before a model of this size would learn it by itself.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn import functional

from research.shared.recorder import Recorder

from ..world import CLASSES, SIZE, Thing

GRID = 8  # a 32nd of the picture
_LAYERS = ("down_blocks.2.", "up_blocks.1.")  # those whose queries are the cells of this grid
_ARTICLES = (320, 550)  # "a", "an"


class Maps:
    """Records the maps of a UNet's cross-attention at the grid, forward by forward."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self._kept: list[Tensor] = []
        processors = unet.attn_processors
        for name in processors:
            if "attn2" in name and name.startswith(_LAYERS):
                processors[name] = Recorder(self._kept)
        unet.set_attn_processor(processors)

    def take(self) -> Tensor:
        """The maps (rows, cells, tokens) since the last call, averaged over layers."""
        maps = torch.stack(self._kept).mean(0)
        self._kept.clear()
        return maps


def cells(thing: Thing) -> Tensor:
    """How much of each cell the thing covers, approximated by a disc: (cells,) in [0, 1]."""
    step = SIZE / GRID
    axis = (torch.arange(GRID) + 0.5) * step
    distance = torch.hypot(axis[None, :] - thing.x, axis[:, None] - thing.y)
    return ((0.5 * thing.diameter - distance) / step + 0.5).clamp(0, 1).flatten()


def words(ids: Tensor, nouns: dict[int, str]) -> list[list[int]]:
    """For each noun of a caption, its position and those of the words before it, back to the article."""
    tokens, found = ids.tolist(), []
    for noun in (i for i, token in enumerate(tokens) if token in nouns):
        first = noun
        while first > 1 and tokens[first - 1] not in _ARTICLES:
            first -= 1
        found.append(list(range(first, noun + 1)))
    return found


def noun_ids(tokenizer: Any) -> dict[int, str]:
    """The tokens of the classes' names."""
    return {tokenizer(kind).input_ids[1]: kind for kind in CLASSES}


def loss(maps: Tensor, ids: Tensor, mentioned: list[tuple[Thing, ...]], nouns: dict[int, str]) -> Tensor:
    """Mean over words of 1 minus the cosine between the word's map and its thing's silhouette."""
    rows, positions, targets = [], [], []
    for row, things in enumerate(mentioned):
        for thing, span in zip(things, words(ids[row], nouns), strict=True):
            for position in span:
                rows.append(row)
                positions.append(position)
                targets.append(cells(thing))
    if not rows:
        return maps.new_zeros(())
    chosen = maps[rows, :, positions]
    return 1 - functional.cosine_similarity(chosen, torch.stack(targets).to(maps.device)).mean()

"""Teaches the network which part of which subject every cell shows, long before its pictures show it.

The idea is representation alignment's (REPA, Yu et al., arXiv 2410.06940), which trains a network's inner features to
tell what features of the clean picture tell. Here the scene is known, so it is asked itself: the picture file that a
cell shows, and which column and row of that picture. All are classes, as subjects lie on the cells' grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional

from .scene import CELL, Subject
from .words import WORDS

FILES = {
    file: number for number, file in enumerate(sorted({file for word in WORDS.values() for file in word.files}), 1)
}
"""The class of each picture file; 0 is the ground."""
_SEEN = 0.5
"""The part of a cell from which on a subject is what the cell shows."""
_BLOCKS = (2, 3)
"""Blocks of the decoder whose inputs are asked."""
_WIDTH = 128
_RANKS = 8
"""Columns and rows that a subject's picture may have."""
_IGNORED = -100


def ranks(one: Subject, left: int = 0, top: int = 0, cells: int = 16) -> Tensor:
    """Which column and row of the subject's own picture each cell shows, (2, cells, cells)."""
    middle = CELL * (torch.arange(cells) + 0.5) + one.side / 2
    x, y = ((middle + CELL * first - at).div(CELL).floor() for first, at in ((left, one.x), (top, one.y)))
    return torch.stack([x.expand(cells, cells), y[:, None].expand(cells, cells)]).clamp(0, _RANKS - 1).long()


def labels(subjects: list[Subject], shapes: Tensor, left: int = 0, top: int = 0) -> tuple[Tensor, Tensor]:
    """Files (h, w), columns and rows (2, h, w) of one picture's cells, from its silhouettes (subjects, h, w)."""
    cells = shapes.shape[-1]
    kinds, places = torch.zeros(cells, cells, dtype=torch.long), torch.zeros(2, cells, cells, dtype=torch.long)
    for one, shape in zip(subjects, shapes, strict=True):
        seen = shape > _SEEN
        kinds[seen] = FILES.get(one.file, 0)
        places = torch.where(seen, ranks(one, left, top, cells), places)
    return kinds, places


class Parts(nn.Module):
    """Asks the inputs of the decoder's blocks for file, column and row."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        outputs = len(FILES) + 1 + 2 * _RANKS  # one more for the ground
        self.heads = nn.ModuleDict({
            str(number): nn.Sequential(nn.Linear(_width(unet, number), _WIDTH), nn.SiLU(), nn.Linear(_WIDTH, outputs))
            for number in _BLOCKS
        })  # fmt: skip
        self._seen: dict[str, Tensor] = {}

    def watch(self, unet: UNet2DConditionModel) -> None:
        """Look at the features of every forward from now on."""
        for name in self.heads:

            def look(_: nn.Module, args: Any, given: Mapping[str, Any], name: str = name) -> None:
                self._seen[name] = given["hidden_states"] if "hidden_states" in given else args[0]

            unet.up_blocks[int(name)].register_forward_pre_hook(look, with_kwargs=True)

    def forward(self, kinds: Tensor, places: Tensor) -> Tensor:
        """How far the features of the last forward are from telling `kinds` (n, h, w) and `places` (n, 2, h, w)."""
        total, ground = torch.zeros((), device=kinds.device), kinds == 0
        columns, rows = places.masked_fill(ground[:, None], _IGNORED).unbind(1)
        for name, head in self.heads.items():
            features = functional.adaptive_avg_pool2d(self._seen.pop(name), (kinds.shape[-2], kinds.shape[-1]))
            # Without the norm a few large features decide; in bfloat16 too.
            with torch.autocast(features.device.type, enabled=False):
                told = head(functional.layer_norm(features.movedim(1, -1).float(), features.shape[1:2])).movedim(-1, 1)
            which, *where = told.split([told.shape[1] - 2 * _RANKS, _RANKS, _RANKS], 1)
            total = total + functional.cross_entropy(which, kinds)
            if not bool(ground.all()):
                off = [functional.cross_entropy(one, right, ignore_index=_IGNORED)
                       for one, right in zip(where, (columns, rows), strict=True)]  # fmt: skip
                total = total + off[0] + off[1]
        return total / len(self.heads)


def _width(unet: UNet2DConditionModel, number: int) -> int:
    """Channels of the input of a decoder's block: what the block before it gives."""
    return int(unet.up_blocks[number - 1].resnets[-1].out_channels)

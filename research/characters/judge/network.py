"""The judge's two networks: one finds subjects in a picture of 128 x 128, one names what a crop of 64 x 64 shows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from research.shared.blocks import Block, down

from ..backgrounds import SIZE
from .hard import BACKGROUNDS, NAMES, STYLES, Label

GRID, CELL, CROP = 16, SIZE // 16, 64
KNOWN, GONE = 0.55, 0.25  # a subject counts if so much of it is seen, and is none with less than that


class Finder(nn.Module):
    """Pictures (B, 3, 128, 128) in [0, 1] to answers (B, 4, 16, 16): heat, offsets x and y in cells, log of side;
    and logits of backgrounds and of the whole picture's style, (B, backgrounds + styles)."""

    def __init__(self) -> None:
        super().__init__()
        a, b, c, d = 24, 40, 72, 96
        self.fine = nn.Sequential(down(3, a), down(a, b), Block(b), down(b, c), Block(c))
        self.coarse = nn.Sequential(down(c, d), Block(d), Block(d))
        self.back = nn.Conv2d(d, c, 1)
        self.joined = nn.Sequential(Block(c), nn.Conv2d(c, c, 3, padding=1), nn.ReLU())
        self.answers, self.scene = nn.Conv2d(c, 4, 1), nn.Linear(d, len(BACKGROUNDS) + len(STYLES))
        with torch.no_grad():
            self.answers.bias[0] = -3.0  # type: ignore[index]

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.fine(pictures * 2 - 1)
        coarse = self.coarse(fine)
        joined = self.joined(fine + F.interpolate(self.back(coarse), scale_factor=2.0))
        return self.answers(joined), self.scene(coarse.mean((2, 3)))


class Reader(nn.Module):
    """Crops (B, 3, 64, 64) in [0, 1] to logits of names with "wrong", and of styles."""

    def __init__(self) -> None:
        super().__init__()
        a, b, c, d = 32, 56, 96, 160
        self.body = nn.Sequential(
            down(3, a), Block(a), down(a, b), Block(b), down(b, c), Block(c), down(c, d), Block(d)
        )
        self.head = nn.Linear(2 * d, len(NAMES) + 1 + len(STYLES))

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        seen = self.body(crops * 2 - 1)
        logits = self.head(torch.cat([seen.mean((2, 3)), seen.amax((2, 3))], 1))
        return logits[:, : len(NAMES) + 1], logits[:, len(NAMES) + 1 :]


class Networks(nn.Module):
    """Both; together what is trained and saved."""

    def __init__(self) -> None:
        super().__init__()
        self.find, self.read = Finder(), Reader()


def shrink(pictures: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) at the finder's size."""
    return F.interpolate(pictures, (128, 128), mode="area")


def cut(pictures: Tensor, rows: Tensor, places: Tensor) -> Tensor:
    """Crops (n, 3, 64, 64), a little wider than the subjects, of pictures (B, 3, 256, 256).

    `rows` (n) are the pictures, `places` (n, 3) are x, y and side in pixels.
    """
    half = 0.58 * places[:, 2] * 2 / SIZE
    middle = places[:, :2] * 2 / SIZE - 1
    axis = (torch.arange(CROP, device=pictures.device) + 0.5) / CROP * 2 - 1
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    where = grid[None] * half[:, None, None, None] + middle[:, None, None]
    return F.grid_sample(pictures[rows], where, padding_mode="border", align_corners=False)


def finder_targets(scenes: Sequence[Sequence[Label]]) -> Tensor:
    """Targets (B, 6, 16, 16): heat, offsets, log side, whether a cell counts for the heat, and for the rest."""
    made = torch.zeros(len(scenes), 6, GRID, GRID)
    made[:, 4] = 1.0
    middles = (torch.arange(GRID) + 0.5) * CELL
    for target, labels in zip(made, scenes, strict=True):
        for one in labels:
            if one.seen <= GONE:
                continue
            width = max(0.07 * one.side, 6.0)
            near = (-((middles[None] - one.x) ** 2 + (middles[:, None] - one.y) ** 2) / (2 * width**2)).exp()
            row, column = (min(max(int(v // CELL), 0), GRID - 1) for v in (one.y, one.x))
            near[row, column] = 1.0
            if one.seen < KNOWN:
                target[4][near > 0.1] = 0.0
                continue
            mine = near > target[0]
            target[0] = torch.maximum(target[0], near)
            target[1] = torch.where(mine, ((one.x - middles) / CELL)[None], target[1])
            target[2] = torch.where(mine, ((one.y - middles) / CELL)[:, None], target[2])
            target[3][mine] = torch.tensor(one.side / 120).log()
        target[5] = target[0] * (target[0] > 0.3)
    return made


def finding_loss(answers: Tensor, targets: Tensor) -> Tensor:
    """Focal loss of the heat (CenterNet), and distances of offsets and sides."""
    wanted, counted, logits = targets[:, 0], targets[:, 4], answers[:, 0]
    p = logits.sigmoid()
    hit = (wanted >= 0.999) * (1 - p) ** 2 * F.logsigmoid(logits)
    miss = (wanted < 0.999) * (1 - wanted) ** 4 * p**2 * F.logsigmoid(-logits)
    found = -((hit + miss) * counted).sum() / (wanted >= 0.999).sum().clamp(min=1)
    weight = targets[:, 5]
    offset = (answers[:, 1:3] - targets[:, 1:3]).abs().sum(1) * 0.5
    size = (answers[:, 3] - targets[:, 3]).abs()
    return found + (weight * (offset + size)).sum() / weight.sum().clamp(min=1)

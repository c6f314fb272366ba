"""The judge's second network: reads from a crop around each thing whether it is wholly of one look, or wrong."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.judge.augment import smear
from benchmarks.judge.targets import LOOK_NAMES, SEEN, VERDICTS, DrawnThing
from research.shared.blocks import Block, down

CROP = 48
_MARGIN = 1.35  # width of a crop relative to its thing
_WIDTHS = (24, 44, 64)
MOST = 5  # most things in one scene
FIELDS = 4 + len(LOOK_NAMES)  # x, y, diameter, index of the verdict or -1, shares of the looks


class Reader(nn.Module):
    """From crops (B, 3, 48, 48) to logits of VERDICTS (one look, or wrong) and of LOOK_NAMES (share of each look)."""

    def __init__(self) -> None:
        super().__init__()
        a, b, c = _WIDTHS
        self.body = nn.Sequential(
            down(3, a), Block(a), down(a, b), Block(b), down(b, c), nn.Conv2d(c, c, 3, padding=1), nn.ReLU(),
            nn.Conv2d(c, 32, 1), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1),
        )  # fmt: skip
        self.answers = nn.Linear(32 * (CROP // 8) ** 2, len(VERDICTS) + len(LOOK_NAMES))

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, verdicts) and (B, looks)."""
        verdicts, looks = self.answers(self.body(crops * 2 - 1)).split([len(VERDICTS), len(LOOK_NAMES)], 1)
        return verdicts, looks


def cut(pictures: Tensor, number: Tensor, circles: Tensor) -> Tensor:
    """Crops (N, 3, 48, 48) of pictures (B, 3, H, W): of picture `number` (N), around `circles` (N, 3).

    A circle is a centre and a diameter in the world's pixels. Twice as many points as pixels are read, then averaged.
    """
    axis = (torch.arange(2 * CROP) + 0.5) / CROP - 1
    square = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    centre, half = circles[:, :2] * 2 / SEEN - 1, _MARGIN * circles[:, 2] / SEEN
    grid = centre[:, None, None] + square * half[:, None, None, None]
    read = F.grid_sample(pictures[number], grid, padding_mode="border", align_corners=False)
    return F.avg_pool2d(read, 2)


def label_rows(things: Sequence[DrawnThing]) -> Tensor:
    """Training labels (MOST, FIELDS) of a scene's things; rows that the reader does not learn have verdict -1."""
    rows = torch.full((MOST, FIELDS), -1.0)
    for row, thing in zip(rows, things, strict=False):
        verdict = thing.label
        number = -1.0 if verdict is None else float(VERDICTS.index(verdict))
        shares = [thing.looks.get(name, 0.0) if thing.kind else 0.0 for name in LOOK_NAMES]
        row[:] = torch.tensor([thing.x, thing.y, thing.diameter, number, *shares])
    return rows


def jittered(circles: Tensor, generator: torch.Generator) -> Tensor:
    """Circles (N, 3) as a detector gives them: a little off centre, a little too small or too large."""
    noise = 2 * torch.rand(circles.shape, generator=generator) - 1
    centre = circles[:, :2] + 0.09 * circles[:, 2:] * noise[:, :2]
    return torch.cat([centre, circles[:, 2:] * (0.14 * noise[:, 2:]).exp()], 1)


def reading_loss(reader: Reader, pictures: Tensor, things: Tensor, generator: torch.Generator) -> Tensor:
    """Mean loss over the things (B, MOST, FIELDS) of pictures (B, 3, H, W)."""
    known = things[..., 3] >= 0
    number, rows = known.nonzero()[:, 0], things[known]
    with torch.autocast("cpu", enabled=False):
        crops = cut(pictures, number, jittered(rows[:, :3], generator))
        some = torch.rand(len(crops), 1, 1, 1, generator=generator) < 0.65
        crops = torch.where(some, smear(crops, generator), crops)
    verdicts, looks = reader(crops)
    classified = F.cross_entropy(verdicts.float(), rows[:, 3].long(), label_smoothing=0.02)
    shares = -(rows[:, 4:] * looks.float().log_softmax(1)).sum(1).mean()
    value: Tensor = classified + 0.4 * shares
    return value

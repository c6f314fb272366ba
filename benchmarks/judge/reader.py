"""The judge's second look: a crop round each thing found, and whether it is wholly one look or a wrong one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.judge.augment import smear
from benchmarks.judge.network import Block, down
from benchmarks.judge.targets import LOOK_NAMES, SEEN, VERDICTS, Placed

CROP = 48
_ROOM = 1.35  # a crop is so much wider than its thing
_WIDTHS = (24, 44, 64)
MOST = 5  # things in one scene
FIELDS = 4 + len(LOOK_NAMES)  # x, y, diameter, verdict's number or -1, looks' shares


class Reader(nn.Module):
    """A crop (B, 3, 48, 48) to logits of VERDICTS and of LOOK_NAMES: of one look or wrong, and shares of the looks."""

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


def cut(pictures: Tensor, number: Tensor, places: Tensor) -> Tensor:
    """Crops (N, 3, 48, 48) of pictures (B, 3, H, W): of picture `number` (N), at `places` (N, 3) in the world's pixels.

    A place is a centre and a diameter. Twice as many points are read as there are pixels, then averaged.
    """
    axis = (torch.arange(2 * CROP) + 0.5) / CROP - 1
    square = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    centre, half = places[:, :2] * 2 / SEEN - 1, _ROOM * places[:, 2] / SEEN
    grid = centre[:, None, None] + square * half[:, None, None, None]
    read = F.grid_sample(pictures[number], grid, padding_mode="border", align_corners=False)
    return F.avg_pool2d(read, 2)


def listed(things: Sequence[Placed]) -> Tensor:
    """What the reader learns of a scene's things, (MOST, FIELDS); rows of what it does not learn have verdict -1."""
    rows = torch.full((MOST, FIELDS), -1.0)
    for row, thing in zip(rows, things, strict=False):
        verdict = thing.told
        number = -1.0 if verdict is None else float(VERDICTS.index(verdict))
        shares = [thing.looks.get(name, 0.0) if thing.kind else 0.0 for name in LOOK_NAMES]
        row[:] = torch.tensor([thing.x, thing.y, thing.diameter, number, *shares])
    return rows


def moved(places: Tensor, generator: torch.Generator) -> Tensor:
    """Places (N, 3) as a detector gives them: a little beside the centre, a little too small or large."""
    noise = 2 * torch.rand(places.shape, generator=generator) - 1
    centre = places[:, :2] + 0.09 * places[:, 2:] * noise[:, :2]
    return torch.cat([centre, places[:, 2:] * (0.14 * noise[:, 2:]).exp()], 1)


def reading_loss(reader: Reader, pictures: Tensor, things: Tensor, generator: torch.Generator) -> Tensor:
    """Mean loss over the things (B, MOST, FIELDS) of pictures (B, 3, H, W)."""
    known = things[..., 3] >= 0
    number, rows = known.nonzero()[:, 0], things[known]
    with torch.autocast("cpu", enabled=False):
        crops = cut(pictures, number, moved(rows[:, :3], generator))
        some = torch.rand(len(crops), 1, 1, 1, generator=generator) < 0.65
        crops = torch.where(some, smear(crops, generator), crops)
    verdicts, looks = reader(crops)
    told = F.cross_entropy(verdicts.float(), rows[:, 3].long(), label_smoothing=0.02)
    shares = -(rows[:, 4:] * looks.float().log_softmax(1)).sum(1).mean()
    value: Tensor = told + 0.4 * shares
    return value

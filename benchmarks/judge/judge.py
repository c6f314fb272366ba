"""Verdicts of pictures: the things in each, with class, position, look and pencil; the background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.judge.network import Network, shrink
from benchmarks.judge.reader import Reader, cut
from benchmarks.judge.targets import (
    BACKGROUND,
    BACKGROUND_NAMES,
    CELL,
    CLASS,
    GRID,
    LOOK_NAMES,
    OFFSET,
    PENCIL,
    SIZE_CHANNEL,
)
from research.world import CLASSES

WEIGHTS = Path(__file__).with_name("weights.safetensors")
SURE = 0.4  # a thing is at each peak of the heat map above this
OWN = 0.5  # a thing has the look whose probability is at least this; chosen on held-out renders (`check`)
APART = 0.35  # of the diameter: nearer peaks are one thing, of the most probable class


@dataclass(frozen=True)
class Finding:
    """One thing. `pencil` is how much of it is pencil-drawn.

    `whole` has the probability for every name in LOOK_NAMES that the thing is wholly of that look, colours and pattern.
    One minus their sum is the probability of a blend or another wrong look. `looks` has the share of each look in it.
    """

    kind: str
    sure: float
    x: float
    y: float
    diameter: float
    looks: dict[str, float]
    whole: dict[str, float]
    pencil: float

    @property
    def look(self) -> str:
        """The look with the largest share."""
        return max(self.looks, key=lambda name: self.looks[name])

    def carries(self, look: str) -> bool:
        """Whether the thing is wholly of this look."""
        return self.whole[look] >= OWN


@dataclass(frozen=True)
class Verdict:
    """What is in one picture. `background` has shares of BACKGROUND_NAMES, `pencil` the pencil-drawn share."""

    things: tuple[Finding, ...]
    background: dict[str, float]
    pencil: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Verdict:
        """From `as_dict`."""
        things = tuple(Finding(**thing) for thing in values["things"])
        return Verdict(things, values["background"], values["pencil"])


def to_tensor(pictures: Sequence[Image.Image]) -> Tensor:
    """Pictures of one size as floats in [0, 1], (B, 3, H, W)."""
    arrays = np.stack([np.asarray(picture.convert("RGB"), np.float32) for picture in pictures])
    return torch.from_numpy(arrays).permute(0, 3, 1, 2) / 255


class Networks(nn.Module):
    """The network that finds things and the one that reads their looks; they are trained and saved together."""

    def __init__(self) -> None:
        super().__init__()
        self.find, self.read = Network(), Reader()


class Judge:
    """The trained networks, and the rules that turn their answers into verdicts."""

    def __init__(self, weights: Path | Networks = WEIGHTS) -> None:
        if isinstance(weights, Networks):
            self.networks = weights
        else:
            self.networks = Networks()
            self.networks.load_state_dict({name: value.float() for name, value in load_file(weights).items()})
        self.networks.eval()

    @torch.no_grad()
    def __call__(self, pictures: Sequence[Image.Image]) -> list[Verdict]:
        """A verdict for every picture; all pictures have one size."""
        return self.read(shrink(to_tensor(pictures))) if pictures else []

    @torch.no_grad()
    def read(self, pictures: Tensor) -> list[Verdict]:
        """Verdicts of pictures (B, 3, 128, 128)."""
        verdicts = []
        for picture, answers in zip(pictures, self.networks.find(pictures), strict=True):
            things = self._read_looks(picture, _found(answers))
            pencil = float(answers[PENCIL].sigmoid().mean())
            verdicts.append(Verdict(tuple(things), _ground(answers, things), pencil))
        return verdicts

    def _read_looks(self, picture: Tensor, things: list[Finding]) -> list[Finding]:
        if not things:
            return []
        circles = torch.tensor([(thing.x, thing.y, thing.diameter) for thing in things])
        crops = cut(picture[None], torch.zeros(len(things), dtype=torch.long), circles)
        verdicts, looks = (logits.softmax(1).tolist() for logits in self.networks.read(crops))
        return [
            replace(thing, whole=_named(whole[: len(LOOK_NAMES)]), looks=_named(shares))
            for thing, whole, shares in zip(things, verdicts, looks, strict=True)
        ]


def _named(values: Sequence[float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in zip(LOOK_NAMES, values, strict=True)}


def _found(answers: Tensor) -> list[Finding]:
    """The things in the answers (ANSWERS, G, G) of one picture, without their looks."""
    heat = answers[CLASS].sigmoid()
    best, kinds = heat.max(0)
    peaks = (F.max_pool2d(best[None], 3, 1, 1)[0] == best) & (best > SURE)
    cells = sorted(peaks.nonzero().tolist(), key=lambda cell: -float(best[cell[0], cell[1]]))
    things: list[Finding] = []
    for row, column in cells:
        thing = _finding(answers, heat, row, column, CLASSES[int(kinds[row, column])])
        if all(_distance(thing, t) > APART * max(thing.diameter, t.diameter) for t in things):
            things.append(thing)
    return things


def _finding(answers: Tensor, heat: Tensor, row: int, column: int, kind: str) -> Finding:
    near = answers[PENCIL, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
    dx, dy = answers[OFFSET, row, column].clamp(-1, 1).tolist()
    return Finding(
        kind=kind,
        sure=round(float(heat[CLASSES.index(kind), row, column]), 4),
        x=round((column + 0.5 + dx) * CELL, 1),
        y=round((row + 0.5 + dy) * CELL, 1),
        diameter=round(120 * float(answers[SIZE_CHANNEL, row, column].exp()), 1),
        looks={},
        whole={},
        pencil=round(float(near.sigmoid().mean()), 4),
    )


def _distance(one: Finding, two: Finding) -> float:
    return float(np.hypot(one.x - two.x, one.y - two.y))


def _ground(answers: Tensor, things: Sequence[Finding]) -> dict[str, float]:
    """Mean share of each background in the cells without a thing."""
    axis = (torch.arange(GRID) + 0.5) * CELL
    free = torch.ones(GRID, GRID)
    for thing in things:
        far = (axis[None] - thing.x) ** 2 + (axis[:, None] - thing.y) ** 2 > (0.55 * thing.diameter) ** 2
        free = free * far
    shares = answers[BACKGROUND].softmax(0)
    mean = (shares * free).sum((1, 2)) / free.sum().clamp(min=1)
    return {name: round(float(share), 4) for name, share in zip(BACKGROUND_NAMES, mean, strict=True)}

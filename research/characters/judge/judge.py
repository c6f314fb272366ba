"""Pictures to verdicts: the subjects in a picture, each with its name, place and style; background and style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from .hard import BACKGROUNDS, NAMES, STYLES, WRONG
from .network import CELL, Networks, cut, shrink

WEIGHTS = Path(__file__).parents[1] / "weights" / "judge.safetensors"
SURE = 0.4  # a subject is there where the heat has a peak above this
OWN = 0.5  # a subject has a name if that has at least this probability
SIZES = (0.92, 1.0, 1.08)  # of the crops that are read, in parts of the side found
APART = 0.3  # of the side: nearer peaks are one subject


@dataclass(frozen=True)
class Finding:
    """One subject. `shares` are the probabilities of the three likeliest names; "wrong" is a blend or unknown."""

    x: float
    y: float
    side: float
    sure: float
    shares: dict[str, float]
    styles: dict[str, float]

    @property
    def name(self) -> str:
        """Its name, or "wrong" where none is likely enough."""
        best = max(self.shares, key=lambda name: self.shares[name])
        return best if self.shares[best] >= OWN else "wrong"

    @property
    def style(self) -> str:
        """The style it is drawn in."""
        return max(self.styles, key=lambda name: self.styles[name])


@dataclass(frozen=True)
class Verdict:
    """What is in one picture."""

    subjects: tuple[Finding, ...]
    background: str
    style: str

    @property
    def names(self) -> list[str]:
        """The names of all subjects, in alphabetical order."""
        return sorted(one.name for one in self.subjects)


def to_tensor(pictures: Sequence[Image.Image]) -> Tensor:
    """Pictures of one size as floats in [0, 1], (B, 3, H, W)."""
    arrays = np.stack([np.asarray(picture.convert("RGB"), np.float32) for picture in pictures])
    return torch.from_numpy(arrays).permute(0, 3, 1, 2) / 255


class Judge:
    """The trained networks with the rules that read their answers."""

    def __init__(self, weights: Path | Networks) -> None:
        if isinstance(weights, Networks):
            self.networks = weights
        else:
            self.networks = Networks()
            self.networks.load_state_dict({name: value.float() for name, value in load_file(weights).items()})
        self.networks.eval()

    def __call__(self, pictures: Sequence[Image.Image]) -> list[Verdict]:
        """A verdict for every picture, all of 256 x 256."""
        return self.read(to_tensor(pictures)) if pictures else []

    @torch.no_grad()
    def read(self, pictures: Tensor) -> list[Verdict]:
        """Verdicts of pictures (B, 3, 256, 256) in [0, 1]."""
        answers, scenes = self.networks.find(shrink(pictures))
        verdicts = []
        for i, (answer, scene) in enumerate(zip(answers, scenes, strict=True)):
            places = peaks(answer)
            subjects = self._named(pictures[i : i + 1], places) if places else ()
            background = BACKGROUNDS[int(scene[: len(BACKGROUNDS)].argmax())]
            style = STYLES[int(scene[len(BACKGROUNDS) :].argmax())]
            verdicts.append(Verdict(tuple(subjects), background, style))
        return verdicts

    def _named(self, picture: Tensor, places: list[tuple[float, float, float, float]]) -> list[Finding]:
        where = torch.tensor([place[:3] for place in places])
        names, styles = self._read(picture, where)
        found = []
        for (x, y, side, sure), name, style in zip(places, names, styles, strict=True):
            top = name.topk(3)
            shares = {"wrong" if i == WRONG else NAMES[i]: round(p, 4) for p, i in
                      zip(top.values.tolist(), top.indices.tolist(), strict=True)}  # fmt: skip
            found.append(Finding(x, y, side, sure, shares, dict(zip(STYLES, style.tolist(), strict=True))))
        return found

    def _read(self, picture: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
        """Mean probabilities of names and of styles over crops of a few sizes: a side is found only nearly right."""
        rows = torch.zeros(len(where), dtype=torch.long)
        sizes = [where * torch.tensor([1.0, 1.0, size]) for size in SIZES]
        read = [self.networks.read(cut(picture, rows, one)) for one in sizes]
        names, styles = (torch.stack([of[i].softmax(1) for of in read]).mean(0) for i in (0, 1))
        return names, styles


def peaks(answer: Tensor) -> list[tuple[float, float, float, float]]:
    """x, y, side and certainty of the subjects in answers (4, 16, 16), the surest first."""
    heat = answer[0].sigmoid()
    top = (F.max_pool2d(heat[None], 3, 1, 1)[0] == heat) & (heat > SURE)
    found: list[tuple[float, float, float, float]] = []
    for row, column in sorted(top.nonzero().tolist(), key=lambda place: -float(heat[place[0], place[1]])):
        dx, dy = answer[1:3, row, column].clamp(-1, 1).tolist()
        x, y = (column + 0.5 + dx) * CELL, (row + 0.5 + dy) * CELL
        side = 120 * float(answer[3, row, column].exp())
        if all(np.hypot(x - u, y - v) > APART * max(side, s) for u, v, s, _ in found):
            found.append((round(x, 1), round(y, 1), round(side, 1), round(float(heat[row, column]), 4)))
    return found

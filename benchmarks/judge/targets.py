"""Training targets of a scene: maps over a grid of 16 x 16 cells of 16 pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from research.world import BACKGROUNDS, CLASSES, LOOKS, SIZE

Field = np.ndarray[Any, np.dtype[Any]]

LOOK_NAMES = ("none", *LOOKS)  # "none" is any other look, such as the class's own
WRONG = "wrong"
VERDICTS = (*LOOK_NAMES, WRONG)  # wholly of one look, or a blend or otherwise wrong
BACKGROUND_NAMES = (*BACKGROUNDS, "lava")
SEEN = SIZE  # a picture's width in the world's pixels, whatever its size as a tensor
GRID = 16
CELL = SIZE // GRID

# The channel of each answer. The network gives these; the targets have weights in addition.
CLASS = slice(0, len(CLASSES))
OFFSET = slice(CLASS.stop, CLASS.stop + 2)  # from a cell's middle to the thing's centre, x and y, in cells
BACKGROUND = slice(OFFSET.stop, OFFSET.stop + len(BACKGROUND_NAMES))
SIZE_CHANNEL = BACKGROUND.stop
PENCIL = SIZE_CHANNEL + 1
ANSWERS = PENCIL + 1
COUNTED, THING_WEIGHT, BACKGROUND_WEIGHT = range(ANSWERS, ANSWERS + 3)
CHANNELS = ANSWERS + 3

_KNOWN, _GONE = 0.7, 0.4  # a thing counts from the first visible part on, and is no thing up to the second


@dataclass(frozen=True)
class DrawnThing:
    """One thing as drawn.

    `kind` is None for what is no thing. `looks` has the share of each look by name. `verdict` is one of VERDICTS, or
    None if it is unclear; with `by_colour` it is unclear in pencil. `made` says how the thing was drawn.
    """

    kind: str | None
    looks: dict[str, float]
    x: float
    y: float
    diameter: float
    visible: float = 1.0
    verdict: str | None = None
    by_colour: bool = False
    made: str = ""

    @property
    def label(self) -> str | None:
        """The verdict, if enough of the thing is visible."""
        return self.verdict if self.visible >= _KNOWN else None


def blank() -> Field:
    """Targets (CHANNELS, GRID, GRID) of a scene without things."""
    made = np.zeros((CHANNELS, GRID, GRID), np.float32)
    made[COUNTED] = 1.0
    return made


def bell(x: float, y: float, width: float) -> Field:
    """A Gaussian (GRID, GRID) around a point in pixels, 1 in the cell that holds the point."""
    centres = (np.arange(GRID) + 0.5) * CELL
    found: Field = np.exp(-((centres[None] - x) ** 2 + (centres[:, None] - y) ** 2) / (2 * width**2))
    row, column = (min(max(int(v // CELL), 0), GRID - 1) for v in (y, x))
    found[row, column] = 1.0
    return found


def add_things(targets: Field, things: Sequence[DrawnThing]) -> None:
    """Draw the things into the targets; half-hidden things do not count in the loss."""
    nearest: Field = np.zeros((GRID, GRID), np.float32)
    for thing in things:
        if thing.kind is None or thing.visible <= _GONE:
            continue
        near = bell(thing.x, thing.y, max(0.07 * thing.diameter, 6.0))
        if thing.visible < _KNOWN:
            targets[COUNTED][near > 0.1] = 0.0
            continue
        channel = CLASSES.index(thing.kind)
        targets[channel] = np.maximum(targets[channel], near)
        mine = near > nearest
        nearest = np.maximum(nearest, near)
        middles = (np.arange(GRID) + 0.5) * CELL
        targets[OFFSET.start] = np.where(mine, (thing.x - middles[None]) / CELL, targets[OFFSET.start])
        targets[OFFSET.start + 1] = np.where(mine, (thing.y - middles[:, None]) / CELL, targets[OFFSET.start + 1])
        targets[SIZE_CHANNEL, mine] = np.log(thing.diameter / 120)
    targets[THING_WEIGHT] = np.where(nearest > 0.3, nearest, 0.0)


def shrink(pixels: Field) -> Field:
    """Mean of a map (SIZE, SIZE) over each cell, (GRID, GRID)."""
    found: Field = pixels.reshape(GRID, CELL, GRID, CELL).mean((1, 3))
    return found

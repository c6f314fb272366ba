"""Where the user wants a subject: a box in the picture, by name or in percent, or a painted mask."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import CLoRAError
from .painted_text import MAX_CELLS, painted_text


@dataclass(frozen=True)
class Box:
    """A part of the picture; all numbers are parts of its width or height, 0 to 1, from the top left corner."""

    left: float
    top: float
    width: float
    height: float

    def grid(self, height: int, width: int) -> Tensor:
        """1 where a cell's centre lies in the box, else 0, (height, width); a small box has at least one cell."""
        rows = _inside(self.top, self.height, height)
        columns = _inside(self.left, self.width, width)
        return torch.outer(rows, columns)

    @property
    def text(self) -> str:
        """As `parse_region` reads it."""
        named = next((name for name, box in NAMED.items() if box == self), None)
        return named or " ".join(f"{100 * part:g}" for part in (self.left, self.top, self.width, self.height))

    @property
    def typed(self) -> str:
        """As a correction writes it."""
        return self.text


@dataclass(frozen=True, eq=False)
class Painted:
    """A painted part of the picture: `mask` (H, W) from 0 to 1, of any size; it is stretched over the picture.

    Raises: CLoRAError for another shape or other values, and for a mask with nothing painted.
    """

    mask: Tensor

    def __post_init__(self) -> None:
        mask = torch.as_tensor(self.mask).float()  # numpy arrays are welcome
        if mask.ndim != 2 or not mask.numel():
            raise CLoRAError(f"A painted region must be a mask (H, W), but this one has the shape {tuple(mask.shape)}.")
        if not bool(((mask >= 0) & (mask <= 1)).all()):
            raise CLoRAError("A painted region must have values from 0 to 1: divide an image's values by 255.")
        if not bool(mask.any()):
            raise CLoRAError("The painted region is empty: set the subject's part of the mask to 1.")
        object.__setattr__(self, "mask", mask)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Painted) and torch.equal(self.mask, other.mask)

    def __hash__(self) -> int:
        return hash(tuple(self.mask.shape))

    def grid(self, height: int, width: int) -> Tensor:
        """1 where at least half of a cell is painted, else 0, (height, width); the most painted cell always has 1."""
        share = F.interpolate(self.mask[None, None].float(), (height, width), mode="area")[0, 0]
        return (share >= min(0.5, float(share.max()))).float()

    @property
    def text(self) -> str:
        """For tables; no tag can say it."""
        return "painted"

    @property
    def typed(self) -> str:
        """As a correction writes it, with at most `MAX_CELLS` on a side."""
        return painted_text(self.cells().mask)

    def cells(self) -> Painted:
        """The mask of 0 and 1 that its text can write; itself if it is one."""
        height, width = self.mask.shape
        scale = min(1.0, MAX_CELLS / max(height, width))
        grid = self.grid(max(1, round(height * scale)), max(1, round(width * scale)))
        return self if torch.equal(grid, self.mask) else Painted(grid)

    def without(self, others: Sequence[Painted]) -> Painted | None:
        """What is left of it where none of `others` is painted, None for nothing; itself if they do not meet."""
        masks = [one.mask for one in (self, *others)]
        size = (max(mask.shape[0] for mask in masks), max(mask.shape[1] for mask in masks))
        own, *rest = (F.interpolate(mask[None, None], size, mode="nearest")[0, 0] for mask in masks)
        left = own * (torch.stack(rest).amax(dim=0) < 0.5)
        if torch.equal(left, own):
            return self
        return Painted(left) if bool(left.any()) else None


Region = Box | Painted

NAMED = {
    "left": Box(0.0, 0.0, 0.5, 1.0),
    "right": Box(0.5, 0.0, 0.5, 1.0),
    "top": Box(0.0, 0.0, 1.0, 0.5),
    "bottom": Box(0.0, 0.5, 1.0, 0.5),
    "middle": Box(0.25, 0.25, 0.5, 0.5),
}


def _inside(start: float, size: float, cells: int) -> Tensor:
    centres = (torch.arange(cells) + 0.5) / cells
    inside = ((centres >= start) & (centres < start + size)).float()
    if not inside.any():
        inside[min(cells - 1, int((start + size / 2) * cells))] = 1.0
    return inside


def parse_region(text: str, where: str) -> Box:
    """A box from a name, or from x y width height in percent. `where` says for the message where the text was written.

    A box that extends beyond the image is cut. Raises: CLoRAError for anything else, and for a box that is empty or
    outside the image.
    """
    if text.strip().lower() in NAMED:
        return NAMED[text.strip().lower()]
    words = text.replace("%", " ").replace(";", " ").split()
    try:
        x, y, width, height = (float(word) / 100.0 for word in words)
    except ValueError:
        raise CLoRAError(
            f'Unknown place "{text}" in {where}: write {", ".join(NAMED)}, or four percentages: x y width height.'
        ) from None
    (x, width), (y, height) = _inside_image(x, width), _inside_image(y, height)
    if not (width > 0 and height > 0):
        raise CLoRAError(
            f'The place "{text}" in {where} is empty or outside the image: x and y are its top left corner in percent, '
            "then follow its width and height."
        )
    return Box(x, y, width, height)


def _inside_image(start: float, size: float) -> tuple[float, float]:
    """Start and size of the part of a side that is inside the image, (0, 0) if there is none."""
    if not (math.isfinite(start) and math.isfinite(size)):
        return 0.0, 0.0
    if start < 0:
        start, size = 0.0, start + size
    slack = 1e-9
    return start, size if start + size <= 1 + slack else 1 - start


def in_front(regions: Sequence[Region | None]) -> tuple[Region | None, ...]:
    """The regions with each painted one cut where a later one is painted, so that the later subject is in front.

    None for a region of which nothing is left. Boxes may overlap: they say roughly where a subject belongs.
    """
    result = list(regions)
    for number, own in enumerate(regions):
        # One region of two concepts, from two tags of one LoRA, is shared.
        later = [one for one in regions[number + 1 :] if isinstance(one, Painted) and one is not own]
        if isinstance(own, Painted) and later:
            result[number] = own.without(later)
    return tuple(result)

"""Where the user wants a subject: a box in the picture, by name or in percent, or a painted mask."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import CLoRAError


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

    Raises: CLoRAError for anything else, and for a box that is empty or extends beyond the image.
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
    slack = 1e-9
    if not (width > 0 and height > 0 and x >= 0 and y >= 0 and x + width <= 1 + slack and y + height <= 1 + slack):
        raise CLoRAError(
            f'The place "{text}" in {where} is empty or extends beyond the image: x and y are its top left corner, and '
            "x + width and y + height must be at most 100."
        )
    return Box(x, y, width, height)

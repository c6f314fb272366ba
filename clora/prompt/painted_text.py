"""A painted mask as a short text: "painted 128x96 7gE4...", its size and its runs of unpainted and painted cells.

The runs go row by row from the top left corner, the first one unpainted. They are written as in COCO's compressed
masks (each as its difference from the run before the last one, five bits a character, the lowest first), but in the
characters of base64url, which tags, corrections and infotexts can hold. javascript/clora_painted.js does the same.
Source: cocoapi, common/maskApi.c, rleToString.
"""

from __future__ import annotations

import itertools
import re

import torch
from torch import Tensor

from ..errors import CLoRAError

MAX_CELLS = 256
"""Cells on one side; a longer text is refused."""
_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_VALUES = {digit: value for value, digit in enumerate(_DIGITS)}
_TEXT = re.compile(r"painted\s+([0-9]{1,3})x([0-9]{1,3})\s+([\w-]+)", re.ASCII)


def painted_text(mask: Tensor) -> str:
    """The text of a mask (H, W) of 0 and 1 with at most `MAX_CELLS` on a side."""
    cells = mask.flatten().bool()
    edges = (torch.nonzero(cells[1:] != cells[:-1]).flatten() + 1).tolist()
    starts = [0, *edges, len(cells)]
    runs = [after - before for before, after in itertools.pairwise(starts)]
    runs = [0, *runs] if bool(cells[0]) else runs
    written = (run - runs[i - 2] if i > 2 else run for i, run in enumerate(runs))
    return f"painted {mask.shape[1]}x{mask.shape[0]} {''.join(map(_digits, written))}"


def read_painted_text(text: str) -> Tensor:
    """The mask (H, W) of 0 and 1 in a text. Raises: CLoRAError, with a sentence to follow the name of its owner."""
    found = _TEXT.fullmatch(text.strip())
    width, height = (int(found[1]), int(found[2])) if found else (0, 0)
    if found is None or not (0 < width <= MAX_CELLS and 0 < height <= MAX_CELLS):
        raise CLoRAError("cannot be read: paint it on the canvas, or write a box such as 10 20 40 60.")
    runs = _runs(found[3])
    if min(runs, default=-1) < 0 or sum(runs) != width * height:
        raise CLoRAError("is damaged: paint it again.")
    painted = torch.arange(len(runs)) % 2
    return torch.repeat_interleave(painted, torch.tensor(runs)).reshape(height, width).float()


def _digits(number: int) -> str:
    """A signed number, five bits a character; the sixth bit says that more follow."""
    text = ""
    while True:
        bits, number = number & 31, number >> 5
        more = number != (-1 if bits & 16 else 0)
        text += _DIGITS[bits | 32 * more]
        if not more:
            return text


def _runs(digits: str) -> list[int]:
    """The runs that the characters write; an unfinished or huge number gives a negative one."""
    runs: list[int] = []
    number = shift = 0
    for digit in digits:
        value = _VALUES[digit]
        number |= (value & 31) << shift
        shift += 5
        if value & 32 and shift < 30:
            continue
        if value & 16 and not value & 32:
            number -= 1 << shift
        runs.append(number + (runs[-2] if len(runs) > 2 else 0))
        number = shift = 0
    return runs if not shift else [-1]

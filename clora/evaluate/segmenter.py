"""Boxes of subjects in a picture, for the instance level, by a model that is not used for composing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from PIL import Image
from torch import Tensor

from ..errors import CLoRAError
from .pretrained import Hash, identity, load

Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels, the last two exclusive."""
THRESHOLD = 0.4
"""Probability above which a cell belongs to the words (CLIPSeg's maps rarely come near 1)."""
MIN_PATCH = 0.01
"""Fraction of the cells below which a patch counts as noise."""
MARGIN = 0.05
"""Fraction of a box's width and height added on each side."""


class ClipSeg:
    """CLIPSeg (Lüddecke and Ecker, 2022): words -> a map of probabilities -> its connected patches -> boxes."""

    def __init__(self, source: str, content: Hash, threshold: float = THRESHOLD) -> None:
        from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

        self.model: Any
        self.model, self.processor = load(source, "segmenting", CLIPSegForImageSegmentation, CLIPSegProcessor)
        if self.model.config.model_type != "clipseg":
            raise CLoRAError(
                f'The segmenter "{source}" is not a CLIPSeg model: use one, such as CIDAS/clipseg-rd64-refined.'
            )
        self.threshold = threshold
        self.identity = f"{identity('clipseg', source, content, self.model)}@{threshold:g}"

    def to(self, device: str) -> ClipSeg:
        """Move the model to a device."""
        self.model.to(device)
        return self

    @torch.inference_mode()
    def boxes(self, picture: Image.Image, words: Sequence[str]) -> list[list[Box]]:
        """For each text the boxes of its patches in pixels of `picture`, the largest patch first."""
        length = self.model.config.text_config.max_position_embeddings
        given = self.processor.tokenizer(
            list(words), return_tensors="pt", padding=True, truncation=True, max_length=length
        )
        pixels = self.processor.image_processor([picture] * len(words), return_tensors="pt")
        device = self.model.device
        logits: Tensor = self.model(**given.to(device), **pixels.to(device)).logits
        maps = logits.float().sigmoid().cpu().reshape(len(words), *logits.shape[-2:])
        return [boxes_of(one > self.threshold, picture.size) for one in maps]


def boxes_of(mask: Tensor, size: tuple[int, int]) -> list[Box]:
    """Boxes, with a margin, of the patches of a mask (h, w), the largest first, in a picture of `size` (W, H)."""
    labels = connected(mask)
    counts = torch.bincount(labels.flatten())
    order = [int(i) for i in counts.argsort(descending=True) if i and counts[i] >= MIN_PATCH * mask.numel()]
    return [_box(labels == label, size) for label in order]


def connected(mask: Tensor) -> Tensor:
    """The patch number (from 1, 0 outside) of each cell of a mask (h, w); neighbours share an edge."""
    height, width = mask.shape
    outside = height * width + 1
    labels = torch.arange(1, outside).reshape(height, width).where(mask, torch.tensor(0))
    while True:
        low = labels.where(mask, torch.tensor(outside))
        padded = torch.nn.functional.pad(low[None], (1, 1, 1, 1), value=outside)[0]
        around = torch.stack([low, padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
        spread = around.amin(0).where(mask, torch.tensor(0))
        # Pointer jumping: a cell takes the label of the cell that its label refers to.
        flat = torch.cat([torch.zeros(1, dtype=spread.dtype), spread.flatten()])
        spread = flat[flat[spread]]
        if torch.equal(spread, labels):
            numbers: Tensor = torch.unique(labels, return_inverse=True)[1]
            return numbers + int(bool(mask.all()))
        labels = spread


def _box(patch: Tensor, size: tuple[int, int]) -> Box:
    """The box of a patch (h, w) in pixels, widened and inside the picture."""
    found = []
    for axis, length in ((0, size[0]), (1, size[1])):
        cells = patch.any(axis).nonzero().flatten()
        cell = length / patch.shape[1 - axis]
        low, high = float(cells[0]) * cell, float(cells[-1] + 1) * cell
        margin = MARGIN * (high - low)
        found.append((max(0, int(low - margin)), min(length, math.ceil(high + margin))))
    (left, right), (top, bottom) = found
    return left, top, right, bottom

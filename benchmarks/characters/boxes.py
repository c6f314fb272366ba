"""The method "boxes given": masks are boxes instead of cut from maps, one box for each concept.

Boxes at fixed positions do not work, because the seed's noise leads to another layout. So each box is where the model
without the subjects' LoRAs draws a subject of the class from the same prompt and seed (the judge finds it). The base
alone draws the first steps, because a LoRA's variant would often make another layout.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any
from unittest.mock import patch

import torch
from PIL import Image
from torch import Tensor

from benchmarks.characters.setup import Judging
from clora.engine.composer import Composer, Step
from clora.hosts.diffusers import compose
from clora.lora.library import LoraLibrary, Source
from clora.prompt import analyze
from clora.prompt.evidence import evidence_of_files
from research.characters.backgrounds import SIZE
from research.characters.judge import Finding, Verdict
from research.characters.scene import SIDE
from research.characters.words import CHARACTERS, WORDS

_LAYOUT = 0.3  # part of the steps in which the base alone counts
_MARGIN = 1.15  # width of a box relative to the subject in it
_LIKELY = 0.2  # least probability of its class for a subject to get a concept's box
_FREE = tuple(product((66.0, 128.0, 190.0), (90.0, 170.0)))  # where a subject is put that the base does not draw

Square = tuple[float, float, float]
"""Centre x, y and side in pixels."""


def classes(name: str) -> set[str]:
    """What a judge's name may be called in a prompt: "wizard" and "person", "fox", "cat" for "tabby"."""
    if name in CHARACTERS:
        return {CHARACTERS[name].kind}
    word = WORDS.get(name)
    return {name, word.general} - {None} if word else set()  # type: ignore[return-value]


def likeness(finding: Finding, kind: str) -> float:
    """How probable it is that a subject is of a class."""
    return sum(share for name, share in finding.shares.items() if kind in classes(name))


def squares_of(kinds: Sequence[str], verdict: Verdict) -> list[Square]:
    """A square for each class in order of mention; subjects of one class from left to right.

    A subject that cannot be named has the place of one that no class fits. Whatever the picture lacks gets the free
    place that is farthest from the others.
    """
    left = list(verdict.subjects)
    found: dict[int, Finding] = {}
    for kind in dict.fromkeys(kinds):
        wanted = [i for i, own in enumerate(kinds) if own == kind]
        fitting = [one for one in left if likeness(one, kind) >= _LIKELY]
        best = sorted(fitting, key=lambda one: -likeness(one, kind))[: len(wanted)]
        found |= zip(wanted, sorted(best, key=lambda one: one.x), strict=False)
        left = [one for one in left if one not in best]
    unnamed = sorted((one for one in left if one.name == "wrong"), key=lambda one: one.x)
    found |= zip([i for i in range(len(kinds)) if i not in found], unnamed, strict=False)
    squares = {i: (one.x, one.y, one.side) for i, one in found.items()}
    for i in range(len(kinds)):
        squares.setdefault(i, _free(list(squares.values())))
    return [squares[i] for i in range(len(kinds))]


def _free(taken: Sequence[Square]) -> Square:
    def room(place: tuple[float, float]) -> float:
        return min((math.hypot(place[0] - x, place[1] - y) for x, y, _ in taken), default=0.0)

    x, y = max(_FREE, key=room)
    return x, y, float(SIDE)


def box_masks(squares: Sequence[Square], size: int) -> Tensor:
    """Masks (1 + concepts, size, size), the base's first, which is 1 outside all boxes.

    Where boxes overlap, the one with the nearer centre counts, in parts of its side.
    """
    axis = (torch.arange(size) + 0.5) * SIZE / size
    masks = torch.zeros(1 + len(squares), size, size)
    near = torch.stack([torch.hypot(axis[None] - x, axis[:, None] - y) / d for x, y, d in squares])
    inside = torch.stack([
        ((axis[None] - x).abs() <= _MARGIN * d / 2) & ((axis[:, None] - y).abs() <= _MARGIN * d / 2)
        for x, y, d in squares
    ])  # fmt: skip
    nearest = near.masked_fill(~inside, math.inf).argmin(0)
    for number, own in enumerate(inside):
        masks[1 + number] = own & (nearest == number)
    masks[0] = masks[1:].sum(0) == 0
    return masks


def compose_in_boxes(
    pipe: Any, judge: Judging, text: str, seeds: Sequence[int], *, loras: Source, steps: int, **sampling: Any
) -> list[Image.Image]:
    """Pictures of one prompt as `clora.compose` makes them, except for the masks; seeds are consecutive."""
    composition = analyze(text, evidence=evidence_of_files(LoraLibrary(loras).path))
    kinds = [concept.words.split()[-1] for concept in composition.concepts]
    sampling |= {"loras": loras, "steps": steps, "seed": seeds[0]}
    around = (*composition.styles, *composition.background)  # these belong to the base too
    plain = composition.text + "".join(f"<lora:{use.name}:{use.unet:g}:role=style>" for use in around)
    drawn = compose(pipe, [plain] * len(seeds), **sampling).images
    size = int(pipe.unet.config.sample_size)
    masks = [box_masks(squares_of(kinds, verdict), size) for verdict in judge(drawn)]
    with given(masks, round(_LAYOUT * steps)):
        return compose(pipe, [text] * len(seeds), **sampling).images


@contextmanager
def given(masks: Sequence[Tensor], first: int) -> Iterator[None]:
    """Inside this block, composers use these masks (V, h, w), one per image, from step `first` on; before, the base."""
    own = Composer.predict
    base = [torch.zeros_like(mask) for mask in masks]
    for mask in base:
        mask[0] = 1.0

    def predict(self: Composer, index: int, *arguments: Any, **named: Any) -> Step:
        return own(self, index, *arguments, **{**named, "masks": base if index < first else masks})

    with patch.object(Composer, "predict", predict):
        yield

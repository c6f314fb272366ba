"""Where the base's maps show the subjects of an image: the concepts, and others that no LoRA draws."""

from __future__ import annotations

import torch
from torch import Tensor

from ..attention.maps import AttentionMaps
from ..conditioning.plan import ImagePlan
from .places import centres

_NOWHERE = 10**9
_AWAY = 99.0
"""Coordinate of a subject whose words are scheduled away: far from every cell, so that it has no part."""
_CLEAR = 0.1
"""By how much two centres must contradict the text to change places later, in parts of the picture's shorter side."""


def place_maps(maps: AttentionMaps, image: int, plan: ImagePlan) -> Tensor:
    """The base's map of each concept, then of each other subject, (N + M, h_a, w_a); flat for words that are gone."""
    own = [maps.of(image, 0, positions) for positions in plan.places]
    flat = torch.zeros_like(maps.example[0])
    return torch.stack([of.mean(0) if len(of) else flat for of in own])


def subject_centres(maps: Tensor, plan: ImagePlan, before: Tensor | None = None) -> Tensor:
    """A centre (N + M, 2) for each subject of `place_maps`; of one class in the order of the text, from left to right,
    or as the text says where they are.

    With `before`, earlier centres, each keeps the one that is nearest to its own, unless the text clearly says that it
    is the other's: what is in front shows only once the picture takes shape. Another subject is away while its words
    are scheduled away.
    """
    words = [*(concept.words for concept in plan.concepts), *(one.words for one in plan.others)]
    here = [number for number, at in enumerate(plan.places) if at or number < len(plan.concepts)]
    order = sorted(here, key=lambda number: min(plan.places[number], default=_NOWHERE))
    found = torch.full((len(words), 2), _AWAY)
    found[order] = centres(maps[order], [words[n] for n in order], None if before is None else before[order])
    for one, other, axis in plan.orders:  # maps tell where two classes are, but not two of one class
        alike = _class(words[one]) == _class(words[other]) and {one, other} <= set(here)
        if alike and found[one, axis] - found[other, axis] > (0.0 if before is None else _CLEAR):
            found[[one, other]] = found[[other, one]]
    return found


def _class(words: str) -> str:
    return (words.casefold().split() or [""])[-1]

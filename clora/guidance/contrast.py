"""Concept groups of attention maps -> InfoNCE loss (paper section 3.2, equation 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..conditioning.plan import PlannedConcept

ROUNDING = 8.0
"""A map whose range is within this many rounding steps of its maximum has no direction: it is left out."""


@dataclass(frozen=True)
class GroupEntry:
    """One map of a concept group: the map of text `position` in `variant`, of class `concept` (0-based)."""

    concept: int
    variant: int
    position: int


def group_entries(concepts: Sequence[PlannedConcept]) -> tuple[GroupEntry, ...]:
    """The maps of all concept groups (paper section 3.2): the concept's words in every variant."""
    return tuple(
        GroupEntry(number, variant, position)
        for number, concept in enumerate(concepts)
        for variant, positions in enumerate(concept.group)
        for position in positions
    )


@dataclass(frozen=True)
class Contrast:
    """`loss` (scalar), and how many maps were left out because they are constant."""

    loss: Tensor
    left_out: int


def scale_maps(maps: Tensor) -> Tensor:
    """Min-max scale maps (M, n) to [0, 1], each on its own."""
    low = maps.min(dim=1, keepdim=True).values
    high = maps.max(dim=1, keepdim=True).values
    return (maps - low) / (high - low)


def info_nce(maps: Tensor, classes: Tensor, temperature: float) -> Contrast:
    """InfoNCE / NT-Xent over maps (M, n) with `classes` (M,): the mean over all ordered positive pairs.

    Each map is min-max scaled; the similarity is the cosine over `temperature`; for a positive pair (a, p) the
    denominator holds the pair itself and every map of another class. Without positive pairs the loss is 0 with
    zero gradient. Source: paper equation 3, as NTXentLoss of pytorch-metric-learning computes it.
    """
    span = (maps.amax(dim=1) - maps.amin(dim=1)).detach()
    keep = span > ROUNDING * torch.finfo(maps.dtype).eps * maps.detach().abs().amax(dim=1)
    left_out = int((~keep).sum())
    maps, classes = maps[keep], classes.to(maps.device)[keep]
    same = classes[:, None] == classes[None, :]
    positive = same & ~torch.eye(len(classes), dtype=torch.bool, device=maps.device)
    negative = ~same
    if not bool(positive.any()) or not bool(negative.any()):
        # One class only: the pair stands alone in its denominator, so every term is exactly 0.
        return Contrast(maps.sum() * 0.0, left_out)
    unit = torch.nn.functional.normalize(scale_maps(maps), dim=1)
    similarity = unit @ unit.T / temperature
    others = torch.logsumexp(similarity.masked_fill(~negative, -torch.inf), dim=1, keepdim=True)
    terms = torch.logaddexp(similarity, others) - similarity
    return Contrast(terms[positive].mean(), left_out)

"""Where subjects with a region were found in it: a mask that is the region itself cannot tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..attention.maps import AttentionMaps
from ..conditioning.plan import ImagePlan
from ..prompt.region import Region
from .masks import MaskOptions, cut_masks, resize_masks

SMALL = 0.05
"""Part of its region below which a subject counts as not found there."""


def localize(
    maps: AttentionMaps, image: int, plan: ImagePlan, options: MaskOptions, size: tuple[int, int]
) -> Tensor | None:
    """(1 + N, h, w) of 0 and 1 at the latent's `size`: the part of its region where each subject's maps show it.

    None if no concept of the plan has a region; 0 for the base and for concepts without one. The maps are cut as for
    masks but in the whole image, so that a subject that stands elsewhere is not found here.
    With two subjects of one class, either's words may show a thing, and the region alone tells whose it is: so the
    maps of all concepts with the same last word count.
    """
    if not any(plan.regions):
        return None
    own = []
    for variant, positions in enumerate(plan.masks):
        same = {p for c in _same_class(plan, variant - 1) for p in plan.concepts[c].group[variant]} if positions else ()
        own.append(maps.of(image, variant, sorted({*positions, *same})))
    covered = resize_masks(cut_masks(own, replace(options, overlap="average"), size), size)
    allowed = torch.zeros_like(covered)
    for variant, region in enumerate(plan.regions, start=1):
        if region:
            allowed[variant] = region.grid(*size).to(allowed)
    return covered * allowed


def _same_class(plan: ImagePlan, concept: int) -> list[int]:
    """The other concepts whose words end with the same word; none for the base (-1)."""
    if concept < 0:
        return []
    classes = [one.words.casefold().split()[-1:] for one in plan.concepts]
    return [other for other, name in enumerate(classes) if other != concept and name and name == classes[concept]]


def region_share(localized: Tensor, region: Region) -> float:
    """How much of its region a subject fills, 0 to 1; `localized` (h, w)."""
    cells = float(region.grid(localized.shape[0], localized.shape[1]).sum())
    return float(localized.sum()) / max(1.0, cells)


def missing_concepts(localized: Tensor | None, regions: Sequence[Region | None]) -> set[int]:
    """The concepts that fill less than `SMALL` of their region; `localized` (1 + N, h, w)."""
    if localized is None:
        return set()
    shares = {c: region_share(localized[c + 1], region) for c, region in enumerate(regions) if region}
    return {concept for concept, share in shares.items() if share < SMALL}

"""Where subjects that the user gave a place were really found in it, which a mask that is the place cannot tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..attention.maps import AttentionMaps
from ..conditioning.plan import ImagePlan
from .masks import MaskOptions, cut_masks, resize_masks
from .region import Region

SMALL = 0.05
"""Part of its place below which a subject counts as not found there."""


def localize(
    book: AttentionMaps, image: int, plan: ImagePlan, options: MaskOptions, size: tuple[int, int]
) -> Tensor | None:
    """Found (V, h, w) of 0 and 1 at the latent's `size`: what each subject's maps claim of its place.

    None where no concept of the plan has a place; 0 for the base and for concepts without one. The maps are cut as
    for masks but in the whole picture, so that a subject that lies elsewhere claims nothing here.
    Of two subjects of one class either's words may show a thing, and the place alone tells whose it is: so the maps of
    all concepts with the same last word count.
    """
    if not any(plan.places):
        return None
    token_maps = []
    for variant, own in enumerate(plan.mask_tokens):
        tokens = {*own, *(t for c in _alike(plan, variant - 1) for t in plan.group_tokens[c][variant])} if own else ()
        token_maps.append(book.of(image, variant, sorted(tokens)))
    claimed = resize_masks(cut_masks(token_maps, replace(options, overlap="average"), size), size)
    room = torch.zeros_like(claimed)
    for variant, place in enumerate(plan.places, start=1):
        if place:
            room[variant] = place.grid(*size).to(room)
    return claimed * room


def _alike(plan: ImagePlan, concept: int) -> list[int]:
    """The other concepts that are things of the same kind; none for the base (-1)."""
    if concept < 0 or not plan.words:
        return []
    kinds = [words.casefold().split()[-1:] for words in plan.words]
    return [other for other, kind in enumerate(kinds) if other != concept and kind and kind == kinds[concept]]


def region_share(found: Tensor, place: Region) -> float:
    """How much of a place the subject has; `found` (h, w)."""
    return float(found.sum()) / max(1.0, float(place.grid(found.shape[0], found.shape[1]).sum()))


def missing_concepts(found: Tensor | None, places: Sequence[Region | None]) -> set[int]:
    """The concepts that have hardly a part of their place; `found` (V, h, w)."""
    if found is None:
        return set()
    return {c for c, place in enumerate(places) if place and region_share(found[c + 1], place) < SMALL}

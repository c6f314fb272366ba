"""Plans for tests, from text positions."""

from __future__ import annotations

from collections.abc import Sequence

from clora.conditioning.plan import ImagePlan, PlannedConcept, plan_positions
from clora.prompt.region import Region
from clora.settings.table import MaskWords


def plan_of(
    subjects: Sequence[Sequence[Sequence[int]]], triggers: Sequence[Sequence[int]], mask_words: MaskWords,
    regions: Sequence[Region | None] = (), labels: Sequence[str] = (), words: Sequence[str] = (),
    background: bool = False,
) -> ImagePlan:  # fmt: skip
    """`subjects[variant][concept]` and `triggers[variant]`; what is left out is empty for every concept."""
    count = len(subjects[0])
    about = [
        (words[c] if words else "", labels[c] if labels else "", regions[c] if regions else None) for c in range(count)
    ]
    return plan_positions(subjects, triggers, mask_words, about, background)


def plan_of_groups(groups: Sequence[Sequence[Sequence[int]]], masks: Sequence[Sequence[int]]) -> ImagePlan:
    """`groups[concept][variant]` and `masks[variant]`, as the authors' code takes them."""
    base, *own = (tuple(positions) for positions in masks)
    concepts = tuple(
        PlannedConcept(tuple(tuple(tokens) for tokens in group), mask) for group, mask in zip(groups, own, strict=True)
    )
    return ImagePlan(len(masks), concepts, base_mask=base)

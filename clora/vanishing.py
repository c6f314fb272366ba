"""Finds subjects that got hardly a place in the picture, while it can still be told why."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .plan import ImagePlan
from .schedule import Schedule
from .settings import Settings

SMALL = 0.02
"""Part of the picture below which a subject's mask counts as vanished."""


class VanishingSubjects:
    """Looks at the masks of a run once: at the last step that updates, or in its middle where nothing is updated."""

    def __init__(self, settings: Settings, schedule: Schedule) -> None:
        last_update = min(schedule.update_before, schedule.compose_until) - 1
        at = last_update if settings.updates and last_update >= 0 else schedule.steps // 2
        # Some samplers evaluate once less than they count steps, and there are no masks before fuse_from.
        self._at = max(min(at, schedule.steps - 2), schedule.fuse_from, 0)
        self._looked = False

    def look(self, index: int, masks: Sequence[Tensor | None], plans: Sequence[ImagePlan]) -> list[str]:
        """A sentence for each subject that has hardly a place at step `index`; none at any step but one."""
        known = [mask for mask in masks if mask is not None]
        if self._looked or index < self._at or len(known) < len(plans):
            return []
        self._looked = True
        many = len(plans) > 1
        return [
            f"Picture {image + 1} of the batch: {sentence}" if many else sentence
            for image, (mask, plan) in enumerate(zip(known, plans, strict=True))
            for sentence in vanished(mask, plan)
        ]


def vanished(masks: Tensor, plan: ImagePlan) -> list[str]:
    """Sentences about one image's masks (V, h, w), at any size; words that are scheduled away have none."""
    found = []
    for concept, label in enumerate(plan.labels):
        share = float(masks[concept + 1].sum()) / masks[concept + 1].numel()
        if share >= SMALL or not plan.mask_tokens[concept + 1]:
            continue
        extent = f"hardly a place in the picture ({100 * share:.1f} % of it)" if share else "no place in the picture"
        placed = bool(plan.places) and plan.places[concept] is not None
        ways = "another seed or a stronger update" if placed else "another seed, a stronger update, or place=left"
        found.append(f"The subject {label} has {extent}: try {ways}.")
    return found

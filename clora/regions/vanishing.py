"""Finds subjects that got hardly a place in the picture, while it can still be told why."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..conditioning.plan import ImagePlan
from ..settings import Settings
from ..settings.schedule import Schedule
from .localization import SMALL as SMALL_IN_PLACE
from .localization import region_share

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

    def look(
        self, index: int, masks: Sequence[Tensor | None], plans: Sequence[ImagePlan],
        found: Sequence[Tensor | None] = (),
    ) -> list[str]:  # fmt: skip
        """A sentence for each subject that has hardly a place at step `index`; none at any step but one.

        `found` are the images' (see `clora.regions.localization`); empty judges by the masks alone.
        """
        known = [mask for mask in masks if mask is not None]
        if self._looked or index < self._at or len(known) < len(plans):
            return []
        self._looked = True
        many = len(plans) > 1
        return [
            f"Picture {image + 1} of the batch: {sentence}" if many else sentence
            for image, (mask, plan, own) in enumerate(zip(known, plans, found or (None,) * len(plans), strict=True))
            for sentence in vanished(mask, plan, own)
        ]


def vanished(masks: Tensor, plan: ImagePlan, found: Tensor | None = None) -> list[str]:
    """Sentences about one image's masks (V, h, w), at any size; words that are scheduled away have none.

    A subject with a place is judged by what of it is `found` (V, h, w) there: its mask may be the place itself.
    """
    told = []
    for concept, label in enumerate(plan.labels):
        if not plan.mask_tokens[concept + 1]:
            continue
        place = plan.places[concept] if plan.places else None
        if place and found is not None:
            share, least = region_share(found[concept + 1], place), SMALL_IN_PLACE
            ways = "another seed, another place, or a stronger update"
            hardly = f"was hardly found in its place ({place.text}), {100 * share:.1f} % of it"
            lost = f"was not found in its place ({place.text})"
        else:
            share, least = float(masks[concept + 1].sum()) / masks[concept + 1].numel(), SMALL
            ways = "another seed or a stronger update" if place else "another seed, a stronger update, or place=left"
            hardly = f"has hardly a place in the picture ({100 * share:.1f} % of it)"
            lost = "has no place in the picture"
        if share < least:
            told.append(f"The subject {label} {hardly if share else lost}: try {ways}.")
    return told

"""Finds subjects that got almost none of the image, while there is still something to say about it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..conditioning.plan import ImagePlan, PlannedConcept
from ..settings import Settings
from ..settings.schedule import Schedule
from .localization import SMALL as SMALL_IN_REGION
from .localization import region_share

SMALL = 0.02
"""Part of the image below which a subject's mask counts as vanished."""


class VanishingSubjects:
    """Looks at the masks of a run once: at the last step that updates, or in its middle if nothing is updated."""

    def __init__(self, settings: Settings, schedule: Schedule) -> None:
        last_update = min(schedule.update_before, schedule.compose_until) - 1
        at = last_update if settings.updates and last_update >= 0 else schedule.steps // 2
        at = max(at, schedule.own_places)  # a subject's own place does not vanish
        # Some samplers evaluate once less than they count steps, and there are no masks before fuse_from.
        self._at = max(min(at, schedule.steps - 2), schedule.fuse_from, 0)
        self._looked = False

    def look(
        self, index: int, masks: Sequence[Tensor | None], plans: Sequence[ImagePlan],
        localized: Sequence[Tensor | None] = (),
    ) -> list[str]:  # fmt: skip
        """A warning for each subject that has almost vanished at step `index`; empty at every step but one.

        `localized` are the images' (see `clora.regions.localization`); empty judges by the masks alone.
        """
        known = [mask for mask in masks if mask is not None]
        if self._looked or index < self._at or len(known) < len(plans):
            return []
        self._looked = True
        many = len(plans) > 1
        return [
            f"Image {image + 1} of the batch: {sentence}" if many else sentence
            for image, (mask, plan, own) in enumerate(zip(known, plans, localized or (None,) * len(plans), strict=True))
            for sentence in vanished(mask, plan, own)
        ]


def vanished(masks: Tensor, plan: ImagePlan, localized: Tensor | None = None) -> list[str]:
    """Warnings about one image's masks (V, h, w), at any size; words that are scheduled away cause none.

    A subject with a region is judged by `localized` (1 + N, h, w): its mask may be the region itself.
    """
    warnings = []
    for variant, concept in enumerate(plan.concepts, start=1):
        if not concept.label or not concept.mask:
            continue
        found = None if localized is None else localized[variant]
        warning = _warning(concept, masks[variant], found)
        if warning:
            warnings.append(warning)
    return warnings


def _warning(concept: PlannedConcept, mask: Tensor, found: Tensor | None) -> str:
    region = concept.region
    if region and found is not None:
        share, least = region_share(found, region), SMALL_IN_REGION
        ways = "another seed, another place, or a stronger update"
        little = f"covers only {100 * share:.1f} % of its place ({region.text})"
        nothing = f"was not found in its place ({region.text})"
    else:
        share, least = float(mask.sum()) / mask.numel(), SMALL
        ways = "another seed or a stronger update" if region else "another seed, a stronger update, or place=left"
        little = f"covers only {100 * share:.1f} % of the image"
        nothing = "covers nothing of the image"
    return f"The subject {concept.label} {little if share else nothing}: try {ways}." if share < least else ""

"""The masks before the first step: made by a look-ahead, or taken from the plan of an earlier job."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..conditioning.plan import ImagePlan
from ..fusion import Strategy
from ..models.denoiser import Denoiser
from ..regions.balanced import balanced_masks
from ..regions.mask_cache import MaskCache
from ..regions.subject_places import subject_centres
from ..settings import Settings
from ..settings.schedule import Schedule
from .look_ahead import look_ahead
from .moved_noise import PURE, moved_noise
from .plans import Plan, PlanUse, fingerprint


class FirstMasks:
    """Begins the masks of a run with those of where the base alone would draw the subjects.

    `guidance` is the scale of the host's guidance, `plan` what the job does with a plan.
    """

    def __init__(
        self, settings: Settings, schedule: Schedule, strategy: Strategy, guidance: float, plan: PlanUse | None,
        warn: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._settings, self._count, self._strategy = settings, schedule.look_ahead, strategy
        self._own_places = schedule.own_places
        self._guidance, self._plan, self._warn = guidance, plan, warn

    @property
    def needed(self) -> bool:
        """Whether the run looks ahead, or has a plan to speak of."""
        return bool(self._count or self._plan)

    def begin(
        self, latent: Tensor, plans: Sequence[ImagePlan], denoiser: Denoiser, masks: MaskCache
    ) -> Tensor:  # fmt: skip
        """Begin `masks` before the first step at `latent` (B, C, h, w), if the run looks ahead.

        Returns the latent to go on with: subjects' noise may have moved to their places.
        """
        why = self._why_not(plans, denoiser)
        if why:
            if self._plan:
                self._plan.unused(why)
            return latent
        size, reach = (latent.shape[-2], latent.shape[-1]), self._settings.look_ahead
        inputs = fingerprint(latent, plans, denoiser, reach, self._count, self._guidance) if self._plan else ""
        plan = self._plan.recall(inputs) if self._plan else None
        if plan is None:
            layouts, rough = look_ahead(
                latent, plans, denoiser, self._strategy.forwards, reach=reach, count=self._count,
                guidance=self._guidance,
            )  # fmt: skip
            plan = Plan(
                tuple(None if one is None else balanced_masks(one, size) for one in layouts), rough,
                tuple(None if one is None else subject_centres(one.places, own)
                      for one, own in zip(layouts, plans, strict=True)),
            )  # fmt: skip
        plan = plan.on(latent.device)
        found = plan.masks
        if self._settings.hint_move and denoiser.signal <= PURE:
            latent, found = self._moved(latent, found, plans)
        masks.start(found, plans, size, plan.centres if self._own_places else ())
        if self._plan:
            self._plan.made(plan, inputs, masks.subjects)
        return latent

    @staticmethod
    def _moved(
        latent: Tensor, found: Sequence[Tensor | None], plans: Sequence[ImagePlan]
    ) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """The latent with each subject's noise in its place, and the masks that go with it."""
        rows, masks = list(latent), list(found)
        for image, (mask, plan) in enumerate(zip(found, plans, strict=True)):
            if mask is not None and any(plan.regions):
                rows[image], masks[image] = moved_noise(latent[image], mask, plan.regions, words_of(plan))
        return torch.stack(rows), tuple(masks)

    def _why_not(self, plans: Sequence[ImagePlan], denoiser: Denoiser) -> str:
        """Why this run does not look ahead, "" if it does."""
        if not self._count:
            return "Look ahead is 0"
        if not self._strategy.needs_masks:
            return f"the method {self._settings.method} has no masks"
        if not any(plan.concepts for plan in plans):
            return "CLoRA is inactive for this prompt"
        if not denoiser.complete:
            self._warn("Look ahead: off for this picture, because ControlNet acts in the sampler's own steps only.")
            return "ControlNet acts in the sampler's own steps only"
        return ""


def words_of(plan: ImagePlan) -> list[str]:
    """Each concept's subject words."""
    return [concept.words for concept in plan.concepts]

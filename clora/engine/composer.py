"""One generation: update, predictions, masks, fusion, step after step (paper section 3, algorithm 1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..attention.probe import AttentionProbe
from ..conditioning.plan import ImagePlan, rows_of
from ..errors import CLoRAError
from ..fusion import Forwards, Merge, Prediction, StepInputs, Strategy, new_strategy, unconditional_share, weakened
from ..guidance.update import LatentUpdate
from ..lora.rows import RowLoras
from ..models import ModelFamily
from ..models.denoiser import Denoiser
from ..models.memory import RowLimit, memory_errors_told
from ..regions.mask_cache import MaskCache
from ..regions.masks import even_of, resize_masks
from ..regions.vanishing import VanishingSubjects
from ..settings import Settings
from ..settings.schedule import schedule, unreachable
from .events import Event, Observer, Step, Updated
from .first_masks import FirstMasks
from .plans import PlanUse

__all__ = ["Composer", "Event", "Observer", "Step", "Updated"]

Masks = tuple[Tensor, ...]
"""`masks[image]` (V, h, w)."""


class Composer:
    """Composes the images of one batch over one run of `steps` sampler steps.

    The host calls `step` once for each sampler step inside `installed()`, with the plans of that step (they may
    change with prompt scheduling) and a denoiser at that step's timestep, and gives `cond` and `uncond` to its own
    guidance and sampler. `observer` is called with every update and step; an exception it raises ends the run.
    Messages for the user go to `warnings`.
    """

    def __init__(
        self, model: nn.Module, settings: Settings, steps: int, *, loras: RowLoras | None = None,
        family: ModelFamily | None = None, strategy: type[Strategy] | None = None, observer: Observer | None = None,
        record_columns: Sequence[int] = (), grid_order: str = "row-major", warnings: list[str] | None = None,
        guidance_scale: float = 7.5, plan: PlanUse | None = None,
    ) -> None:  # fmt: skip
        """`loras`, the row-wise LoRAs of the denoiser, are needed for single-pass fusion only.

        `family` and `strategy` are found by the model's structure and the settings where they are not given.
        `guidance_scale` is that of the host's guidance, for a look-ahead and for how much of the LoRAs the
        unconditional predictions have. `plan` says what the job does with a plan.
        """
        self.settings, self.schedule = settings, schedule(settings, steps)
        self.probe = AttentionProbe(model, family)
        self.warnings: list[str] = [] if warnings is None else warnings
        self._limit = limit = RowLimit(settings.rows_per_forward, self._warn)
        self.update = LatentUpdate(self.probe, settings, limit, columns=record_columns, grid_order=grid_order)
        forwards = Forwards(
            self.probe, limit, both_halves=settings.maps == "both", extra_columns=record_columns, grid_order=grid_order
        )
        own = strategy(settings, forwards) if strategy else None
        self.strategy: Strategy = own or new_strategy(settings, forwards, loras)
        self._base_only = Merge(settings, forwards)
        self._share = unconditional_share(settings.look_guidance, guidance_scale)
        self._first_masks = FirstMasks(settings, self.schedule, self.strategy, guidance_scale, plan, self._warn)
        self._masks = MaskCache(settings, self.schedule)
        self._vanishing = VanishingSubjects(settings, self.schedule)
        self._observer = observer or (lambda event: None)

    @contextmanager
    def installed(self) -> Iterator[Composer]:
        """The hooks exist inside this block only. Install the row-wise LoRAs before.

        Raises: CLoRAError if memory runs out inside, though every forward ran with the fewest rows.
        """
        with ExitStack() as stack:
            stack.enter_context(memory_errors_told())
            stack.enter_context(self.strategy.installed())
            stack.enter_context(self.probe.installed())
            yield self

    @torch.no_grad()
    def step(
        self, index: int, latent: Tensor, plans: Sequence[ImagePlan], denoiser: Denoiser, *,
        guidance: bool = True, update: bool = True,
    ) -> Step:  # fmt: skip
        """One sampler step for `latent` (B, C, h, w), with one plan per image: `before`, `predict` and `after`.

        `guidance` asks for unconditional predictions too; `update=False` is for evaluations that are not the first
        of their step. Raises: CLoRAError for a latent that is not finite.
        """
        latent = self.before(index, latent, plans, denoiser, update=update)
        result = self.predict(index, latent, plans, denoiser, guidance=guidance)
        return self.after(result, denoiser, update=update)

    # ------------------------------------------------------------------------- latent update, section 3.2

    @torch.no_grad()
    def before(
        self, index: int, latent: Tensor, plans: Sequence[ImagePlan], denoiser: Denoiser, *, update: bool = True
    ) -> Tensor:
        """The latent after the updates that come before the step's prediction (all; all but the last if stale)."""
        broken = _not_finite(latent)
        if broken:
            raise CLoRAError(
                f"{broken} holds NaN or infinite values at step {index + 1}, before CLoRA changed it; "
                "use a full-precision VAE and model (--no-half) or another sampler."
            )
        updates, moving = self._updates(index, update), self._composed(plans, latent)
        if update and self._masks.latest is None and self._first_masks.needed:
            latent = self._first_masks.begin(latent, plans, denoiser, self._masks)
        if updates and bool(moving.any()):
            size = (latent.shape[-2], latent.shape[-1])
            first = rows_of(plans[:1], (True,))[:1]
            self._limit.run(1, lambda _: self.probe.survey(size, lambda: denoiser.predict(latent[:1], first)))
        tolerance, known = self.settings.refine_tolerance, None
        # Each image ends by its own loss, so that it does not depend on the batch it is in.
        for number in range(updates - self._late(updates)):
            if not bool(moving.any()):
                break
            latent, losses = self._updated(index, number, updates, latent, plans, denoiser, moving)
            if known is not None and tolerance > 0.0:
                moving = moving & ~(known - losses < tolerance * known)
            known = losses
        return latent

    @torch.no_grad()
    def after(self, step: Step, denoiser: Denoiser, *, update: bool = True) -> Step:
        """The step with its latent moved once more if noise is stale; calls the observer."""
        updates, moving = self._updates(step.index, update), self._composed(step.plans, step.latent)
        if self._late(updates) and bool(moving.any()):
            moved, _ = self._updated(step.index, updates - 1, updates, step.latent, step.plans, denoiser, moving)
            step = replace(step, latent=moved)
        self._observer(step)
        return step

    # --------------------------------------------------------------------- masks and fusion, section 3.3

    @torch.no_grad()
    def predict(
        self, index: int, latent: Tensor, plans: Sequence[ImagePlan], denoiser: Denoiser, *,
        guidance: bool = True, masks: Sequence[Tensor] | None = None,
    ) -> Step:  # fmt: skip
        """All variants' predictions at `latent`, their masks and the fused predictions.

        `masks` (V, h', w') per image are used instead of new ones, from the first step on (a hires pass has the
        first pass's).
        """
        strategy, size = self._strategy_at(index), (latent.shape[-2], latent.shape[-1])
        given = None if masks is None else tuple(resize_masks(m.to(latent.device), size) for m in masks)
        if given is None:
            self._warn(*unreachable(self.settings, self.schedule))
        known = given is not None or self._masks.begun
        masked = strategy.needs_masks and (known or index >= self.schedule.fuse_from)
        even = self._even(latent, plans) if strategy.needs_masks and not masked else None
        # Without masks of its own a strategy that fuses in the forward takes even ones.
        before = (given or self._masks.latest) if masked else even if strategy.fuses_in_forward else None
        read = given is None and self._reads_maps(index, strategy, masked)
        # Maps of both halves need both, whatever the host asks for.
        halves = (True, False) if guidance or (read and self.settings.maps == "both") else (True,)
        prediction = strategy.predict(StepInputs(index, latent, plans, denoiser, halves, before, read, self._share))
        self._warn(*strategy.warnings)
        cut = None if prediction.maps is None else self._masks.cut(index, prediction.maps, plans, size)
        now = before if prediction.fused or cut is None else cut
        used: tuple[Tensor | None, ...] = (now if masked else None) or (None,) * len(plans)
        localized = self._masks.localized if masked and given is None else ()
        if given is None:
            self._warn(*self._vanishing.look(index, used, plans, localized))
        cond = self._fused(prediction, even or used, True)
        uncond = self._fused(prediction, even or used, False) if guidance else None
        return Step(index, latent, cond, uncond, tuple(plans), used, prediction, localized)

    @torch.no_grad()
    def unconditional(self, step: Step, denoiser: Denoiser) -> Tensor:
        """The fused unconditional prediction of a step that was predicted without guidance."""
        strategy, prediction = self._strategy_at(step.index), step.prediction
        known: Masks | None = tuple(mask for mask in step.masks if mask is not None) or None
        if known is None and strategy.needs_masks:
            known = self._even(step.latent, step.plans)
        if all(row.conditional for row in prediction.rows):
            inputs = StepInputs(step.index, step.latent, step.plans, denoiser, (False,), known, share=self._share)
            prediction = strategy.predict(inputs)
        return self._fused(prediction, known or step.masks, False)

    def _strategy_at(self, index: int) -> Strategy:
        """The strategy, or after the last composed step the base alone."""
        ended = self.strategy.needs_masks and index >= self.schedule.compose_until
        return self._base_only if ended else self.strategy

    def _reads_maps(self, index: int, strategy: Strategy, masked: bool) -> bool:
        """Whether the forward of step `index` reads the maps of new masks."""
        # The last forward before masks count cuts the first ones for a strategy that needs them before.
        first = strategy.fuses_in_forward and not masked and index + 1 == self.schedule.fuse_from
        return (masked or first) and self._masks.wanted(index)

    def _even(self, latent: Tensor, plans: Sequence[ImagePlan]) -> Masks:
        size, how = (latent.shape[-2], latent.shape[-1]), self.settings.hint_masks
        return tuple(even_of(plan, size, how).to(latent) for plan in plans)

    def _updates(self, index: int, update: bool) -> int:
        updates = update and self.settings.updates and self._strategy_at(index).needs_masks
        return self.schedule.updates(index, self.settings.refine_updates) if updates else 0

    def _late(self, updates: int) -> int:
        """How many of a step's updates come after its prediction: the last one if noise is stale."""
        return 1 if updates and self.settings.noise == "stale" else 0

    @staticmethod
    def _composed(plans: Sequence[ImagePlan], latent: Tensor) -> Tensor:
        """Which images have concepts, (B,): the others of a batch are drawn beside them, without updates."""
        return torch.tensor([bool(plan.concepts) for plan in plans], device=latent.device)

    def _updated(
        self, step: int, number: int, total: int, latent: Tensor, plans: Sequence[ImagePlan], denoiser: Denoiser,
        moving: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """The latent of the images `moving` (B,) moved once, and their losses before it, (B,), NaN for the others.

        Only they get new masks: the others have ended their updates at this step.
        """
        images: list[int] = moving.nonzero().flatten().tolist()
        half = self.probe.dtype == torch.float16
        gradient = self.update.gradient(latent, plans, denoiser, half=half, images=images)
        if gradient.left_out:
            self._warn("Some attention maps are constant and were left out of the loss.")
        moved = moving & gradient.finite
        if not torch.equal(moved, moving):
            self._warn(
                "A latent update was skipped because its gradient was not finite; try full precision (--no-half)."
            )
        if self.strategy.fuses_in_forward and self._masks.wanted(step):
            self._masks.cut(step, gradient.maps, plans, (latent.shape[-2], latent.shape[-1]), images)
        if not bool(moved.any()):
            return latent, gradient.losses
        after = self.update.moved(latent, gradient.value, denoiser.latent_scale)
        after = torch.where(moved[:, None, None, None], after, latent)
        self._observer(Updated(step, number, total, gradient, latent, after, tuple(moved.tolist())))
        return after, gradient.losses

    def _warn(self, *texts: str) -> None:
        self.warnings.extend(text for text in texts if text not in self.warnings)

    def _fused(self, prediction: Prediction, masks: Sequence[Tensor | None], conditional: bool) -> Tensor:
        """One prediction for each image, (B, C, h, w)."""
        share = 1.0 if conditional else self._share
        own = [mask if mask is None else weakened(mask, share) for mask in masks]
        return torch.stack([prediction.picture(image, conditional, mask) for image, mask in enumerate(own)])


def _not_finite(latent: Tensor) -> str:
    """What of a batch holds NaN or infinite values, for a message; empty if nothing does."""
    bad = (~torch.isfinite(latent).flatten(1).all(dim=1)).nonzero().flatten().tolist()
    if not bad:
        return ""
    numbers = ", ".join(str(image + 1) for image in bad)
    return f"The latent of image {numbers} of the batch" if len(latent) > 1 else "The latent"

"""One generation: update, variants' predictions, masks, fusion, step after step (paper section 3, algorithm 1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..attention.probe import AttentionProbe
from ..conditioning.plan import ImagePlan, rows_of
from ..errors import CLoRAError
from ..fusion.prediction import Predicted, Predictor
from ..fusion.single_pass import SinglePass
from ..guidance.update import LatentUpdate
from ..lora.rows import RowLoras
from ..models.denoiser import Denoiser, Row
from ..models.memory import RowLimit
from ..regions.mask_cache import MaskCache
from ..regions.masks import even_masks, resize_masks
from ..regions.vanishing import VanishingSubjects
from ..settings import Settings
from ..settings.schedule import left_out, schedule
from .events import Event, Observer, Step, Updated

__all__ = ["Composer", "Event", "Observer", "Step", "Updated"]


class Composer:
    """Composes the images of one batch over one run of `steps` sampler steps.

    The host calls `step` once for each sampler step inside `installed()`, with the plans of that step (they may
    change with prompt scheduling) and a denoiser at that step's timestep, and gives `cond` and `uncond` to its own
    guidance and sampler. `observer` sees every update and step; an exception it raises ends the run.
    Sentences go to `warnings`.
    """

    def __init__(
        self, unet: nn.Module, settings: Settings, steps: int, *, loras: RowLoras | None = None,
        observer: Observer | None = None, record_columns: Sequence[int] = (), grid_order: str = "row-major",
        warnings: list[str] | None = None,
    ) -> None:  # fmt: skip
        """`loras`, the row-wise LoRAs of the denoiser, are needed for single-pass fusion only."""
        self.settings = settings
        self.schedule = schedule(settings, steps)
        self.taps = AttentionProbe(unet)
        self.warnings: list[str] = [] if warnings is None else warnings
        limit = RowLimit(settings.rows_per_forward, self._warn)
        self.update = LatentUpdate(self.taps, settings, limit, columns=record_columns, grid_order=grid_order)
        single = settings.method == "clora" and settings.fusion == "single-pass" and loras is not None
        self._single = SinglePass(unet, loras) if single and loras is not None else None
        self._predictor = Predictor(
            self.taps, settings, limit, single_pass=self._single, extra_columns=record_columns, grid_order=grid_order
        )
        self._masks = MaskCache(settings, self.schedule)
        self._vanishing = VanishingSubjects(settings, self.schedule)
        self._half = any(p.dtype == torch.float16 for p in unet.parameters())
        self._observer = observer or (lambda event: None)

    @contextmanager
    def installed(self) -> Iterator[Composer]:
        """The hooks exist inside this block only. Install the row-wise LoRAs before."""
        with ExitStack() as stack:
            if self._single is not None:
                stack.enter_context(self._single.installed())
            stack.enter_context(self.taps.installed())
            yield self

    @torch.no_grad()
    def step(
        self, index: int, latent: Tensor, plans: Sequence[ImagePlan], denoiser: Denoiser, *,
        guidance: bool = True, update: bool = True,
    ) -> Step:  # fmt: skip
        """One sampler step for `latent` (B, C, h, w), with one plan per image: `before`, `predict` and `after`.

        `guidance` asks for unconditional predictions too; `update=False` is for evaluations that are not the first
        of their step. Errors: CLoRAError for a latent that is not finite.
        """
        latent = self.before(index, latent, plans, denoiser, update=update)
        result = self.predict(index, latent, plans, denoiser, guidance=guidance)
        return self.after(result, denoiser, update=update)

    @torch.no_grad()
    def before(
        self, index: int, latent: Tensor, plans: Sequence[ImagePlan], denoiser: Denoiser, *, update: bool = True
    ) -> Tensor:
        """The latent after the updates that come before the step's prediction (all, or all but the last if stale)."""
        if not bool(torch.isfinite(latent).all()):
            raise CLoRAError(
                f"The latent holds NaN or infinite values at step {index + 1}, before CLoRA changed it; "
                "use a full-precision VAE and model (--no-half) or another sampler."
            )
        updates = self._updates(index, update)
        if updates:
            size = (latent.shape[-2], latent.shape[-1])
            first = rows_of(plans[:1], unconditional=False)[:1]
            self.taps.survey(size, lambda: denoiser.predict(latent[:1], first))
        tolerance, known = self.settings.refine_tolerance, None
        # Each image ends by its own loss, so that it does not depend on the batch it is in.
        moving = torch.ones(len(latent), dtype=torch.bool, device=latent.device)
        for number in range(updates - self._late(updates)):
            latent, losses = self._updated(index, number, updates, latent, plans, denoiser, moving)
            if known is not None and tolerance > 0.0:
                moving = moving & ~(known - losses < tolerance * known)
            if not bool(moving.any()):
                break
            known = losses
        return latent

    @torch.no_grad()
    def predict(
        self, index: int, latent: Tensor, plans: Sequence[ImagePlan], denoiser: Denoiser, *,
        guidance: bool = True, masks: Sequence[Tensor] | None = None,
    ) -> Step:  # fmt: skip
        """All variants' predictions at `latent`, their masks and the fused predictions.

        `masks` (V, h', w') per image are used instead of new ones, from the first step on (the hires pass has the
        first pass's).
        """
        size = (latent.shape[-2], latent.shape[-1])
        composes = self._composes(index) and self.settings.method == "clora"
        masked = composes and (masks is not None or index >= self.schedule.fuse_from)
        kept = self._masks.latest
        if masks is not None:
            kept = tuple(resize_masks(mask.to(latent.device), size) for mask in masks)
        else:
            self._warn(*left_out(self.settings, self.schedule))
        even = self._even(latent, plans) if composes and not masked else None
        # The last single pass before masks count cuts the first ones.
        first = even is not None and self._single is not None and index + 1 == self.schedule.fuse_from
        cut = (masked or first) and masks is None and self._masks.wanted(index)
        # Maps of both halves need both, whatever the host asks for.
        rows = self._rows(index, plans, guidance or (cut and self.settings.maps == "both"))
        known = kept if masked else even if self._single is not None else None
        predicted = self._predicted(index, latent, rows, known, plans, denoiser, cut)
        if predicted.book is not None:
            new = self._masks.cut(predicted.book, plans, size)
            known = known if predicted.fused else new
        used: tuple[Tensor | None, ...] = (known if masked else None) or (None,) * len(plans)
        found = self._masks.found if masked and masks is None else ()
        if masks is None:
            for sentence in self._vanishing.look(index, used, plans, found):
                self._warn(sentence)
        cond = self._fused(predicted, even or used, True)
        uncond = self._fused(predicted, even or used, False) if guidance else None
        return Step(index, latent, cond, uncond, tuple(plans), used, predicted, found)

    @torch.no_grad()
    def unconditional(self, step: Step, denoiser: Denoiser) -> Tensor:
        """The fused unconditional prediction of a step that was predicted without guidance."""
        predicted, known = step.predicted, tuple(mask for mask in step.masks if mask is not None)
        if not known and self.settings.method == "clora" and self._composes(step.index):
            known = self._even(step.latent, step.plans)
        if all(row.conditional for row in predicted.rows):
            rows = tuple(row for row in self._rows(step.index, step.plans, True) if not row.conditional)
            predicted = self._predicted(step.index, step.latent, rows, known, step.plans, denoiser, False)
        return self._fused(predicted, known or step.masks, False)

    @torch.no_grad()
    def after(self, step: Step, denoiser: Denoiser, *, update: bool = True) -> Step:
        """The step with its latent moved once more where noise is stale; tells the observer."""
        updates = self._updates(step.index, update)
        if self._late(updates):
            moved, _ = self._updated(step.index, updates - 1, updates, step.latent, step.plans, denoiser)
            step = replace(step, latent=moved)
        self._observer(step)
        return step

    def _even(self, latent: Tensor, plans: Sequence[ImagePlan]) -> tuple[Tensor, ...]:
        size, how = (latent.shape[-2], latent.shape[-1]), self.settings.hint_masks
        return tuple(even_masks(plan.variants, size, plan.places, how, plan.background).to(latent) for plan in plans)

    def _composes(self, index: int) -> bool:
        """Whether the concepts' LoRAs are on at step `index`."""
        return self.settings.method != "clora" or index < self.schedule.compose_until

    def _rows(self, index: int, plans: Sequence[ImagePlan], unconditional: bool) -> tuple[Row, ...]:
        return self._predictor.rows(index, plans, unconditional, base_only=not self._composes(index))

    def _predicted(
        self, index: int, latent: Tensor, rows: tuple[Row, ...], known: Sequence[Tensor] | None,
        plans: Sequence[ImagePlan], denoiser: Denoiser, cut: bool,
    ) -> Predicted:  # fmt: skip
        """By a single pass where the settings say so and masks are known, else row by row."""
        if known and self._single is not None:
            return self._predictor.one_pass(latent, rows, known, plans, denoiser, with_maps=cut)
        # The first masks need maps, which reused differences do not have.
        reuse = not (cut and not known)
        return self._predictor.all_rows(index, latent, rows, plans, denoiser, with_maps=cut, reuse=reuse)

    def _updates(self, index: int, update: bool) -> int:
        if self.settings.method != "clora" or not update or not self._composes(index) or not self.settings.updates:
            return 0
        return self.schedule.updates(index, self.settings.refine_updates)

    def _late(self, updates: int) -> int:
        """How many of a step's updates come after its prediction: the last one where noise is stale."""
        return 1 if updates and self.settings.noise == "stale" else 0

    def _updated(
        self, step: int, number: int, total: int, latent: Tensor, plans: Sequence[ImagePlan], denoiser: Denoiser,
        moving: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """The latent moved once (of the images `moving` (B,) alone), and the images' losses before it, (B,)."""
        gradient = self.update.gradient(latent, plans, denoiser, half=self._half)
        if gradient.left_out:
            self._warn("Some attention maps are constant and were left out of the loss.")
        if not gradient.finite:
            self._warn(
                "A latent update was skipped because its gradient was not finite; try full precision (--no-half)."
            )
            return latent, gradient.losses
        if self._single is not None and self._masks.wanted(step):
            self._masks.cut(gradient.book, plans, (latent.shape[-2], latent.shape[-1]))
        after = self.update.moved(latent, gradient.value, denoiser.latent_scale)
        if moving is not None:
            after = torch.where(moving[:, None, None, None], after, latent)
        self._observer(Updated(step, number, total, gradient, latent, after))
        return after, gradient.losses

    def _warn(self, *texts: str) -> None:
        self.warnings.extend(text for text in texts if text not in self.warnings)

    @staticmethod
    def _fused(predicted: Predicted, masks: tuple[Tensor | None, ...], conditional: bool) -> Tensor:
        """One prediction for each image, (B, C, h, w)."""
        return torch.stack([predicted.picture(image, conditional, mask) for image, mask in enumerate(masks)])

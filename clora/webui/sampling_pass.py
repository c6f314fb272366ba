"""One sampling pass of a WebUI: what CLoRA does at each of the host's evaluations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..conditioning.batch import BatchConditioning
from ..engine.composer import Composer, Step, Updated
from ..engine.plans import PlanUse
from ..engine.record import Record
from ..errors import CLoRAError
from ..hosts.protocol import Evaluation, HostDenoiser, SamplerPosition, WebUIModel
from ..lora.rows import RowLoras
from ..models.denoiser import Row
from ..settings import Settings

_SAME = 1e-4
"""Relative difference below which two noise levels are the same."""


@dataclass
class Progress:
    """Which step of the schedule an evaluation belongs to, and whether it is the first of its step.

    Samplers of second order evaluate twice per step, and only the first time at the latent that they continue with.
    Others begin a step whenever the noise level is lower than ever before. Adaptive samplers have no steps: the part of
    the noise that is gone stands for the part of the steps that is done.
    """

    calls: int = 0
    index: int = -1
    lowest: float = float("inf")

    def next(self, sigma: float, position: SamplerPosition) -> tuple[int, bool]:
        """(index of the step from 0, is it the step's first evaluation)."""
        first = self.calls % 2 == 0 if position.second_order else sigma < self.lowest * (1 - _SAME)
        self.calls += 1
        self.lowest = min(self.lowest, sigma)
        if position.adaptive:
            reached = int(position.fraction * position.steps)
            first = reached > self.index
            self.index = max(self.index, reached)
        elif first or self.index < 0:
            first = True
            self.index += 1
        return min(self.index, position.steps - 1), first


@dataclass
class Outcome:
    """What a pass leaves: its last step's masks, where subjects with a region were localized (empty if the masks are an
    earlier pass's), the record of its steps, its warnings, and why CLoRA ended before the pass did, if it did.
    """

    masks: tuple[Tensor | None, ...] = ()
    localized: tuple[Tensor | None, ...] = ()
    record: Record | None = None
    warnings: list[str] = field(default_factory=list)
    ended: str = ""


class SamplingPass:
    """`clora.hosts.protocol.EvaluationHandler` for one pass of the host's sampler: updates, predictions, masks, fusion.

    `masks` are those of an earlier pass, which this pass uses as they are and without updates (hires).
    `watch` is called after each update with the phase in words; an exception it raises ends the pass. `preview` is
    called after each evaluation, `failed` once an evaluation has failed or was interrupted. `plan` says what the job
    does with a plan.
    """

    def __init__(
        self, model: WebUIModel, conditioning: BatchConditioning, settings: Settings, host_denoiser: object, *,
        masks: Sequence[Tensor] | None = None, watch: Callable[[str], None] | None = None,
        preview: Callable[[Outcome], None] | None = None, failed: Callable[[], None] | None = None,
        guidance_scale: float = 7.5, plan: PlanUse | None = None,
    ) -> None:  # fmt: skip
        self.model, self.conditioning, self.settings = model, conditioning, settings
        self.loras = RowLoras("unet", model.unet, conditioning.sets)
        self.denoiser: HostDenoiser = model.denoiser(self.loras, host_denoiser)
        self.outcome = Outcome()
        self.progress = Progress()
        self._masks, self._watch = masks, watch or (lambda text: None)
        self._preview, self._failed = preview, failed or (lambda: None)
        self._guidance_scale, self._plan = guidance_scale, plan
        self._composer: Composer | None = None
        self._index, self._updating = 0, True
        self._plans = conditioning.at(0).plans
        self._step: Step | None = None

    @property
    def rows(self) -> tuple[Row, ...]:
        """Every row of the batch."""
        return self.conditioning.rows

    def before(self, x: Tensor, sigma: Tensor, position: SamplerPosition) -> Tensor:
        """The sampler's latent after the updates of this step."""
        if len(self._plans) != x.shape[0]:
            raise CLoRAError(
                f"The sampler works on {x.shape[0]} images, but the batch has {len(self._plans)} prompts: "
                "turn off the extension that changes the batch (tiled diffusion, for instance)."
            )
        if self._composer is None:
            self.outcome.record = Record(self.settings, position.steps)
            self._composer = Composer(
                self.model.unet, self.settings, position.steps, loras=self.loras, observer=self._observe,
                warnings=self.outcome.warnings, guidance_scale=self._guidance_scale, plan=self._plan,
            )  # fmt: skip
        index, first = self.progress.next(float(sigma[0]), position)
        self._index, self._updating = index, first and self._masks is None
        now = self.conditioning.at(position.evaluation)
        self._plans = now.plans
        self.denoiser.at(Evaluation(sigma, now))
        with self._installed() as composer:
            return composer.before(index, x, now.plans, self.denoiser, update=self._updating)

    def predict(self, x: Tensor, guidance: bool) -> tuple[Tensor, Tensor | None]:
        """Fused conditional and unconditional predictions at `x` (B, C, h, w)."""
        with self._installed() as composer:
            step = composer.predict(self._index, x, self._plans, self.denoiser, guidance=guidance, masks=self._masks)
        self._step = step
        self.outcome.masks, self.outcome.localized = step.masks, step.localized
        return step.cond, step.uncond

    def unconditional(self) -> Tensor:
        """The unconditional prediction that `predict` left out."""
        assert self._step is not None
        with self._installed() as composer:
            return composer.unconditional(self._step, self.denoiser)

    def after(self) -> Tensor | None:
        """The latent after the late update of stale noise, None if there is none."""
        assert self._step is not None
        before = self._step.latent
        with self._installed() as composer:
            after = composer.after(self._step, self.denoiser, update=self._updating).latent
        if self._preview is not None:
            self._preview(self.outcome)
        self._step = None
        return None if after is before else after

    def ended(self, why: str) -> None:
        """The host goes on without CLoRA from here."""
        self.outcome.ended = self.outcome.ended or why

    def failed(self) -> None:
        """An evaluation failed or was interrupted."""
        self._failed()

    def _installed(self) -> _Installed:
        assert self._composer is not None
        return _Installed(self._composer, self.loras)

    def _observe(self, event: Updated | Step) -> None:
        assert self.outcome.record is not None
        self.outcome.record(event)
        if isinstance(event, Updated):
            self._watch(f"CLoRA: {event.phase}")


class _Installed:
    """The hooks of LoRAs and attention probe, installed for CLoRA's own forwards only, never for the host's."""

    def __init__(self, composer: Composer, loras: RowLoras) -> None:
        self._composer, self._loras, self._stack = composer, loras, ExitStack()

    def __enter__(self) -> Composer:
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            stack.enter_context(self._loras.installed())
            stack.enter_context(self._composer.installed())
            self._stack = stack.pop_all()
        return self._composer

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

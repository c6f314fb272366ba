"""One generation: update, variants' predictions, masks, fusion, step after step (paper section 3, algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from .attention import AttentionTaps
from .denoiser import Denoiser, Row
from .errors import CLoRAError
from .fusion import fuse
from .maps import MapBook, average_maps, latent_rows, needed_columns
from .masks import cut_masks, resize_masks
from .plan import ImagePlan, chunks, rows_of
from .schedule import schedule
from .settings import Settings
from .update import Gradient, LatentUpdate


@dataclass(frozen=True)
class Updated:
    """One latent update is done: number `index` of `total` at `step`; more than one is a refine step."""

    step: int
    index: int
    total: int
    gradient: Gradient
    before: Tensor
    after: Tensor

    @property
    def loss(self) -> float:
        """Mean loss over the batch's images."""
        return float(self.gradient.losses.mean())


@dataclass(frozen=True)
class Step:
    """What a sampler step gets: the moved latent (B, C, h, w), fused predictions and what they were made of.

    `uncond` is None without guidance. `masks[image]` (V, h, w) is None while predictions are averaged (before
    `fuse_from`, and for the methods that have no masks). `predictions[image, variant, conditional]` (C, h, w).
    """

    index: int
    latent: Tensor
    cond: Tensor
    uncond: Tensor | None
    plans: tuple[ImagePlan, ...]
    masks: tuple[Tensor | None, ...]
    book: MapBook | None
    predictions: dict[Row, Tensor] = field(repr=False)


Event = Updated | Step
Observer = Callable[[Event], None]


class Composer:
    """Composes the images of one batch over one run of `steps` sampler steps.

    The host calls `step` once for each sampler step inside `installed()`, with the plans of that step (they may
    change with prompt scheduling) and a denoiser at that step's timestep, and gives `cond` and `uncond` to its own
    guidance and sampler. `observer` sees every update and step; an exception it raises ends the run.
    Sentences go to `warnings`.
    """

    def __init__(
        self, unet: nn.Module, settings: Settings, steps: int, *, observer: Observer | None = None,
        record_columns: Sequence[int] = (), grid_order: str = "row-major", warnings: list[str] | None = None,
    ) -> None:  # fmt: skip
        self.settings = settings
        self.schedule = schedule(settings, steps)
        self.taps = AttentionTaps(unet)
        self.update = LatentUpdate(self.taps, settings, columns=record_columns, grid_order=grid_order)
        self.warnings: list[str] = [] if warnings is None else warnings
        self._half = any(p.dtype == torch.float16 for p in unet.parameters())
        self._observer = observer or (lambda event: None)

    @contextmanager
    def installed(self) -> Iterator[Composer]:
        """The taps' hooks exist inside this block only."""
        with self.taps.installed():
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
        tolerance, known = self.settings.refine_tolerance, 0.0
        for number in range(updates - self._late(updates)):
            latent, loss = self._updated(index, number, updates, latent, plans, denoiser)
            if number and known - loss < tolerance * known and tolerance > 0.0:
                break
            known = loss
        return latent

    @torch.no_grad()
    def predict(
        self, index: int, latent: Tensor, plans: Sequence[ImagePlan], denoiser: Denoiser, *,
        guidance: bool = True, masks: Sequence[Tensor] | None = None,
    ) -> Step:  # fmt: skip
        """All variants' predictions at `latent`, their masks and the fused predictions.

        `masks` (V, h', w') per image are used instead of new ones (the hires pass has the first pass's).
        """
        masked = self.settings.method == "clora" and index >= self.schedule.fuse_from
        cut = masked and masks is None
        rows = self._rows(index, plans, guidance or (cut and self.settings.maps == "both"))
        predictions, maps = self._forward(latent, rows, plans, denoiser, cut)
        size = (latent.shape[-2], latent.shape[-1])
        book = self._book(maps, rows, plans)
        if masked and masks is not None:
            used: tuple[Tensor | None, ...] = tuple(resize_masks(mask.to(latent.device), size) for mask in masks)
        else:
            used = self._masks(book, plans, size)
        cond = self._fused(predictions, used, True)
        uncond = self._fused(predictions, used, False) if guidance else None
        return Step(index, latent, cond, uncond, tuple(plans), used, book, predictions)

    @torch.no_grad()
    def unconditional(self, step: Step, denoiser: Denoiser) -> Tensor:
        """The fused unconditional prediction of a step that was predicted without guidance."""
        predictions = step.predictions
        if not any(not row.conditional for row in predictions):
            rows = tuple(row._replace(conditional=False) for row in predictions)
            predictions, _ = self._forward(step.latent, rows, step.plans, denoiser, False)
        return self._fused(predictions, step.masks, False)

    @torch.no_grad()
    def after(self, step: Step, denoiser: Denoiser, *, update: bool = True) -> Step:
        """The step with its latent moved once more where noise is stale; tells the observer."""
        updates = self._updates(step.index, update)
        if self._late(updates):
            moved, _ = self._updated(step.index, updates - 1, updates, step.latent, step.plans, denoiser)
            step = replace(step, latent=moved)
        self._observer(step)
        return step

    def _updates(self, index: int, update: bool) -> int:
        if self.settings.method != "clora" or not update:
            return 0
        return self.schedule.updates(index, self.settings.refine_updates)

    def _late(self, updates: int) -> int:
        """How many of a step's updates come after its prediction: the last one where noise is stale."""
        return 1 if updates and self.settings.noise == "stale" else 0

    def _updated(
        self, step: int, number: int, total: int, latent: Tensor, plans: Sequence[ImagePlan], denoiser: Denoiser
    ) -> tuple[Tensor, float]:
        """The latent moved once, and the loss before it."""
        gradient = self.update.gradient(latent, plans, denoiser, half=self._half)
        loss = float(gradient.losses.mean())
        if gradient.left_out:
            self._warn("Some attention maps are constant and were left out of the loss.")
        if not gradient.finite:
            self._warn(
                "A latent update was skipped because its gradient was not finite; try full precision (--no-half)."
            )
            return latent, loss
        after = self.update.moved(latent, gradient.value, denoiser.latent_scale)
        self._observer(Updated(step, number, total, gradient, latent, after))
        return after, loss

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    def _book(self, maps: Tensor | None, rows: tuple[Row, ...], plans: Sequence[ImagePlan]) -> MapBook | None:
        if maps is None:
            return None
        counted = [i for i, row in enumerate(rows) if row.conditional or self.settings.maps == "both"]
        columns = needed_columns(plans, self.update.extra_columns)
        return average_maps(maps[counted], [rows[i] for i in counted], columns, self.update.grid_order)

    def _rows(self, index: int, plans: Sequence[ImagePlan], unconditional: bool) -> tuple[Row, ...]:
        """The rows a step needs: all variants, or with `switch` the one whose turn it is."""
        rows = rows_of(plans, unconditional=unconditional)
        if self.settings.method != "switch":
            return rows
        return tuple(row for row in rows if row.variant == index % plans[row.image].variants)

    def _forward(
        self, latent: Tensor, rows: tuple[Row, ...], plans: Sequence[ImagePlan], denoiser: Denoiser, with_maps: bool
    ) -> tuple[dict[Row, Tensor], Tensor | None]:
        """Predictions of `rows`, and with `with_maps` the maps (R, K, h_a, w_a) of the same forward."""
        size = (latent.shape[-2], latent.shape[-1])
        columns = needed_columns(plans, self.update.extra_columns)
        predictions: dict[Row, Tensor] = {}
        maps: list[Tensor] = []
        for piece in chunks(rows, self.settings.rows_per_forward):

            def forward(piece: tuple[Row, ...] = piece) -> Tensor:
                return denoiser.predict(latent_rows(latent, piece), piece)

            if with_maps:
                piece_maps, result, _ = self.taps.collect(size, columns, forward)
                maps.append(piece_maps)
            else:
                result = forward()
            assert result is not None
            predictions.update(zip(piece, result, strict=True))
        return predictions, torch.cat(maps) if with_maps else None

    def _masks(
        self, book: MapBook | None, plans: Sequence[ImagePlan], size: tuple[int, int]
    ) -> tuple[Tensor | None, ...]:
        if book is None:
            return (None,) * len(plans)
        options = self.settings.mask_options()
        return tuple(
            resize_masks(
                cut_masks([book.of(image, v, tokens) for v, tokens in enumerate(plan.mask_tokens)], options), size
            )
            for image, plan in enumerate(plans)
        )

    @staticmethod
    def _fused(predictions: dict[Row, Tensor], masks: tuple[Tensor | None, ...], conditional: bool) -> Tensor:
        """One prediction for each image, (B, C, h, w)."""
        fused = []
        for image, mask in enumerate(masks):
            own = [(row.variant, value) for row, value in predictions.items() if row[::2] == (image, conditional)]
            stack = torch.stack([value for _, value in sorted(own, key=lambda pair: pair[0])])
            fused.append(fuse(stack, torch.ones_like(stack[:, 0]) if mask is None else mask))
        return torch.stack(fused)

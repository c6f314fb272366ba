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
    Sentences for the user are added to `warnings`.
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
        """One sampler step for `latent` (B, C, h, w), with one plan per image.

        `guidance` asks for unconditional predictions too; `update=False` is for evaluations that are not the first
        of their step. Errors: CLoRAError for a latent that is not finite.
        """
        if not bool(torch.isfinite(latent).all()):
            raise CLoRAError(
                f"The latent holds NaN or infinite values at step {index + 1}, before CLoRA changed it; "
                "use a full-precision VAE and model (--no-half) or another sampler."
            )
        updates = 0
        if self.settings.method == "clora" and update:
            updates = self.schedule.updates(index, self.settings.refine_updates)
        if updates:
            size = (latent.shape[-2], latent.shape[-1])
            first = rows_of(plans[:1], unconditional=False)[:1]
            self.taps.survey(size, lambda: denoiser.predict(latent[:1], first))
        late = 1 if updates and self.settings.noise == "stale" else 0
        for number in range(updates - late):
            latent = self._updated(index, number, updates, latent, plans, denoiser)
        result = self._predict(index, latent, plans, denoiser, guidance)
        if late:
            moved = self._updated(index, updates - 1, updates, latent, plans, denoiser)
            result = replace(result, latent=moved)
        self._observer(result)
        return result

    def _updated(
        self, step: int, number: int, total: int, latent: Tensor, plans: Sequence[ImagePlan], denoiser: Denoiser
    ) -> Tensor:
        gradient = self.update.gradient(latent, plans, denoiser, half=self._half)
        if gradient.left_out:
            self._warn("Some attention maps are constant and were left out of the loss.")
        if not gradient.finite:
            self._warn(
                "A latent update was skipped because its gradient was not finite; try full precision (--no-half)."
            )
            return latent
        after = self.update.moved(latent, gradient.value, denoiser.latent_scale)
        self._observer(Updated(step, number, total, gradient, latent, after))
        return after

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    def _predict(
        self, index: int, latent: Tensor, plans: Sequence[ImagePlan], denoiser: Denoiser, guidance: bool
    ) -> Step:
        masked = self.settings.method == "clora" and index >= self.schedule.fuse_from
        rows = self._rows(index, plans, guidance or (masked and self.settings.maps == "both"))
        predictions, maps = self._forward(latent, rows, plans, denoiser, masked)
        book = None
        if maps is not None:
            counted = [i for i, row in enumerate(rows) if row.conditional or self.settings.maps == "both"]
            book = average_maps(
                maps[counted],
                [rows[i] for i in counted],
                needed_columns(plans, self.update.extra_columns),
                self.update.grid_order,
            )
        masks = self._masks(book, plans, latent)
        cond = self._fused(predictions, masks, True)
        uncond = self._fused(predictions, masks, False) if guidance else None
        return Step(index, latent, cond, uncond, tuple(plans), masks, book, predictions)

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

    def _masks(self, book: MapBook | None, plans: Sequence[ImagePlan], latent: Tensor) -> tuple[Tensor | None, ...]:
        if book is None:
            return (None,) * len(plans)
        options, size = self.settings.mask_options(), (latent.shape[-2], latent.shape[-1])
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

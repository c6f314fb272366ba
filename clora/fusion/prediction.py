"""The variants' predictions of one step: all rows and their fusion after the model, or a single pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..attention.maps import AttentionMaps, average_maps, latent_rows, needed_columns
from ..attention.probe import AttentionProbe
from ..conditioning.plan import ImagePlan, chunks, rows_of
from ..models.denoiser import Denoiser, Row
from ..models.memory import RowLimit
from ..settings import Settings
from .masked_mean import fuse
from .single_pass import SinglePass, base_rows


@dataclass(frozen=True)
class Predicted:
    """Predictions (C, h, w) by row, and the maps of the same forward where they were asked for.

    `fused`: a row of the base holds the whole picture already (single pass).
    """

    rows: dict[Row, Tensor] = field(repr=False)
    book: AttentionMaps | None = None
    fused: bool = False

    def picture(self, image: int, conditional: bool, mask: Tensor | None) -> Tensor:
        """One prediction (C, h, w) for an image, fused by `mask` (V, h, w); None averages the variants."""
        own = sorted((row.variant, value) for row, value in self.rows.items() if row[::2] == (image, conditional))
        if len(own) == 1:
            return own[0][1]
        stack = torch.stack([value for _, value in own])
        return fuse(stack, torch.ones_like(stack[:, 0]) if mask is None else mask)


class Predictor:
    """Evaluates rows of a denoiser, in pieces where memory asks for it, and keeps what later steps use again."""

    def __init__(
        self, taps: AttentionProbe, settings: Settings, limit: RowLimit, *, single_pass: SinglePass | None = None,
        extra_columns: Sequence[int] = (), grid_order: str = "row-major",
    ) -> None:  # fmt: skip
        self.taps, self.settings, self.limit = taps, settings, limit
        self.single_pass = single_pass
        self.extra_columns, self.grid_order = tuple(extra_columns), grid_order
        self._changes: dict[Row, Tensor] = {}

    def rows(self, index: int, plans: Sequence[ImagePlan], unconditional: bool, *, base_only: bool) -> tuple[Row, ...]:
        """The rows of step `index`: all variants, with `switch` the one whose turn it is, or the base alone."""
        rows = rows_of(plans, unconditional=unconditional)
        if self.settings.method == "switch":
            return tuple(row for row in rows if row.variant == index % plans[row.image].variants)
        if base_only:
            return base_rows(rows)
        if self.settings.method == "clora" and self.settings.shared_uncond:
            return tuple(row for row in rows if row.conditional or row.variant == 0)
        return rows

    def reuses(self, index: int, rows: Sequence[Row]) -> bool:
        """Whether step `index` runs the base only and takes the variants' differences from an earlier step."""
        every = self.settings.variants_every
        return every > 1 and index % every != 0 and all(row in self._changes for row in rows if row.variant)

    def all_rows(
        self, index: int, latent: Tensor, rows: tuple[Row, ...], plans: Sequence[ImagePlan], denoiser: Denoiser, *,
        with_maps: bool, reuse: bool = True,
    ) -> Predicted:  # fmt: skip
        """Every row's prediction at latent (B, C, h, w), and maps; reused differences come without maps."""
        if reuse and self.reuses(index, rows):
            own = self._run(latent, base_rows(rows), plans, denoiser, False).rows
            changed = {row: own[row._replace(variant=0)] + self._changes[row] for row in rows if row.variant}
            return Predicted({**own, **changed})
        found = self._run(latent, rows, plans, denoiser, with_maps)
        if self.settings.variants_every > 1:
            of = found.rows
            self._changes.update({row: of[row] - of[row._replace(variant=0)] for row in rows if row.variant})
        return found

    def one_pass(
        self, latent: Tensor, rows: tuple[Row, ...], masks: Sequence[Tensor], plans: Sequence[ImagePlan],
        denoiser: Denoiser, *, with_maps: bool,
    ) -> Predicted:  # fmt: skip
        """The base rows' predictions with all variants fused in them by `masks[image]` (V, h, w)."""
        assert self.single_pass is not None, "a single pass needs the row-wise LoRAs: give loras= to Composer"
        single = self.single_pass

        def forward() -> Tensor:
            return single.predict(latent, rows, masks, denoiser)

        maps, result = self._collected(latent, plans, forward) if with_maps else (None, forward())
        base = base_rows(rows)
        return Predicted(dict(zip(base, result, strict=True)), self._book(maps, rows, plans), fused=True)

    def _run(
        self, latent: Tensor, rows: tuple[Row, ...], plans: Sequence[ImagePlan], denoiser: Denoiser, with_maps: bool
    ) -> Predicted:
        def attempt(size: int) -> Predicted:
            predictions: dict[Row, Tensor] = {}
            maps: list[Tensor] = []
            for piece in chunks(rows, size):

                def forward(piece: tuple[Row, ...] = piece) -> Tensor:
                    return denoiser.predict(latent_rows(latent, piece), piece)

                if with_maps:
                    piece_maps, result = self._collected(latent, plans, forward)
                    maps.append(piece_maps)
                else:
                    result = forward()
                predictions.update(zip(piece, result, strict=True))
            return Predicted(predictions, self._book(torch.cat(maps) if maps else None, rows, plans))

        return self.limit.run(len(rows), attempt)

    def _collected(
        self, latent: Tensor, plans: Sequence[ImagePlan], forward: Callable[[], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Maps (R, K, h_a, w_a) and predictions of a forward."""
        size = (latent.shape[-2], latent.shape[-1])
        maps, result, _ = self.taps.collect(size, needed_columns(plans, self.extra_columns), forward)
        assert result is not None
        return maps, result

    def _book(self, maps: Tensor | None, rows: tuple[Row, ...], plans: Sequence[ImagePlan]) -> AttentionMaps | None:
        if maps is None:
            return None
        counted = [i for i, row in enumerate(rows) if row.conditional or self.settings.maps == "both"]
        columns = needed_columns(plans, self.extra_columns)
        return average_maps(maps[counted], [rows[i] for i in counted], columns, self.grid_order)

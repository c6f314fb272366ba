"""Forwards of a denoiser for the strategies: rows in pieces that fit the memory, attention maps on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..attention.maps import AttentionMaps, average_maps, latent_rows, needed_columns
from ..attention.probe import AttentionProbe
from ..conditioning.plan import ImagePlan, chunks
from ..models.denoiser import Denoiser, Row
from ..models.memory import RowLimit


def base_rows(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Each image's rows of the base, conditional and (if `rows` have it) unconditional."""
    return tuple(row for row in rows if row.variant == 0)


class Forwards:
    """Evaluates rows of a denoiser.

    Maps count the conditional rows, or with `both_halves` both halves of the guidance batch. `extra_columns` are text
    positions to read besides those of the plans; for `grid_order` see `clora.attention.maps.average_maps`.
    """

    def __init__(
        self, probe: AttentionProbe, limit: RowLimit, *, both_halves: bool = False, extra_columns: Sequence[int] = (),
        grid_order: str = "row-major",
    ) -> None:  # fmt: skip
        self.probe, self.limit = probe, limit
        self._both_halves, self._extra, self._grid_order = both_halves, tuple(extra_columns), grid_order

    def rows(
        self, latent: Tensor, rows: tuple[Row, ...], plans: Sequence[ImagePlan], denoiser: Denoiser, *, read_maps: bool
    ) -> tuple[dict[Row, Tensor], AttentionMaps | None]:
        """Each row's prediction (C, h, w) at latent (B, C, h, w), and the maps if asked for."""

        def attempt(size: int) -> tuple[dict[Row, Tensor], AttentionMaps | None]:
            predictions: dict[Row, Tensor] = {}
            maps: list[Tensor] = []
            for piece in chunks(rows, size):

                def forward(piece: tuple[Row, ...] = piece) -> Tensor:
                    return denoiser.predict(latent_rows(latent, piece), piece)

                if read_maps:
                    own, result = self._collected(latent, plans, forward)
                    maps.append(own)
                else:
                    result = forward()
                predictions.update(zip(piece, result, strict=True))
            return predictions, self._averaged(torch.cat(maps), rows, plans) if maps else None

        return self.limit.run(len(rows), attempt)

    def once(
        self, latent: Tensor, rows: tuple[Row, ...], plans: Sequence[ImagePlan], forward: Callable[[], Tensor], *,
        read_maps: bool,
    ) -> tuple[Tensor, AttentionMaps | None]:  # fmt: skip
        """The result of one forward whose attention layers see `rows`, and its maps if asked for."""
        if not read_maps:
            return forward(), None
        maps, result = self._collected(latent, plans, forward)
        return result, self._averaged(maps, rows, plans)

    def _collected(
        self, latent: Tensor, plans: Sequence[ImagePlan], forward: Callable[[], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Maps (R, K, h_a, w_a) and predictions of a forward."""
        size = (latent.shape[-2], latent.shape[-1])
        maps, result, _ = self.probe.collect(size, needed_columns(plans, self._extra), forward)
        assert result is not None
        return maps, result

    def _averaged(self, maps: Tensor, rows: tuple[Row, ...], plans: Sequence[ImagePlan]) -> AttentionMaps:
        counted = [i for i, row in enumerate(rows) if row.conditional or self._both_halves]
        columns = needed_columns(plans, self._extra)
        return average_maps(maps[counted], [rows[i] for i in counted], columns, self._grid_order)

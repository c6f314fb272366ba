"""Forwards of a denoiser for the strategies: rows in pieces that fit the memory, attention maps on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from ..attention.maps import AttentionMaps, average_maps, latent_rows, needed_columns
from ..attention.probe import AttentionProbe
from ..conditioning.plan import ImagePlan, chunks
from ..models.denoiser import Denoiser, Row
from ..models.memory import RowLimit

Shown = tuple[tuple[Row, ...], Tensor]
"""The rows that a forward's attention layers see, and its values (R, C, h, w)."""

FusedForward = Callable[[tuple[Row, ...]], Tensor]
"""Rows of all variants of some images and halves -> values (R, C, h, w) of the base rows among them."""


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
        self.probe, self.limit, self._fused_limit = probe, limit, limit.apart()
        self._both_halves, self._extra, self._grid_order = both_halves, tuple(extra_columns), grid_order

    def rows(
        self, latent: Tensor, rows: tuple[Row, ...], plans: Sequence[ImagePlan], denoiser: Denoiser, *, read_maps: bool
    ) -> tuple[dict[Row, Tensor], AttentionMaps | None]:
        """Each row's prediction (C, h, w) at latent (B, C, h, w), and the maps if asked for.

        Raises: CLoRAError if memory runs out with a single row.
        """

        def forward(piece: tuple[Row, ...]) -> Shown:
            return piece, denoiser.predict(latent_rows(latent, piece), piece)

        return self._in_pieces(self.limit, latent, rows, plans, forward, read_maps=read_maps)

    def fused(
        self, latent: Tensor, rows: tuple[Row, ...], plans: Sequence[ImagePlan], forward: FusedForward, *,
        read_maps: bool,
    ) -> tuple[dict[Row, Tensor], AttentionMaps | None]:  # fmt: skip
        """The same for forwards that run the base rows of `rows` only, with all variants in them.

        With fewer rows at once, conditional and unconditional ones run apart. Raises: CLoRAError as `rows` does.
        """

        def own(piece: tuple[Row, ...]) -> Shown:
            bases = {(row.image, row.conditional) for row in piece}
            seen = tuple(row for row in rows if (row.image, row.conditional) in bases)
            return seen, forward(seen)

        return self._in_pieces(self._fused_limit, latent, base_rows(rows), plans, own, read_maps=read_maps)

    def _in_pieces(
        self, limit: RowLimit, latent: Tensor, rows: tuple[Row, ...], plans: Sequence[ImagePlan],
        forward: Callable[[tuple[Row, ...]], Shown], *, read_maps: bool,
    ) -> tuple[dict[Row, Tensor], AttentionMaps | None]:  # fmt: skip
        """`forward(piece)` of as many of `rows` at once as fit; it returns the rows whose maps it shows, and values."""

        def attempt(size: int) -> tuple[dict[Row, Tensor], AttentionMaps | None]:
            predictions: dict[Row, Tensor] = {}
            maps: list[Tensor] = []
            shown: list[Row] = []
            for piece in chunks(rows, size):
                if read_maps:
                    own, (seen, values) = self._collected(latent, plans, partial(forward, piece))
                    maps.append(own)
                    shown += seen
                else:
                    _, values = forward(piece)
                predictions.update(zip(piece, values, strict=True))
            return predictions, self._averaged(torch.cat(maps), shown, plans) if maps else None

        return limit.run(len(rows), attempt)

    def _collected(
        self, latent: Tensor, plans: Sequence[ImagePlan], forward: Callable[[], Shown]
    ) -> tuple[Tensor, Shown]:
        """Maps (R, K, h_a, w_a) and what a forward returns."""
        size = (latent.shape[-2], latent.shape[-1])
        maps, result, _ = self.probe.collect(size, needed_columns(plans, self._extra), forward)
        assert result is not None
        return maps, result

    def _averaged(self, maps: Tensor, rows: Sequence[Row], plans: Sequence[ImagePlan]) -> AttentionMaps:
        counted = [i for i, row in enumerate(rows) if row.conditional or self._both_halves]
        columns = needed_columns(plans, self._extra)
        return average_maps(maps[counted], [rows[i] for i in counted], columns, self._grid_order)

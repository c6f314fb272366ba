"""Attention maps of a batch of rows: collected by the probe, averaged for each image and variant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..conditioning.plan import ImagePlan
from ..models.denoiser import Denoiser, Row
from .probe import AttentionProbe


@dataclass(frozen=True)
class AttentionMaps:
    """Maps of a batch: `by_variant[image, variant]` (K, h_a, w_a) for the text positions `columns` (K)."""

    columns: tuple[int, ...]
    by_variant: dict[tuple[int, int], Tensor]

    def of(self, image: int, variant: int, positions: Sequence[int]) -> Tensor:
        """The maps (T, h_a, w_a) of text `positions` in one variant of one image."""
        index = torch.tensor([self.columns.index(position) for position in positions], dtype=torch.long)
        maps = self.by_variant[image, variant]
        return maps.index_select(0, index.to(maps.device))

    @property
    def example(self) -> Tensor:
        """Any of the maps, for their grid, dtype and device."""
        return next(iter(self.by_variant.values()))


def needed_columns(plans: Sequence[ImagePlan], extra: Sequence[int] = ()) -> tuple[int, ...]:
    """Text positions needed by any of the plans (and `extra` ones), in order."""
    return tuple(sorted({column for plan in plans for column in plan.columns}.union(extra)))


def average_maps(
    maps: Tensor, rows: Sequence[Row], columns: tuple[int, ...], grid_order: str = "row-major"
) -> AttentionMaps:
    """Mean over each variant's rows of `maps` (R, K, h_a, w_a): one row, or conditional and unconditional.

    `grid_order="authors"` reads the flat maps as (w_a, h_a), as the authors' code does. That scrambles the masks of
    non-square pictures and exists to reproduce their numbers only.
    """
    if grid_order == "authors":
        maps = maps.reshape(*maps.shape[:2], maps.shape[3], maps.shape[2])
    indices: dict[tuple[int, int], list[int]] = {}
    for index, row in enumerate(rows):
        indices.setdefault((row.image, row.variant), []).append(index)
    averaged = {key: torch.stack([maps[i] for i in of]).mean(dim=0) for key, of in indices.items()}
    return AttentionMaps(columns, averaged)


def latent_rows(latent: Tensor, rows: Sequence[Row]) -> Tensor:
    """The latent (B, C, h, w) repeated for each row: (R, C, h, w)."""
    index = torch.tensor([row.image for row in rows], device=latent.device)
    return latent.index_select(0, index)


def collect_maps(
    probe: AttentionProbe, denoiser: Denoiser, latent: Tensor, rows: tuple[Row, ...], columns: tuple[int, ...],
    layers: str = "all",
) -> Tensor:  # fmt: skip
    """Maps (R, K, h_a, w_a) of `rows` by a forward that stops after the last probed layer of `layers`."""
    size = (latent.shape[-2], latent.shape[-1])

    def forward() -> Tensor:
        return denoiser.predict(latent_rows(latent, rows), rows)

    maps, _, _ = probe.collect(size, columns, forward, stop=True, which=layers)
    return maps

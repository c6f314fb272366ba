"""Contrastive loss -> moved latent (paper section 3.2): exact gradient, in chunks where memory asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..attention.maps import AttentionMaps, average_maps, collect_maps, needed_columns
from ..attention.probe import AttentionProbe
from ..conditioning.plan import ImagePlan, chunks, rows_of
from ..models.denoiser import Denoiser, Row
from ..models.memory import GraphSize, RowLimit, free_bytes
from ..settings import Settings
from .contrast import group_entries, info_nce
from .region_loss import region_losses

LOSS_SCALES = (1024.0, 32.0, 1.0)
"""Loss scales tried in turn for float16 models, whose small gradients would otherwise vanish."""


@dataclass(frozen=True)
class Gradient:
    """dL/dx (B, C, h, w), the losses (B,), the maps they come from and how many constant maps were left out.

    Images that were not asked for have a gradient of 0, the loss NaN and no maps.
    """

    value: Tensor
    losses: Tensor
    maps: AttentionMaps
    left_out: int

    @property
    def finite(self) -> Tensor:
        """Whether every entry of an image's gradient is a number, (B,)."""
        return torch.isfinite(self.value).flatten(1).all(dim=1)


def contrast_losses(
    maps: AttentionMaps, plans: Sequence[ImagePlan], temperature: float, images: Sequence[int] | None = None
) -> tuple[Tensor, int]:
    """Loss of each of `images` (all if None) from the maps of its own concept groups, and how many maps were left
    out.
    """
    losses, left_out = [], 0
    for image in range(len(plans)) if images is None else images:
        entries = group_entries(plans[image].concepts)
        own = torch.cat([maps.of(image, e.variant, (e.position,)) for e in entries]).flatten(1)
        contrast = info_nce(own, torch.tensor([e.concept for e in entries]), temperature)
        losses.append(contrast.loss)
        left_out += contrast.left_out
    return torch.stack(losses), left_out


class LatentUpdate:
    """Computes gradients of the contrastive loss with respect to the sampler's latent, and moves the latent."""

    def __init__(
        self, probe: AttentionProbe, settings: Settings, limit: RowLimit | None = None, *, columns: Sequence[int] = (),
        grid_order: str = "row-major",
    ) -> None:  # fmt: skip
        self.probe = probe
        self.settings = settings
        self.limit = limit or RowLimit(settings.rows_per_forward)
        self.extra_columns = tuple(columns)
        self.grid_order = grid_order
        self._loss_scales: dict[int, int] = {}
        self._row_bytes = 0

    def gradient(
        self, latent: Tensor, plans: Sequence[ImagePlan], denoiser: Denoiser, *, half: bool = False,
        images: Sequence[int] | None = None,
    ) -> Gradient:  # fmt: skip
        """The exact gradient at `latent` (B, C, h, w) for `images` (all if None), each by its own loss.

        `half` says that the model computes in float16: an image's loss is scaled, with a smaller scale when it
        overflows.
        """
        own = tuple(range(len(plans)) if images is None else images)
        rows = rows_of(plans, (True, False) if self.settings.maps == "both" else (True,))
        rows = tuple(row for row in rows if row.image in own and row.variant <= len(plans[row.image].concepts))
        columns = needed_columns(plans, self.extra_columns)
        self._fit(latent, denoiser, rows, columns)
        while True:
            scales = [LOSS_SCALES[self._loss_scales.get(image, 0)] if half else 1.0 for image in range(len(plans))]
            result = self.limit.run(
                len(rows), partial(self._scaled_gradient, latent, plans, denoiser, rows, columns, scales)
            )
            if not half or not self._lower_scales(result.finite):
                return result

    def _lower_scales(self, finite: Tensor) -> bool:
        """Take the next loss scale for each image whose gradient is not `finite` (B,); whether any had one left."""
        lowered = False
        for image in (~finite).nonzero().flatten().tolist():
            scale = self._loss_scales.get(image, 0)
            if scale + 1 < len(LOSS_SCALES):
                self._loss_scales[image] = scale + 1
                lowered = True
        return lowered

    def _fit(self, latent: Tensor, denoiser: Denoiser, rows: tuple[Row, ...], columns: tuple[int, ...]) -> None:
        """No more rows at once than memory holds, from what one row's graph takes, measured once."""
        free = free_bytes(latent.device)
        if free is None or self.limit.size or self._row_bytes or len(rows) < 2:
            return

        def measure(_: int) -> int:
            size = GraphSize(self.probe.model)
            with denoiser.gradients(), size.measured():
                self._maps(denoiser, latent.detach().clone().requires_grad_(True), rows[:1], columns)
            return size.bytes

        self._row_bytes = self.limit.run(1, measure)
        self.limit.fit(len(rows), self._row_bytes, free)

    def _scaled_gradient(
        self, latent: Tensor, plans: Sequence[ImagePlan], denoiser: Denoiser, rows: tuple[Row, ...],
        columns: tuple[int, ...], scales: Sequence[float], most_rows: int,
    ) -> Gradient:  # fmt: skip
        pieces = chunks(rows, most_rows)
        images = sorted({row.image for row in rows})
        with denoiser.gradients():
            factors = torch.tensor([scales[image] for image in images], device=latent.device)
            x = latent.detach().clone().requires_grad_(True)
            if len(pieces) == 1:
                maps = self._maps(denoiser, x, rows, columns)
                losses, left_out, averaged = self._losses(maps, rows, columns, plans, images)
                (grad,) = torch.autograd.grad((losses * factors).sum(), x)
            else:
                # Maps of all rows first, then dL/dmaps, then each chunk once more with a graph: exact, and
                # only one chunk's activations are alive at a time.
                with torch.no_grad():
                    maps = torch.cat([self._maps(denoiser, x, piece, columns) for piece in pieces])
                maps.requires_grad_(True)
                losses, left_out, averaged = self._losses(maps, rows, columns, plans, images)
                (slopes,) = torch.autograd.grad((losses * factors).sum(), maps)
                grad, start = torch.zeros_like(x), 0
                for piece in pieces:
                    part = self._maps(denoiser, x, piece, columns)
                    slope = slopes[start : start + len(piece)]
                    grad = grad + torch.autograd.grad((part * slope).sum(), x)[0]
                    start += len(piece)
        detached = {key: value.detach() for key, value in averaged.by_variant.items()}
        every = losses.new_full((len(plans),), torch.nan).index_copy(0, _index(images, losses), losses.detach())
        value = grad / grad.new_tensor(scales)[:, None, None, None]
        return Gradient(value, every, AttentionMaps(averaged.columns, detached), left_out)

    def _maps(self, denoiser: Denoiser, latent: Tensor, rows: tuple[Row, ...], columns: tuple[int, ...]) -> Tensor:
        return collect_maps(self.probe, denoiser, latent, rows, columns, self.settings.update_layers)

    def _losses(
        self, maps: Tensor, rows: tuple[Row, ...], columns: tuple[int, ...], plans: Sequence[ImagePlan],
        images: Sequence[int],
    ) -> tuple[Tensor, int, AttentionMaps]:  # fmt: skip
        averaged = average_maps(maps, rows, columns, self.grid_order)
        losses, left_out = contrast_losses(averaged, plans, self.settings.temperature, images)
        if self.settings.hint_pull > 0.0 and any(any(plans[image].regions) for image in images):
            pulls = region_losses(averaged, plans, self.settings.hint_masks, images)
            losses = losses + self.settings.hint_pull * pulls
        return losses, left_out, averaged

    def moved(self, latent: Tensor, gradient: Tensor, scale: float) -> Tensor:
        """x' = x - alpha s^2 dL/dx: the paper's z' = z - alpha dL/dz (equation 4) in a space where x = s z.

        With an update cap, each image's update is shortened to that part of its latent's root mean square.
        """
        change: Tensor = self.settings.step_size * scale**2 * gradient
        cap = self.settings.update_cap
        if cap > 0.0:
            dims = tuple(range(1, latent.ndim))
            size = change.pow(2).mean(dim=dims, keepdim=True).sqrt()
            allowed = cap * latent.pow(2).mean(dim=dims, keepdim=True).sqrt()
            change = change * (allowed / size.clamp_min(torch.finfo(size.dtype).tiny)).clamp_max(1.0)
        return latent - change


def _index(images: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor(images, device=like.device)

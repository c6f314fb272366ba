"""Plain steps without LoRAs that are thrown away: they tell where the subjects will be before the first step is made.

The picture is then drawn from the same noise with masks from its first step on (two phases, as FreeFuse has them, arXiv
2510.23515). The steps are DDIM's (Song et al. 2020, equation 12 without noise) on variance-preserving latents, so they
do not depend on the host's sampler.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import pairwise

import torch
from torch import Tensor

from ..attention.maps import AttentionMaps
from ..conditioning.plan import ImagePlan, rows_of
from ..fusion.forwards import Forwards, base_rows
from ..guidance.classifier_free import guide
from ..models.denoiser import Conditioned, Denoiser, Row
from ..regions.balanced import Layout
from ..regions.subject_places import place_maps

_BETAS = (0.00085, 0.012)
"""The first and last of Stable Diffusion's 1,000 noise variances, whose square roots are evenly spaced."""


def signals(first: float, reach: float, count: int) -> list[float]:
    """`count` + 1 signal levels from `first` down the part `reach` of its timesteps, by Stable Diffusion's schedule."""
    betas = torch.linspace(_BETAS[0] ** 0.5, _BETAS[1] ** 0.5, 1000, dtype=torch.float32) ** 2
    table = (1 - betas).cumprod(0)
    start = int((table - first).abs().argmin())
    times = [round(start * (1 - reach * n / count)) for n in range(count + 1)]
    return [first, *(float(table[time]) for time in times[1:])]


class _At:
    """A denoiser at another signal level, on variance-preserving latents, whose predictions are x0."""

    latent_scale = 1.0
    complete = True

    def __init__(self, denoiser: Denoiser, signal: float) -> None:
        self._denoiser, self.signal = denoiser, signal

    def predict(self, latent: Tensor, rows: tuple[Row, ...], *, vectors: Tensor | None = None) -> Tensor:
        return self._denoiser.denoised(latent, self.signal, rows)

    def denoised(self, latent: Tensor, signal: float, rows: tuple[Row, ...]) -> Tensor:
        return self._denoiser.denoised(latent, signal, rows)

    def conditioning(self, rows: tuple[Row, ...]) -> Conditioned:
        return self._denoiser.conditioning(rows)

    def gradients(self) -> AbstractContextManager[None]:
        return self._denoiser.gradients()


@torch.no_grad()
def look_ahead(
    latent: Tensor, plans: Sequence[ImagePlan], denoiser: Denoiser, forwards: Forwards, *, reach: float, count: int,
    guidance: float,
) -> tuple[list[Layout | None], Tensor]:  # fmt: skip
    """Each image's layout after `count` plain steps over the part `reach` of the noise, and x0 (B, C, h, w) there.

    `guidance` is the scale of the host's guidance. Images without concepts have no layout.
    """
    z = latent / denoiser.latent_scale
    rows = base_rows(rows_of(plans, (True, False) if guidance != 1.0 else (True,)))
    levels, maps, x0 = signals(denoiser.signal, reach, count), None, z
    for now, after in pairwise(levels):
        with forwards.probe.queries() as queries:
            values, maps = forwards.rows(z, rows, plans, _At(denoiser, now), read_maps=True)
        halves = [torch.stack([values[Row(i, 0, half)] for i in range(len(plans))]) for half in (True, False)
                  if Row(0, 0, half) in values]  # fmt: skip
        x0 = guide(halves[1], halves[0], guidance) if len(halves) > 1 else halves[0]
        noise = (z - now**0.5 * x0) / (1 - now) ** 0.5
        z = after**0.5 * x0 + (1 - after) ** 0.5 * noise
    assert maps is not None
    # Where memory ran out, the rows of attempts that failed come first.
    features = torch.cat([torch.cat(pieces)[-len(rows) :] for pieces in queries.values()], dim=-1)
    of_rows = {row: features[index] for index, row in enumerate(rows)}
    return [_layout(maps, image, plan, of_rows[Row(image, 0, True)]) for image, plan in enumerate(plans)], x0


def _layout(maps: AttentionMaps, image: int, plan: ImagePlan, features: Tensor) -> Layout | None:
    if not plan.concepts:
        return None
    found, count = place_maps(maps, image, plan), len(plan.concepts)
    return Layout(found[:count], features, found[count:])

"""The method "LoRAtorio": one prediction per LoRA, weighted place by place by how far it is from the base's.

Its mechanism as published (Foteinopoulou et al. 2025, arXiv 2508.11624): where a LoRA changes the base's prediction
most, it is taken to be sure; guidance starts from a mean of the weighted and the base's unconditional prediction.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional as F

from clora.conditioning.plan import rows_of
from clora.fusion import STRATEGIES, Prediction, StepInputs
from clora.fusion.composite import Composite, one_lora_each
from clora.fusion.strategy import Cost, with_loras
from clora.models.denoiser import Row
from clora.prompt import Composition, LoraUse, Variant
from clora.settings import Settings

PATCH = 2  # cells of a patch, both ways
TEMPERATURE = 0.05
RECENTRED = 0.5  # how much of the base's is in the unconditional prediction


class Loratorio(Composite):
    """The base and one variant per LoRA, all with the full prompt."""

    @staticmethod
    def variants(composition: Composition, everywhere: tuple[LoraUse, ...] = ()) -> tuple[Variant, ...]:
        """Variant 0 has no concept's LoRA on, the others one each."""
        base = with_loras(composition.merged, (*everywhere, *composition.background))
        return (base, *one_lora_each(composition, everywhere))

    @classmethod
    def cost(cls, settings: Settings, concepts: int) -> Cost:
        """Two rows of the base and two per concept."""
        return Cost(2 * concepts + 2, 2.0 * concepts + 2)

    def predict(self, step: StepInputs) -> Prediction:
        """One fused prediction in the base's rows."""
        found = self.evaluate(step, rows_of(step.plans, step.halves)).rows
        fused = {row: self._fused(found, row) for row in found if row.variant == 0}
        return Prediction(fused, fused=True)

    @staticmethod
    def _fused(found: dict[Row, Tensor], row: Row) -> Tensor:
        """The variants' predictions (C, h, w) of an image and half as one."""
        others = [value for other, value in found.items() if other[::2] == row[::2] and other.variant]
        if not others:
            return found[row]
        base, own = found[row], torch.stack(others)
        mean = (patch_weights(own, base)[:, None] * own).sum(0)
        return mean if row.conditional else RECENTRED * base + (1 - RECENTRED) * mean


def patch_weights(own: Tensor, base: Tensor) -> Tensor:
    """Weights (N, h, w), 1 in sum, of predictions (N, C, h, w): the less a patch is like the base's, the more."""
    size = base.shape[-2:]
    blocks, plain = (F.unfold(part, PATCH, stride=PATCH) for part in (own, base[None]))
    alike = F.cosine_similarity(blocks, plain, dim=1)
    weights = ((1 - alike) / TEMPERATURE).softmax(0)
    return F.interpolate(weights.view(1, len(own), size[0] // PATCH, size[1] // PATCH), size, mode="nearest")[0]


@contextmanager
def in_place_of_composite() -> Iterator[None]:
    """Inside this block the method "composite" is this one."""
    with patch.dict(STRATEGIES, {"composite": Loratorio}):
        yield

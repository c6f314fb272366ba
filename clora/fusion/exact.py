"""Exact fusion (paper section 3.3): a row of the model for each variant, fused by masks after the forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from ..conditioning.plan import rows_of
from ..models.denoiser import Row
from ..prompt import Composition, LoraUse, Variant
from ..settings import Settings
from .forwards import Forwards, base_rows
from .strategy import Cost, Prediction, StepInputs, Strategy, with_loras


class Exact(Strategy):
    """The base and one variant per concept; masks come from the maps of the same forward."""

    name = "exact"
    needs_masks = True

    def __init__(self, settings: Settings, forwards: Forwards) -> None:
        super().__init__(settings, forwards)
        self._differences: dict[Row, Tensor] = {}

    @staticmethod
    def variants(composition: Composition, everywhere: tuple[LoraUse, ...] = ()) -> tuple[Variant, ...]:
        """Variant 0 is the base, variant g + 1 has the LoRAs of concept g on; styles join those of a subject late."""
        styles = tuple(use for use in everywhere if use in composition.styles)
        found = [with_loras(composition.variants[0], (*everywhere, *composition.variants[0].loras))]
        for concept, variant in zip(composition.concepts, composition.variants[1:], strict=True):
            late = (*styles, *variant.late) if concept.loras else ()
            found.append(with_loras(variant, (*everywhere, *variant.loras), late))
        return tuple(found)

    @classmethod
    def cost(cls, settings: Settings, concepts: int) -> Cost:
        """All rows of N + 1 variants, fewer with a shared negative or with concepts left out between."""
        most = cls.most_rows(settings, concepts)
        step = 2.0 + (most - 2.0) / settings.variants_every
        return Cost(most, step)

    @staticmethod
    def most_rows(settings: Settings, concepts: int) -> int:
        """Rows of a step with guidance that runs every variant."""
        return concepts + 2 if settings.shared_uncond else 2 * (concepts + 1)

    def rows(self, step: StepInputs) -> tuple[Row, ...]:
        """All variants; with `shared_uncond` the base's row of the negative prompt stands for all."""
        rows = rows_of(step.plans, step.halves)
        if self.settings.shared_uncond:
            return tuple(row for row in rows if row.conditional or row.variant == 0)
        return rows

    def predict(self, step: StepInputs) -> Prediction:
        """Every variant's prediction; with `variants_every` above 1 the concepts' rows run in some steps only, and in
        between the base's prediction plus their last difference from it stands for them, without maps.
        """
        rows = self.rows(step)
        every = self.settings.variants_every
        # The first masks need maps, which reused differences do not have.
        may_reuse = not (step.read_maps and not step.masks)
        if may_reuse and self._reuses(step.index, rows):
            base = self.evaluate(replace(step, read_maps=False), base_rows(rows)).rows
            others = {row: base[row._replace(variant=0)] + self._differences[row] for row in rows if row.variant}
            return Prediction({**base, **others})
        prediction = self.evaluate(step, rows)
        if every > 1:
            of = prediction.rows
            self._differences.update({row: of[row] - of[row._replace(variant=0)] for row in rows if row.variant})
        return prediction

    def _reuses(self, index: int, rows: Sequence[Row]) -> bool:
        every = self.settings.variants_every
        return every > 1 and index % every != 0 and all(row in self._differences for row in rows if row.variant)

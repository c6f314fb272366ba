"""Plain merge: every LoRA on at once, what a WebUI does by itself."""

from __future__ import annotations

from ..conditioning.plan import rows_of
from ..models.denoiser import Row
from ..prompt import Composition, LoraUse, Variant
from ..settings import Settings
from .forwards import base_rows
from .strategy import Cost, StepInputs, Strategy, with_loras


class Merge(Strategy):
    """One variant with all LoRAs. It also draws prompts that are not composed, and the steps after the last composed
    one: with plans of several variants only the base runs.
    """

    name = "merge"

    @staticmethod
    def variants(composition: Composition, everywhere: tuple[LoraUse, ...] = ()) -> tuple[Variant, ...]:
        """The prompt with every trigger and every LoRA."""
        return (with_loras(composition.merged, (*everywhere, *composition.merged.loras)),)

    @classmethod
    def cost(cls, settings: Settings, concepts: int) -> Cost:
        """That of a plain picture."""
        return Cost(2, 2.0)

    def rows(self, step: StepInputs) -> tuple[Row, ...]:
        """The base's rows."""
        return base_rows(rows_of(step.plans, step.halves))

"""LoRA Switch (Zhong et al. 2024, arXiv 2402.16843): one LoRA on per step, in turn."""

from __future__ import annotations

from ..conditioning.plan import rows_of
from ..models.denoiser import Row
from ..prompt import Composition, LoraUse, Variant
from ..settings import Settings
from .composite import one_lora_each
from .strategy import Cost, StepInputs, Strategy


class Switch(Strategy):
    """The variants of `Composite`, one of them in each step."""

    name = "switch"

    @staticmethod
    def variants(composition: Composition, everywhere: tuple[LoraUse, ...] = ()) -> tuple[Variant, ...]:
        """One variant per concept."""
        return one_lora_each(composition, everywhere)

    @classmethod
    def cost(cls, settings: Settings, concepts: int) -> Cost:
        """That of a plain picture."""
        return Cost(2, 2.0)

    def rows(self, step: StepInputs) -> tuple[Row, ...]:
        """The rows of the variant whose turn it is."""
        rows = rows_of(step.plans, step.halves)
        return tuple(row for row in rows if row.variant == step.index % step.plans[row.image].variants)

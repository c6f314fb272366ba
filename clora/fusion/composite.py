"""LoRA Composite (Zhong et al. 2024, arXiv 2402.16843): one LoRA on per variant, predictions averaged."""

from __future__ import annotations

from ..prompt import Composition, LoraUse, Variant
from ..settings import Settings
from .strategy import Cost, Strategy, with_loras


def one_lora_each(composition: Composition, everywhere: tuple[LoraUse, ...]) -> tuple[Variant, ...]:
    """One variant per concept with the full prompt; the background's LoRAs are on in each."""
    always = (*everywhere, *composition.background)
    return tuple(with_loras(composition.merged, (*always, *variant.loras)) for variant in composition.variants[1:])


class Composite(Strategy):
    """All variants in every step, without masks: the mean of their predictions."""

    name = "composite"

    @staticmethod
    def variants(composition: Composition, everywhere: tuple[LoraUse, ...] = ()) -> tuple[Variant, ...]:
        """One variant per concept."""
        return one_lora_each(composition, everywhere)

    @classmethod
    def cost(cls, settings: Settings, concepts: int) -> Cost:
        """Two rows per concept."""
        return Cost(2 * concepts, 2.0 * concepts)

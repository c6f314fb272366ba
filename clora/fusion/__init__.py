"""Fusion strategies: how the variants' predictions become one (paper section 3.3), one file for each."""

from __future__ import annotations

from collections.abc import Sequence

from ..lora.rows import RowLoras
from ..prompt import Composition, LoraUse, Variant
from ..settings import Settings
from .composite import Composite
from .exact import Exact
from .forwards import Forwards
from .look_guidance import unconditional_share, weakened
from .merge import Merge
from .single_pass import SinglePass
from .strategy import Cost, Prediction, StepInputs, Strategy
from .switch import Switch

__all__ = [
    "STRATEGIES",
    "Cost",
    "Forwards",
    "Merge",
    "Prediction",
    "StepInputs",
    "Strategy",
    "new_strategy",
    "strategy_class",
    "unconditional_share",
    "variants_of",
    "weakened",
]

STRATEGIES: dict[str, type[Strategy]] = {one.name: one for one in (Exact, SinglePass, Merge, Composite, Switch)}
"""By the value of the setting Method, or of Fusion where Method is clora."""


def strategy_class(settings: Settings) -> type[Strategy]:
    """The strategy that the settings name."""
    return STRATEGIES[settings.fusion if settings.method == "clora" else settings.method]


def new_strategy(settings: Settings, forwards: Forwards, loras: RowLoras | None) -> Strategy:
    """The strategy for one run. Without row-wise LoRAs to fuse in the layers, single-pass becomes exact."""
    kind = strategy_class(settings)
    if issubclass(kind, SinglePass):
        return Exact(settings, forwards) if loras is None else kind(settings, forwards, loras)
    return kind(settings, forwards)


def variants_of(
    composition: Composition, settings: Settings, everywhere: Sequence[LoraUse] = ()
) -> tuple[Variant, ...]:
    """The variants of a prompt; a prompt that is not composed has one, with all LoRAs on.

    `everywhere`: LoRAs that are on in every variant, if the host does not have them on itself. Where all variants are
    one row, each subject without a LoRA has a variant too, after the concepts': the base's, in which its own words are
    stressed (see `clora.conditioning.stress`).
    """
    kind = strategy_class(settings) if composition.composes else Merge
    found = kind.variants(composition, tuple(everywhere))
    stressed = settings.stress != 1.0 and settings.look_ahead > 0.0 and settings.own_places > 0.0
    return (*found, *(found[0] for _ in found[0].others)) if kind.fuses_in_forward and stressed else found

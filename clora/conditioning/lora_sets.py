"""Which LoRAs are on in which variant of which image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from ..lora.library import LoraLibrary
from ..lora.resolve import AppliedLora
from ..models.lora import lora_targets
from ..prompt import LoraUse, Variant

LoraSets = tuple[tuple[AppliedLora, ...], ...]


def lora_sets(
    variants: Sequence[Sequence[Variant]], library: LoraLibrary, components: Mapping[str, nn.Module]
) -> tuple[LoraSets, dict[tuple[int, int], int]]:
    """Every distinct set of LoRAs once, applied to a model, and which one variant v of image i has: `[i, v]`."""
    model = lora_targets(components)
    applied: dict[LoraUse, AppliedLora] = {}
    order: dict[tuple[LoraUse, ...], int] = {}
    set_of = {}
    for image, own in enumerate(variants):
        for number, variant in enumerate(own):
            for use in variant.loras:
                if use not in applied:
                    applied[use] = library.applied(use, model)
            set_of[image, number] = order.setdefault(variant.loras, len(order))
    return tuple(tuple(applied[use] for use in uses) for uses in order), set_of

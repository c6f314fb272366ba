"""Which LoRAs are on in which variant of which image."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from torch import nn

from ..errors import CLoRAError
from ..lora.library import LoraLibrary, drawn_without
from ..lora.resolve import AppliedLora
from ..models.lora import lora_targets
from ..prompt import LoraUse, Variant

LoraSets = tuple[tuple[AppliedLora, ...], ...]
_SetOf = dict[tuple[int, int], int]


class SetsOfVariants(NamedTuple):
    """Distinct `sets`; which one variant v of image i has (`of[i, v]`), and which one a variant with late styles has
    before these join in (`early`); notes."""

    sets: LoraSets
    of: Mapping[tuple[int, int], int]
    early: Mapping[tuple[int, int], int] = MappingProxyType({})
    notes: tuple[str, ...] = ()


def lora_sets(
    variants: Sequence[Sequence[Variant]], library: LoraLibrary, components: Mapping[str, nn.Module],
    left: Collection[LoraUse] = (),
) -> SetsOfVariants:  # fmt: skip
    """Every distinct set of LoRAs once, applied to a model, and which variants have it.

    A LoRA of `left` that cannot be used is left out, with a note.
    Raises: CLoRAError for any other LoRA that cannot be used.
    """
    model = lora_targets(components)
    applied: dict[LoraUse, AppliedLora | None] = {}
    order: dict[tuple[LoraUse, ...], int] = {}
    set_of, early_of, notes = _SetOf(), _SetOf(), list[str]()
    for image, own in enumerate(variants):
        for number, variant in enumerate(own):
            for use in variant.loras:
                if use in applied:
                    continue
                try:
                    applied[use] = library.applied(use, model)
                except CLoRAError as error:
                    if use not in left:
                        raise
                    applied[use] = None
                    notes.append(drawn_without(use, error))
            set_of[image, number] = order.setdefault(variant.loras, len(order))
            if variant.late:
                before = tuple(use for use in variant.loras if use not in variant.late)
                early_of[image, number] = order.setdefault(before, len(order))
    found = tuple(tuple(one for use in uses if (one := applied[use]) is not None) for uses in order)
    return SetsOfVariants(found, set_of, early_of, tuple(notes))

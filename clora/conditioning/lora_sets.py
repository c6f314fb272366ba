"""Which LoRAs are on in which variant of which image."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from torch import nn

from ..errors import CLoRAError
from ..lora.library import LoraLibrary, drawn_without
from ..lora.resolve import AppliedLora
from ..models.lora import lora_targets
from ..prompt import LoraUse, Variant

LoraSets = tuple[tuple[AppliedLora, ...], ...]


def lora_sets(
    variants: Sequence[Sequence[Variant]], library: LoraLibrary, components: Mapping[str, nn.Module],
    left: Collection[LoraUse] = (),
) -> tuple[LoraSets, dict[tuple[int, int], int], tuple[str, ...]]:  # fmt: skip
    """Every distinct set of LoRAs once, applied to a model, which one variant v of image i has (`[i, v]`), and notes.

    A LoRA of `left` that cannot be used is left out, with a note.
    Raises: CLoRAError for any other LoRA that cannot be used.
    """
    model = lora_targets(components)
    applied: dict[LoraUse, AppliedLora | None] = {}
    order: dict[tuple[LoraUse, ...], int] = {}
    set_of, notes = {}, list[str]()
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
    found = tuple(tuple(one for use in uses if (one := applied[use]) is not None) for uses in order)
    return found, set_of, tuple(notes)

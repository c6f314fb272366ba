"""One class per LoRA format. A new format: write its class, put it into FORMATS."""

from __future__ import annotations

from collections.abc import Set
from typing import Protocol

from .base import Additive, Before, Bias, Delta, Full, ScaleOf, ShapeError, Tensors, fit
from .dora import DoRA
from .glora import GLoRA
from .ia3 import IA3
from .kron import LoKr
from .layer import Layer, cast_outside_autograd, kind_of
from .lowrank import LoHa, LowRank
from .orthogonal import BOFT, OFT


class Format(Protocol):
    """What a format's class offers the reader."""

    @property
    def keys(self) -> Set[str]:
        """The suffixes it uses."""

    def reads(self, tensors: Tensors) -> bool:
        """True when a module's tensors are of this format."""

    def read(self, tensors: Tensors, layer: Layer, strength: float, scale_of: ScaleOf, dyn: int | None) -> Delta:
        """The delta those tensors make."""


FORMATS: tuple[Format, ...] = (LowRank, LoHa, LoKr, GLoRA, IA3, OFT, BOFT, Full)

__all__ = [
    "FORMATS",
    "Additive",
    "Before",
    "Bias",
    "Delta",
    "Layer",
    "ShapeError",
    "cast_outside_autograd",
    "kind_of",
    "read_deltas",
]


def read_deltas(
    tensors: Tensors, layer: Layer, *, strength: float, scale_of: ScaleOf, dyn: int | None = None
) -> tuple[tuple[Delta, ...], set[str]]:
    """The deltas that a module's tensors make on a layer, and the suffixes used; `()` where no format is known.

    Raises ShapeError where the tensors do not fit the layer.
    """
    fit(all(tensor.numel() > 0 for tensor in tensors.values()))
    try:
        return _read(tensors, layer, strength, scale_of, dyn)
    except (IndexError, KeyError, RuntimeError, ValueError) as error:  # what shapes that make no sense lead to
        raise ShapeError from error


def _read(
    tensors: Tensors, layer: Layer, strength: float, scale_of: ScaleOf, dyn: int | None
) -> tuple[tuple[Delta, ...], set[str]]:
    deltas: list[Delta] = []
    used: set[str] = set()
    form = next((form for form in FORMATS if form.reads(tensors)), None)
    if form is not None:
        delta = form.read(tensors, layer, strength, scale_of, dyn)
        used |= form.keys & tensors.keys()
        scales = DoRA.keys & tensors.keys()
        if scales and isinstance(delta, Additive) and layer.kind != "norm":
            key = min(scales)
            delta = DoRA(delta, tensors[key], peft=key == "magnitude")
            used.add(key)
        deltas.append(delta)
    for key in sorted(Bias.keys & tensors.keys()):
        deltas.append(Bias(layer, strength, tensors[key]))
        used.add(key)
    return tuple(deltas), used

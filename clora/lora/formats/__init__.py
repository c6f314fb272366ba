"""One class per LoRA format. To add a format, write its class and add it to FORMATS."""

from __future__ import annotations

from collections.abc import Set
from typing import Protocol

from .base import Additive, Before, Bias, Delta, Full, ScaleOf, ShapeError, Tensors, check_shapes
from .dora import DoRA
from .glora import GLoRA
from .ia3 import IA3
from .kron import LoKr
from .layer import Layer, cast_outside_autograd, kind_of
from .lowrank import LoHa, LowRank
from .orthogonal import BOFT, OFT


class Format(Protocol):
    """What the reader needs from a format's class."""

    @property
    def keys(self) -> Set[str]:
        """The suffixes of the tensors it uses."""

    def reads(self, tensors: Tensors) -> bool:
        """True if a module's tensors have this format."""

    def read(self, tensors: Tensors, layer: Layer, strength: float, scale_of: ScaleOf, dyn: int | None) -> Delta:
        """The delta that the tensors make on the layer."""


FORMATS: tuple[Format, ...] = (LowRank, LoHa, LoKr, GLoRA, IA3, OFT, BOFT, Full)

__all__ = [
    "FORMATS",
    "Additive",
    "Before",
    "Bias",
    "Delta",
    "Layer",
    "ScaleOf",
    "ShapeError",
    "cast_outside_autograd",
    "kind_of",
    "read_deltas",
]


def read_deltas(
    tensors: Tensors, layer: Layer, *, strength: float, scale_of: ScaleOf, dyn: int | None = None
) -> tuple[tuple[Delta, ...], set[str]]:
    """The deltas that a module's tensors make on a layer, and the suffixes used; `()` if no format matches.

    Raises: ShapeError if the tensors do not fit the layer.
    """
    check_shapes(all(tensor.numel() > 0 for tensor in tensors.values()))
    try:
        return _read(tensors, layer, strength, scale_of, dyn)
    except (IndexError, KeyError, RuntimeError, ValueError) as error:  # raised by inconsistent shapes
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

"""One class per LoRA format. To add a format, write its class and add it to FORMATS."""

from __future__ import annotations

from collections.abc import Set
from typing import Protocol

import torch
from torch import Tensor

from .base import Additive, Before, Delta, Full, Reading, ScaleOf, ShapeError, Tensors, check_shapes
from .bias import Bias, BiasFromHost
from .dora import DoRA
from .glora import GLoRA
from .ia3 import IA3, PeftIA3
from .kron import LoKr
from .layer import Layer, cast_outside_autograd, kind_of, without_autocast
from .lowrank import LoHa, LowRank, VeRA, wide
from .old_oft import OldPeftOFT
from .orthogonal import BOFT, OFT
from .residual import Residual, TLoRA
from .rotation import HRA, PeftBOFT, PeftOFT
from .whole import Whole


class Format(Protocol):
    """What the reader needs from a format's class."""

    @property
    def keys(self) -> Set[str]:
        """The suffixes of the tensors it uses."""

    def reads(self, tensors: Tensors) -> bool:
        """True if a module's tensors have this format."""

    def read(self, tensors: Tensors, layer: Layer, how: Reading) -> Delta:
        """The delta that the tensors make on the layer."""


FORMATS: tuple[Format, ...] = (
    LowRank, LoHa, LoKr, GLoRA, IA3, PeftIA3, OFT, BOFT, PeftOFT, PeftBOFT, OldPeftOFT, HRA, VeRA, TLoRA, Full,
)  # fmt: skip
_NUMBERS = frozenset({"alpha", "scale", "reshape_weight"})
"""They describe the other tensors of a module: its scale, and the shape of the weight it was made for."""
_SPARSE = frozenset({"bias_indices", "bias_values", "bias_size"})

__all__ = [
    "FORMATS",
    "Additive",
    "Before",
    "Bias",
    "Delta",
    "Layer",
    "Reading",
    "ScaleOf",
    "ShapeError",
    "cast_outside_autograd",
    "kind_of",
    "read_deltas",
    "without_autocast",
]


def read_deltas(tensors: Tensors, layer: Layer, how: Reading) -> tuple[tuple[Delta, ...], set[str]]:
    """The deltas that a module's tensors make on a layer, and the suffixes used; `()` if no format matches.

    Raises: ShapeError if the tensors do not fit the layer.
    """
    check_shapes(all(tensor.numel() > 0 for tensor in tensors.values()))
    try:
        return _read(tensors, layer, how)
    except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:  # raised by inconsistent shapes
        raise ShapeError from error


def _read(tensors: Tensors, layer: Layer, how: Reading) -> tuple[tuple[Delta, ...], set[str]]:
    deltas: list[Delta] = []
    used: set[str] = set()
    form: Format | None = next((form for form in FORMATS if form.reads(tensors)), None)
    if form is None and Whole.reads_with(tensors, how):
        form = Whole
    if form is not None:
        residual = form is LowRank and Residual.reads_with(tensors, how)
        delta = Residual.read(tensors, layer, how) if residual else form.read(tensors, layer, how)
        used |= (form.keys | _NUMBERS) & tensors.keys()
        scales = DoRA.keys & tensors.keys()
        if scales and isinstance(delta, Additive) and layer.kind != "norm":
            key = min(scales)
            delta = DoRA(delta, tensors[key], peft=key == "magnitude")
            used.add(key)
        deltas.append(delta)
        if "reshape_weight" in tensors:  # a LoRA for a weight that was enlarged first
            check_shapes(tensors["reshape_weight"].flatten().tolist() == list(layer.shape))
        if form is LowRank:
            deltas.extend(_rest_of_extraction(tensors, layer, how, used))
    deltas.extend(_biases(tensors, layer, how, used, deltas[0] if deltas else None))
    return tuple(deltas), used


def _rest_of_extraction(tensors: Tensors, layer: Layer, how: Reading, used: set[str]) -> list[Delta]:
    """What an extracted LoRA leaves out, a difference of the weight: `bias`, or sparse `bias_*` (LyCORIS)."""
    size = torch.Size(layer.shape).numel()
    if tensors.keys() >= _SPARSE:
        check_shapes(tensors["bias_size"].long().prod().item() == size)
        dense = torch.zeros(tensors["bias_size"].long().tolist(), dtype=wide(tensors["bias_values"]).dtype)
        rows, columns = tensors["bias_indices"].long()
        dense[rows, columns] = wide(tensors["bias_values"])
        used |= _SPARSE
    elif "bias" in tensors and tensors["bias"].numel() == size:
        dense = wide(tensors["bias"])
        used.add("bias")
    else:
        return []
    check_shapes(dense.numel() == size)
    return [Full(layer, how.strength * how.scale_of(tensors["lora_down"].shape[0]), dense.reshape(layer.shape))]


def _biases(tensors: Tensors, layer: Layer, how: Reading, used: set[str], main: Delta | None) -> list[Delta]:
    """The changes of the bias: differences, PEFT's bias of a LoRA, PEFT's whole biases, the part of PEFT's IA3."""
    deltas: list[Delta] = []
    for key in sorted(Bias.keys & tensors.keys()):
        deltas.append(Bias(layer, how.strength, tensors[key]))
        used.add(key)
    if "lora_bias" in tensors and "lora_down" in tensors:
        scale = how.scale_of(tensors["lora_down"].shape[0])
        deltas.append(Bias(layer, how.strength * scale, tensors["lora_bias"]))
        used.add("lora_bias")
    whole = _whole_bias(tensors, layer, how)
    if whole is not None:
        deltas.append(BiasFromHost.instead(layer, how.strength, wide(tensors[whole])))
        used.add(whole)
    if isinstance(main, PeftIA3) and main.bias_factor is not None and layer.bias is not None:
        deltas.append(BiasFromHost.times(layer, how.strength, main.bias_factor))
    return deltas


def _whole_bias(tensors: Tensors, layer: Layer, how: Reading) -> str | None:
    """The suffix of a bias that replaces the layer's own: `base_layer.bias`, or `bias` if PEFT's settings say so."""
    if "base_bias" in tensors:
        return "base_bias"
    told = how.options.get("bias", "none") != "none" or Whole.reads_with(tensors, how)
    return "bias" if told and "bias" in tensors and tensors["bias"].numel() == layer.shape[0] else None


def is_known(suffix: str) -> bool:
    """Whether any format uses tensors with this suffix."""
    keys = {"lora_bias", "base_bias", "bias"} | _NUMBERS | _SPARSE | DoRA.keys | Bias.keys
    return suffix in keys or any(suffix in form.keys for form in FORMATS)


def first_unknown(tensors: dict[str, Tensor]) -> str | None:
    """The first suffix that no format uses."""
    return next((suffix for suffix in tensors if not is_known(suffix)), None)

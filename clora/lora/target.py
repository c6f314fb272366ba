"""A layer that a LoRA can change, and finding layers in a module tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import nn

from .formats import Layer, kind_of

Pairs = list[tuple[str, str]]
"""The same layers or blocks under two names."""
Tables = Mapping[str, Mapping[str, "Target"]]
"""Component ("unet", "text_encoder", ...) -> flat name -> layer."""


@dataclass(frozen=True)
class Target:
    """A layer a LoRA can change. `part` names a slice of a fused nn.MultiheadAttention ("in", "q", "k", "v", "out").

    `row_axis` is the axis of the rows in the layer's input: 0, or 1 inside OpenCLIP towers that put tokens first.
    `block` is the UNet's block that the layer is in ("IN04", "M00", "OUT03"), "" for a layer that is in none.
    """

    module: nn.Module
    name: str
    part: str = ""
    row_axis: int = 0
    block: str = ""

    def layer(self) -> Layer:
        """The layer's shape and operation."""
        if not self.part:
            kind = kind_of(self.module)
            assert kind is not None, "the tables hold layers only"
            return Layer(self.module, kind)
        if self.part == "out":
            return Layer(self.module.out_proj, "linear")  # type: ignore[arg-type]
        width = int(self.module.embed_dim)  # type: ignore[arg-type]
        third = {"q": slice(0, width), "k": slice(width, 2 * width), "v": slice(2 * width, 3 * width)}.get(self.part)
        return Layer(self.module, "linear", weight="in_proj_weight", bias="in_proj_bias", rows=third)


@dataclass(frozen=True)
class LoraTargets:
    """The layers of a loaded model that LoRAs can change, and which base model it is.

    `base_model` is the name that LoRA files are matched with, None if unknown; `description` is for messages.
    """

    tables: Tables
    base_model: str | None = None
    description: str = "another model"


def named_layers(root: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(name, module) of all layers; PEFT's wrappers in the host count as the layer they wrap."""
    for name, module in root.named_modules():
        if kind_of(module) and not name.endswith(".base_layer"):
            yield name, module


def find_module(root: nn.Module, offers: tuple[str, ...]) -> nn.Module | None:
    """The first module, from the root down, that has all these attributes."""
    return next((module for module in root.modules() if all(hasattr(module, name) for name in offers)), None)

"""A LoRA file on a model's components, by the names that the model's family knows."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ..lora.file import LoraFile
from ..lora.resolve import AppliedLora, resolve_lora
from ..lora.target import Tables
from .base import ModelFamily
from .unet import UNetFamily


def lora_tables(components: Mapping[str, nn.Module], family: ModelFamily | None = None) -> Tables:
    """The layers that LoRAs can change: "unet", "text_encoder", "text_encoder_2" -> module, all that the model has."""
    family = family or UNetFamily()
    return {component: family.lora_targets(component, root) for component, root in components.items()}


def apply_lora(
    lora: LoraFile, components: Mapping[str, nn.Module], *, te: float, unet: float, dyn: int | None = None,
    family: ModelFamily | None = None,
) -> AppliedLora:  # fmt: skip
    """`resolve_lora` on a model's components. Raises: CLoRAError as there."""
    return resolve_lora(lora, lora_tables(components, family), te=te, unet=unet, dyn=dyn)

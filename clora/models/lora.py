"""A LoRA file on a model's components, by the names that the model's family knows."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ..lora.file import LoraFile
from ..lora.resolve import AppliedLora, resolve_lora
from ..lora.target import LoraTargets
from .base import ModelFamily
from .unet import UNetFamily


def lora_targets(components: Mapping[str, nn.Module], family: ModelFamily | None = None) -> LoraTargets:
    """The layers that LoRAs can change: "unet", "text_encoder", "text_encoder_2" -> module, all that the model has."""
    family = family or UNetFamily()
    tables = {component: family.lora_targets(component, root) for component, root in components.items()}
    return LoraTargets(tables, *family.base_model(components.get("unet")))


def apply_lora(
    lora: LoraFile, components: Mapping[str, nn.Module], *, te: float, unet: float, dyn: int | None = None,
    blocks: tuple[float, ...] = (), family: ModelFamily | None = None,
) -> AppliedLora:  # fmt: skip
    """`resolve_lora` on a model's components. Raises: CLoRAError as there."""
    return resolve_lora(lora, lora_targets(components, family), te=te, unet=unet, dyn=dyn, blocks=blocks)

"""What the engine needs to know of a diffusion model: its family, its rows, its memory."""

from __future__ import annotations

from torch import nn

from ..errors import CLoRAError
from .base import CrossAttention, ModelFamily
from .unet import UNetFamily

__all__ = ["FAMILIES", "CrossAttention", "ModelFamily", "UNetFamily", "family_of"]

FAMILIES: tuple[ModelFamily, ...] = (UNetFamily(),)


def family_of(model: nn.Module) -> ModelFamily:
    """The family of a diffusion model (a host's UNet or transformer).

    Raises: CLoRAError for a model of no known family (Flux or SD 3, for instance).
    """
    for family in FAMILIES:
        if family.matches(model):
            return family
    raise CLoRAError(
        f"CLoRA cannot compose with this model: {type(model).__name__} has no UNet cross-attention; "
        "load an SD 1.5, SD 2.x or SDXL checkpoint."
    )

"""A1111's loaded checkpoint."""

from __future__ import annotations

from typing import Any

from modules import shared
from torch import nn

from ..text_engines import text_engines


class A1111Engine:
    """What hooks and forwards need of `sd_model`."""

    def __init__(self, sd_model: Any) -> None:
        self.sd_model = sd_model
        self.text_engines = text_engines(sd_model)
        self.sdxl = hasattr(getattr(sd_model, "conditioner", None), "embedders")

    @property
    def unet(self) -> nn.Module:
        """The UNet whose layers LoRAs and the attention probe hook."""
        unet: nn.Module = self.sd_model.model.diffusion_model
        return unet

    def is_loaded(self) -> bool:
        """Whether the host still has this model (a refiner replaces it in the middle of a pass)."""
        return shared.sd_model is self.sd_model

"""Forge's engine of the loaded checkpoint."""

from __future__ import annotations

from typing import Any

from modules import shared
from torch import nn


class ForgeEngine:
    """What hooks and forwards need of `sd_model`. Its parts are read at each use, because Forge replaces them."""

    def __init__(self, sd_model: Any) -> None:
        self.sd_model = sd_model

    @property
    def patcher(self) -> Any:
        """The UNet's current patcher."""
        return self.sd_model.forge_objects.unet

    @property
    def unet(self) -> nn.Module:
        """The UNet whose layers LoRAs and the attention probe hook."""
        unet: nn.Module = self.patcher.model.diffusion_model
        return unet

    @property
    def noise_levels(self) -> Any:
        """The model's table of noise levels."""
        return self.patcher.model.predictor

    def is_loaded(self) -> bool:
        """Whether the host still has this model (a refiner replaces it in the middle of a pass)."""
        return shared.sd_model is self.sd_model

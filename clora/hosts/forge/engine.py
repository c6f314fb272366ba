"""Forge's engine of the loaded checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
        """The UNet whose layers LoRAs and the attention probe hook, without torch.compile's wrapper round it."""
        unet: nn.Module = self.patcher.model.diffusion_model
        # A compiled module has no length, so that its truth cannot be tested, and it ignores hooks added later.
        return getattr(unet, "_orig_mod", unet)

    @contextmanager
    def uncompiled(self) -> Iterator[Any]:
        """The host's model, which calls the UNet itself inside this block."""
        kmodel = self.patcher.model
        before, unet = kmodel.diffusion_model, self.unet
        if before is unet:
            yield kmodel
            return
        kmodel._modules["diffusion_model"] = unet
        try:
            yield kmodel
        finally:
            kmodel._modules["diffusion_model"] = before

    @property
    def noise_levels(self) -> Any:
        """The model's table of noise levels."""
        return self.patcher.model.predictor

    def is_loaded(self) -> bool:
        """Whether the host still has this model (a refiner replaces it in the middle of a pass)."""
        return shared.sd_model is self.sd_model

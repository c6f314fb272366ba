"""reForge's model: A1111's text front before Forge's patchers. Forge Classic is built the same."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ldm_patched.ldm.modules import attention
from torch import Tensor, nn

from modules.tiny_a1111 import Engine
from modules.tiny_forge import ForgeObjects, KModel, Predictor, UnetPatcher, denoiser
from modules.tiny_network import alphas, networks

__all__ = ["StableDiffusion", "denoiser", "load"]


class ReForgeKModel(KModel):
    """The UNet in sigma space, under reForge's name for the noise levels."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__(unet)
        self.model_sampling = self.predictor
        del self.predictor

    @property
    def noise_levels(self) -> Predictor:
        """Under reForge's name."""
        return self.model_sampling


class StableDiffusion(nn.Module):
    """`shared.sd_model`: a module as A1111's is, with `forge_objects`."""

    cond_stage_key = "txt"
    kind = "reforge"

    def __init__(self) -> None:
        super().__init__()
        unet, text = networks(in_place=True, attention=(attention, "optimized_attention"))
        self.cond_stage_model = Engine(text)
        self.model = nn.Module()
        self.model.diffusion_model = unet
        self.forge_objects_original = ForgeObjects(UnetPatcher(ReForgeKModel(unet)))
        self.forge_objects_after_applying_lora = self.forge_objects_original.shallow_copy()
        self.forge_objects = self.forge_objects_original.shallow_copy()
        self.register_buffer("alphas_cumprod", alphas())
        self.unet_module, self.text_module = unet, text

    def get_learned_conditioning(self, texts: Sequence[str]) -> Tensor:
        """Contexts of texts."""
        return self.cond_stage_model(texts)


def load() -> StableDiffusion:
    """The checkpoint, as the first job loads it: in inference mode."""
    with torch.inference_mode():
        return StableDiffusion()

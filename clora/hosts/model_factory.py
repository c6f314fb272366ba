"""Makes the adapter for the host's loaded model. Can be imported inside a WebUI only."""

from __future__ import annotations

from typing import Any

from modules import shared

from ..errors import CLoRAError
from .text_engines import text_engines


def loaded_model() -> Any:
    """The adapter of the model that is loaded now, by what the model offers. Raises: CLoRAError if there is none."""
    model = shared.sd_model
    if hasattr(model, "forge_objects"):
        # reForge and Forge Classic read prompts as A1111 does; Forge and Neo have text engines of their own.
        if text_engines(model):
            from .reforge import ReForgeModel

            return ReForgeModel(model)
        from .forge import ForgeModel

        return ForgeModel(model)
    if hasattr(model, "get_learned_conditioning") and hasattr(getattr(model, "model", None), "diffusion_model"):
        from .a1111 import A1111Model

        return A1111Model(model)
    raise CLoRAError("No Stable Diffusion model is loaded: choose a checkpoint and wait until it is loaded.")

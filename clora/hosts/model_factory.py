"""Makes the adapter for the host's loaded model. Can be imported inside a WebUI only."""

from __future__ import annotations

from typing import Any

from modules import shared

from ..errors import CLoRAError


def loaded_model() -> Any:
    """The adapter of the model that is loaded now, by what the model offers. Raises: CLoRAError if there is none."""
    model = shared.sd_model
    if hasattr(model, "forge_objects"):
        from .a1111.engine import text_engines
        from .forge import ForgeModel
        from .reforge import ReForgeModel

        # reForge and Forge Classic read prompts as A1111 does; Forge and Neo have text engines of their own.
        return ReForgeModel(model) if text_engines(model) else ForgeModel(model)
    if hasattr(model, "get_learned_conditioning") and hasattr(getattr(model, "model", None), "diffusion_model"):
        from .a1111 import A1111Model

        return A1111Model(model)
    raise CLoRAError("No Stable Diffusion model is loaded: choose a checkpoint and wait until it is loaded.")

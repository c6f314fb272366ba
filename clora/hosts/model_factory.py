"""Makes the adapter for the host's loaded model. Can be imported inside a WebUI only."""

from __future__ import annotations

from typing import Any

from modules import shared

from ..errors import CLoRAError


def loaded_model() -> Any:
    """The adapter of the model that is loaded now, Forge's or A1111's. Raises: CLoRAError if there is none."""
    model = shared.sd_model
    if hasattr(model, "forge_objects"):
        from .forge import ForgeModel

        return ForgeModel(model)
    if hasattr(model, "get_learned_conditioning") and hasattr(getattr(model, "model", None), "diffusion_model"):
        from .a1111 import A1111Model

        return A1111Model(model)
    raise CLoRAError("No Stable Diffusion model is loaded: choose a checkpoint and wait until it is loaded.")

"""A1111's text engines in a loaded model, which reForge and Forge Classic have too."""

from __future__ import annotations

from typing import Any


def text_engines(sd_model: Any) -> list[Any]:
    """The host's wrappers of text models: one, SDXL's two, or none."""
    embedders = getattr(getattr(sd_model, "conditioner", None), "embedders", ())
    found = [engine for engine in embedders if hasattr(engine, "tokenize_line")]
    single = getattr(sd_model, "cond_stage_model", None)
    return found or ([single] if hasattr(single, "tokenize_line") else [])

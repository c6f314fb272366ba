"""CLoRA: contrastive test-time composition of several LoRAs in one picture (arXiv 2403.19776)."""

from __future__ import annotations

from typing import Any

__version__ = "1.0.0"
__all__ = ["CLoRAError", "Settings", "compose"]

_HOMES = {"CLoRAError": "clora.errors", "Settings": "clora.settings", "compose": "clora.hosts.diffusers"}


def __getattr__(name: str) -> Any:
    # Imported when asked for, so that reading prompts or errors does not load torch.
    if name not in _HOMES:
        raise AttributeError(f"module 'clora' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)

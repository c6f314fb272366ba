"""reForge and Forge Classic: A1111's text encoding before Forge's UNet patchers."""

from .model import ReForgeModel

__all__ = ["ReForgeModel"]

"""Forge's model and sampler. A wrapper around the UNet answers the host's evaluations with fused predictions."""

from .model import ForgeModel

__all__ = ["ForgeModel"]

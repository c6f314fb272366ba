"""AUTOMATIC1111's WebUI."""

from .model import A1111Model

__all__ = ["A1111Model"]

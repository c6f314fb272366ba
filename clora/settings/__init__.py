"""The one table of settings, and what derives from it."""

from .presets import PRESETS
from .setting import Setting
from .table import BY_NAME, METHODS, SETTINGS, Settings

__all__ = ["BY_NAME", "METHODS", "PRESETS", "SETTINGS", "Setting", "Settings"]

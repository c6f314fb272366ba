"""The one table of settings, and what derives from it."""

from .presets import FORMER, PRESETS, START, preset_name
from .setting import Setting
from .table import BY_NAME, METHODS, SETTINGS, Settings

__all__ = [
    "BY_NAME",
    "FORMER",
    "METHODS",
    "PRESETS",
    "SETTINGS",
    "START",
    "Setting",
    "Settings",
    "preset_name",
]

"""The one table of settings, and what derives from it."""

from .groups import GROUPS
from .presets import FORMER, PRESETS, START, preset_name
from .setting import Setting
from .table import BY_NAME, METHODS, SETTINGS, Settings

__all__ = [
    "BY_NAME",
    "FORMER",
    "GROUPS",
    "METHODS",
    "PRESETS",
    "SETTINGS",
    "START",
    "Setting",
    "Settings",
    "preset_name",
]

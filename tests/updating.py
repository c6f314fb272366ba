"""Settings for tests of updates and of masks that are cut on the way: the defaults look ahead and refine nothing."""

from __future__ import annotations

from typing import Any

from clora.settings import PRESETS, START, Settings

UPDATES: dict[str, Any] = {"update_until": 0.5, "refine_at": (0.0, 0.2, 0.4), "look_ahead": 0.0, "own_places": 0.0}
"""Updates in half of the steps, with refine steps; no look-ahead, so that masks begin with those of updates."""


def updating(preset: str = START, **values: Any) -> Settings:
    """Settings of a preset with `UPDATES` where neither it nor `values` say otherwise."""
    return Settings(preset, **{**UPDATES, **PRESETS[preset], **values})

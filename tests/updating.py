"""Settings for tests of updates, of rows, and of masks that are cut on the way: the defaults look ahead, refine nothing
and have less of the LoRAs in the unconditional rows."""

from __future__ import annotations

from typing import Any

from clora.settings import PRESETS, START, Settings

UPDATES: dict[str, Any] = {
    "update_until": 0.5, "refine_at": (0.0, 0.2, 0.4), "look_ahead": 0.0, "own_places": 0.0, "look_guidance": 1.0,
}  # fmt: skip
"""Updates in half of the steps, with refine steps; no look-ahead, so that masks begin with those of updates; all of the
LoRAs in both halves of the guidance batch."""


def updating(preset: str = START, **values: Any) -> Settings:
    """Settings of a preset with `UPDATES` where neither it nor `values` say otherwise."""
    return Settings(preset, **{**UPDATES, **PRESETS[preset], **values})

"""The built-in presets: their differences from the defaults, and the names that they had before."""

from __future__ import annotations

from typing import Any

from ..errors import CLoRAError, shown

# How the defaults were chosen: docs/research/defaults.md.
PRESETS: dict[str, dict[str, Any]] = {
    # No updates, for subjects that appear by themselves.
    "fast": {"update_until": 0.0, "look_ahead": 0.1},
    "balanced": {},
    # One row of the model per concept, for comparison with the single pass.
    "exact": {"fusion": "exact"},
    # The authors' notebook and code: both halves of the batch, noise from before the update, lambda * max.
    "paper": {
        "step_size": 20.0, "update_until": 0.5, "refine_at": (0.0, 0.2, 0.4), "refine_tolerance": 0.0, "maps": "both",
        "noise": "stale", "look_ahead": 0.0, "own_places": 0.0, "stress": 1.0, "style_from": 0.0, "look_guidance": 1.0,
        "hint_pull": 1.0, "fusion": "exact", "fuse_from": 0.0, "mask_words": "all", "mask_threshold": 0.4,
        "mask_scale": "max", "mask_grid": "map", "mask_smooth": False, "mask_overlap": "average",
    },
}  # fmt: skip
START = "balanced"
"""The preset where none is chosen: the defaults of all settings."""
FORMER = {"default": "balanced", "best": "exact"}
"""The presets by the names that they had before; scripts, options and requests may still have these."""


def preset_name(name: str) -> str:
    """The preset's name of today for one that it had before; other names stay."""
    return FORMER.get(name, name)


def preset_values(name: object) -> dict[str, Any]:
    """What a preset sets. Raises: CLoRAError if there is no preset of that name."""
    today = preset_name(name) if isinstance(name, str) else ""
    if today not in PRESETS:
        raise CLoRAError(f"There is no preset {shown(name)}: give one of {', '.join(PRESETS)}.")
    return PRESETS[today]

"""The built-in presets: their differences from the defaults."""

from __future__ import annotations

from typing import Any

# How the default was chosen: docs/research/defaults.md.
PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    # One row of the model per concept: the reference for the default's single pass.
    "exact": {"fusion": "exact"},
    # No updates, for subjects that appear by themselves.
    "fast": {"update_until": 0.0, "look_ahead": 0.1},
    # The authors' notebook and code: both halves of the batch, noise from before the update, lambda * max.
    "paper": {
        "step_size": 20.0, "update_until": 0.5, "refine_at": (0.0, 0.2, 0.4), "refine_tolerance": 0.0, "maps": "both",
        "noise": "stale", "look_ahead": 0.0, "own_places": 0.0, "stress": 1.0, "fusion": "exact", "fuse_from": 0.0,
        "mask_words": "all", "mask_threshold": 0.4, "mask_scale": "max", "mask_grid": "map", "mask_smooth": False,
        "mask_overlap": "average",
    },
}  # fmt: skip

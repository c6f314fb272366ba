"""The built-in presets: what each changes of the defaults."""

from __future__ import annotations

from typing import Any

# What won on the tuning split of benchmarks/composition is the default (docs/quality.md).
PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    # A row of the model for each concept, and all updates: what the default's short cuts are measured against.
    "exact": {"refine_tolerance": 0.0, "fusion": "exact"},
    # No update at all: where subjects appear by themselves.
    "fast": {"update_until": 0.0},
    # The authors' notebook and code: both halves of the batch, noise from before the update, lambda * max.
    "paper": {
        "step_size": 20.0, "refine_tolerance": 0.0, "maps": "both", "noise": "stale", "fusion": "exact",
        "fuse_from": 0.0, "mask_words": "all", "mask_threshold": 0.4, "mask_scale": "max", "mask_grid": "map",
        "mask_smooth": False, "mask_overlap": "average",
    },
}  # fmt: skip

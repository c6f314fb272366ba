"""The groups in which the panel shows the settings, and their order there."""

from __future__ import annotations

# The table's own order is another one: the panel's values come in it, so it stays.
GROUPS: dict[str, tuple[str, ...]] = {
    "Show": ("show_masks", "preview_masks", "show_maps", "show_loss", "show_merge"),
    "Detail pass": ("detail", "detail_strength", "detail_steps", "detail_size"),
    "Composing": (
        "method", "fusion", "look_guidance", "stress", "style_from", "hires", "shared_uncond", "variants_every",
        "compose_until", "fuse_from", "rows_per_forward",
    ),
    "Places": ("look_ahead", "own_places", "hint_masks", "hint_pull", "hint_move"),
    "Masks": (
        "mask_threshold", "mask_scale", "mask_overlap", "mask_grid", "mask_words", "mask_every", "mask_until",
        "mask_smooth", "mask_dilate", "mask_erode", "mask_open", "mask_close",
    ),
    "Updates": (
        "step_size", "update_until", "refine_at", "refine_updates", "refine_tolerance", "update_cap", "update_layers",
        "temperature", "maps", "noise",
    ),
}  # fmt: skip
"""Every setting once, by its group's heading."""

"""Colours and sizes shared by all explaining pictures."""

from __future__ import annotations

# The palette of Okabe and Ito, which is safe for colour blindness, without its black.
PALETTE = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (240, 228, 66), (213, 94, 0), (0, 114, 178),
)  # fmt: skip
BACKDROP = (24, 24, 24)
"""Background of sheets and strips."""
LIGHT_TEXT = (240, 240, 240)
"""Text on the backdrop."""
MIN_SIZE = 512
"""Longer side in pixels that pictures are enlarged to, so that names stay readable on small pictures."""


def concept_color(concept: int) -> tuple[int, int, int]:
    """The colour of concept number `concept` (from 0) in pictures, panel and prompt."""
    return PALETTE[concept % len(PALETTE)]

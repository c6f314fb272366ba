"""Colours and sizes that all explaining pictures share."""

from __future__ import annotations

# Okabe and Ito's palette: told apart with every kind of colour blindness. Black is left to the base.
PALETTE = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (240, 228, 66), (213, 94, 0), (0, 114, 178),
)  # fmt: skip
GROUND = (24, 24, 24)
"""Behind pictures on a sheet."""
BRIGHT = (240, 240, 240)
"""Text on the ground."""
SMALLEST = 512
"""Explanations are drawn at least this large, so that names stay readable over small pictures."""


def concept_color(concept: int) -> tuple[int, int, int]:
    """The colour of concept `concept` (0-based) in every picture, panel and prompt."""
    return PALETTE[concept % len(PALETTE)]

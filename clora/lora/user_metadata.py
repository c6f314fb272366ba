"""The user's metadata of a LoRA: the JSON file that WebUIs write beside it ("Edit metadata")."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import CLoRAError, printable

_MAX_SIZE = 10_000_000


@dataclass(frozen=True)
class LoraNotes:
    """The LoRA's activation text and description ("" if none), and its preferred weight (0 if none)."""

    activation: str = ""
    weight: float = 0.0
    description: str = ""


def read_notes(path: Path) -> LoraNotes:
    """The metadata beside a LoRA file (`name.json`); empty if it is missing, damaged or of another kind."""
    try:
        notes = path.with_suffix(".json")
        # A pipe would never end, and what a user types is short.
        if not notes.is_file() or notes.stat().st_size > _MAX_SIZE:
            return LoraNotes()
        found = json.loads(notes.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return LoraNotes()
    if not isinstance(found, dict):
        return LoraNotes()
    weight = 0.0
    with suppress(TypeError, ValueError, OverflowError):
        weight = float(found.get("preferred weight") or 0.0)
    activation, description = (_line(found.get(key)) for key in ("activation text", "description"))
    return LoraNotes(activation.strip(" ,"), weight if math.isfinite(weight) else 0.0, description)


def _line(text: object) -> str:
    return " ".join(printable(text).split()) if isinstance(text, str) else ""


def notes_of_files(path_of: Callable[[str], Path]) -> Callable[[str], LoraNotes]:
    """LoRA name -> the notes beside its file, empty for a LoRA that `path_of` does not know."""

    def notes(name: str) -> LoraNotes:
        try:
            return read_notes(path_of(name))
        except (CLoRAError, KeyError):
            return LoraNotes()

    return notes

"""A picture's parameters pasted into the prompt: what of them the page's controls take over, and a note of it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CLoRAError
from ..settings import SETTINGS
from ..settings.infotext import PREFIX, field_name, read_infotext, read_setting

CORRECTIONS = f"{PREFIX} corrections"
_NUMBERS = {"Steps": ("steps", 1, 100), "CFG scale": ("guidance", 1, 20), "Seed": ("seed", 0, 2**53)}
"""Fields that are a number here: the control, and its range."""


@dataclass(frozen=True)
class Taken:
    """What goes into the controls by name: prompt, negative, steps, guidance, seed, width, height, corrections and the
    settings; a control that is not named stays as it is. `note` tells it all.
    """

    values: Mapping[str, Any]
    note: str


def taken_from(text: str, model: Path | None) -> Taken | None:
    """What a text says that holds a picture's parameters, None where it holds none; `model` is the one that draws."""
    found = read_infotext(text)
    if found is None:
        return None
    values: dict[str, Any] = {"prompt": found.prompt, "negative": found.negative}
    left = [name for name in found.fields if not name.startswith(PREFIX) and name not in _NUMBERS]
    left = [name for name in left if name not in ("Size", "Model", "Lora hashes", "Version")]
    for name, (control, low, high) in _NUMBERS.items():
        if name in found.fields:
            number = _number(found.fields[name])
            if low <= number <= high:
                values[control] = number if control == "guidance" else int(number)
            else:
                left.append(name)
    size = re.fullmatch(r"(\d+)x(\d+)", found.fields.get("Size", ""))
    if size:
        values |= {"width": int(size[1]), "height": int(size[2])}
    told = ["the prompts", *(name for name in (*_NUMBERS, "Size") if name in found.fields and name not in left)]
    if PREFIX in found.fields:
        values["corrections"] = found.fields.get(CORRECTIONS, "")
        left += _settings_into(values, found.fields)
        told.append("CLoRA's settings")
    else:
        left.append("CLoRA's settings, which it does not have")
    return Taken(values, _note(told, left, found.fields.get("Model", ""), model.stem if model else "clora-world"))


def _settings_into(values: dict[str, Any], fields: Mapping[str, str]) -> list[str]:
    """Add every setting; the names of those that cannot be read, which stay as they are."""
    wrong = []
    for setting in SETTINGS:
        try:
            values[setting.name] = read_setting(setting, fields)
        except CLoRAError:
            wrong.append(field_name(setting))
    known = {PREFIX, CORRECTIONS, *map(field_name, SETTINGS)}
    return [*wrong, *(name for name in fields if name.startswith(f"{PREFIX} ") and name not in known)]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _note(told: list[str], left: list[str], drew: str, draws: str) -> str:
    note = f"Taken over from the pasted parameters: {', '.join(told)}."
    if left:
        note += f" Left out: {', '.join(left)}."
    if drew and drew != draws:
        note += f' The picture was drawn with the model "{drew}", here "{draws}" draws.'
    return note

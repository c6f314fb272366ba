"""A picture's parameters pasted into the prompt: the values for the page's controls, and a note about them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..embedded import EMBEDDED_NAME
from ..errors import CLoRAError, cut
from ..hosts.diffusers.sampling import MAX_SIDE
from ..settings import SETTINGS
from ..settings.infotext import CORRECTIONS, MASKS, PREFIX, field_name, read_infotext, read_setting

_NUMBERS = {"Steps": ("steps", 1, 100), "CFG scale": ("guidance", 1, 20), "Seed": ("seed", 0, 2**53)}
"""Numeric fields: the control's name and its range."""
MAX_NAMED = 40
"""Ignored fields that the note names."""


@dataclass(frozen=True)
class Pasted:
    """Values by the name of their control: prompt, negative, steps, guidance, seed, width, height, corrections and
    settings. Other controls stay as they are. `note` says what was applied and what was ignored.
    """

    values: Mapping[str, Any]
    note: str


def read_pasted(text: str, model: Path | None) -> Pasted | None:
    """The parameters in a text, None if it contains none; `model` is the current model."""
    pasted = read_infotext(text)
    if pasted is None:
        return None
    values: dict[str, Any] = {"prompt": pasted.prompt, "negative": pasted.negative}
    ignored = [name for name in pasted.fields if not name.startswith(PREFIX) and name not in _NUMBERS]
    ignored = [name for name in ignored if name not in ("Size", "Model", "Lora hashes", "Version")]
    for name, (control, low, high) in _NUMBERS.items():
        if name in pasted.fields:
            number = _number(pasted.fields[name])
            if low <= number <= high:
                values[control] = number if control == "guidance" else int(number)
            else:
                ignored.append(name)
    size = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", pasted.fields.get("Size", ""))
    if size and max(int(size[1]), int(size[2])) <= MAX_SIDE:
        values |= {"width": int(size[1]), "height": int(size[2])}
    elif "Size" in pasted.fields:
        ignored.append("Size")
    applied = ["the prompts", *(name for name in (*_NUMBERS, "Size") if name in pasted.fields and name not in ignored)]
    if PREFIX in pasted.fields:
        values["corrections"] = pasted.fields.get(CORRECTIONS, "")
        ignored += _settings_into(values, pasted.fields)
        applied.append("CLoRA's settings")
    else:
        ignored.append("CLoRA's settings, which they do not contain")
    return Pasted(
        values, _note(applied, ignored, pasted.fields.get("Model", ""), model.stem if model else EMBEDDED_NAME)
    )


def _settings_into(values: dict[str, Any], fields: Mapping[str, str]) -> list[str]:
    """Add every setting; returns the names of those that cannot be read, whose controls stay as they are."""
    wrong = []
    for setting in SETTINGS:
        try:
            values[setting.name] = read_setting(setting, fields)
        except CLoRAError:
            wrong.append(field_name(setting))
    known = {PREFIX, CORRECTIONS, MASKS, *map(field_name, SETTINGS)}
    return [*wrong, *(name for name in fields if name.startswith(f"{PREFIX} ") and name not in known)]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _note(applied: list[str], ignored: list[str], pasted_model: str, current_model: str) -> str:
    note = f"Applied from the pasted parameters: {', '.join(applied)}."
    if ignored:
        note += f" Ignored: {', '.join(map(cut, ignored[:MAX_NAMED]))}{', ...' if len(ignored) > MAX_NAMED else ''}."
    if pasted_model and pasted_model != current_model:
        note += f' The picture was made with the model "{cut(pasted_model)}"; the current model is "{current_model}".'
    return note

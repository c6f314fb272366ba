"""The user's corrections of the prompt analysis: read from text or JSON, written as text, changed by a cell."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from ..errors import CLoRAError, cut, printable, shown
from ..prompt import WordsOverride
from ..prompt.region import Painted
from ..settings.infotext import MASKS, quote
from .painted_region import is_painted, read_painted

CORRECTION_FIELDS = ("words", "trigger", "role", "place", "say")


def read_corrections(given: Any) -> dict[str, WordsOverride]:
    """Corrections from JSON ({"name": {"words": ...}}) or from lines `name: words=cat, trigger=sks, role=style`.

    `place` may be a painted region: its run-length text, or in JSON an image as a data URL.
    Raises: CLoRAError if they cannot be read.
    """
    if isinstance(given, str):
        text = printable(given).strip()
        if not text.startswith("{"):
            return dict(_read_line(line) for line in text.splitlines() if line.strip())
        try:
            given = json.loads(text)
        except (ValueError, RecursionError):
            raise CLoRAError(
                'The corrections are not valid JSON: correct them, or write lines such as "name: words=cat, '
                'trigger=sks".'
            ) from None
    if not isinstance(given, Mapping):
        raise CLoRAError(
            f'The field corrections cannot be {shown(given)}: use {{"name": {{"words": "cat"}}}} or lines.'
        )
    return {printable(str(name)): _correction(printable(str(name)), value) for name, value in given.items()}


def readable_corrections(given: Any) -> tuple[dict[str, WordsOverride], str]:
    """The corrections that can be read, and the message about the others, "" if there are none."""
    text = printable(given).strip() if isinstance(given, str) else ""
    if not text or text.startswith("{"):
        try:
            return read_corrections(given), ""
        except CLoRAError as error:
            return {}, str(error)
    found: dict[str, WordsOverride] = {}
    problems: list[str] = []
    for line in text.splitlines():
        try:
            found |= read_corrections(line)
        except CLoRAError as error:
            problems.append(str(error))
    return found, " ".join(problems)


def _read_line(line: str) -> tuple[str, WordsOverride]:
    name, colon, rest = line.partition(":")
    parts = dict[str, str]()
    for piece in rest.split(","):
        key, equals, value = piece.partition("=")
        if not equals and parts:
            # A comma inside a value is part of the value.
            last = next(reversed(parts))
            parts[last] = f"{parts[last]},{piece}".strip()
        else:
            parts[key.strip()] = value.strip()
    if not colon or not name.strip():
        raise CLoRAError(
            f'The correction "{cut(line.strip())}" cannot be read: write it as "name: words=cat, trigger=sks".'
        )
    return name.strip(), _correction(name.strip(), parts)


def _correction(name: str, given: Any) -> WordsOverride:
    if not isinstance(given, Mapping) or any(key not in CORRECTION_FIELDS for key in given):
        raise CLoRAError(
            f'The correction for "{cut(name)}" cannot be {shown(given)}: the fields are {", ".join(CORRECTION_FIELDS)}.'
        )
    if any(not isinstance(value, str) for value in given.values()):
        raise CLoRAError(f'The correction for "{cut(name)}" contains a value that is not text: {shown(given)}.')
    # One line each, as they are written into the infotext.
    values = {str(key): " ".join(printable(value).splitlines()) for key, value in given.items() if value}
    if is_painted(values.get("place", "")):
        painted = read_painted(values.pop("place"), name)
        return replace(_override(values), painted=painted, nothing_painted=painted is None)
    return _override(values)


def _override(values: Mapping[str, str]) -> WordsOverride:
    words, trigger, role, place, say = map(values.get, CORRECTION_FIELDS)
    return WordsOverride(words, trigger, role, place, say=say)


def write_corrections(corrections: Mapping[str, WordsOverride]) -> str:
    """Corrections as lines that `read_corrections` reads back."""
    lines = []
    for name, one in corrections.items():
        values = {key: getattr(one, key) for key in CORRECTION_FIELDS}
        if one.painted is not None:
            values["place"] = one.painted.typed
        parts = [f"{key}={value}" for key, value in values.items() if value]
        if parts:
            lines.append(f"{name}: {', '.join(parts)}")
    return "\n".join(lines)


def masks_field(names: Sequence[str], masks: Tensor) -> str:
    """The masks (V, h, w), the base first, as ", CLoRA masks: ..." for the end of an infotext; "" if all are empty.

    Its lines are corrections that make each mask the place of its concept, by its name in `names`; the canvas can start
    from them.
    """
    named = zip(names, masks[1:], strict=True)
    rows = {name: WordsOverride(painted=Painted((mask > 0).float().cpu())) for name, mask in named if bool(mask.any())}
    return f", {MASKS}: {quote(write_corrections(rows))}" if rows else ""


def with_changed_cell(change: str, corrections: str) -> str:
    """The corrections after a cell of the table changed; an emptied cell removes its correction.

    `change` is JSON {"lora": name, "key": one of CORRECTION_FIELDS, "value": text} from the page's script.
    Raises: CLoRAError if `change` or `corrections` cannot be read.
    """
    try:
        cell = json.loads(change)
        name, key, value = (printable(str(cell[part])).strip() for part in ("lora", "key", "value"))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CLoRAError(f"The changed cell cannot be read: {shown(change)}.") from None
    if key not in CORRECTION_FIELDS:
        raise CLoRAError(f"The cell {shown(key)} cannot be edited.")
    known: Mapping[str, WordsOverride] = read_corrections(corrections)
    changes: dict[str, Any] = {key: value or None}
    if key == "place":
        region = _correction(name, {"place": value})
        changes = {"place": region.place, "painted": region.painted}
    if key == "words" and value:  # a subject's words make the LoRA a concept
        changes["role"] = None
    return write_corrections({**known, name: replace(known.get(name, WordsOverride()), **changes)})

"""What a user asks for, from the panel's values or the API's dict."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import CLoRAError
from ..prompt import WordsOverride
from ..settings import BY_NAME, SETTINGS, Settings
from .painted import is_painted, read_painted

CORRECTION = ("words", "trigger", "role", "place")
FIELDS = ("enabled", "preset", "corrections", *BY_NAME)


@dataclass(frozen=True)
class Request:
    """Settings of one job, and the user's corrections of what the prompt's analysis chose, by LoRA name."""

    settings: Settings
    corrections: Mapping[str, WordsOverride] = field(default_factory=dict)


def read_request(args: Sequence[Any]) -> Request | None:
    """A request, or None when CLoRA is off.

    `args` are the panel's values (enabled, one for each setting in the table's order, corrections) or a single dict.
    Errors: CLoRAError naming the field and what is allowed.
    """
    if args and isinstance(args[0], Mapping):
        if len(args) > 1 and any(isinstance(value, Mapping) for value in args[1:]):
            raise CLoRAError("CLoRA's args hold more than one object: put every field into the first.")
        return _from_dict(args[0])
    if not args or not args[0]:
        return None
    if args[0] is not True:
        raise CLoRAError(f"The field enabled cannot be {args[0]!r}: give true or false, or an object with fields.")
    values = dict(zip([s.name for s in SETTINGS], args[1:], strict=False))
    rest = args[1 + len(SETTINGS) :]
    return Request(Settings(**values), read_corrections(rest[0] if rest else ""))


def _from_dict(given: Mapping[str, Any]) -> Request | None:
    for name in given:
        if name not in FIELDS:
            near = difflib.get_close_matches(str(name), FIELDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the fields are {', '.join(FIELDS)}."
            raise CLoRAError(f"There is no field {name!r}: {hint}")
    enabled = given.get("enabled", True)
    if not isinstance(enabled, bool):
        raise CLoRAError(f"The field enabled cannot be {enabled!r}: give true or false.")
    values = {name: value for name, value in given.items() if name in BY_NAME}
    settings = Settings(given.get("preset", "default"), **values)
    corrections = read_corrections(given.get("corrections", {}))
    return Request(settings, corrections) if enabled else None


def read_corrections(given: Any) -> dict[str, WordsOverride]:
    """Corrections from JSON ({"name": {"words": ..}}) or from lines `name: words=cat, trigger=sks, role=style`.

    In JSON a place may be a painted mask, as a data URL.
    """
    if isinstance(given, str):
        text = given.strip()
        if not text.startswith("{"):
            return dict(_read_line(line) for line in text.splitlines() if line.strip())
        try:
            given = json.loads(text)
        except ValueError:
            raise CLoRAError("The corrections are not JSON: write lines like  name: words=cat, trigger=sks") from None
    if not isinstance(given, Mapping):
        raise CLoRAError(f'The field corrections cannot be {given!r}: give {{"name": {{"words": "cat"}}}} or lines.')
    return {str(name): _correction(str(name), value) for name, value in given.items()}


def _read_line(line: str) -> tuple[str, WordsOverride]:
    name, colon, rest = line.partition(":")
    parts = dict[str, str]()
    for piece in rest.split(","):
        key, equals, value = piece.partition("=")
        if not equals and parts:
            # A comma inside a value belongs to it.
            last = next(reversed(parts))
            parts[last] = f"{parts[last]},{piece}".strip()
        else:
            parts[key.strip()] = value.strip()
    if not colon or not name.strip():
        raise CLoRAError(f'The correction "{line.strip()}" cannot be read: write  name: words=cat, trigger=sks')
    return name.strip(), _correction(name.strip(), parts)


def _correction(name: str, given: Any) -> WordsOverride:
    if not isinstance(given, Mapping) or any(key not in CORRECTION for key in given):
        raise CLoRAError(f'The correction of "{name}" cannot be {given!r}: give {", ".join(CORRECTION)}.')
    if any(not isinstance(value, str) for value in given.values()):
        raise CLoRAError(f'The correction of "{name}" holds a value that is not text: {given!r}.')
    values = {key: value for key, value in given.items() if value}
    if is_painted(values.get("place", "")):
        painted = read_painted(values.pop("place"), name)
        return WordsOverride(**values, painted=painted)
    return WordsOverride(**values)


def write_corrections(corrections: Mapping[str, WordsOverride]) -> str:
    """Lines that `read_corrections` reads back."""
    lines = []
    for name, one in corrections.items():
        parts = [f"{key}={getattr(one, key)}" for key in CORRECTION if getattr(one, key)]
        if parts:
            lines.append(f"{name}: {', '.join(parts)}")
    return "\n".join(lines)

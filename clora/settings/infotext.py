"""Generation parameters as text in the WebUI's format."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import SETTINGS, Setting, Settings

PREFIX = "CLoRA"
CORRECTIONS = f"{PREFIX} corrections"
"""The field with the user's corrections, one line for each LoRA."""
MASKS = f"{PREFIX} masks"
"""The field of a picture of masks with the masks, as corrections that set them as places."""
NEGATIVE = "Negative prompt:"
_FIELD = re.compile(r'\s*(\w[\w \-/]*):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')


def infotext_fields(settings: Settings) -> dict[str, str]:
    """CLoRA's fields for the infotext: `CLoRA: on` and every setting that differs from its default."""
    changed = settings.changed()
    fields = {PREFIX: "on"}
    for setting in SETTINGS:
        if setting.name in changed:
            fields[field_name(setting)] = setting.text(changed[setting.name])
    return fields


def field_name(setting: Setting) -> str:
    """The setting's key in an infotext."""
    return f"{PREFIX} {setting.label.lower()}"


def read_setting(setting: Setting, fields: Mapping[str, Any]) -> Any:
    """A setting's value from an infotext's fields, or its default. Raises: CLoRAError for an invalid value."""
    text = fields.get(field_name(setting))
    return setting.default if text is None else setting.parse(text)


def quote(value: str) -> str:
    """A value as the WebUI's parser expects it: in double quotes if it has a comma, colon, quote or line break."""
    if not any(mark in value for mark in ',:\n"'):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def infotext(prompt: str, negative: str, fields: Mapping[str, object]) -> str:
    """Prompt, negative prompt and fields in the WebUI's format."""
    lines = [prompt]
    if negative:
        lines.append(f"{NEGATIVE} {negative}")
    lines.append(", ".join(f"{name}: {quote(str(value))}" for name, value in fields.items()))
    return "\n".join(lines)


@dataclass(frozen=True)
class Infotext:
    """A picture's parameters: prompt, negative prompt, and the fields of the last line."""

    prompt: str
    negative: str
    fields: Mapping[str, str]


def read_infotext(text: str) -> Infotext | None:
    """The parameters in a text written by `infotext` or a WebUI, None for other text.

    The last line of such a text starts with Steps and has more fields.
    """
    *lines, last = text.strip().split("\n")
    fields = {match[1]: _unquote(match[2]) for match in _FIELD.finditer(last)}
    if not re.match(r"\s*Steps: *\d+ *,", last) or len(fields) < 3:
        return None
    begin = next((i for i, line in enumerate(lines) if line.strip().startswith(NEGATIVE)), len(lines))
    negative = "\n".join(lines[begin:]).strip().removeprefix(NEGATIVE)
    return Infotext("\n".join(lines[:begin]).strip(), negative.strip(), fields)


def _unquote(value: str) -> str:
    try:
        return str(json.loads(value)) if value.startswith('"') else value.strip()
    except (ValueError, RecursionError):
        return value

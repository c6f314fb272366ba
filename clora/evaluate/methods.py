"""The methods to compare: built-in names, or own settings as `NAME:key=value,...`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import CLoRAError
from ..settings import PRESETS, SETTINGS, START, Settings, preset_name

KNOWN = {
    "merge": Settings(method="merge"),
    "composite": Settings(method="composite"),
    "switch": Settings(method="switch"),
    "clora": Settings(),
    **{name: Settings(preset=name) for name in PRESETS},
}
DEFAULT = ("merge", "composite", "switch", "clora")
_NO_EFFECT_ON_PICTURES = {"rows_per_forward"}  # changes memory and time only


@dataclass(frozen=True)
class Method:
    """A method: one row of the tables."""

    name: str
    settings: Settings

    def deciding(self) -> dict[str, Any]:
        """All settings that affect a picture; defaults too, so that a changed default changes the picture's key."""
        names = [s.name for s in SETTINGS if not s.webui_only and s.name not in _NO_EFFECT_ON_PICTURES]
        return {name: getattr(self.settings, name) for name in names}


def read_methods(texts: Iterable[str]) -> tuple[Method, ...]:
    """The methods of the command line. Raises: CLoRAError for unknown or repeated names and for invalid settings."""
    methods = tuple(map(_read, texts))
    names = [method.name for method in methods]
    for name in names:
        if names.count(name) > 1:
            raise CLoRAError(
                f'The method "{name}" is named twice: use a different name for each, as in "mine:step_size=10".'
            )
    return methods


def _read(text: str) -> Method:
    name, colon, given = (part.strip() for part in text.partition(":"))
    if not colon:
        known = KNOWN.get(preset_name(name))
        if known is None:
            raise CLoRAError(
                f'There is no method "{name}": use {", ".join(KNOWN)}, or your own settings as in '
                f'"{name or "mine"}:step_size=10,mask_threshold=0.4".'
            )
        return Method(name, known)
    if not re.fullmatch(r"[\w.-]+", name):
        raise CLoRAError(
            f'The method "{text}" needs a name before the colon, made of letters, digits, "_", "-" and ".".'
        )
    values: dict[str, Any] = {}
    for pair in re.split(r",(?=\s*[a-z][\w-]*\s*=)", given):  # a value may hold commas: refine_at=0.0,0.2
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals:
            raise CLoRAError(f'"{pair}" in the method "{text}" is not a setting: write key=value.')
        values[key.replace("-", "_")] = value
    base = values.pop("preset", START)
    try:
        return Method(name, Settings(preset=base, **values))
    except CLoRAError as error:
        raise CLoRAError(f'In the method "{name}": {error}') from error

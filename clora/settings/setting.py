"""One setting: its kind, range and texts, and how a value is read and written."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ..errors import CLoRAError, shown

MAX_FRACTIONS = 100
"""Numbers in a list of fractions; no sampler has as many steps that differ."""


@dataclass(frozen=True)
class Setting:
    """One setting. `kind` is float, int, bool, choice or fractions (a list of parts of the steps, each 0..1).

    `webui_only` settings have no effect outside a WebUI.
    """

    name: str
    kind: str
    choices: tuple[str, ...]
    default: Any
    label: str
    help: str
    low: float = 0.0
    high: float = 1.0
    webui_only: bool = False

    @property
    def step(self) -> float:
        """The step of a slider."""
        return 0.01 if self.high <= 10 else 1.0

    @property
    def allowed(self) -> str:
        """The allowed values in words, for help and messages."""
        if self.kind == "choice":
            return "one of " + ", ".join(self.choices)
        if self.kind == "bool":
            return "true or false"
        if self.kind == "fractions":
            return f"at most {MAX_FRACTIONS} numbers from 0 to 1 separated by commas, or nothing"
        kind = "a whole number" if self.kind == "int" else "a number"
        return f"{kind} from {self.low:g} to {self.high:g}"

    def parse(self, value: Any) -> Any:
        """The value in its own type from text, JSON or Python. Raises: CLoRAError naming the setting and its range."""
        try:
            return self._parse(value)
        except (TypeError, ValueError, OverflowError, RecursionError):
            raise CLoRAError(f"The setting {self.name} cannot be {shown(value)}: give {self.allowed}.") from None

    def _parse(self, value: Any) -> Any:
        if self.kind == "choice":
            if value not in self.choices:
                raise ValueError
            return value
        if self.kind == "bool":
            if isinstance(value, bool):
                return value
            words = {"true": True, "1": True, "false": False, "0": False}
            if str(value).lower() not in words:
                raise ValueError
            return words[str(value).lower()]
        if self.kind == "fractions":
            if not isinstance(value, str | list | tuple):
                raise TypeError
            parts = value.split(",") if isinstance(value, str) else value
            if len(parts) > MAX_FRACTIONS:
                raise ValueError
            numbers = tuple(_number(part) for part in parts if not isinstance(part, str) or part.strip())
            if not all(0.0 <= number <= 1.0 for number in numbers):
                raise ValueError
            return numbers
        if isinstance(value, bool):
            raise ValueError
        number = _number(value)
        if not math.isfinite(number) or not self.low <= number <= self.high:
            raise ValueError
        if self.kind == "int":
            if number != int(number):
                raise ValueError
            return int(number)
        return number

    def text(self, value: Any) -> str:
        """The value as infotext and command line write it; `parse` reads it back."""
        if self.kind == "fractions":
            return ", ".join(f"{number:g}" for number in value)
        if self.kind == "bool":
            return "true" if value else "false"
        return f"{value:g}" if self.kind == "float" else str(value)


def _number(value: Any) -> float:
    """A number as JSON and the page write it: no digits of other scripts, no underscores."""
    if isinstance(value, str) and not (value.isascii() and "_" not in value):
        raise ValueError
    return float(value)


def setting(
    default: Any, label: str, help: str, *, low: float = 0.0, high: float = 1.0, webui_only: bool = False
) -> Any:
    """A dataclass field that is a setting: its default and what panel, API and command line say of it."""
    about = {"label": label, "help": help, "low": low, "high": high, "webui_only": webui_only}
    return field(default=default, metadata=about)


def settings_of(table: type) -> tuple[Setting, ...]:
    """The settings that the fields of a dataclass declare; kind and choices come from each field's type."""
    hints = get_type_hints(table)
    return tuple(
        Setting(one.name, *_kind(hints[one.name]), default=one.default, **one.metadata)
        for one in fields(table)
        if one.metadata
    )


def _kind(hint: Any) -> tuple[str, tuple[str, ...]]:
    if get_origin(hint) is Literal:
        return "choice", get_args(hint)
    names = {float: "float", int: "int", bool: "bool"}
    return names.get(hint, "fractions"), ()

"""What one job asks for, read from the panel's values or from the API's object."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import CLoRAError, shown
from ..prompt import WordsOverride
from ..settings import BY_NAME, SETTINGS, Settings
from .corrections import read_corrections

FIELDS = ("enabled", "preset", "corrections", *BY_NAME)


@dataclass(frozen=True)
class Request:
    """Settings of one job, and the user's corrections of the prompt analysis by LoRA name."""

    settings: Settings
    corrections: Mapping[str, WordsOverride] = field(default_factory=dict)


def read_request(args: Sequence[Any], *, even_off: bool = False) -> Request | None:
    """A request, or None if CLoRA is off; with `even_off` what it would be if CLoRA was on.

    `args` are the panel's values (enabled, one for each setting in the table's order, corrections) or a single dict.
    Raises: CLoRAError naming the field and its allowed values.
    """
    if args and isinstance(args[0], Mapping):
        if len(args) > 1 and any(isinstance(value, Mapping) for value in args[1:]):
            raise CLoRAError("CLoRA's args contain more than one object: put all fields into the first.")
        return _from_dict(args[0], even_off)
    if not args or not args[0]:
        if not even_off:
            return None
    elif args[0] is not True:
        raise CLoRAError(f"The field enabled cannot be {shown(args[0])}: use true or false, or an object with fields.")
    values = dict(zip([s.name for s in SETTINGS], args[1:], strict=False))
    rest = args[1 + len(SETTINGS) :]
    return Request(Settings(**values), read_corrections(rest[0] if rest else ""))


def _from_dict(given: Mapping[str, Any], even_off: bool) -> Request | None:
    for name in given:
        if name not in FIELDS:
            near = difflib.get_close_matches(str(name)[:40], FIELDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the fields are {', '.join(FIELDS)}."
            raise CLoRAError(f"There is no field {shown(name)}: {hint}")
    enabled = given.get("enabled", True)
    if not isinstance(enabled, bool):
        raise CLoRAError(f"The field enabled cannot be {shown(enabled)}: use true or false.")
    values = {name: value for name, value in given.items() if name in BY_NAME}
    settings = Settings(given.get("preset", "default"), **values)
    corrections = read_corrections(given.get("corrections", {}))
    return Request(settings, corrections) if enabled or even_off else None

"""What one job asks for, read from the panel's values or from the API's object."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..engine.plans import PlanRequest
from ..errors import CLoRAError, shown
from ..prompt import WordsOverride
from ..settings import BY_NAME, SETTINGS, START, Settings
from .corrections import read_corrections

FIELDS = ("enabled", "preset", "corrections", "plan", "plan_only", *BY_NAME)


@dataclass(frozen=True)
class Request:
    """Settings of one job, the user's corrections of the prompt analysis by LoRA name, and its wish about a plan."""

    settings: Settings
    corrections: Mapping[str, WordsOverride] = field(default_factory=dict)
    plan: PlanRequest | None = None


def read_request(args: Sequence[Any], *, even_off: bool = False) -> Request | None:
    """A request, or None if CLoRA is off; with `even_off` what it would be if CLoRA was on.

    `args` are the panel's values (enabled, one for each setting in the table's order, corrections, plan) or a single
    dict.
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
    plan = rest[1] if len(rest) > 1 else ""
    if not isinstance(plan, str | None):
        raise CLoRAError(f"The plan cannot be {shown(plan)}: use text.")
    return Request(Settings(**values), read_corrections(rest[0] if rest else ""), PlanRequest.of_text(plan or ""))


def _from_dict(given: Mapping[str, Any], even_off: bool) -> Request | None:
    for name in given:
        if name not in FIELDS:
            near = difflib.get_close_matches(str(name)[:40], FIELDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the fields are {', '.join(FIELDS)}."
            raise CLoRAError(f"There is no field {shown(name)}: {hint}")
    enabled, only, plan = given.get("enabled", True), given.get("plan_only", False), given.get("plan", "")
    for name, value in (("enabled", enabled), ("plan_only", only)):
        if not isinstance(value, bool):
            raise CLoRAError(f"The field {name} cannot be {shown(value)}: use true or false.")
    if not isinstance(plan, str):
        raise CLoRAError(f"The field plan cannot be {shown(plan)}: use text, the plan's name.")
    values = {name: value for name, value in given.items() if name in BY_NAME}
    settings = Settings(given.get("preset", START), **values)
    corrections = read_corrections(given.get("corrections", {}))
    wanted = PlanRequest(plan.strip(), only) if plan.strip() or only else None
    return Request(settings, corrections, wanted) if enabled or even_off else None

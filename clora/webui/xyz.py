"""Axes of the X/Y/Z plot, one for each setting."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..errors import CLoRAError
from ..hosts import host_api
from ..settings import BY_NAME, PRESETS, SETTINGS, Setting, Settings

KEY = "clora_xyz"
"""Attribute of the host's processing object with the plot's values by setting."""
TURNED_ON = "CLoRA was off: an axis [CLoRA] of the X/Y/Z plot has turned it on for the plot."


def add_axes(module: Any) -> None:
    """Add "[CLoRA] ..." axes to the loaded X/Y/Z plot script, once."""
    if any(option.label.startswith("[CLoRA]") for option in module.axis_options):
        return

    def add(name: str, label: str, kind: type, **more: Any) -> None:
        label = f"[CLoRA] {label}"
        option = module.AxisOption(label, kind, _vary(name), confirm=partial(_confirm, name, label), **more)
        module.axis_options.append(option)

    add("preset", "Quality", str, choices=lambda: list(PRESETS))
    for setting in SETTINGS:
        if setting.name.startswith(("show_", "preview_")):
            continue
        choices = _choices(setting)
        options: dict[str, Any] = {"choices": partial(list, choices)} if choices else {}
        add(setting.name, setting.label, _kind(setting), **options)


def _kind(setting: Setting) -> type:
    return {"float": float, "int": int}.get(setting.kind, str)


def _choices(setting: Setting) -> tuple[str, ...] | None:
    return ("true", "false") if setting.kind == "bool" else setting.choices or None


def _confirm(name: str, label: str, p: Any, values: Any) -> None:
    """Called by the host before it draws the first cell: what fails in a cell is a black cell in the plot.

    Raises: RefusedError for no value or a wrong one.
    """
    try:
        if not len(values):
            raise CLoRAError("there are no values; give at least one.")
        for value in values:
            _parsed(name, value)
    except CLoRAError as error:
        raise host_api.RefusedError(f"The axis {label} of the X/Y/Z plot: {error}") from None


def _parsed(name: str, value: Any) -> Any:
    """A value in its own type. Raises: CLoRAError."""
    if name == "preset":
        Settings(value)
        return value
    # Ranges are counted up in floats by the host: 0 to 1 may end at 1.0000000000000002.
    return BY_NAME[name].parse(round(value, 9) if isinstance(value, float) else value)


def _vary(name: str) -> Callable[[Any, Any, Any], None]:
    def apply(p: Any, value: Any, values: Any) -> None:
        # A new dict for each cell, because cells are shallow copies of p.
        setattr(p, KEY, {**getattr(p, KEY, {}), name: _parsed(name, value)})

    return apply

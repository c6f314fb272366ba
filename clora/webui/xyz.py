"""Axes of the X/Y/Z plot, one for each setting."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..settings import PRESETS, SETTINGS, Setting

KEY = "clora_xyz"
"""Attribute of the host's processing object with the plot's values by setting, checked when the cell is drawn."""


def add_axes(module: Any) -> None:
    """Add "[CLoRA] ..." axes to the loaded X/Y/Z plot script, once."""
    if any(option.label.startswith("[CLoRA]") for option in module.axis_options):
        return
    module.axis_options.append(module.AxisOption("[CLoRA] Preset", str, _vary("preset"), choices=lambda: list(PRESETS)))
    for setting in SETTINGS:
        if setting.name.startswith(("show_", "preview_")):
            continue
        choices = _choices(setting)
        options: dict[str, Any] = {"choices": partial(list, choices)} if choices else {}
        label = f"[CLoRA] {setting.label}"
        module.axis_options.append(module.AxisOption(label, _kind(setting), _vary(setting.name), **options))


def _kind(setting: Setting) -> type:
    return {"float": float, "int": int}.get(setting.kind, str)


def _choices(setting: Setting) -> tuple[str, ...] | None:
    return ("true", "false") if setting.kind == "bool" else setting.choices or None


def _vary(name: str) -> Callable[[Any, Any, Any], None]:
    def apply(p: Any, value: Any, values: Any) -> None:
        # A new dict for each cell, because cells are shallow copies of p.
        setattr(p, KEY, {**getattr(p, KEY, {}), name: value})

    return apply

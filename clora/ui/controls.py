"""The control of each setting, and the values and updates of the controls."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import gradio as gr

from ..settings import BY_NAME, GROUPS, SETTINGS, Setting, Settings

IMMEDIATE: dict[str, Any] = {"show_progress": False, "queue": False}
"""Options of the panel's events: they answer quickly and must not wait behind pictures in gradio's queue."""


def build_controls(tab: str, hidden: Collection[str]) -> dict[str, Any]:
    """The control of every setting by name, below the headings of their groups; those in `hidden` are not shown."""
    controls = {}
    for heading, names in GROUPS.items():
        seen = [name for name in names if name not in hidden]
        gr.HTML(f"<h4>{heading}</h4>", elem_classes=["clora-group"], visible=bool(seen))
        for start in range(0, len(seen), 2):
            with gr.Row():
                for name in seen[start : start + 2]:
                    controls[name] = _control(BY_NAME[name], tab)
    for name in hidden:
        controls[name] = _control(BY_NAME[name], tab, visible=False)
    return controls


def _control(setting: Setting, tab: str, visible: bool = True) -> Any:
    """The control of one setting."""
    common: dict[str, Any] = {"label": setting.label, "info": setting.help, "visible": visible}
    common["elem_id"] = f"{tab}_clora_{setting.name}"
    if setting.kind == "bool":
        return gr.Checkbox(setting.default, elem_classes=["clora-check"], **common)
    if setting.kind == "choice":
        return gr.Dropdown(list(setting.choices), value=setting.default, **common)
    if setting.kind == "fractions":
        return gr.Textbox(setting.text(setting.default), **common)
    step = 1 if setting.kind == "int" else setting.step
    return gr.Slider(setting.low, setting.high, value=setting.default, step=step, **common)


def control_value(setting: Setting, value: Any) -> Any:
    """A setting's value as its control shows it."""
    return setting.text(value) if setting.kind == "fractions" else value


def control_updates(settings: Settings) -> list[Any]:
    """Gradio updates that set all controls to these settings."""
    return [gr.update(value=control_value(setting, getattr(settings, setting.name))) for setting in SETTINGS]


def settings_from(values: tuple[Any, ...]) -> Settings:
    """The settings from the values of all controls. Raises: CLoRAError for an invalid value."""
    return Settings(**dict(zip([setting.name for setting in SETTINGS], values, strict=False)))

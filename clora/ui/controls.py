"""The control of each setting, and the values and updates of the controls."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ..settings import SETTINGS, START, Setting, Settings

BASIC = ("method", "step_size", "update_until", "refine_updates", "mask_threshold", "mask_overlap")
"""Settings that are always visible; the others are under "Advanced"."""
IMMEDIATE: dict[str, Any] = {"show_progress": False, "queue": False}
"""Options of the panel's events: they answer quickly and must not wait behind pictures in gradio's queue."""


def build_controls(tab: str, presets: list[str]) -> tuple[dict[str, Any], Any]:
    """The control of every setting by name, and the preset's, which is not a setting itself."""
    by_name = {setting.name: setting for setting in SETTINGS}
    components = {}
    with gr.Row():
        preset = gr.Dropdown(
            presets, value=START, label="Preset", elem_id=f"{tab}_clora_preset",
            info="Sets all settings below at once.",
            allow_custom_value=True,  # "fast (changed)" is not among the choices
        )  # fmt: skip
        components[BASIC[0]] = _control(by_name[BASIC[0]], tab)
    for first in range(1, len(BASIC), 2):
        with gr.Row():
            for name in BASIC[first : first + 2]:
                components[name] = _control(by_name[name], tab)
    with gr.Accordion("Advanced", open=False):
        rest = [setting for setting in SETTINGS if setting.name not in BASIC]
        for start in range(0, len(rest), 2):
            with gr.Row():
                for setting in rest[start : start + 2]:
                    components[setting.name] = _control(setting, tab)
    return components, preset


def _control(setting: Setting, tab: str) -> Any:
    """The control of one setting."""
    common = {"label": setting.label, "info": setting.help, "elem_id": f"{tab}_clora_{setting.name}"}
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

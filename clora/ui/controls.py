"""The control of each setting, what a control shows, and how its events run."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ..settings import SETTINGS, Setting, Settings

FIRST = ("method", "step_size", "update_until", "refine_updates", "mask_threshold", "mask_overlap")
"""Settings in sight; the others are under "Advanced"."""
QUIET: dict[str, Any] = {"show_progress": False, "queue": False}
"""Of every event of the panel: short answers, which need no place in a queue behind pictures."""


def build_controls(tab: str, presets: list[str]) -> tuple[dict[str, Any], Any]:
    """The control of every setting by name, and the preset's, which is no setting of its own."""
    by_name = {setting.name: setting for setting in SETTINGS}
    components = {}
    with gr.Row():
        preset = gr.Dropdown(
            presets, value="default", label="Preset", elem_id=f"{tab}_clora_preset",
            info="Sets all settings below at once.",
            allow_custom_value=True,  # "fast (changed)" is none of the choices
        )  # fmt: skip
        components[FIRST[0]] = _control(by_name[FIRST[0]], tab)
    for first in range(1, len(FIRST), 2):
        with gr.Row():
            for name in FIRST[first : first + 2]:
                components[name] = _control(by_name[name], tab)
    with gr.Accordion("Advanced", open=False):
        rest = [setting for setting in SETTINGS if setting.name not in FIRST]
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


def shown(setting: Setting, value: Any) -> Any:
    """A setting's value as its control shows it."""
    return setting.text(value) if setting.kind == "fractions" else value


def all_shown(settings: Settings) -> list[Any]:
    """Updates of all controls to these settings."""
    return [gr.update(value=shown(setting, getattr(settings, setting.name))) for setting in SETTINGS]


def settings_of(values: tuple[Any, ...]) -> Settings:
    """The settings that all controls together say. Errors: CLoRAError."""
    return Settings(**dict(zip([setting.name for setting in SETTINGS], values, strict=False)))

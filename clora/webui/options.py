"""The extension's section on the WebUI's settings page: how the panel begins."""

from __future__ import annotations

import gradio as gr

from ..hosts import front
from .presets import PresetFile

BEGIN_ON, BEGIN_PRESET = "clora_begin_on", "clora_begin_preset"


def preset_file() -> PresetFile:
    """The user's own presets, beside the WebUI's own settings."""
    return PresetFile(front.data_folder() / "clora-presets.json")


def add() -> None:
    """Add the section; the host calls this when it builds its settings page."""
    front.add_option(BEGIN_ON, False, "Begin with CLoRA open and on", gr.Checkbox)
    front.add_option(
        BEGIN_PRESET, "default", "Begin with this preset", gr.Dropdown,
        lambda: {"choices": preset_file().read().names},
    )  # fmt: skip


def begin() -> tuple[bool, str]:
    """Whether a new tab begins with CLoRA on, and with which preset."""
    return bool(front.option(BEGIN_ON, False)), str(front.option(BEGIN_PRESET, "default") or "default")

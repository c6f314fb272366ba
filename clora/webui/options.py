"""The extension's section on the WebUI's settings page: the state in which the panel opens."""

from __future__ import annotations

import gradio as gr

from ..hosts import host_api
from ..settings import FORMER, START, preset_name
from ..ui.preset_file import PresetFile

BEGIN_ON, BEGIN_PRESET = "clora_begin_on", "clora_begin_preset"


def preset_file() -> PresetFile:
    """The user's own presets, beside the WebUI's own settings."""
    return PresetFile(host_api.data_folder() / "clora-presets.json")


def add() -> None:
    """Add the section; the host calls this when it builds its settings page."""
    host_api.add_option(BEGIN_ON, False, "Start with CLoRA open and switched on", gr.Checkbox)
    host_api.rename_value(BEGIN_PRESET, FORMER)
    host_api.add_option(
        BEGIN_PRESET, START, "Start with this quality", gr.Dropdown,
        lambda: {"choices": preset_file().read().names},
    )  # fmt: skip


def begin() -> tuple[bool, str]:
    """Whether CLoRA is on in a new tab, and its preset there."""
    return bool(host_api.option(BEGIN_ON, False)), preset_name(str(host_api.option(BEGIN_PRESET, START) or START))

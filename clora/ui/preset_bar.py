"""The panel's presets: the drop-down "Quality", and the user's own with a name field, Save and Delete."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ..errors import CLoRAError
from ..settings import SETTINGS, START, Settings, preset_name
from .controls import IMMEDIATE, control_updates, settings_from
from .messages import note_html, notes_html, problem_html
from .preset_file import CHANGED_SUFFIX, PresetFile, UserPresets


@dataclass(frozen=True)
class PresetSource:
    """The file of the user's presets, and how a new tab starts: (whether CLoRA is on, name of the preset)."""

    file: PresetFile
    startup: Callable[[], tuple[bool, str]]


_STARTED = '<span class="clora-begun"></span>'
"""Tells javascript/clora.js that the start event was answered."""


class PresetBar:
    """The drop-down, created where it is to appear; then `add_own`, and `wire` once all controls exist."""

    name: Any
    save: Any
    delete: Any
    answer: Any

    def __init__(self, tab: str, source: PresetSource) -> None:
        self.source = source
        self.preset = gr.Dropdown(
            self._read().names, value=START, label="Quality", elem_id=f"{tab}_clora_preset",
            info="balanced is right most often, fast takes less time; exact and paper are for comparison. "
            "Sets all settings below.",
            allow_custom_value=True,  # "fast (changed)" is not among the choices
        )  # fmt: skip
        self.message = gr.HTML("", elem_id=f"{tab}_clora_preset_said", elem_classes=["clora-message"])
        # Clicked by javascript/clora.js when the page is loaded; hidden by style.css.
        self.start = gr.Button("", elem_id=f"{tab}_clora_begin", elem_classes=["clora-hidden"])
        for component in (self.preset, self.start):
            component.do_not_save_to_config = True

    def add_own(self, tab: str) -> None:
        """Name field and buttons for the user's own presets."""
        gr.HTML("<h4>Your presets</h4>", elem_classes=["clora-group"])
        self.name = gr.Textbox(
            "", label="Name", elem_id=f"{tab}_clora_preset_name", max_lines=1,
            info="Save stores all settings under this name. Delete removes the preset that is chosen in Quality.",
        )  # fmt: skip
        with gr.Row():  # a row of their own keeps both at the same size at any width
            self.save = gr.Button("Save", elem_id=f"{tab}_clora_preset_save", size="sm", min_width=80)
            self.delete = gr.Button("Delete", elem_id=f"{tab}_clora_preset_delete", size="sm", min_width=80)
        self.answer = gr.HTML("", elem_id=f"{tab}_clora_preset_answer", elem_classes=["clora-message"])
        for component in (self.name, self.save, self.delete):
            component.do_not_save_to_config = True

    def wire(self, enabled: Any, controls: list[Any]) -> tuple[Any, ...]:
        """Connect the events; returns the function, inputs and outputs of the start event."""
        preset = self.preset
        preset.input(self._select, [preset], [self.message, *controls], **IMMEDIATE)
        self.save.click(self._save, [self.name, *controls], [self.answer, preset], **IMMEDIATE)
        self.delete.click(self._delete, [preset, *controls], [self.answer, preset], **IMMEDIATE)
        start_event: tuple[Any, ...] = (self._start, [], [self.message, enabled, preset, *controls])
        self.start.click(*start_event, **IMMEDIATE)
        return start_event

    def shown_name(self, name: str | None, values: Sequence[Any]) -> str:
        """The name that the selection shows: the preset's, with "(changed)" if the controls differ from it."""
        presets = self._read()
        base = presets.base(name or "")
        try:
            same = presets.named(base) == settings_from(tuple(values))
        except CLoRAError:
            same = False
        return base if same else base + CHANGED_SUFFIX

    def _select(self, name: str) -> list[Any]:
        try:
            return ["", *control_updates(self._read().named(name.removesuffix(CHANGED_SUFFIX)))]
        except CLoRAError as error:
            return [problem_html(str(error)), *_unchanged()]

    def _save(self, name: str, *values: Any) -> tuple[str, Any]:
        try:
            saved = self.source.file.save(name or "", settings_from(values))
        except CLoRAError as error:
            return problem_html(str(error)), gr.update()
        return note_html(f'Saved as "{saved}".'), gr.update(choices=self._read().names, value=saved)

    def _delete(self, name: str | None, *values: Any) -> tuple[str, Any]:
        """The settings stay as they are, so the selection shows "balanced (changed)" unless they are its."""
        name = (name or "").removesuffix(CHANGED_SUFFIX)
        try:
            self.source.file.delete(name)
        except CLoRAError as error:
            return problem_html(str(error)), gr.update()
        selection = gr.update(choices=self._read().names, value=self.shown_name(START, values))
        return note_html(f'Deleted "{name}".'), selection

    def _start(self) -> list[Any]:
        """The user's presets and start options at each load of the page; the page itself is built once for all tabs."""
        presets = self._read()
        on, name = self.source.startup()
        name = preset_name(name)
        message, controls = _STARTED + notes_html(presets.problems), _unchanged()
        try:
            settings = presets.named(name)
            if settings != Settings():
                controls = control_updates(settings)
        except CLoRAError as error:
            message, name = message + problem_html(str(error)), START
        selection = gr.update(choices=presets.names, value=name)
        return [message, gr.update(value=True) if on else gr.update(), selection, *controls]

    def _read(self) -> UserPresets:
        return self.source.file.read()


def _unchanged() -> list[Any]:
    """Updates that leave all controls as they are."""
    return [gr.update() for _ in SETTINGS]

"""The panel's presets: the choice, and where the page keeps the user's own, a name box with Save and Delete."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ..errors import CLoRAError
from ..settings import SETTINGS, Settings
from .controls import QUIET, all_shown, settings_of
from .messages import note_html, notes_html, problem_html
from .presets import CHANGED, OwnPresets, PresetFile


@dataclass(frozen=True)
class Keeping:
    """Where a page keeps presets, and how its user wants a new tab to begin: ticked or not, and with which preset."""

    file: PresetFile
    begin: Callable[[], tuple[bool, str]]


_BEGUN = '<span class="clora-begun"></span>'
"""Tells javascript/clora.js that the page has begun."""


class PresetBar:
    """Name box and buttons; made where they are to stand, wired by `wire` when all controls are there."""

    def __init__(self, tab: str, keeping: Keeping) -> None:
        self.keeping = keeping
        with gr.Accordion("Your presets", open=False):
            self.name = gr.Textbox(
                "", label="Name", elem_id=f"{tab}_clora_preset_name", max_lines=1,
                info="Save keeps the settings of this panel under a name; Delete takes out the chosen preset.",
            )  # fmt: skip
            with gr.Row():  # of their own, for one size of both whatever the width
                self.save = gr.Button("Save", elem_id=f"{tab}_clora_preset_save", size="sm", min_width=80)
                self.delete = gr.Button("Delete", elem_id=f"{tab}_clora_preset_delete", size="sm", min_width=80)
        self.said = gr.HTML("", elem_id=f"{tab}_clora_preset_said", elem_classes=["clora-message"])
        # Pressed by javascript/clora.js when the page is there; hidden by style.css.
        self.begin = gr.Button("", elem_id=f"{tab}_clora_begin", elem_classes=["clora-hidden"])
        for component in (self.name, self.save, self.delete, self.begin):
            component.do_not_save_to_config = True

    def wire(self, enabled: Any, preset: Any, controls: list[Any]) -> tuple[Any, ...]:
        """Let the choice, the buttons and the page's start do their work; the start's function, inputs and outputs."""
        preset.input(self._chosen, [preset], [self.said, *controls], **QUIET)
        self.save.click(self._saved, [self.name, *controls], [self.said, preset], **QUIET)
        self.delete.click(self._deleted, [preset, *controls], [self.said, preset], **QUIET)
        beginning: tuple[Any, ...] = (self._begun, [], [self.said, enabled, preset, *controls])
        self.begin.click(*beginning, **QUIET)
        return beginning

    def shown(self, name: str | None, values: Sequence[Any]) -> str:
        """What the choice shows: a preset's name, and a word with it where the controls say something else."""
        own = self._read()
        base = own.base(name or "")
        try:
            same = own.named(base) == settings_of(tuple(values))
        except CLoRAError:
            same = False
        return base if same else base + CHANGED

    def _chosen(self, name: str) -> list[Any]:
        try:
            return ["", *all_shown(self._read().named(name.removesuffix(CHANGED)))]
        except CLoRAError as error:
            return [problem_html(str(error)), *_same()]

    def _saved(self, name: str, *values: Any) -> tuple[str, Any]:
        try:
            saved = self.keeping.file.save(name or "", settings_of(values))
        except CLoRAError as error:
            return problem_html(str(error)), gr.update()
        return note_html(f'Saved as "{saved}".'), gr.update(choices=self._read().names, value=saved)

    def _deleted(self, name: str | None, *values: Any) -> tuple[str, Any]:
        """The settings stay; the choice goes back to the default, which they may not be."""
        name = (name or "").removesuffix(CHANGED)
        try:
            self.keeping.file.delete(name)
        except CLoRAError as error:
            return problem_html(str(error)), gr.update()
        left = gr.update(choices=self._read().names, value=self.shown("default", values))
        return note_html(f'Deleted "{name}".'), left

    def _begun(self) -> list[Any]:
        """The user's presets and wishes, at each load of the page: the page itself is built once for all tabs."""
        own = self._read()
        on, name = self.keeping.begin()
        said, controls = _BEGUN + notes_html(own.problems), _same()
        try:
            settings = own.named(name)
            if settings != Settings():
                controls = all_shown(settings)
        except CLoRAError as error:
            said, name = said + problem_html(str(error)), "default"
        return [said, gr.update(value=True) if on else gr.update(), gr.update(choices=own.names, value=name), *controls]

    def _read(self) -> OwnPresets:
        return self.keeping.file.read()


def _same() -> list[Any]:
    """Controls that stay as they are."""
    return [gr.update() for _ in SETTINGS]

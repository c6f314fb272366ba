"""The panel in txt2img and img2img: built from the table of settings, the same in gradio 3.41 and 4.40."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import gradio as gr

from ..errors import CLoRAError
from ..estimate import estimate
from ..infotext import PREFIX, field_name
from ..settings import PRESETS, SETTINGS, Setting
from .concept_table import edited, message_html, table_html
from .controls import build_controls, settings_of, shown
from .corrected_prompt import written_into
from .messages import note_html, problem_html
from .preset_bar import Keeping, PresetBar, choose
from .report import Report
from .request import read_corrections, write_corrections

Reader = Callable[..., Report]
"""(prompt, negative prompt, corrections, then the values of `Page.also`) -> report."""


@dataclass(frozen=True)
class Page:
    """What the panel reads of the tab it is on: prompt, negative prompt, the slider of the steps, the button.

    The values of the components in `also` are given to the reader as they are. Controls of the settings in `without`
    are not shown: they mean nothing on that page.
    """

    prompt: Any
    negative: Any
    steps: Any
    generate: Any
    also: tuple[Any, ...] = ()
    without: tuple[str, ...] = ()


@dataclass
class Panel:
    """The inputs of the script, and what restores each from an infotext.

    `reading` are function, inputs and outputs that read the prompt into the table, for a page that does so at events
    of its own.
    """

    inputs: list[Any]
    infotext_fields: list[tuple[Any, Any]] = field(default_factory=list)
    reading: tuple[Any, ...] = ()


def build(
    accordion: Callable[..., Any], reader: Reader, *, is_img2img: bool, page: Page | None,
    keeping: Keeping | None = None,
) -> Panel:  # fmt: skip
    """Build the panel into the page that is being built. Without `page` nothing is wired (the host builds
    the panel once more to learn its defaults). `keeping` is for a page that keeps the user's own presets."""
    tab = "img2img" if is_img2img else "txt2img"
    with accordion(False, label="CLoRA", elem_id=f"{tab}_clora") as enabled:
        gr.HTML(_intro(), elem_classes=["clora-intro"])
        refresh = gr.Button("Read the prompt", elem_id=f"{tab}_clora_refresh", size="sm")
        message = gr.HTML("", elem_id=f"{tab}_clora_message", elem_classes=["clora-message"])
        table = gr.HTML(table_html(()), elem_id=f"{tab}_clora_table")
        write = gr.Button("Write the table into the prompt", elem_id=f"{tab}_clora_write", size="sm")
        corrections = gr.Textbox(
            "", label="Corrections", lines=2, elem_id=f"{tab}_clora_corrections",
            placeholder="blackcat: words=cat, trigger=sks, place=left",
            info="What you change in the table, one line per LoRA with words=, trigger=, role= or place=.",
        )  # fmt: skip
        # Written by javascript/clora.js when a cell of the table changes; hidden by style.css.
        cell = gr.Textbox("", show_label=False, elem_id=f"{tab}_clora_cell", elem_classes=["clora-hidden"])
        components, preset = build_controls(tab, keeping.file.read().names if keeping else list(PRESETS))
        bar = PresetBar(tab, keeping) if keeping else None
        for name in page.without if page else ():
            components[name].visible = False
    inputs = [enabled, *(components[setting.name] for setting in SETTINGS), corrections]
    for component in (*components.values(), corrections, preset, cell):
        component.do_not_save_to_config = True
    settings = [components[setting.name] for setting in SETTINGS]
    if bar is None:
        choose(preset, settings)
    else:
        bar.wire(enabled, preset, settings)
    cell.change(_edit, [cell, corrections], [corrections, message], show_progress=False)
    panel = Panel(inputs, _infotext_fields(enabled, components, corrections))
    if page is not None:
        told = [page.prompt, page.negative, corrections, page.steps, *settings, *page.also]
        shown = [message, table]
        written = [page.prompt, corrections, message]
        write.click(_write, [page.prompt, corrections], written, show_progress=False)
        refresh.click(_read_with(reader), told, shown, show_progress=False)
        page.generate.click(_read_if_on(reader), [enabled, *told], shown, show_progress=False, queue=False)
        # After a wrong correction the table stays, for the cell to be corrected again.
        corrections.change(_read_with(reader, keep_table=True), told, shown, show_progress=False)
        panel.reading = (_read_with(reader), told, shown)
    return panel


def _infotext_fields(enabled: Any, components: Mapping[str, Any], corrections: Any) -> list[tuple[Any, Any]]:
    """What reads each control's value back: a setting that the infotext leaves out has its default."""

    def reader(setting: Setting) -> Callable[[Mapping[str, Any]], Any]:
        def read(found: Mapping[str, Any]) -> Any:
            if PREFIX not in found:
                return None
            text = found.get(field_name(setting))
            try:
                return shown(setting, setting.default if text is None else setting.parse(text))
            except CLoRAError:
                return None  # a value that this version does not know leaves the control alone

        return read

    fields: list[tuple[Any, Any]] = [(enabled, lambda found: found.get(PREFIX) == "on")]
    fields += [(components[setting.name], reader(setting)) for setting in SETTINGS]
    lines = f"{PREFIX} corrections"
    fields.append((corrections, lambda found: found.get(lines, "") if PREFIX in found else None))
    return fields


def _edit(change: str, corrections: str) -> tuple[Any, Any]:
    """Corrections and message after a cell of the table changed."""
    try:
        return edited(change, corrections), gr.update()
    except CLoRAError as error:
        return gr.update(), message_html(Report(False, problem=str(error)))


def _write(prompt: str, corrections: str) -> tuple[Any, Any, Any]:
    """The prompt with the corrections in its tags, the corrections that are left, and a message."""
    try:
        given = read_corrections(corrections or "")
        text, rest = written_into(prompt or "", given)
    except CLoRAError as error:
        return gr.update(), gr.update(), problem_html(str(error))
    if len(rest) == len(given):
        return gr.update(), gr.update(), note_html("No cell of the table differs from the prompt.")
    return text, write_corrections(rest), gr.update()


def _read_with(reader: Reader, *, keep_table: bool = False) -> Callable[..., tuple[str, Any]]:
    def read(prompt: str, negative: str, corrections: str, steps: float, *values: Any) -> tuple[str, Any]:
        found = reader(prompt or "", negative or "", corrections or "", *values[len(SETTINGS) :])
        cost = ""
        if found.composes:
            try:
                cost = estimate(settings_of(values), len(found.variants) - 1, int(steps)).sentence
            except CLoRAError as error:
                found = replace(found, problem=str(error))
        table = gr.update() if keep_table and found.problem and not found.rows else table_html(found.rows)
        return message_html(found, cost), table

    return read


def _read_if_on(reader: Reader) -> Callable[..., tuple[Any, Any]]:
    read = _read_with(reader)

    def on_generate(enabled: bool, *told: Any) -> tuple[Any, Any]:
        return read(*told) if enabled else (gr.update(), gr.update())

    return on_generate


def _intro() -> str:
    return (
        "<p>Each LoRA draws its own subject. Write each tag before its subject's words: "
        "<code>&lt;lora:blackcat:1&gt; a cat and &lt;lora:browndog:1&gt; a dog on grass</code></p>"
    )

"""The panel in txt2img and img2img: built from the table of settings, the same in gradio 3.41 and 4.40."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from ..errors import CLoRAError
from ..settings import SETTINGS, Setting
from ..settings.infotext import PREFIX, read_setting
from .concept_table import HINT, edited
from .controls import QUIET, build_controls, shown
from .corrected_prompt import written_into
from .messages import note_html, problem_html
from .preset_bar import Keeping, PresetBar
from .reading import Reader, cost_html, read_if_on, read_with
from .request import read_corrections, write_corrections


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

    `reading` are function, inputs and outputs that read the prompt into the table, and `beginning` those that begin
    a tab with the user's presets, for a page that does so at events of its own.
    """

    inputs: list[Any]
    infotext_fields: list[tuple[Any, Any]] = field(default_factory=list)
    reading: tuple[Any, ...] = ()
    beginning: tuple[Any, ...] = ()


def build(
    accordion: Callable[..., Any], reader: Reader, *, is_img2img: bool, page: Page | None, keeping: Keeping
) -> Panel:
    """Build the panel into the page that is being built. Without `page` nothing is wired (the host builds
    the panel once more to learn its defaults)."""
    tab = "img2img" if is_img2img else "txt2img"
    with accordion(False, label="CLoRA", elem_id=f"{tab}_clora") as enabled:
        gr.HTML(_intro(), elem_classes=["clora-intro"])
        refresh = gr.Button("Read the prompt", elem_id=f"{tab}_clora_refresh", size="sm")
        cost = gr.HTML("", elem_id=f"{tab}_clora_cost", elem_classes=["clora-message"])
        message = gr.HTML("", elem_id=f"{tab}_clora_message", elem_classes=["clora-message"])
        table = gr.HTML(HINT, elem_id=f"{tab}_clora_table")
        write = gr.Button("Write the table into the prompt", elem_id=f"{tab}_clora_write", size="sm")
        corrections = gr.Textbox(
            "", label="Corrections", lines=2, elem_id=f"{tab}_clora_corrections",
            placeholder="blackcat: words=cat, trigger=sks, place=left",
            info="What you change in the table, one line per LoRA with words=, trigger=, role= or place=.",
        )  # fmt: skip
        # Written by javascript/clora.js when a cell of the table changes; hidden by style.css.
        cell = gr.Textbox("", show_label=False, elem_id=f"{tab}_clora_cell", elem_classes=["clora-hidden"])
        components, preset = build_controls(tab, keeping.file.read().names)
        bar = PresetBar(tab, keeping)
        # Pressed by javascript/clora.js a moment after the last change of a setting.
        touched = gr.Button("", elem_id=f"{tab}_clora_touched", elem_classes=["clora-hidden"])
        concepts = gr.State(0)
        for name in page.without if page else ():
            components[name].visible = False
    inputs = [enabled, *(components[setting.name] for setting in SETTINGS), corrections]
    for component in (*components.values(), corrections, preset, cell, touched):
        component.do_not_save_to_config = True
    settings = [components[setting.name] for setting in SETTINGS]
    cell.change(_edit, [cell, corrections], [corrections, message], **QUIET)
    panel = Panel(inputs, _infotext_fields(enabled, components, corrections))
    panel.beginning = bar.wire(enabled, preset, settings)
    if page is not None:
        written = [page.prompt, corrections, message]
        write.click(_write, [page.prompt, corrections], written, **QUIET)
        told = [page.prompt, page.negative, corrections, page.steps, *settings, *page.also]
        panel.reading = (read_with(reader), told, [cost, message, table, concepts])
        _wire_reading(panel, reader, page, refresh)
        _tell_changes(tab, [page.steps, *settings])
        known = [concepts, page.steps, preset, *settings]
        touched.click(_touched(bar), known, [cost, preset], **QUIET)
    return panel


def _wire_reading(panel: Panel, reader: Reader, page: Page, refresh: Any) -> None:
    """Read the prompt at the button, at Generate, and after a correction."""
    read, told, answer = panel.reading
    enabled, corrections = panel.inputs[0], panel.inputs[-1]
    refresh.click(read, told, answer, **QUIET)
    page.generate.click(read_if_on(reader), [enabled, *told], answer, **QUIET)
    # After a wrong correction the table stays, for the cell to be corrected again.
    corrections.change(read_with(reader, keep_table=True), told, answer, **QUIET)


def _tell_changes(tab: str, controls: Sequence[Any]) -> None:
    """Let the page's script know of every change, whatever made it: it asks the server once for all of them."""
    script = f"() => {{ document.dispatchEvent(new CustomEvent('clora-touched', {{detail: '{tab}'}})); }}"
    keyword = "_js" if gr.__version__.startswith("3.") else "js"
    for control in controls:
        control.change(None, [], [], **{keyword: script})


def _touched(bar: PresetBar) -> Callable[..., tuple[str, str]]:
    """The cost by the settings as they are now, and the preset's name with a word where it is another by now."""

    def told(concepts: int, steps: float, preset: str, *values: Any) -> tuple[str, str]:
        return cost_html(concepts, steps, values), bar.shown(preset, values)

    return told


def _infotext_fields(enabled: Any, components: Mapping[str, Any], corrections: Any) -> list[tuple[Any, Any]]:
    """What reads each control's value back: a setting that the infotext leaves out has its default."""

    def reader(setting: Setting) -> Callable[[Mapping[str, Any]], Any]:
        def read(found: Mapping[str, Any]) -> Any:
            if PREFIX not in found:
                return None
            try:
                return shown(setting, read_setting(setting, found))
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
        return gr.update(), problem_html(str(error))


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


def _intro() -> str:
    return (
        "<p>Each LoRA draws its own subject. Write each tag before its subject's words: "
        "<code>&lt;lora:blackcat:1&gt; a cat and &lt;lora:browndog:1&gt; a dog on grass</code></p>"
    )

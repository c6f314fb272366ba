"""The panel in txt2img and img2img, built from the table of settings, for gradio 3.41 and 4.40."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from ..engine.plans import REACH
from ..errors import CLoRAError, printable
from ..settings import SETTINGS, Setting
from ..settings.infotext import CORRECTIONS, PREFIX, read_setting
from .canvas import canvas_html
from .concept_table import EMPTY_TABLE
from .controls import IMMEDIATE, build_controls, control_value
from .corrected_prompt import move_into_prompt
from .corrections import read_corrections, with_changed_cell, write_corrections
from .messages import note_html, problem_html
from .preset_bar import PresetBar, PresetSource
from .prompt_reader import Reader, cost_html, read_if_on, read_with


@dataclass(frozen=True)
class TabComponents:
    """The components of a tab that the panel uses: prompt, negative prompt, steps and the Generate button.

    The values of the components in `extra` are passed to the reader unchanged. The settings in `hidden` have no
    effect on this tab, and their controls are not shown.
    """

    prompt: Any
    negative: Any
    steps: Any
    generate: Any
    extra: tuple[Any, ...] = ()
    hidden: tuple[str, ...] = ()


@dataclass
class Panel:
    """The inputs of the script, `corrections` among them, and the functions that restore each from an infotext.

    `read_event` and `start_event` are the function, inputs and outputs that read the prompt into the table, and that
    start a tab with the user's presets, for pages with further events of their own.
    """

    inputs: list[Any]
    corrections: Any
    infotext_fields: list[tuple[Any, Any]] = field(default_factory=list)
    read_event: tuple[Any, ...] = ()
    start_event: tuple[Any, ...] = ()


@dataclass
class _Components:
    """The panel's components, before their events are connected."""

    enabled: Any
    refresh: Any
    plan: Any
    cost: Any
    message: Any
    table: Any
    write: Any
    corrections: Any
    planned: Any
    cell: Any
    controls: dict[str, Any]
    bar: PresetBar
    touched: Any
    concepts: Any


def build(
    accordion: Callable[..., Any], reader: Reader, *, is_img2img: bool, page: TabComponents | None,
    presets: PresetSource,
) -> Panel:  # fmt: skip
    """Build the panel into the page that is being built.

    Without `page` the tab's events are not connected: the host builds the panel again only to learn its defaults.
    """
    tab = "img2img" if is_img2img else "txt2img"
    ours = _create(tab, accordion, presets, page.hidden if page else ())
    settings = [ours.controls[setting.name] for setting in SETTINGS]
    ours_alone = (ours.corrections, ours.planned, ours.cell, ours.touched)
    for component in (*ours.controls.values(), *ours_alone):
        component.do_not_save_to_config = True
    ours.cell.change(_edit, [ours.cell, ours.corrections], [ours.corrections, ours.message], **IMMEDIATE)
    panel = Panel(
        [ours.enabled, *settings, ours.corrections, ours.planned],
        ours.corrections,
        _infotext_fields(ours.enabled, ours.controls, ours.corrections),
        start_event=ours.bar.wire(ours.enabled, settings),
    )
    if page is not None:
        _wire(panel, ours, settings, tab, reader, page)
    return panel


def _create(
    tab: str, accordion: Callable[..., Any], presets: PresetSource, hidden: Collection[str]
) -> _Components:  # fmt: skip
    """The components in the order in which they are shown."""
    with accordion(False, label="CLoRA", elem_id=f"{tab}_clora") as enabled:
        gr.HTML(_intro(), elem_classes=["clora-intro"])
        bar = PresetBar(tab, presets)
        with gr.Row():
            refresh = gr.Button("Read the prompt", elem_id=f"{tab}_clora_refresh", size="sm", min_width=120)
            plan = gr.Button("Plan", elem_id=f"{tab}_clora_plan", size="sm", min_width=120)
        cost = gr.HTML("", elem_id=f"{tab}_clora_cost", elem_classes=["clora-message"])
        message = gr.HTML("", elem_id=f"{tab}_clora_message", elem_classes=["clora-message"])
        table = gr.HTML(EMPTY_TABLE, elem_id=f"{tab}_clora_table")
        gr.HTML(canvas_html(tab), elem_id=f"{tab}_clora_canvas")
        write = gr.Button("Write the table into the prompt", elem_id=f"{tab}_clora_write", size="sm")
        corrections = gr.Textbox(
            "", label="Corrections", lines=2, elem_id=f"{tab}_clora_corrections",
            placeholder="blackcat: words=cat, trigger=sks, place=left, say=red scarf",
            info="Your changes to the table: one line per LoRA with words=, trigger=, role=, place= or say=.",
        )  # fmt: skip
        # Set by javascript/clora_plan.js: the tab's plan.
        planned = gr.Textbox("", show_label=False, elem_id=f"{tab}_clora_planned", elem_classes=["clora-hidden"])
        # Set by javascript/clora.js when a cell of the table changes; hidden by style.css.
        cell = gr.Textbox("", show_label=False, elem_id=f"{tab}_clora_cell", elem_classes=["clora-hidden"])
        with gr.Accordion("Settings", open=False, elem_id=f"{tab}_clora_settings"):
            controls = build_controls(tab, hidden)
            bar.add_own(tab)
        # Clicked by javascript/clora.js shortly after the last change of a setting.
        touched = gr.Button("", elem_id=f"{tab}_clora_touched", elem_classes=["clora-hidden"])
        concepts = gr.State(0)
    return _Components(
        enabled, refresh, plan, cost, message, table, write, corrections, planned, cell, controls, bar, touched,
        concepts,
    )  # fmt: skip


def _wire(
    panel: Panel, ours: _Components, settings: list[Any], tab: str, reader: Reader, page: TabComponents
) -> None:  # fmt: skip
    """Connect the events that need the tab's components."""
    written = [page.prompt, ours.corrections]
    ours.write.click(_write, written, [*written, ours.message], **IMMEDIATE)
    read_inputs = [page.prompt, page.negative, ours.corrections, page.steps, *settings, *page.extra]
    panel.read_event = (read_with(reader), read_inputs, [ours.cost, ours.message, ours.table, ours.concepts])
    _wire_reader(panel, reader, page, ours.refresh)
    _notify_script(tab, [page.steps, *settings])
    _wire_plan(tab, ours.plan, ours.controls["look_ahead"])
    changed_inputs = [ours.concepts, page.steps, ours.bar.preset, *settings]
    ours.touched.click(_on_settings_changed(ours.bar), changed_inputs, [ours.cost, ours.bar.preset], **IMMEDIATE)


def _wire_reader(panel: Panel, reader: Reader, page: TabComponents, refresh: Any) -> None:
    """Read the prompt at the button, at Generate, and after a correction."""
    read, inputs, outputs = panel.read_event
    enabled, corrections = panel.inputs[0], panel.corrections
    refresh.click(read, inputs, outputs, **IMMEDIATE)
    page.generate.click(read_if_on(reader), [enabled, *inputs], outputs, **IMMEDIATE)
    corrections.change(read, inputs, outputs, **IMMEDIATE)


def _notify_script(tab: str, controls: Sequence[Any]) -> None:
    """Report every change of a control to the page's script, which asks the server once for several of them."""
    script = f"() => {{ document.dispatchEvent(new CustomEvent('clora-touched', {{detail: '{tab}'}})); }}"
    for control in controls:
        control.change(None, [], [], **_by_script(script))


def _wire_plan(tab: str, plan: Any, look_ahead: Any) -> None:
    """The Plan button looks ahead, so that the picture can go on from the plan; the page's script starts the job."""
    script = f"""(reach) => {{
        document.dispatchEvent(new CustomEvent('clora-plan', {{detail: '{tab}'}}));
        return reach > 0 ? reach : {REACH};
    }}"""
    plan.click(None, [look_ahead], [look_ahead], **_by_script(script))


def _by_script(script: str) -> dict[str, str]:
    """An event that a script of the page answers."""
    return {"_js" if gr.__version__.startswith("3.") else "js": script}


def _on_settings_changed(bar: PresetBar) -> Callable[..., tuple[str, str]]:
    """The estimated cost with the current settings, and the preset's name, with "(changed)" if they differ from it."""

    def changed(concepts: int, steps: float, preset: str, *values: Any) -> tuple[str, str]:
        return cost_html(concepts, steps, values), bar.shown_name(preset, values)

    return changed


def _infotext_fields(enabled: Any, components: Mapping[str, Any], corrections: Any) -> list[tuple[Any, Any]]:
    """The function that restores each control; a setting that is missing in the infotext gets its default."""

    def reader(setting: Setting) -> Callable[[Mapping[str, Any]], Any]:
        def read(fields: Mapping[str, Any]) -> Any:
            if PREFIX not in fields:
                return None
            try:
                return control_value(setting, read_setting(setting, fields))
            except CLoRAError:
                return None  # a value that this version does not know: the control stays as it is

        return read

    fields: list[tuple[Any, Any]] = [(enabled, lambda infotext: infotext.get(PREFIX) == "on")]
    fields += [(components[setting.name], reader(setting)) for setting in SETTINGS]
    fields.append((corrections, lambda infotext: infotext.get(CORRECTIONS, "") if PREFIX in infotext else None))
    return fields


def _edit(change: str, corrections: str) -> tuple[Any, Any]:
    """Corrections and message after a cell of the table changed."""
    try:
        return with_changed_cell(change, corrections), gr.update()
    except CLoRAError as error:
        return gr.update(), problem_html(str(error))


def _write(prompt: str, corrections: str) -> tuple[Any, Any, Any]:
    """The prompt with the corrections in its tags, the corrections that stay, and a message."""
    try:
        given = read_corrections(corrections or "")
        text, rest = move_into_prompt(printable(prompt or ""), given)
    except CLoRAError as error:
        return gr.update(), gr.update(), problem_html(str(error))
    if len(rest) == len(given):
        return gr.update(), gr.update(), note_html("The table has no changes to write into this prompt.")
    return text, write_corrections(rest), gr.update()


def _intro() -> str:
    return (
        "<p>Each LoRA draws its own subject. Write each tag before the words of its subject: "
        "<code>a &lt;lora:blackcat:1&gt; cat and a &lt;lora:browndog:1&gt; dog on grass</code></p>"
    )

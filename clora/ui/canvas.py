"""The canvas on which places are drawn: its HTML, and what the table tells it about the subjects.

javascript/clora_canvas.js and the files beside it do the drawing; what is drawn comes back as a correction of a place.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence

from ..pictures import concept_color
from .report_data import ReportRow

_TOOLS = (("box", "Box"), ("paint", "Paint"), ("erase", "Erase"))
_HINTS = {
    "none": "Press “Read the prompt” first: its subjects are listed here then.",
    "fixed": "The tag of this LoRA sets its place: change it in the prompt.",
    "box": "Drag to draw a box, and drag it or its edges to change it. Keys: arrows move it, Shift and arrows resize "
    "it, Delete clears, Ctrl+Z undoes.",
    "paint": "Paint where the subject belongs. Keys: arrows move the brush, Shift and arrows or Space use it.",
}
"""What to do, by the state of the canvas; style.css shows one of them."""


def canvas_html(tab: str) -> str:
    """The canvas of a tab ("txt2img" or "img2img"), closed and without subjects; buttons are enabled by the script."""
    tools = "".join(
        f'<button type="button" data-tool="{tool}" aria-pressed="{str(tool == "box").lower()}">{name}</button>'
        for tool, name in _TOOLS
    )
    hints = "".join(f'<p class="clora-canvas-hint clora-canvas-{name}">{text}</p>' for name, text in _HINTS.items())
    return (
        f'<details class="clora-canvas" data-tab="{tab}" data-state="none" data-tool="box">'
        "<summary>Draw where each subject belongs</summary>"
        '<div class="clora-canvas-subjects" role="group" aria-label="Subjects"></div>'
        '<div class="clora-canvas-tools">'
        f'<span role="group" aria-label="Tools">{tools}</span>'
        '<label class="clora-canvas-brush"><span>Brush</span><input type="range" min="2" max="40" value="10"></label>'
        '<button type="button" data-do="undo" disabled>Undo</button>'
        '<button type="button" data-do="clear" disabled>Clear</button>'
        '<label class="clora-canvas-last" hidden><input type="checkbox"><span>Last picture and its masks</span></label>'
        f"</div>{hints}"
        '<canvas tabindex="0" role="application" aria-label="The picture, with the place of each subject"></canvas>'
        '<p class="clora-canvas-place" role="status"><span></span><span hidden>anywhere</span>'
        "<span hidden>painted</span><span></span></p>"
        "</details>"
    )


def subjects_json(rows: Sequence[ReportRow]) -> str:
    """The subjects for the canvas, one for each concept: LoRA, words, colour, place, and whether the tag sets it.

    Of several LoRAs of one concept, the one that has a place stands for it. A LoRA that draws two concepts cannot get
    its places here, because corrections go by its name: it counts as fixed.
    """
    concepts: dict[int, ReportRow] = {}
    for row in rows:
        if row.concept is not None and row.lora and row.role == "concept":
            known = concepts.get(row.concept)
            concepts[row.concept] = row if known is None or (row.place and not known.place) else known
    names = [row.lora for row in concepts.values()]
    return json.dumps([
        {
            "lora": row.lora, "words": row.words, "without_lora": row.without_lora,
            "colour": "rgb({}, {}, {})".format(*concept_color(number)),
            "place": "" if "place" in row.wrong else row.place,
            "fixed": "place" in row.fixed or names.count(row.lora) > 1,
        }
        for number, row in sorted(concepts.items())
    ])  # fmt: skip


def subjects_attribute(rows: Sequence[ReportRow]) -> str:
    """`subjects_json` as an attribute of the table."""
    return f'data-subjects="{html.escape(subjects_json(rows), quote=True)}"'

"""The panel's table of concepts as HTML: what each LoRA of the prompt draws, with cells to correct it, and the words of
the prompt to choose from.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from ..pictures import concept_color
from .canvas import subjects_attribute
from .messages import notes_html, problem_html
from .report_data import COLUMNS, Report, ReportChoice, ReportRow

_ANYWHERE, _PLACES = "anywhere", "left, right, top, bottom, middle, or x y width height in percent"
_ROLES = ("concept", "style", "background", "off")
_LABELS = {"words": "Subject words", "trigger": "Trigger words", "role": "Role", "say": "Own words", "place": "Place"}
_SAID = "what only this subject reads, such as: red scarf, smiling"
_HINTS = {
    "none": "Click a row, then the words of the prompt that its LoRA draws:",
    "open": "Click the words that the chosen LoRA draws; a second click takes them back:",
    "fixed": "The tag of the chosen LoRA sets its words or its role: change them in the prompt.",
}
"""What to do with the words, by what is chosen; javascript/clora.js shows one of them."""

EMPTY_TABLE = '<p class="clora-empty">Press “Read the prompt” to see what each LoRA will draw.</p>'
"""Shown instead of the table until the prompt is read."""


def message_html(report: Report) -> str:
    """The error of a prompt, or its notes and warnings."""
    return problem_html(report.problem) if report.problem else notes_html(report.notes)


def table_html(rows: Sequence[ReportRow], choices: Sequence[ReportChoice] = (), corrections: str = "") -> str:
    """The table with the words to choose from below it, "" without rows; `corrections` is the text that was read.

    javascript/clora.js sends changed cells and chosen words to the server, shows the sentence about scrolling if the
    table is wider than the panel, and has the prompt read again if the corrections are others by now.
    """
    if not rows:
        return ""
    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    body = "".join(map(_row_html, rows))
    table = f'<table class="clora-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    sideways = '<p class="clora-sideways">Scroll the table sideways to see all columns.</p>'
    scroll = f'{sideways}<div class="clora-scroll">{table}</div>'
    read = f'data-corrections="{html.escape(corrections, quote=True)}" {subjects_attribute(rows)}'
    return f'<div class="clora-wide" {read}>{scroll}</div>{_choices_html(choices)}'


def _row_html(row: ReportRow) -> str:
    edited_cells = [_role_cell(row), *(_text_cell(row, key) for key in ("words", "trigger", "say", "place"))]
    tokens = " ".join(map(str, row.tokens))
    inside = [_name_cell(row), html.escape(row.weight), *edited_cells, html.escape(tokens)]
    body = "".join(f"<td>{cell}</td>" for cell in inside)
    choice = "fixed" if not _takes_words(row) else "open"
    data = {"words": row.words, "lora": row.lora, "choice": choice, "corrected": " ".join(row.corrected)}
    attributes = " ".join(f'data-{key}="{html.escape(value, quote=True)}"' for key, value in data.items())
    return f'<tr {attributes} style="border-left: 0.5em solid {_colour(row.concept)}">{body}</tr>'


def _takes_words(row: ReportRow) -> bool:
    """Whether a correction can give the LoRA words."""
    return bool(row.lora) and "words" not in row.fixed and not ("role" in row.fixed and row.role != "concept")


def _colour(concept: int | None) -> str:
    return "transparent" if concept is None else "rgb({}, {}, {})".format(*concept_color(concept))


def _name_cell(row: ReportRow) -> str:
    """The name, which chooses the row, and why the LoRA has its role and words."""
    name = html.escape(row.lora, quote=True)
    button = f'<button type="button" class="clora-row" data-lora="{name}" aria-pressed="false">{name}</button>'
    why = f'<span class="clora-why">{html.escape(row.why)}</span>' if row.why else ""
    if row.problem:  # the whole of it is in the message above the table
        first, full = row.problem.partition(": ")[0], html.escape(row.problem, quote=True)
        why = f'<span class="clora-why clora-problem" title="{full}">{html.escape(first)}</span>'
    return (button if row.lora else "") + why


def _text_cell(row: ReportRow, key: str) -> str:
    """An input for what CLoRA chose; plain text for what the tag says, which a correction cannot override."""
    value = str(getattr(row, key))
    if not row.lora or (row.role != "concept" and key not in row.wrong and "role" not in row.wrong):
        return html.escape(value)
    if key in row.fixed:
        return f'<span title="Set in the tag.">{html.escape(value)}</span>'
    shown = row.typed_words if key == "words" else row.shown_place if key == "place" else value
    # Also as the title, because the cell is narrow.
    hint = {"place": f' placeholder="{_ANYWHERE}" title="{_PLACES}"', "say": f' title="{_SAID}"'}.get(key, "")
    cell = f'<input type="text" value="{html.escape(shown, quote=True)}"{hint} {_attributes(row, key)}>'
    return cell + _offer_button(row) if key == "trigger" and row.offered else cell


def _offer_button(row: ReportRow) -> str:
    """A button that puts the user's activation text into the cell before it."""
    words = html.escape(row.offered, quote=True)
    title = "Use the activation text from this LoRA's notes."
    return f'<button type="button" class="clora-take" data-value="{words}" title="{title}">+ {words}</button>'


def _role_cell(row: ReportRow) -> str:
    if "role" in row.fixed or not row.lora:
        title = ' title="Set in the tag."' if row.lora else ""
        return f"<span{title}>{html.escape(row.role)}</span>"
    options = "".join(
        # An explicit value, because a WebUI in another language may translate the text.
        f'<option value="{html.escape(role, quote=True)}"{" selected" if role == row.role else ""}>'
        f"{html.escape(role)}</option>"
        for role in (_ROLES if row.role in _ROLES else (*_ROLES, row.role))
    )
    return f"<select {_attributes(row, 'role')}>{options}</select>"


def _attributes(row: ReportRow, key: str) -> str:
    """What the page's script reads of a cell, its label for screen readers, and whether it is wrong."""
    lora = html.escape(row.lora, quote=True)
    wrong = ' aria-invalid="true"' if key in row.wrong else ""
    label = f'aria-label="{_LABELS[key]} of {lora}"'
    return f'data-lora="{lora}" data-key="{key}" {label}{wrong} autocomplete="off" spellcheck="false"'


def _choices_html(choices: Sequence[ReportChoice]) -> str:
    """The words of the prompt as buttons, disabled until a row is chosen."""
    if not choices:
        return ""
    hints = "".join(f'<p class="clora-hint-{name}">{text}</p>' for name, text in _HINTS.items())
    chips = "".join(map(_chip_html, choices))
    group = f'<div class="clora-chips" role="group" aria-label="Words of the prompt">{chips}</div>'
    return f'<div class="clora-choices" data-choice="none">{hints}{group}</div>'


def _chip_html(choice: ReportChoice) -> str:
    loras = "".join(f"<small>{html.escape(name)}</small>" for name in choice.loras)
    value, names = (html.escape(text, quote=True) for text in (choice.value, "\n".join(choice.loras)))
    kind = "clora-chip clora-part" if choice.overlapping and not choice.loras else "clora-chip"
    return (
        f'<button type="button" class="{kind}" data-value="{value}" data-loras="{names}" aria-pressed="false" disabled '
        f'style="--clora-colour: {_colour(choice.concept)}">{html.escape(choice.words)}{loras}</button>'
    )

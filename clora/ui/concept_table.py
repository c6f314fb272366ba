"""The panel's table of concepts as HTML: what each LoRA of the prompt draws, with cells to correct it."""

from __future__ import annotations

import html

from ..pictures import concept_color
from .messages import notes_html, problem_html
from .report import COLUMNS, Report, ReportRow

_ANYWHERE, _PLACES = "anywhere", "left, right, top, bottom, middle, or x y width height in percent"
_ROLES = ("concept", "style", "background", "off")

EMPTY_TABLE = '<p class="clora-empty">Press “Read the prompt” to see what each LoRA will draw.</p>'
"""Shown instead of the table until the prompt is read."""


def message_html(report: Report) -> str:
    """The error of a prompt, or its notes and warnings."""
    return problem_html(report.problem) if report.problem else notes_html(report.notes)


def table_html(rows: tuple[ReportRow, ...]) -> str:
    """The table, "" without rows.

    javascript/clora.js sends changed cells to the server, selects a clicked row's words in the prompt, and shows the
    sentence about scrolling if the table is wider than the panel.
    """
    if not rows:
        return ""
    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    subjects = list(dict.fromkeys(row.words for row in rows if row.words))
    body = "".join(_row_html(row, subjects) for row in rows)
    table = f'<table class="clora-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    sideways = '<p class="clora-sideways">Scroll the table sideways to see all columns.</p>'
    return f'<div class="clora-wide">{sideways}<div class="clora-scroll">{table}</div></div>'


def _row_html(row: ReportRow, subjects: list[str]) -> str:
    colour = "transparent"
    if row.words:
        colour = "rgb({}, {}, {})".format(*concept_color(subjects.index(row.words)))
    edited_cells = [_role_cell(row), *(_text_cell(row, key) for key in ("words", "trigger", "place"))]
    tokens = " ".join(map(str, row.tokens))
    inside = [html.escape(row.lora), html.escape(row.weight), *edited_cells, html.escape(tokens)]
    body = "".join(f"<td>{cell}</td>" for cell in inside)
    words = html.escape(row.words, quote=True)
    return f'<tr data-words="{words}" style="border-left: 0.5em solid {colour}">{body}</tr>'


def _text_cell(row: ReportRow, key: str) -> str:
    """An input for what CLoRA chose; plain text for what the tag says, which a correction cannot override."""
    value = str(getattr(row, key))
    if row.role != "concept":
        return html.escape(value)
    if key in row.fixed:
        return f'<span title="Set in the tag.">{html.escape(value)}</span>'
    shown = html.escape(row.typed_words if key == "words" else value, quote=True)
    # Also as the title, because the cell is narrow.
    hint = f' placeholder="{_ANYWHERE}" title="{_PLACES}"' if key == "place" else ""
    cell = f'<input type="text" value="{shown}"{hint} {_attributes(row, key)}>'
    return cell + _offer_button(row) if key == "trigger" and row.offered else cell


def _offer_button(row: ReportRow) -> str:
    """A button that puts the user's activation text into the cell before it."""
    words = html.escape(row.offered, quote=True)
    title = "Use the activation text from this LoRA's notes."
    return f'<button type="button" class="clora-take" data-value="{words}" title="{title}">+ {words}</button>'


def _role_cell(row: ReportRow) -> str:
    if "role" in row.fixed:
        return f'<span title="Set in the tag.">{html.escape(row.role)}</span>'
    options = "".join(
        # An explicit value, because a WebUI in another language may translate the text.
        f'<option value="{html.escape(role, quote=True)}"{" selected" if role == row.role else ""}>'
        f"{html.escape(role)}</option>"
        for role in (_ROLES if row.role in _ROLES else (*_ROLES, row.role))
    )
    return f"<select {_attributes(row, 'role')}>{options}</select>"


def _attributes(row: ReportRow, key: str) -> str:
    """What the page's script reads of a cell, and its label for screen readers."""
    lora = html.escape(row.lora, quote=True)
    label = {"words": "Subject words", "trigger": "Trigger words", "role": "Role", "place": "Place"}[key]
    return f'data-lora="{lora}" data-key="{key}" aria-label="{label} of {lora}" autocomplete="off" spellcheck="false"'

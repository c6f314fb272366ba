"""The panel's table of concepts: what each LoRA of the prompt draws, with the cells that a user may correct."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import CLoRAError
from ..pictures import concept_color
from ..prompt import WordsOverride
from .messages import notes_html, problem_html
from .report import COLUMNS, Report, ReportRow
from .request import CORRECTION, read_corrections, write_corrections

_ANYWHERE = "anywhere (or left, right, x y w h in %)"
ROLES = ("concept", "style", "background", "off")


HINT = '<p class="clora-empty">Press “Read the prompt” to see what each LoRA will draw.</p>'
"""In the table's place until the prompt is read."""


def message_html(found: Report) -> str:
    """What the user should know about the prompt."""
    return problem_html(found.problem) if found.problem else notes_html(found.notes)


def table_html(rows: tuple[ReportRow, ...]) -> str:
    """The table, "" without rows. javascript/clora.js tells a changed cell to the page, marks a clicked row's words,
    and shows the sentence about scrolling where the table is wider than its place.
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
    """An input for what CLoRA chose by itself; text for what the tag says, which nothing overrides."""
    value = str(getattr(row, key))
    if row.role != "concept":
        return html.escape(value)
    if key in row.fixed:
        return f'<span title="The tag says so.">{html.escape(value)}</span>'
    shown = html.escape(row.typed_words if key == "words" else value, quote=True)
    # As the title too: the cell is narrow.
    hint = f' placeholder="{_ANYWHERE}" title="{_ANYWHERE}"' if key == "place" else ""
    cell = f'<input type="text" value="{shown}"{hint} {_marks(row, key)}>'
    return cell + _offer(row) if key == "trigger" and row.offered else cell


def _offer(row: ReportRow) -> str:
    """A button that puts the user's own activation text into the cell before it."""
    words = html.escape(row.offered, quote=True)
    title = "Take the activation text from this LoRA's notes."
    return f'<button type="button" class="clora-take" data-value="{words}" title="{title}">+ {words}</button>'


def _role_cell(row: ReportRow) -> str:
    if "role" in row.fixed:
        return f'<span title="The tag says so.">{html.escape(row.role)}</span>'
    options = "".join(
        # With a value of its own: a WebUI in another language may translate the text.
        f'<option value="{html.escape(role, quote=True)}"{" selected" if role == row.role else ""}>'
        f"{html.escape(role)}</option>"
        for role in (ROLES if row.role in ROLES else (*ROLES, row.role))
    )
    return f"<select {_marks(row, 'role')}>{options}</select>"


def _marks(row: ReportRow, key: str) -> str:
    """What the page's script reads of a cell, and its name for a screen reader."""
    lora = html.escape(row.lora, quote=True)
    label = {"words": "Subject words", "trigger": "Trigger words", "role": "Role", "place": "Place"}[key]
    return f'data-lora="{lora}" data-key="{key}" aria-label="{label} of {lora}" autocomplete="off" spellcheck="false"'


def edited(change: str, corrections: str) -> str:
    """The corrections after a cell was changed; an emptied cell goes back to CLoRA's own choice.

    `change` is JSON {"lora": name, "key": one of CORRECTION, "value": text} from the page's script.
    Errors: CLoRAError where either cannot be read.
    """
    try:
        cell = json.loads(change)
        name, key, value = str(cell["lora"]), str(cell["key"]), str(cell["value"]).strip()
    except (ValueError, KeyError, TypeError):
        raise CLoRAError(f"The changed cell cannot be read: {change!r}.") from None
    if key not in CORRECTION:
        raise CLoRAError(f"The table has no cell {key!r} to change.")
    known: Mapping[str, WordsOverride] = read_corrections(corrections)
    changes: dict[str, Any] = {key: value or None}
    return write_corrections({**known, name: replace(known.get(name, WordsOverride()), **changes)})

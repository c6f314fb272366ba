"""Messages to the user as HTML. Text from prompts, files and names is escaped."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


def problem_html(text: str) -> str:
    """An error."""
    return f'<p class="clora-problem">{escape(text)}</p>'


def note_html(text: str) -> str:
    """A note or a warning."""
    return f'<p class="clora-note">{escape(text)}</p>'


def notes_html(texts: Iterable[str]) -> str:
    """One paragraph for each text."""
    return "".join(map(note_html, texts))

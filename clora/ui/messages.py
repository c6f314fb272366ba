"""Sentences for the user as HTML; what they quote of prompts, files and names is shown as text."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


def problem_html(text: str) -> str:
    """What is wrong."""
    return f'<p class="clora-problem">{escape(text)}</p>'


def note_html(text: str) -> str:
    """What is worth knowing."""
    return f'<p class="clora-note">{escape(text)}</p>'


def notes_html(texts: Iterable[str]) -> str:
    """One paragraph for each."""
    return "".join(map(note_html, texts))

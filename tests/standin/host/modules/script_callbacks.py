"""Functions that extensions register."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

before_ui: list[Callable[[], Any]] = []
ui_settings: list[Callable[[], Any]] = []
app_started: list[Callable[[Any, Any], Any]] = []


def on_before_ui(callback: Callable[[], Any]) -> None:
    """Called before the page is built."""
    before_ui.append(callback)


def on_ui_settings(callback: Callable[[], Any]) -> None:
    """Called before the settings page is built."""
    ui_settings.append(callback)


def on_app_started(callback: Callable[[Any, Any], Any]) -> None:
    """Called with the page (or None) and the server."""
    app_started.append(callback)

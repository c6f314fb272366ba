"""Errors that the host logs."""

from __future__ import annotations

import traceback

reports: list[str] = []


def report(message: str, *, exc_info: bool = False) -> None:
    """Log and go on."""
    reports.append(f"{message}\n{traceback.format_exc()}" if exc_info else message)

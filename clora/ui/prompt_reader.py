"""Event functions that read the prompt into the panel, and the estimated cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from ..engine.estimate import estimate
from ..errors import CLoRAError, printable, shown
from ..settings import SETTINGS
from .concept_table import message_html, table_html
from .controls import settings_from
from .messages import problem_html
from .report import Report

Reader = Callable[..., Report]
"""(prompt, negative prompt, corrections, then the values of the tab's `extra` components) -> report."""
Answer = tuple[str, str, str, int]
"""Cost, message, table, and the number of concepts, which is kept to estimate the cost again when a setting changes."""


def cost_html(concepts: int, steps: float, values: Sequence[Any]) -> str:
    """How many concepts are composed and the estimated cost, "" for none; `values` are the controls' values."""
    if not concepts:
        return ""
    try:
        cost = estimate(settings_from(tuple(values)), concepts, int(steps)).sentence
    except CLoRAError as error:
        return problem_html(str(error))
    except (TypeError, ValueError, OverflowError):
        return problem_html(f"The number of steps cannot be {shown(steps)}: enter a whole number.")
    counted = "1 concept" if concepts == 1 else f"{concepts} concepts"
    return f'<p class="clora-good">{counted} will be composed. {cost}</p>'


def read_with(reader: Reader) -> Callable[..., Answer]:
    """An event function that reads the prompt."""

    def read(prompt: str, negative: str, corrections: str, steps: float, *values: Any) -> Answer:
        texts = (printable(prompt or ""), printable(negative or ""), corrections or "")
        report = reader(*texts, *values[len(SETTINGS) :])
        concepts = len(report.variants) - 1 if report.composes and not report.problem else 0
        table = table_html(report.rows, report.choices, corrections or "")
        return cost_html(concepts, steps, values), message_html(report), table, concepts

    return read


def read_if_on(reader: Reader) -> Callable[..., tuple[Any, Any, Any, Any]]:
    """The same for the Generate button: changes nothing while CLoRA is off."""
    read = read_with(reader)

    def on_generate(enabled: bool, *values: Any) -> tuple[Any, Any, Any, Any]:
        return read(*values) if enabled else (gr.update(), gr.update(), gr.update(), gr.update())

    return on_generate

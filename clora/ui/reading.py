"""What the panel answers when it reads the prompt, and what it tells of the cost as settings change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from ..engine.estimate import estimate
from ..errors import CLoRAError
from ..settings import SETTINGS
from .concept_table import message_html, table_html
from .controls import settings_of
from .messages import problem_html
from .report import Report

Reader = Callable[..., Report]
"""(prompt, negative prompt, corrections, then the values of the page's `also`) -> report."""
Answer = tuple[str, str, Any, int]
"""Cost, message, table, and the number of concepts, which tells the cost again when a setting changes."""


def cost_html(concepts: int, steps: float, values: Sequence[Any]) -> str:
    """How many concepts will be composed and what that costs, "" for none; `values` are the controls' ones."""
    if not concepts:
        return ""
    try:
        cost = estimate(settings_of(tuple(values)), concepts, int(steps)).sentence
    except CLoRAError as error:
        return problem_html(str(error))
    return f'<p class="clora-good">{concepts} concepts will be composed. {cost}</p>'


def read_with(reader: Reader, *, keep_table: bool = False) -> Callable[..., Answer]:
    """What reads the prompt for the panel; with `keep_table` a mistake leaves the table as it is."""

    def read(prompt: str, negative: str, corrections: str, steps: float, *values: Any) -> Answer:
        found = reader(prompt or "", negative or "", corrections or "", *values[len(SETTINGS) :])
        concepts = len(found.variants) - 1 if found.composes and not found.problem else 0
        table = gr.update() if keep_table and found.problem and not found.rows else table_html(found.rows)
        return cost_html(concepts, steps, values), message_html(found), table, concepts

    return read


def read_if_on(reader: Reader) -> Callable[..., tuple[Any, Any, Any, Any]]:
    """The same for the button that generates: nothing while CLoRA is off."""
    read = read_with(reader)

    def on_generate(enabled: bool, *told: Any) -> tuple[Any, Any, Any, Any]:
        return read(*told) if enabled else (gr.update(), gr.update(), gr.update(), gr.update())

    return on_generate

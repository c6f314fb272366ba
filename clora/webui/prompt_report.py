"""What panel and API tell about a prompt, read as the host will read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..errors import CLoRAError
from ..hosts import host_api
from ..hosts.model_factory import loaded_model
from ..lora.library import LoraLibrary, PathCache
from ..lora.user_metadata import notes_of_files
from ..prompt.evidence import evidence_of_files
from ..ui.corrections import readable_corrections
from ..ui.report import Report, Sources, report


def read_prompt(prompt: str, negative: str, corrections: Any, styles: Sequence[str] | None = None) -> Report:
    """The report on a prompt for panel and API, with token positions once a model is loaded.

    The prompt is read as the host will: with the selected `styles`, by name, and without comments.
    """
    given, problem = readable_corrections(corrections)
    layout, other_model = _layout()
    sources, problem = Sources(layout=layout, alternatives=True), problem or other_model
    try:
        loras = host_api.HostLoras()
        files = PathCache(LoraLibrary(loras).path)
        sources = replace(
            sources, evidence=evidence_of_files(files), check=files, notes_of=notes_of_files(files)
        )  # fmt: skip
    except CLoRAError as error:
        problem = problem or str(error)
    try:
        prompt, negative = host_api.with_styles(prompt, negative, styles or ())
    except CLoRAError as error:
        problem = problem or str(error)
    prompt, negative = host_api.without_comments(prompt), host_api.without_comments(negative)
    return report(prompt, negative, corrections=given, sources=sources, problem=problem)


def _layout() -> tuple[Any, str]:
    """The loaded model's layout of a text (None without one), and the problem with a model of another kind."""
    try:
        model = loaded_model()
    except (CLoRAError, AttributeError):  # none is loaded yet
        return None, ""
    try:
        model.check_kind()
    except CLoRAError as error:
        return None, str(error)
    except AttributeError:
        return None, ""
    return model.layout, ""

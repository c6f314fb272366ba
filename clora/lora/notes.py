"""What to tell about a LoRA file that is used: clauses of one warning."""

from __future__ import annotations

from .adapter import AdapterSettings
from .bundled import bundled_embeddings
from .compatibility import declared_base_model
from .file import CONFIG_NAME, LoraFile
from .grouping import Grouped
from .target import LoraTargets

_UNKNOWN_STARTS = {"corda": "CorDA", "lora_ga": "LoRA-GA", "loftq": "LoftQ"}
"""Initialisations of PEFT that change the base weights in a way that the file does not show."""


def notes_on(
    lora: LoraFile, model: LoraTargets, settings: AdapterSettings, grouped: Grouped, unhandled: tuple[str, ...]
) -> tuple[str, ...]:  # fmt: skip
    """Clauses for the warning of a resolved LoRA, none if there is nothing to tell."""
    notes = []
    declared = declared_base_model(lora)
    if declared and model.base_model and declared != model.base_model:
        fits = "its tensors fit" if unhandled else "all its tensors fit"
        notes.append(f"its metadata names {declared}, but {fits} {model.description}, so it is used")
    unread = set(grouped.embeddings) - {one.name for one in bundled_embeddings(lora)}
    if unread:
        names = ", ".join(f'"{name}"' for name in sorted(unread))
        notes.append(
            f"it carries the embedding {names}, which CLoRA cannot apply: save it as a file of its own in the "
            "embeddings folder if the prompt needs it"
        )
    suffixes = {suffix for module in grouped.modules for suffix in module.tensors}
    if settings.scale_is_missing and "lora_down" in suffixes and not suffixes & {"alpha", "scale"}:
        notes.append(f"its scale is in PEFT's {CONFIG_NAME}, which is not beside it, so the scale is 1: put it there")
    if "lambda_layer" in suffixes:
        start = "" if "base_lambda" in suffixes else ", and what it started from is taken from the checkpoint's weights"
        notes.append(f"it is a T-LoRA (q_layer, p_layer), which is used with all its ranks at every step{start}")
    for module in grouped.modules[:1]:
        start = settings.get(module.component, "init_lora_weights")
        if isinstance(start, str) and start in _UNKNOWN_STARTS:
            notes.append(
                f"it was trained on a base model that {_UNKNOWN_STARTS[start]} had changed, so it may look different "
                "here: convert it to a plain LoRA with PEFT"
            )
    return tuple(notes)

"""The numbers of the tables: means with intervals, by group of prompts and method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .scores import Score, leak

ALL = "all"
_RESAMPLES = 2000
Value = Callable[[Score], "float | None"]


@dataclass(frozen=True)
class Measure:
    """One column: its name in the JSON, its heading, its value for a picture (or None), and its number format."""

    name: str
    label: str
    value: Value
    form: str = "{:.3f}"


def _whole(kind: str, pick: Callable[[Any], Any]) -> Value:
    return lambda score: float(pick(score.whole[kind]))


def _instance(kind: str, pick: Callable[[Any], Any]) -> Value:
    return lambda score: None if score.matrix is None else float(pick(np.diag(score.matrix[kind])))


def _leak(kind: str, pick: Callable[[tuple[float, float]], float]) -> Value:
    return lambda score: None if score.matrix is None else pick(leak(score.matrix[kind]))


_PICKS: tuple[tuple[str, Callable[[Any], Any]], ...] = (("min", np.min), ("avg", np.mean), ("max", np.max))
_LEAKS: tuple[tuple[str, str, Callable[[tuple[float, float]], float]], ...] = (
    ("own", "own", lambda pair: pair[0]),
    ("other", "others'", lambda pair: pair[1]),
    ("difference", "own minus others'", lambda pair: pair[0] - pair[1]),
)
_NAMES = {"dino": "DINO", "clip": "CLIP-I"}

WHOLE = (
    *(Measure(f"{k}_{n}", f"{_NAMES[k]} {n}", _whole(k, pick)) for k in _NAMES for n, pick in _PICKS),
    Measure("clip_t", "CLIP-T", lambda score: score.text),
)
INSTANCE = (
    *(Measure(f"instance_{k}_{n}", f"{_NAMES[k]} {n}", _instance(k, pick)) for k in _NAMES for n, pick in _PICKS),
    Measure("found", "found", lambda score: score.found, "{:.0%}"),
)
LEAK = tuple(
    Measure(f"leak_{k}_{n}", f"{_NAMES[k]} {label}", _leak(k, pick)) for k in _NAMES for n, label, pick in _LEAKS
)
COST = (
    Measure("seconds", "seconds", lambda score: score.seconds, "{:.1f}"),
    Measure("memory", "GB", lambda score: None if score.memory is None else score.memory / 1e9, "{:.1f}"),
)
TABLES: tuple[tuple[str, tuple[Measure, ...]], ...] = (
    ("Whole picture", WHOLE),
    ("Instance level", INSTANCE),
    ("Leak", LEAK),
    ("Cost", COST),
)
MEASURES = tuple(measure for _, measures in TABLES for measure in measures)


def group_of(score: Score) -> str:
    """The group of a picture by its number of concepts, as in the paper."""
    count = len(score.case.subjects)
    return "2 LoRAs" if count == 2 else "3 to 5 LoRAs" if count <= 5 else "6 LoRAs and more"


def summarize(scores: Sequence[Score], methods: Sequence[str]) -> dict[str, Any]:
    """group -> method -> {prompts, pictures, measure: {mean, low, high}}; groups by LoRA count, then by kind."""
    groups: dict[str, list[Score]] = {ALL: list(scores)}
    for name in ("2 LoRAs", "3 to 5 LoRAs", "6 LoRAs and more"):
        groups[name] = [score for score in scores if group_of(score) == name]
    for kind in dict.fromkeys(score.case.kind for score in scores):
        groups[f"kind: {kind}"] = [score for score in scores if score.case.kind == kind]
    found: dict[str, Any] = {}
    for group, own in groups.items():
        if own and not (group != ALL and len(own) == len(scores)):
            found[group] = {name: _method([s for s in own if s.method == name]) for name in methods}
    return found


def _method(scores: Sequence[Score]) -> dict[str, Any]:
    numbers: dict[str, Any] = {"prompts": len({s.case.id for s in scores}), "pictures": len(scores)}
    for measure in MEASURES:
        by_prompt: dict[str, list[float]] = {}
        for score in scores:
            value = measure.value(score)
            if value is not None:
                by_prompt.setdefault(score.case.id, []).append(value)
        if by_prompt:
            numbers[measure.name] = interval(list(by_prompt.values()))
    return numbers


def interval(groups: Sequence[Sequence[float]]) -> dict[str, float]:
    """Mean over all pictures, with the 95 % bootstrap interval over prompts (fixed seed)."""
    sums = np.array([sum(group) for group in groups])
    counts = np.array([len(group) for group in groups], float)
    drawn = np.random.default_rng(0).integers(len(groups), size=(_RESAMPLES, len(groups)))
    low, high = np.quantile(sums[drawn].sum(1) / counts[drawn].sum(1), (0.025, 0.975))
    return {"mean": float(sums.sum() / counts.sum()), "low": float(low), "high": float(high)}

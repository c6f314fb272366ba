"""Tables from ratings: by group and method, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.characters import intervals
from benchmarks.composition.methods import METHODS, REFERENCE
from benchmarks.composition.metrics import Rating, rate
from benchmarks.composition.prompts import GROUPS, SINGLE, Prompt
from benchmarks.composition.run import Result

TOTAL = "all"  # every group but the single LoRAs


@dataclass(frozen=True)
class Rated:
    """A result with its rating."""

    prompt: Prompt
    result: Result
    rating: Rating


@dataclass(frozen=True)
class Measure:
    """One column: the value of a picture (None: undefined), and whether it is a proportion."""

    name: str
    label: str
    value: Callable[[Rated], float | None]
    proportion: bool = True


MEASURES = (
    Measure("present", "all present", lambda r: float(r.rating.present)),
    Measure("right", "all looks right", lambda r: float(r.rating.right)),
    Measure("exact", "and nothing more", lambda r: float(r.rating.exact)),
    Measure("omission", "omitted", lambda r: r.rating.omitted, proportion=False),
    Measure("leak", "leak", lambda r: r.rating.leak, proportion=False),
    Measure("separation", "own minus leak", lambda r: r.rating.separation, proportion=False),
    Measure("seconds", "seconds", lambda r: r.result.seconds, proportion=False),
)


def rated(prompts: Iterable[Prompt], results: Iterable[Result]) -> list[Rated]:
    """Results with their prompts and ratings."""
    by_id = {prompt.id: prompt for prompt in prompts}
    return [Rated(by_id[r.prompt], r, rate(by_id[r.prompt], r.verdict)) for r in results]


def by_prompt(rows: Sequence[Rated], measure: Measure) -> list[list[float]]:
    """A measure's values, one list for each prompt."""
    groups: dict[str, list[float]] = {}
    for row in rows:
        value = measure.value(row)
        if value is not None:
            groups.setdefault(row.prompt.id, []).append(value)
    return list(groups.values())


def summarize(rows: Sequence[Rated]) -> dict[str, Any]:
    """Each measure's mean and interval, and the number of prompts and pictures."""
    summary: dict[str, Any] = {"prompts": len({r.prompt.id for r in rows}), "pictures": len(rows)}
    for measure in MEASURES:
        values = by_prompt(rows, measure)
        if not values:
            continue
        flat = [value for group in values for value in group]
        low, high = (intervals.proportion if measure.proportion else intervals.mean)(values)
        summary[measure.name] = {"mean": sum(flat) / len(flat), "low": low, "high": high}
    return summary


def difference(rows: Sequence[Rated], reference: Sequence[Rated]) -> dict[str, float] | None:
    """How much more often all looks are right than with the reference, paired by prompt and seed."""
    other = {(r.prompt.id, r.result.seed): r.rating.right for r in reference}
    pairs: dict[str, list[float]] = {}
    for row in rows:
        key = (row.prompt.id, row.result.seed)
        if key in other:
            pairs.setdefault(row.prompt.id, []).append(float(row.rating.right) - float(other[key]))
    if not pairs:
        return None
    flat = [value for group in pairs.values() for value in group]
    low, high = intervals.mean(list(pairs.values()))
    return {"mean": sum(flat) / len(flat), "low": low, "high": high}


def matrix(rows: Sequence[Rated]) -> dict[str, dict[str, float]]:
    """Mean share of each look in each subject, over the pictures whose prompts have both."""
    sums: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        for look, shares in row.rating.matrix:
            for name, share in shares.items():
                sums.setdefault(look, {}).setdefault(name, []).append(share)
    return {look: {name: sum(v) / len(v) for name, v in own.items()} for look, own in sums.items()}


def report(rows: Sequence[Rated]) -> dict[str, Any]:
    """All numbers, for JSON."""
    groups = {TOTAL: [r for r in rows if r.prompt.group != SINGLE]}
    groups |= {group: [r for r in rows if r.prompt.group == group] for group in GROUPS}
    summaries: dict[str, Any] = {}
    for group, members in groups.items():
        methods = {name: [r for r in members if r.result.method == name] for name in METHODS}
        by_method = {name: summarize(results) for name, results in methods.items() if results}
        for name, summary in by_method.items():
            if name != REFERENCE and (gap := difference(methods[name], methods[REFERENCE])):
                summary["right minus default"] = gap
            summary["matrix"] = matrix(methods[name])
        if by_method:
            summaries[group] = by_method
    return summaries


def tables(summaries: dict[str, Any]) -> str:
    """Markdown, one table for each group."""
    parts = []
    for group, methods in summaries.items():
        first = next(iter(methods.values()))
        title = "single LoRA" if group == SINGLE else group
        lines = [f"**{title}** ({first['prompts']} prompts, {first['pictures']} pictures of each method)", ""]
        lines += ["| method | " + " | ".join(m.label for m in MEASURES) + " |", "|---" * (len(MEASURES) + 1) + "|"]
        for name, summary in methods.items():
            lines.append(f"| {METHODS[name].label} | " + " | ".join(_cell(summary, m) for m in MEASURES) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _cell(summary: dict[str, Any], measure: Measure) -> str:
    value = summary.get(measure.name)
    if value is None:
        return "–"
    if measure.name == "seconds":
        return f"{value['mean']:.1f}"
    if measure.name == "separation":
        return f"{value['mean']:.2f} ({value['low']:.2f} to {value['high']:.2f})"
    return f"{100 * value['mean']:.0f} % ({100 * value['low']:.0f} to {100 * value['high']:.0f})"

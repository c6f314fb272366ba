"""Tables from what was seen: by group and method, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.characters import intervals
from benchmarks.characters.measures import FAULTS, Rated
from benchmarks.characters.methods import METHODS

TOTAL, SINGLE = "all", "single"  # all: every group but the single LoRAs


@dataclass(frozen=True)
class Measure:
    """One column: the value of a picture (None: undefined), and how it is averaged and printed."""

    name: str
    label: str
    value: Callable[[Rated], float | None]
    proportion: bool = False
    percent: bool = True


MEASURES = (
    Measure("present", "all there", lambda r: float(r.seen.rating.present), proportion=True),
    Measure("right", "right", lambda r: float(r.seen.rating.right), proportion=True),
    Measure("exact", "and nothing more", lambda r: float(r.seen.rating.exact), proportion=True),
    Measure("omitted", "omitted", lambda r: r.seen.rating.omitted),
    Measure("blended", "blended", lambda r: r.seen.rating.blended),
    Measure("own", "own look", lambda r: r.seen.own),
    Measure("leak", "leak", lambda r: r.seen.leak),
    Measure("like least", "likeness, least", lambda r: r.like.get("least"), percent=False),
    Measure("like mean", "mean", lambda r: r.like.get("mean"), percent=False),
    Measure("like greatest", "greatest", lambda r: r.like.get("greatest"), percent=False),
    Measure("like leak", "to others", lambda r: r.like.get("leak"), percent=False),
    Measure("seconds", "seconds", lambda r: r.result.seconds, percent=False),
)


def _by_prompt(rows: Sequence[Rated], measure: Measure) -> list[list[float]]:
    """A measure's values, one list for each prompt."""
    groups: dict[str, list[float]] = {}
    for row in rows:
        value = measure.value(row)
        if value is not None:
            groups.setdefault(row.result.prompt.id, []).append(value)
    return list(groups.values())


def summarize(rows: Sequence[Rated]) -> dict[str, Any]:
    """Each measure's mean and interval, shares of pictures with each fault, and numbers of prompts and pictures."""
    summary: dict[str, Any] = {"prompts": len({r.result.prompt.id for r in rows}), "pictures": len(rows)}
    for measure in MEASURES:
        values = _by_prompt(rows, measure)
        if values:
            low, high = (intervals.proportion if measure.proportion else intervals.mean)(values)
            summary[measure.name] = {"mean": _mean(values), "low": low, "high": high}
    summary["faults"] = {name: sum(name in row.seen.faults for row in rows) / len(rows) for name in FAULTS}
    summary["matrix"] = matrix(rows)
    return summary


def _mean(values: Sequence[Sequence[float]]) -> float:
    flat = [value for group in values for value in group]
    return sum(flat) / len(flat)


def difference(rows: Sequence[Rated], reference: Sequence[Rated], measure: Measure) -> dict[str, float] | None:
    """How much larger a measure is than with the reference, paired by prompt and seed."""
    other = {(r.result.prompt.id, r.result.seed): measure.value(r) for r in reference}
    pairs: dict[str, list[float]] = {}
    for row in rows:
        value, known = measure.value(row), other.get((row.result.prompt.id, row.result.seed))
        if value is not None and known is not None:
            pairs.setdefault(row.result.prompt.id, []).append(value - known)
    if not pairs:
        return None
    low, high = intervals.mean(list(pairs.values()))
    return {"mean": _mean(list(pairs.values())), "low": low, "high": high}


def matrix(rows: Sequence[Rated]) -> dict[str, dict[str, float]]:
    """Mean probability of each look in each subject, over the pictures whose prompts have both."""
    sums: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        for subject, shares in row.seen.shares:
            for name, share in shares.items():
                sums.setdefault(subject, {}).setdefault(name, []).append(share)
    return {subject: {name: sum(v) / len(v) for name, v in own.items()} for subject, own in sorted(sums.items())}


def report(rows: Sequence[Rated], against: str, as_usual: Sequence[str] = ()) -> dict[str, Any]:
    """All numbers, for JSON: by group and method; every other method is compared with the method `against`.

    `as_usual` are the prompts that CLoRA does not compose, so that all methods draw the same.
    """
    groups = {TOTAL: [r for r in rows if r.result.prompt.group != SINGLE]}
    for row in rows:
        groups.setdefault(row.result.prompt.group, []).append(row)
    found: dict[str, Any] = {}
    for group, members in groups.items():
        methods: dict[str, list[Rated]] = {}
        for row in members:
            methods.setdefault(row.result.method, []).append(row)
        alike = len({row.result.prompt.id for row in members} & set(as_usual))
        summaries = {name: {**summarize(own), "as usual": alike} for name, own in methods.items()}
        for name in methods.keys() - {against} if against in methods else ():
            gaps = {m.name: difference(methods[name], methods[against], m) for m in MEASURES}
            summaries[name]["difference"] = {measure: gap for measure, gap in gaps.items() if gap}
        if summaries:
            found[group] = summaries
    return found


def tables(summaries: dict[str, Any], against: str) -> str:
    """Markdown: two tables for each group, and the matrix of the method that the others are compared with."""
    parts = []
    for group, methods in summaries.items():
        first = next(iter(methods.values()))
        title = {TOTAL: "all groups but the single LoRAs", SINGLE: "single LoRAs"}.get(group, group)
        alike = f", {first['as usual']} of them not composed" if first["as usual"] else ""
        parts.append(f"**{title}** ({first['prompts']} prompts{alike}, {first['pictures']} pictures of each method)")
        parts += [_measures(methods, against), _faults(methods)]
    whole = summaries.get(TOTAL, {}).get(against)
    if whole:
        parts += [f"**whose look subjects have** ({METHODS[against].label}, %)", _matrix(whole["matrix"])]
    return "\n\n".join(parts)


def _measures(methods: dict[str, Any], against: str) -> str:
    shown = [m for m in MEASURES if any(m.name in summary for summary in methods.values())]
    head = ["method", *(m.label for m in shown), f"right, minus {against}"]
    rows = [
        [METHODS[name].label, *(_cell(summary.get(m.name), m) for m in shown),
         _gap(summary.get("difference", {}).get("right"))]
        for name, summary in methods.items()
    ]  # fmt: skip
    return table(head, rows)


def _faults(methods: dict[str, Any]) -> str:
    rows = [[METHODS[name].label, *(f"{100 * summary['faults'][fault]:.0f} %" for fault in FAULTS)]
            for name, summary in methods.items()]  # fmt: skip
    return table(["wrong in pictures", *FAULTS.values()], rows)


def _matrix(shares: dict[str, dict[str, float]]) -> str:
    names = [*shares, "wrong", "other"]
    rows = [[name, *(f"{100 * own[other]:.0f}" if other in own else "" for other in names)]
            for name, own in shares.items()]  # fmt: skip
    return table(["subject", *names], rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _cell(value: dict[str, float] | None, measure: Measure) -> str:
    if value is None:
        return "–"
    if measure.name == "seconds":
        return f"{value['mean']:.1f}"
    if measure.percent:
        return f"{100 * value['mean']:.0f} % ({100 * value['low']:.0f} to {100 * value['high']:.0f})"
    return f"{value['mean']:.2f} ({value['low']:.2f} to {value['high']:.2f})"


def _gap(value: dict[str, float] | None) -> str:
    return f"{100 * value['mean']:+.0f} ({100 * value['low']:+.0f} to {100 * value['high']:+.0f})" if value else "–"

"""What a verdict says of a prompt: which of its subjects are there, each with its own look, and what went wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..prompts import Instance, Prompt
from .judge import Finding, Verdict

# Of the mean side: a rider is so much higher and no further to the side; what is held or behind is no further away.
_ABOVE, _ASIDE, _NEAR, _OVERLAP = 0.15, 0.6, 0.75, 0.95


@dataclass(frozen=True)
class Rating:
    """One picture.

    present: as many subjects as asked for, or more. right: each one asked for is there with its own look and style,
    and style, background and relation of the whole are as asked. exact: right, and there is nothing more. omitted:
    share of subjects that are not there with their own look. blended: share of subjects that are no one's look.
    """

    present: bool
    right: bool
    exact: bool
    omitted: float
    blended: float


def fits(one: Instance, finding: Finding, style: str | None) -> bool:
    """Whether a subject is what was asked for, in its own style or that of the whole picture."""
    return finding.name == one.name and finding.style == (style or one.style or "none")


def assign(expect: Sequence[Instance], found: Sequence[Finding], style: str | None) -> list[Finding | None]:
    """A finding, or None, for each subject asked for, so that as many as can be are what was asked for."""
    chosen: list[Finding | None] = [None] * len(expect)
    left = list(found)
    for i, one in enumerate(expect):
        fitting = [finding for finding in left if fits(one, finding, style)]
        if fitting:
            chosen[i] = max(fitting, key=lambda finding: finding.shares[finding.name])
            left.remove(chosen[i])  # type: ignore[arg-type]
    return chosen


def related(kind: str, first: Finding, second: Finding) -> bool:
    """Whether two subjects stand as they should. Of "behind" depth cannot be told: the one in front is lower."""
    side = (first.side + second.side) / 2
    aside, below = abs(first.x - second.x), second.y - first.y
    if kind == "riding":
        return below > _ABOVE * side and aside < _ASIDE * side
    if kind == "wearing":
        return below < -_ABOVE * side and aside < 0.4 * side
    if kind == "holding":
        return below > 0 and math.hypot(aside, below) < _NEAR * side
    return below > 0 and math.hypot(aside, below) < _OVERLAP * side


def rate(prompt: Prompt, verdict: Verdict) -> Rating:
    """The rating of one picture."""
    found = assign(prompt.expect, verdict.subjects, prompt.style)
    style = verdict.style == prompt.style if prompt.style else True
    background = prompt.background is None or verdict.background == prompt.background
    right = all(found) and style and background
    if right and prompt.relation:
        kind, i, j = prompt.relation
        one, other = found[i], found[j]
        assert one is not None
        assert other is not None
        right = related(kind, one, other)
    count = len(prompt.expect)
    blended = sum(finding.name == "wrong" for finding in verdict.subjects)
    return Rating(
        present=len(verdict.subjects) >= count,
        right=right,
        exact=right and len(verdict.subjects) == count,
        omitted=sum(one is None for one in found) / count,
        blended=blended / max(1, len(verdict.subjects)),
    )

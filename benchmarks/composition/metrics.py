"""Rates a picture: which things of the prompt are there, whose look each has, and how much leaked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

from benchmarks.composition.prompts import Instance, Prompt
from benchmarks.judge import Finding, Verdict

_DRAWN = 0.5  # least share that pencil or background covers of what it should cover


@dataclass(frozen=True)
class Rating:
    """One picture.

    `present`: for every thing asked for there is a thing of its class. `right`: and each has its own look (and pencil),
    and the prompt's style and background are there, too. `exact`: and there is nothing more. `omitted`: share of the
    things asked for that have none of their class. `matrix`: for each subject that is there and should have a LoRA's
    look, the share of each of the prompt's looks in it.
    """

    present: bool
    right: bool
    exact: bool
    omitted: float
    matrix: tuple[tuple[str, dict[str, float]], ...]

    @property
    def own(self) -> float | None:
        """Mean share of its own look in a subject (the matrix's diagonal); None if no subject is there."""
        return _mean([shares[look] for look, shares in self.matrix])

    @property
    def leak(self) -> float | None:
        """Mean share of the prompt's other looks in a subject (off the diagonal)."""
        return _mean([sum(v for name, v in shares.items() if name != look) for look, shares in self.matrix])

    @property
    def separation(self) -> float | None:
        """Own look minus leak: 1 if each look is on its own subject, 0 for an even blend, -1 if all are swapped."""
        own, leak = self.own, self.leak
        return None if own is None or leak is None else own - leak


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def assign(expect: Sequence[Instance], found: Sequence[Finding]) -> list[Finding | None]:
    """For each thing asked for a finding of its class or None, chosen so that most of them have their own look."""
    assigned: list[Finding | None] = [None] * len(expect)
    for kind in {thing.kind for thing in expect}:
        wanted = [i for i, thing in enumerate(expect) if thing.kind == kind]
        own = [finding for finding in found if finding.kind == kind]
        candidates: list[Finding | None] = [*own, *([None] * max(0, len(wanted) - len(own)))]

        def value(chosen: Sequence[Finding | None], wanted: Sequence[int] = wanted) -> float:
            pairs = zip(wanted, chosen, strict=True)
            own = [(finding, expect[i].look) for i, finding in pairs if finding is not None]
            return sum(finding.whole[look] + finding.looks[look] for finding, look in own)

        best = max(permutations(candidates, len(wanted)), key=value)
        for i, finding in zip(wanted, best, strict=True):
            assigned[i] = finding
    return assigned


def rate(prompt: Prompt, verdict: Verdict) -> Rating:
    """The rating of one picture by the judge's verdict."""
    assigned = assign(prompt.expect, verdict.things)
    there = [finding is not None for finding in assigned]
    pairs = list(zip(prompt.expect, assigned, strict=True))
    whole = _whole_picture(prompt, verdict)
    right = whole and all(_carries_its_own(thing, finding, prompt) for thing, finding in pairs)
    looks = prompt.looks
    matrix = tuple(
        (thing.look, {look: finding.looks[look] for look in looks})
        for thing, finding in pairs
        if finding is not None and thing.look != "none"
    )
    exact = right and len(verdict.things) == len(prompt.expect)
    return Rating(all(there), right, exact, there.count(False) / len(there), matrix)


def _carries_its_own(thing: Instance, finding: Finding | None, prompt: Prompt) -> bool:
    if finding is None or not finding.carries(thing.look):
        return False
    return (finding.pencil >= _DRAWN) == (thing.pencil or prompt.style == "sketch")


def _whole_picture(prompt: Prompt, verdict: Verdict) -> bool:
    """Whether style and background are as the prompt asks for."""
    if prompt.style == "sketch" and verdict.pencil < _DRAWN:
        return False
    return prompt.background is None or verdict.background[prompt.background] >= _DRAWN

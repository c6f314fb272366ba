"""What a verdict says of a prompt: which of its things are there, whose look each carries, what leaked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

from benchmarks.composition.prompts import Instance, Prompt
from benchmarks.judge import Finding, Verdict

_DRAWN = 0.5  # pencil or background covers what it should with at least this share


@dataclass(frozen=True)
class Rating:
    """One picture.

    present: every thing asked for has a thing of its class. right: and each carries its own look (and pencil), style
    and background of the prompt are there too. exact: and there is nothing more. omitted: share of things without one
    of their class. matrix: for each subject there with a LoRA's look, the shares of the looks of all the prompt's
    LoRAs in it.
    """

    present: bool
    right: bool
    exact: bool
    omitted: float
    matrix: tuple[tuple[str, dict[str, float]], ...]

    @property
    def own(self) -> float | None:
        """Mean share of its own look in a subject (the matrix's diagonal); None where no subject is there."""
        return _mean([shares[look] for look, shares in self.matrix])

    @property
    def leak(self) -> float | None:
        """Mean share of the prompt's other looks in a subject (off the diagonal)."""
        return _mean([sum(v for name, v in shares.items() if name != look) for look, shares in self.matrix])

    @property
    def separation(self) -> float | None:
        """Diagonal minus off-diagonal: 1 is each look in its place, 0 an even blend, -1 all swapped."""
        own, leak = self.own, self.leak
        return None if own is None or leak is None else own - leak


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def assign(expect: Sequence[Instance], found: Sequence[Finding]) -> list[Finding | None]:
    """A finding of its class for each thing asked for, so that most of them carry their own look."""
    assigned: list[Finding | None] = [None] * len(expect)
    for kind in {thing.kind for thing in expect}:
        wanted = [i for i, thing in enumerate(expect) if thing.kind == kind]
        own = [finding for finding in found if finding.kind == kind]
        places: list[Finding | None] = [*own, *([None] * max(0, len(wanted) - len(own)))]

        def value(chosen: Sequence[Finding | None], wanted: Sequence[int] = wanted) -> float:
            pairs = zip(wanted, chosen, strict=True)
            own = [(finding, expect[i].look) for i, finding in pairs if finding is not None]
            return sum(finding.whole[look] + finding.looks[look] for finding, look in own)

        best = max(permutations(places, len(wanted)), key=value)
        for i, finding in zip(wanted, best, strict=True):
            assigned[i] = finding
    return assigned


def rate(prompt: Prompt, verdict: Verdict) -> Rating:
    """The rating of one picture."""
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
    """Whether style and background are as asked for."""
    if prompt.style == "sketch" and verdict.pencil < _DRAWN:
        return False
    return prompt.background is None or verdict.background[prompt.background] >= _DRAWN

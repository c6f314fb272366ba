"""What a verdict says of a prompt: the rating, whose look is where, and everything that went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.characters.boxes import likeness
from benchmarks.characters.run import Result
from research.characters.judge import Finding, Verdict
from research.characters.judge.rate import Rating, assign, rate, related
from research.characters.prompts import Instance, Prompt

FAULTS: dict[str, str] = {
    "missing": "missing",  # fewer subjects than asked for
    "blended": "blend",  # a blend, or nobody's look
    "swapped": "another's look",  # that of another subject of the prompt
    "other": "other look",  # one that the prompt does not ask for
    "double": "double",  # a subject that was asked for once more
    "extra": "extra",  # any other subject more than asked for
    "style": "style",
    "background": "background",
    "relation": "relation",
}
"""What can be wrong with a picture, which may have several; the first four are about subjects without own look."""


@dataclass(frozen=True)
class Seen:
    """One picture. `faults` are names of FAULTS.

    `shares` hold for each subject asked for that has a stand-in its name and the probabilities of the prompt's names in
    it, with "wrong" (a blend) and "other".
    """

    rating: Rating
    faults: frozenset[str]
    shares: tuple[tuple[str, dict[str, float]], ...]

    @property
    def own(self) -> float | None:
        """Mean probability of its own look in a subject (the matrix's diagonal); None if no subject is there."""
        return _mean([shares[name] for name, shares in self.shares])

    @property
    def leak(self) -> float | None:
        """Mean probability of the prompt's other looks in a subject; None if no subject is there."""
        others = [
            sum(shares.values()) - shares["wrong"] - shares["other"] - shares[name] for name, shares in self.shares
        ]
        return _mean(others)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def look(prompt: Prompt, verdict: Verdict) -> Seen:
    """All that is known of one picture."""
    chosen, kinds = stand_ins(prompt, verdict.subjects)
    rating = rate(prompt, verdict)
    faults = {kind for kind in kinds if kind}
    asked = {one.name for one in prompt.expect}
    more = [one for one in verdict.subjects if not any(one is other for other in chosen)]
    faults |= {"double" if one.name in asked else "extra" for one in more}
    if prompt.style and verdict.style != prompt.style:
        faults.add("style")
    if prompt.background and verdict.background != prompt.background:
        faults.add("background")
    if prompt.relation:
        kind, i, j = prompt.relation
        pair = [assign(prompt.expect, verdict.subjects, prompt.style)[n] for n in (i, j)]
        if pair[0] and pair[1] and not related(kind, pair[0], pair[1]):
            faults.add("relation")
    names = list(dict.fromkeys(one.name for one in prompt.expect))
    rows = [(one.name, _shares(names, finding)) for one, finding in zip(prompt.expect, chosen, strict=True) if finding]
    return Seen(rating, frozenset(faults), tuple(rows))


def _shares(names: Sequence[str], finding: Finding) -> dict[str, float]:
    shares = {name: finding.shares.get(name, 0.0) for name in (*names, "wrong")}
    return {**shares, "other": max(0.0, 1.0 - sum(shares.values()))}


def stand_ins(prompt: Prompt, found: Sequence[Finding]) -> tuple[list[Finding | None], list[str]]:
    """For each subject asked for the finding that stands for it, and the fault of that ("" if it is right).

    Those with their own look come first, then what is nearest to it: own look in a wrong style, another look of the
    prompt that is there once too often, a blend, any other look; of several the one whose class is most alike. Nothing
    is left over for "missing".
    """
    chosen = assign(prompt.expect, found, prompt.style)
    faults = ["" if one else "missing" for one in chosen]
    left = [one for one in found if not any(one is other for other in chosen)]
    names = {one.name for one in prompt.expect}
    for fault in ("style", "swapped", "blended", "other"):
        while pairs := [
            (i, finding) for i, one in enumerate(prompt.expect) if not chosen[i]
            for finding in left if _is(fault, one, finding, names)
        ]:  # fmt: skip
            i, finding = max(pairs, key=lambda pair: likeness(pair[1], prompt.expect[pair[0]].kind))
            chosen[i], faults[i] = finding, fault
            left = [other for other in left if other is not finding]
    return chosen, faults


def _is(fault: str, one: Instance, finding: Finding, names: set[str]) -> bool:
    if fault == "style":
        return finding.name == one.name
    if fault == "swapped":
        return finding.name in names
    return fault == "other" or finding.name == "wrong"


@dataclass(frozen=True)
class Rated:
    """A result with what was seen, and by name the measures of likeness if there are any."""

    result: Result
    seen: Seen
    like: dict[str, float]


def rated(results: Sequence[Result], likeness: Sequence[dict[str, float]] = ()) -> list[Rated]:
    """All results with what is seen in them."""
    kept = likeness or [{} for _ in results]
    return [Rated(r, look(r.prompt, r.verdict), like) for r, like in zip(results, kept, strict=True)]

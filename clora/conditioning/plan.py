"""What one image composes, in text positions: the meeting point of prompt analysis and engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..models.denoiser import Row
from ..regions.region import Region


@dataclass(frozen=True)
class ImagePlan:
    """Text positions of one image's concepts; variant 0 is the base, variant g + 1 draws concept g.

    `group_tokens[concept][variant]`: positions of the maps in that concept's group (paper section 3.2).
    `mask_tokens[variant]`: positions whose maps cut that variant's mask; the base usually has none.
    `places[concept]`: where the user wants it, None anywhere; empty where no concept has a place.
    `labels[concept]`: how sentences for the user name it; empty where nobody reads them.
    `words[concept]`: its words in the prompt, by which things of one kind are known; empty where nobody asks.
    `background`: a LoRA draws the background, which is on in the base alone.
    """

    group_tokens: tuple[tuple[tuple[int, ...], ...], ...]
    mask_tokens: tuple[tuple[int, ...], ...]
    places: tuple[Region | None, ...] = ()
    labels: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    background: bool = False

    def __post_init__(self) -> None:
        if any(len(group) != self.variants for group in self.group_tokens):
            raise ValueError("every concept group needs one tuple of positions for each variant")

    @property
    def variants(self) -> int:
        """Number of variants, N + 1 for N concepts."""
        return len(self.mask_tokens)

    @property
    def columns(self) -> tuple[int, ...]:
        """All text positions the plan needs, in order."""
        grouped = {token for group in self.group_tokens for tokens in group for token in tokens}
        return tuple(sorted(grouped.union(*self.mask_tokens)))


def plan_image(
    subjects: Sequence[Sequence[Sequence[int]]], triggers: Sequence[Sequence[int]], mask_words: str,
    places: Sequence[Region | None] = (), labels: Sequence[str] = (), words: Sequence[str] = (),
    background: bool = False,
) -> ImagePlan:  # fmt: skip
    """A plan from positions: `subjects[variant][concept]` and `triggers[variant]` (empty for the base).

    `mask_words` is "subject", or "all" for subject and trigger words (the authors' choice).
    Words that are scheduled away at a step have no positions there: their group and mask are empty for that step.
    """
    count = len(subjects[0])
    groups = []
    for concept in range(count):
        own = concept + 1
        groups.append(
            tuple(
                tuple(sorted({*subjects[v][concept], *(triggers[v] if v == own else ())})) for v in range(len(subjects))
            )
        )
    masks: list[tuple[int, ...]] = [()]
    for concept in range(count):
        own_words = set(subjects[concept + 1][concept])
        if mask_words == "all":
            own_words |= set(triggers[concept + 1])
        masks.append(tuple(sorted(own_words)))
    kept = tuple(places) if any(places) else ()
    return ImagePlan(tuple(groups), tuple(masks), kept, tuple(labels), tuple(words), background)


def rows_of(plans: Sequence[ImagePlan], *, unconditional: bool) -> tuple[Row, ...]:
    """All rows of a batch, sorted by variant, so that the rows of one LoRA are neighbours."""
    halves = (True, False) if unconditional else (True,)
    return tuple(
        sorted(
            (
                Row(image, variant, half)
                for image, plan in enumerate(plans)
                for variant in range(plan.variants)
                for half in halves
            ),
            key=lambda row: (row.variant, not row.conditional, row.image),
        )
    )


def chunks(rows: tuple[Row, ...], size: int) -> list[tuple[Row, ...]]:
    """`rows` in pieces of at most `size` (0: one piece)."""
    step = size or len(rows)
    return [rows[start : start + step] for start in range(0, len(rows), step)]

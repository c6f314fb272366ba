"""What one image composes, in text positions: where prompt analysis and engine meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..models.denoiser import Row
from ..prompt import Composition, PromptTokens, Variant
from ..prompt.region import Region
from ..prompt.relations import Order, items, orders
from ..prompt.text import Span
from ..settings.table import MaskWords, Settings

Positions = tuple[int, ...]
"""Text positions, rows of a variant's context."""


@dataclass(frozen=True)
class PlannedConcept:
    """One concept of an image by text positions. Variant 0 is the base, variant g + 1 draws concept g.

    `group[variant]`: positions of the attention maps in the concept's group (paper section 3.2).
    `mask`: positions in the concept's own variant whose maps cut its mask. Words that are scheduled away at a step
    have no positions: group and mask are empty then.
    `words`: the subject words, by which concepts of one class are recognised; `label`: its name in messages, "" where
    nobody reads them; `region`: where the user wants it, None for anywhere.
    """

    group: tuple[Positions, ...]
    mask: Positions = ()
    words: str = ""
    label: str = ""
    region: Region | None = None


@dataclass(frozen=True)
class PlannedOther:
    """A subject that the base draws: the positions of its words in the base's text, none while they are scheduled away,
    and the words."""

    group: Positions
    words: str


@dataclass(frozen=True)
class ImagePlan:
    """One image's variants and concepts at one sampler step.

    `variants` counts the prompt variants that are run: the base, the concepts', and those of the `others` if they have
    any. `concepts` is empty for strategies without masks.
    `background`: the base's LoRAs, a background's or late styles, draw what is beside the subjects, so that the base
    keeps it from the first step on. `base_mask` are positions whose maps cut the base's mask, usually none. `others`
    are the subjects without a LoRA, which have places of their own; without variants of theirs the base draws them.
    `orders` is what the prompt says about where subjects are, `items` are those that another one wears or holds
    (numbered as in `places`).
    """

    variants: int
    concepts: tuple[PlannedConcept, ...] = ()
    background: bool = False
    base_mask: Positions = ()
    others: tuple[PlannedOther, ...] = ()
    orders: tuple[Order, ...] = ()
    items: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        composed = len(self.concepts) + 1
        if self.concepts and self.variants not in (composed, composed + len(self.others)):
            raise ValueError("a plan with N concepts and M others has N + 1 or N + 1 + M variants")
        if any(len(concept.group) != composed for concept in self.concepts):
            raise ValueError("every concept group needs one tuple of positions for the base and each concept's variant")

    @property
    def columns(self) -> Positions:
        """All text positions whose maps the plan needs, in order."""
        needed = {*self.base_mask, *(position for one in self.others for position in one.group)}
        for concept in self.concepts:
            needed.update(concept.mask, *concept.group)
        return tuple(sorted(needed))

    @property
    def masks(self) -> tuple[Positions, ...]:
        """The positions that cut the base's and each concept's mask, in its own variant's maps."""
        return (self.base_mask, *(concept.mask for concept in self.concepts))

    @property
    def cut_from(self) -> tuple[tuple[int, Positions], ...]:
        """For each variant's mask the variant whose maps cut it, and the positions: the base's for the others."""
        return (*enumerate(self.masks), *((0, one.group) for one in self.drawn_others))

    @property
    def drawn_others(self) -> tuple[PlannedOther, ...]:
        """The others that have a variant."""
        return self.others if self.variants > len(self.concepts) + 1 else ()

    @property
    def regions(self) -> tuple[Region | None, ...]:
        """Each concept's region."""
        return tuple(concept.region for concept in self.concepts)

    @property
    def variant_regions(self) -> tuple[Region | None, ...]:
        """The region of each variant but the base; only concepts have one."""
        return (*self.regions, *(None for _ in self.drawn_others))

    @property
    def places(self) -> tuple[Positions, ...]:
        """The positions in the base of every subject that has a place: the concepts', then the others'."""
        return (*(concept.group[0] for concept in self.concepts), *(one.group for one in self.others))


def plan_image(
    composition: Composition, variants: Sequence[Variant], tokens: Sequence[PromptTokens], settings: Settings
) -> ImagePlan:
    """The plan of a composition's `variants`, whose texts have their tokens as `tokens` says.

    Variants without subjects (those of strategies without masks) make a plan without concepts.
    """
    if not all(variant.subjects for variant in variants):
        return ImagePlan(len(variants))
    subjects = [[t.positions(spans) for spans in v.subjects] for v, t in zip(variants, tokens, strict=True)]
    triggers = [t.positions(v.triggers) for v, t in zip(variants, tokens, strict=True)]
    about = [(one.words, one.quoted, one.region) for one in composition.concepts]
    composed = len(composition.concepts) + 1  # what comes after them are the variants of subjects without a LoRA
    # Late styles act on the base from the start, as a background's LoRA does.
    late = settings.style_from > 0.0 and any(use in composition.styles for use in variants[0].loras)
    apart = bool(composition.background) or late
    plan = plan_positions(subjects[:composed], triggers[:composed], settings.mask_words, about, apart)
    return _with_places(plan, variants, tokens[0]) if settings.own_places else plan


def _with_places(plan: ImagePlan, variants: Sequence[Variant], tokens: PromptTokens) -> ImagePlan:
    """The plan with the other subjects of the base's text, and with what that says about where subjects are."""
    base = variants[0]
    planned = tuple(PlannedOther(tokens.positions(spans), _words(base.text, spans)) for spans in base.others)
    subjects = (*base.subjects, *base.others)
    told = orders(base.text, subjects), items(base.text, subjects)
    return replace(plan, variants=len(variants), others=planned, orders=told[0], items=told[1])


def _words(text: str, spans: Sequence[Span]) -> str:
    return " ".join(text[slice(*span)] for span in spans)


def plan_positions(
    subjects: Sequence[Sequence[Sequence[int]]], triggers: Sequence[Sequence[int]], mask_words: MaskWords,
    about: Sequence[tuple[str, str, Region | None]] = (), background: bool = False,
) -> ImagePlan:  # fmt: skip
    """The same from text positions: `subjects[variant][concept]` and `triggers[variant]` (empty for the base).

    `mask_words` is "subject", or "all" for subject and trigger words (the authors' choice). `about` gives each
    concept's words, label and region.
    """
    concepts = []
    for number in range(len(subjects[0])):
        own = number + 1
        group = [{*of[number], *(triggers[v] if v == own else ())} for v, of in enumerate(subjects)]
        mask = {*subjects[own][number], *(triggers[own] if mask_words == "all" else ())}
        rest = about[number] if about else ("", "", None)
        concepts.append(PlannedConcept(tuple(tuple(sorted(g)) for g in group), tuple(sorted(mask)), *rest))
    return ImagePlan(len(subjects), tuple(concepts), background)


def rows_of(plans: Sequence[ImagePlan], halves: Sequence[bool] = (True, False)) -> tuple[Row, ...]:
    """All rows of a batch, sorted by variant, so that the rows of one LoRA are neighbours.

    `halves` of the guidance batch: conditional (True), unconditional (False).
    """
    rows = [
        Row(image, variant, half)
        for image, plan in enumerate(plans)
        for variant in range(plan.variants)
        for half in halves
    ]
    return tuple(sorted(rows, key=lambda row: (row.variant, not row.conditional, row.image)))


def chunks(rows: tuple[Row, ...], size: int) -> list[tuple[Row, ...]]:
    """`rows` in pieces of at most `size` (0: one piece)."""
    step = size or len(rows)
    return [rows[start : start + step] for start in range(0, len(rows), step)]

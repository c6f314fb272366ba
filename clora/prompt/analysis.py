"""Read a prompt: its concepts, styles and background, and the text of each variant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache

from ..errors import CLoRAError
from ..lora.use import LoraUse
from .composition import Composition, Concept, Variant, WordsOverride
from .diagnostics import (
    AND,
    foreign_syntax,
    hidden_note,
    ignored_parts,
    left_note,
    left_out_warning,
    unused_corrections,
    why_inactive,
)
from .evidence import Evidence, EvidenceSource
from .other_subjects import other_subjects
from .own_words import OwnWords, own_words, readable_by_host, said_by
from .region import Region, in_front
from .render import Edit, Rendered, render
from .roles import trigger_items
from .subjects import Subject
from .survey import Survey, survey
from .tags import LoraTag, Role
from .text import Span
from .token_ranges import LONGEST_TEXT, too_long
from .triggers import Trigger, added_trigger_warning, triggers_at_words
from .uses import added, styles_among, unique, uses_of, without_weight
from .words import Offsets

ActivationText = Callable[[str], Sequence[str]] | Mapping[str, Sequence[str]]
"""LoRA name -> its activation texts, which may hold its subject words."""


def analyze(
    prompt: str,
    negative: str = "",
    *,
    activation_text: ActivationText | None = None,
    evidence: EvidenceSource | None = None,
    overrides: Mapping[str, WordsOverride] | None = None,
    drop_other_tags: bool = False,
) -> Composition:
    """Read a prompt: which LoRA draws what, and each variant's text with the spans of its words.

    `evidence` tells what is known about a LoRA: it helps to find its role and its words if neither tag nor panel name
    them; `activation_text` gives activation texts alone. `overrides` are the panel's rows by LoRA name.
    `drop_other_tags` removes other extensions' tags (`<hypernet:...>`) from the variants' texts, as AUTOMATIC1111 and
    Forge do before they encode; they stay in `host_text`.
    With fewer than two concepts, and none with a place, CLoRA is inactive (`Composition.note`), which is no error.
    Raises: CLoRAError if something that the tags or the panel ask for is not possible; one message has all problems.
    """
    rows = overrides or {}
    known = cache(evidence or _texts_alone(activation_text))
    return compose(survey(prompt, rows, known, drop_other_tags=drop_other_tags), negative, rows, known)


def compose(
    found: Survey, negative: str, rows: Mapping[str, WordsOverride], known: EvidenceSource
) -> Composition:  # fmt: skip
    """The composition of a surveyed prompt. Raises: CLoRAError as `analyze` does."""
    if found.problems:
        raise CLoRAError(found.message)
    reader = _Reader(found, negative)
    base = reader.base.resolved
    if not _enough(found.groups, reader.tags) or AND.search(base.text):
        composition = reader.inactive(found.groups)
    else:
        _refuse_long(base.text)
        texts = _texts_of(known)
        composition = reader.compose(found.groups, triggers_at_words(base, reader.tags, found.groups, texts))
    warnings = (*composition.warnings, *unused_corrections(rows, found.tags))
    return _arranged(replace(composition, warnings=warnings))


def _enough(groups: Sequence[Subject], tags: Sequence[LoraTag]) -> bool:
    """Whether there is something to compose: two subjects, or one with a place, beside which the base draws."""
    return len(groups) > 1 or any(tags[i].region is not None for group in groups for i in group.tags)


def _arranged(composition: Composition) -> Composition:
    """The composition with painted regions cut where those of later concepts are in front of them."""
    before = [one.region for one in composition.concepts]
    pairs = list(zip(composition.concepts, in_front(before), strict=True))
    hidden = [hidden_note(one.quoted) for one, region in pairs if one.region and region is None]
    concepts = tuple(replace(one, region=region) for one, region in pairs)
    return replace(composition, concepts=concepts, warnings=(*composition.warnings, *hidden))


class _Reader:
    """Builds the composition of one prompt."""

    def __init__(self, found: Survey, negative: str) -> None:
        self.prompt, self.negative, self.dropped, self.styles = found.prompt, negative, found.dropped, found.styles
        self.tags = found.tags_of_host
        self.base = self._render({})
        self._others: tuple[Offsets, ...] = ()
        whys = {**found.roles, **found.left}.items()
        self.reasons = {self.tags[i].name: why for i, why in whys if not self.tags[i].without_lora}
        self.left_out = {self.tags[i].name: why for i, why in whys if self.tags[i].without_lora}

    def _render(
        self, triggers: Mapping[int, str], at_words: Sequence[Trigger] = (), said: Sequence[OwnWords] = ()
    ) -> Rendered:
        return render(self.prompt, self._edits(triggers, at_words, said))

    def _edits(self, triggers: Mapping[int, str], at_words: Sequence[Trigger], said: Sequence[OwnWords]) -> list[Edit]:
        moved = {one.tag for one in at_words}
        edits = [Edit(tag.span, "" if i in moved else triggers.get(i, "")) for i, tag in enumerate(self.tags)]
        edits += [Edit(span) for span in self.dropped]
        edits += [Edit(Span(one.offset, one.offset), one.text) for one in said]
        edits += [Edit(Span(one.offset, one.offset), one.words) for one in at_words]
        return sorted(edits, key=lambda edit: edit.span)

    def _uses(self, role: Role) -> tuple[LoraUse, ...]:
        return added(uses_of(tag for tag in self.tags if tag.role is role))

    def _composition(
        self, concepts: tuple[Concept, ...], variants: tuple[Variant, ...], host_text: str, note: str = "",
        at_words: Sequence[Sequence[Trigger]] = (), said: Sequence[Sequence[OwnWords]] = (),
    ) -> Composition:  # fmt: skip
        pairs = [(one, c.words) for c, own in zip(concepts, at_words, strict=False) for one in own if not one.given]
        return Composition(
            source=self.prompt,
            text=variants[0].text,
            host_text=readable_by_host(host_text),
            negative=self.negative,
            concepts=concepts,
            styles=self._uses(Role.STYLE),
            background=self._uses(Role.BACKGROUND),
            off=self._uses(Role.OFF),
            variants=variants,
            merged=self._merged(concepts, [one for own in at_words for one in own], [o for own in said for o in own]),
            warnings=(
                *ignored_parts(self.tags, self.negative, composes=not note),
                *(foreign_syntax(self.base.resolved.text, composes=True) if not note else ()),  # else in the note
                *((left_note(self.reasons),) if self.reasons and not note else ()),
                *(left_out_warning(name, why) for name, why in self.left_out.items()),
                *(added_trigger_warning(*pair) for pair in pairs),
            ),
            note=note,
            reasons=tuple(self.reasons.items()),
        )

    def _merged(
        self, concepts: Sequence[Concept], at_words: Sequence[Trigger], said: Sequence[OwnWords]
    ) -> Variant:  # fmt: skip
        """All triggers, own words and LoRAs at once, except those that the host loads (styles, role=off)."""
        rendered = self._render({i: tag.trigger or "" for i, tag in enumerate(self.tags)}, at_words, said)
        uses = uses_of(tag for tag in self.tags if tag.role not in (Role.STYLE, Role.OFF))
        # Where a concept has several tags of one LoRA, their added weights.
        known = [*self._uses(Role.BACKGROUND), *(use for one in concepts for use in (*one.loras, *one.styles))]
        summed = {without_weight(use): use for use in known}
        own = unique(use if use in known else summed.get(without_weight(use), use) for use in uses)
        return Variant(rendered.resolved.text, self.negative, own, (), ())

    def inactive(self, groups: Sequence[Subject]) -> Composition:
        base = self.base.resolved
        concepts = tuple(_concept(self.tags, group, ()) for group in groups)
        variant = Variant(base.text, self.negative, (), tuple(base.spans_of(group.offsets) for group in groups), ())
        notes = [why_inactive(self.tags, groups, base.text), *foreign_syntax(base.text, composes=False)]
        if self.reasons:
            notes.append(left_note(self.reasons))
        if any(tag.say for tag in self.tags):
            notes.append("The words of say= are not read then.")
        return self._composition(concepts, (variant,), self.prompt, " ".join(notes))

    def compose(self, groups: Sequence[Subject], at_words: Sequence[Sequence[Trigger]]) -> Composition:
        styles: list[list[int]] = [[] for _ in groups]
        for i, tag in enumerate(self.tags):
            if tag.role is Role.SUBJECT_STYLE:
                styles[self.styles[i]].append(i)
        concepts = tuple(_concept(self.tags, *of) for of in zip(groups, styles, at_words, strict=True))
        said = own_words(self.base.resolved, self.tags, groups)
        self._others = other_subjects(self.base.resolved, groups)
        background = [i for i, tag in enumerate(self.tags) if tag.role is Role.BACKGROUND]
        variants = [self._variant(groups, [], background, self._uses(Role.BACKGROUND))]
        for group, own, concept, new, says in zip(groups, styles, concepts, at_words, said, strict=True):
            loras = unique((*concept.loras, *concept.styles))
            variant = self._variant(groups, group.tags, own, loras, new, says)
            variants.append(replace(variant, late=styles_among([self.tags[i] for i in group.tags], concept.styles)))
        stay = [tag.role in (Role.STYLE, Role.OFF) and not tag.without_lora for tag in self.tags]
        host = render(self.prompt, [Edit(tag.span) for tag, stays in zip(self.tags, stay, strict=True) if not stays])
        return self._composition(concepts, tuple(variants), host.resolved.text, at_words=at_words, said=said)

    def _variant(
        self,
        groups: Sequence[Subject],
        own: Sequence[int],
        extra: Sequence[int],
        loras: tuple[LoraUse, ...],
        at_words: Sequence[Trigger] = (),
        said: Sequence[OwnWords] = (),
    ) -> Variant:
        """The variant with the triggers of the tags `own` (a concept's) and `extra` (styles and background), and with
        the own words `said`.
        """
        everywhere = [i for i, tag in enumerate(self.tags) if tag.role is Role.STYLE]
        triggers = {i: self.tags[i].trigger or "" for i in (*own, *extra, *everywhere)}
        edits = self._edits(triggers, at_words, said)
        rendered = render(self.prompt, edits)
        mine = {*(self.tags[i].span for i in own), *(Span(one.offset, one.offset) for one in at_words)}
        says = {(one.offset, one.text) for one in said}
        pairs = zip(edits, rendered.inserted, strict=True)
        inserted = [at for one, at in pairs if one.span in mine and (one.span.start, one.words) not in says]
        return Variant(
            text=rendered.resolved.text,
            negative=self.negative,
            loras=loras,
            subjects=tuple(rendered.resolved.spans_of(group.offsets) for group in groups),
            triggers=tuple(span for span in inserted if span is not None),
            others=tuple(rendered.resolved.spans_of(offsets) for offsets in self._others),
        )


def _texts_alone(activation_text: ActivationText | None) -> EvidenceSource:
    def evidence(name: str) -> Evidence:
        if activation_text is None:
            return Evidence()
        found = activation_text(name) if callable(activation_text) else activation_text.get(name, ())
        return Evidence((found,) if isinstance(found, str) else tuple(found))

    return evidence


def _texts_of(known: EvidenceSource) -> Callable[[str], list[str]]:
    """The items of activation texts that name something, the first of which is the trigger."""
    return lambda name: [item for text in known(name).texts for item in trigger_items(text)[:1]]


def _concept(
    tags: Sequence[LoraTag], group: Subject, styles: Sequence[int], at_words: Sequence[Trigger] = ()
) -> Concept:
    own = [tags[i] for i in group.tags]
    return Concept(
        loras=added(uses_of(own)),
        words=group.words,
        occurrence=group.occurrence or 1,
        words_source=group.words_source,
        triggers=(*(tag.trigger for tag in own if tag.trigger), *(one.words for one in at_words if not one.given)),
        styles=unique(uses_of(tags[i] for i in styles)),
        region=_region(own),
        say=said_by(own),
    )


def _region(own: Sequence[LoraTag]) -> Region | None:
    """The region of a concept.

    Raises: CLoRAError if its tags have different ones.
    """
    found = {tag.region: tag.name for tag in own if tag.region is not None}
    if len(found) > 1:
        names = " and ".join(f'"{name}"' for name in found.values())
        raise CLoRAError(f"The LoRAs {names} draw the same subject but have different place= values: keep one of them.")
    return next(iter(found), None)


def _refuse_long(text: str) -> None:
    if len(text) > LONGEST_TEXT:
        raise too_long(len(text), LONGEST_TEXT)

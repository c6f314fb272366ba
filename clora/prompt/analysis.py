"""Read a prompt: its concepts, styles and background, and the text of each variant."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from ..errors import CLoRAError
from ..lora.use import LoraUse
from .composition import Composition, Concept, Variant, WordsOverride
from .diagnostics import ignored_parts, unused_corrections, why_inactive
from .region import Region, parse_region
from .render import Edit, Rendered, render
from .subjects import Subject, find_subjects, group_subjects, subject_of_style
from .tags import LoraTag, Role, has_tags, parse_role, parse_tags
from .text import Span
from .token_ranges import LONGEST_PROMPT, LONGEST_TEXT, too_long
from .triggers import Trigger, added_trigger_warning, triggers_at_words

ActivationText = Callable[[str], Sequence[str]] | Mapping[str, Sequence[str]]
"""LoRA name -> its activation texts, which may hold its subject words."""

_OTHER_TAG = re.compile(r"<(?!lora:|lyco:)\w+:[^<>]+>")
_AND = re.compile(r"\bAND\b")


def analyze(
    prompt: str,
    negative: str = "",
    *,
    activation_text: ActivationText | None = None,
    overrides: Mapping[str, WordsOverride] | None = None,
    drop_other_tags: bool = False,
) -> Composition:
    """Read a prompt: which LoRA draws what, and each variant's text with the spans of its words.

    `activation_text` gives the texts to search for if neither tag nor panel nor prompt names a subject; `overrides`
    are the panel's rows by LoRA name. `drop_other_tags` removes other extensions' tags (`<hypernet:...>`) from the
    variants' texts, as AUTOMATIC1111 and Forge do before they encode; they stay in `host_text`.
    With fewer than two concepts CLoRA is inactive (`Composition.note`), which is not an error.
    Raises: CLoRAError if the prompt cannot be composed as written.
    """
    rows = overrides or {}
    if len(prompt) > LONGEST_PROMPT and has_tags(prompt, 2):
        raise too_long(len(prompt), LONGEST_PROMPT)
    tags = tuple(_with_row(tag, rows.get(tag.name)) for tag in parse_tags(prompt))
    _refuse_two_roles(tags)
    groups = group_subjects(prompt, tags, {name: row.words for name, row in rows.items() if row.words})
    others = [Span(*match.span()) for match in _OTHER_TAG.finditer(prompt)]
    reader = _Reader(prompt, negative, tags, others if drop_other_tags else [])
    if len(groups) < 2:
        composition = reader.inactive(groups)
    else:
        _refuse_long(reader.base.resolved.text)
        _refuse_and(reader.base.resolved.text)
        texts = _texts_of(activation_text)
        find_subjects(prompt, reader.base.resolved, tags, groups, others, texts)
        composition = reader.compose(groups, triggers_at_words(reader.base.resolved, tags, groups, texts))
    return replace(composition, warnings=(*composition.warnings, *unused_corrections(rows, tags)))


class _Reader:
    """Builds the composition of one prompt."""

    def __init__(self, prompt: str, negative: str, tags: Sequence[LoraTag], dropped: Sequence[Span]) -> None:
        self.prompt, self.negative, self.tags, self.dropped = prompt, negative, tags, dropped
        self.base = self._render({})

    def _render(self, triggers: Mapping[int, str], at_words: Sequence[Trigger] = ()) -> Rendered:
        return render(self.prompt, self._edits(triggers, at_words))

    def _edits(self, triggers: Mapping[int, str], at_words: Sequence[Trigger]) -> list[Edit]:
        moved = {one.tag for one in at_words}
        edits = [Edit(tag.span, "" if i in moved else triggers.get(i, "")) for i, tag in enumerate(self.tags)]
        edits += [Edit(span) for span in self.dropped]
        edits += [Edit(Span(one.offset, one.offset), one.words) for one in at_words]
        return sorted(edits, key=lambda edit: edit.span)

    def _uses(self, role: Role) -> tuple[LoraUse, ...]:
        return _unique(_use(tag) for tag in self.tags if tag.role is role)

    def _composition(
        self, concepts: tuple[Concept, ...], variants: tuple[Variant, ...], host_text: str, note: str = "",
        at_words: Sequence[Sequence[Trigger]] = (),
    ) -> Composition:  # fmt: skip
        pairs = [(one, c.words) for c, own in zip(concepts, at_words, strict=False) for one in own if not one.given]
        return Composition(
            source=self.prompt,
            text=variants[0].text,
            host_text=host_text,
            negative=self.negative,
            concepts=concepts,
            styles=self._uses(Role.STYLE),
            background=self._uses(Role.BACKGROUND),
            off=self._uses(Role.OFF),
            variants=variants,
            merged=self._merged([one for own in at_words for one in own]),
            warnings=(
                *ignored_parts(self.tags, self.negative, composes=not note),
                *(added_trigger_warning(*pair) for pair in pairs),
            ),
            note=note,
        )

    def _merged(self, at_words: Sequence[Trigger]) -> Variant:
        """All triggers and all LoRAs at once, except those that the host loads (styles, role=off)."""
        rendered = self._render({i: tag.trigger or "" for i, tag in enumerate(self.tags)}, at_words)
        own = _unique(_use(tag) for tag in self.tags if tag.role not in (Role.STYLE, Role.OFF))
        return Variant(rendered.resolved.text, self.negative, own, (), ())

    def inactive(self, groups: Sequence[Subject]) -> Composition:
        concepts = tuple(replace(_concept(self.tags, group, ()), words_source=None) for group in groups)
        variant = Variant(self.base.resolved.text, self.negative, (), ((),) * len(concepts), ())
        return self._composition(concepts, (variant,), self.prompt, why_inactive(self.tags, groups))

    def compose(self, groups: Sequence[Subject], at_words: Sequence[Sequence[Trigger]]) -> Composition:
        base = self.base.resolved
        styles: list[list[int]] = [[] for _ in groups]
        for i, tag in enumerate(self.tags):
            if tag.role is Role.SUBJECT_STYLE:
                styles[subject_of_style(base, tag, groups, self.tags)].append(i)
        concepts = tuple(_concept(self.tags, *of) for of in zip(groups, styles, at_words, strict=True))
        background = [i for i, tag in enumerate(self.tags) if tag.role is Role.BACKGROUND]
        variants = [self._variant(groups, [], background, self._uses(Role.BACKGROUND))]
        for group, own, new, concept in zip(groups, styles, at_words, concepts, strict=True):
            variants.append(self._variant(groups, group.tags, own, _unique((*concept.loras, *concept.styles)), new))
        left_to_host = (Role.STYLE, Role.OFF)
        host = render(self.prompt, [Edit(tag.span) for tag in self.tags if tag.role not in left_to_host])
        return self._composition(concepts, tuple(variants), host.resolved.text, at_words=at_words)

    def _variant(
        self,
        groups: Sequence[Subject],
        own: Sequence[int],
        extra: Sequence[int],
        loras: tuple[LoraUse, ...],
        at_words: Sequence[Trigger] = (),
    ) -> Variant:
        """The variant with the triggers of the tags `own` (a concept's) and `extra` (styles and background)."""
        everywhere = [i for i, tag in enumerate(self.tags) if tag.role is Role.STYLE]
        triggers = {i: self.tags[i].trigger or "" for i in (*own, *extra, *everywhere)}
        edits = self._edits(triggers, at_words)
        rendered = render(self.prompt, edits)
        mine = {*(self.tags[i].span for i in own), *(Span(one.offset, one.offset) for one in at_words)}
        inserted = [span for edit, span in zip(edits, rendered.inserted, strict=True) if edit.span in mine]
        return Variant(
            text=rendered.resolved.text,
            negative=self.negative,
            loras=loras,
            subjects=tuple(rendered.resolved.spans_of(group.offsets) for group in groups),
            triggers=tuple(span for span in inserted if span is not None),
        )


def _with_row(tag: LoraTag, row: WordsOverride | None) -> LoraTag:
    if row is None:
        return tag
    if row.role and not tag.role_given:
        role, role_words = parse_role(row.role, f'the correction for "{tag.name}"')
        tag = replace(tag, role=role, role_words=role_words)
    if tag.region is None and (row.painted or row.place):
        region = row.painted or parse_region(row.place or "", f'the correction for "{tag.name}"')
        tag = replace(tag, region=region)
    if tag.trigger_given or not row.trigger:
        return tag
    return replace(tag, trigger=row.trigger.strip(), trigger_given=True)


def _texts_of(activation_text: ActivationText | None) -> Callable[[str], list[str]]:
    def texts(name: str) -> list[str]:
        if activation_text is None:
            return []
        found = activation_text(name) if callable(activation_text) else activation_text.get(name, ())
        return [found] if isinstance(found, str) else list(found)

    return texts


def _use(tag: LoraTag) -> LoraUse:
    return LoraUse(tag.name, tag.te, tag.unet, tag.dyn)


def _unique(uses: Iterable[LoraUse]) -> tuple[LoraUse, ...]:
    return tuple(dict.fromkeys(uses))


def _concept(
    tags: Sequence[LoraTag], group: Subject, styles: Sequence[int], at_words: Sequence[Trigger] = ()
) -> Concept:
    own = [tags[i] for i in group.tags]
    return Concept(
        loras=_unique(_use(tag) for tag in own),
        words=group.words,
        occurrence=group.occurrence or 1,
        words_source=group.words_source,
        triggers=(*(tag.trigger for tag in own if tag.trigger), *(one.words for one in at_words if not one.given)),
        styles=_unique(_use(tags[i]) for i in styles),
        region=_region(own),
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


def _refuse_two_roles(tags: Sequence[LoraTag]) -> None:
    """Raises: CLoRAError if a LoRA that is on everywhere (style, role=off) has a second tag with another role."""
    roles: dict[str, Role] = {}
    for tag in tags:
        other = roles.setdefault(tag.name, tag.role)
        if other is not tag.role and {other, tag.role} & {Role.STYLE, Role.OFF}:
            raise CLoRAError(
                f'The LoRA "{tag.name}" is in the prompt with {_spelled(other)} and with {_spelled(tag.role)}, so it '
                "would be applied twice: give both tags the same role, or remove one of them."
            )


def _spelled(role: Role) -> str:
    return f"role={role.value}" + ("WORDS" if role is Role.SUBJECT_STYLE else "")


def _refuse_long(text: str) -> None:
    if len(text) > LONGEST_TEXT:
        raise too_long(len(text), LONGEST_TEXT)


def _refuse_and(text: str) -> None:
    match = _AND.search(text)
    if match:
        near = " ".join(text[max(0, match.start() - 20) : match.end() + 20].split())
        raise CLoRAError(
            f'CLoRA does not support AND yet, but the prompt has it at "{near}": write "and" in lower case, or '
            "turn CLoRA off."
        )

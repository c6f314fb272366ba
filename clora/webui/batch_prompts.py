"""The prompts of one batch in one pass: which images compose, what the host continues with, who applies which LoRA.

The host loads the LoRAs of a batch's first prompt for all of its images. Where the prompts leave different LoRAs to the
host (one of them does not compose, or their styles differ), CLoRA applies them itself, to the rows of their own image.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..errors import CLoRAError
from ..fusion import variants_of
from ..lora.use import LoraUse
from ..prompt import Composition, Variant, read_tags
from ..prompt.diagnostics import AND, ignored_arguments
from ..prompt.own_words import readable_by_host
from ..settings import Settings

_EXTRA_NETWORK = re.compile(r"<\w+:[^>]+>")  # modules/extra_networks.py of AUTOMATIC1111 1.10
_LORA = re.compile(r"<(?:lora|lyco):[^>]+>")

NOT_BESIDE = (
    "CLoRA is inactive for this batch: the prompt of image {number} has {found}, which cannot be drawn beside composed "
    "prompts. Generate it separately."
)
HIRES_AS_THE_HOST = (
    "The WebUI draws the hires pass, with the LoRAs of the batch's first hires prompt in every image, because the "
    "hires prompt of image {number} has {found}."
)


@dataclass(frozen=True)
class BatchPrompts:
    """The prompts of a batch in one pass, read; image i composes if `composed[i]`.

    `row_wise`: the host gets no LoRA tags, because it cannot apply different LoRAs to the images of a batch.
    `late_styles`: it gets none of styles either, because these do not act everywhere in all steps.
    """

    compositions: tuple[Composition, ...] = ()
    composed: tuple[bool, ...] = ()
    row_wise: bool = False
    late_styles: bool = False

    @property
    def host_texts(self) -> list[str]:
        """What the host continues with."""
        texts = [self._host_text(one) if own else readable_by_host(one.source) for one, own in self._images()]
        return [_LORA.sub("", text) for text in texts] if self.row_wise else texts

    def variants(self, settings: Settings, *, base_only: bool = False) -> list[tuple[Variant, ...]]:
        """The variants of each image: one for an image that does not compose, or for all with `base_only`."""
        # What is left to the host (styles, role=off) is in its weights, if it has the tags.
        return [
            variants_of(one, settings, self._left(one)) if own and not base_only else (self._plain(one, own),)
            for one, own in self._images()
        ]

    @property
    def left(self) -> tuple[LoraUse, ...]:
        """The LoRAs that CLoRA applies in the host's place; the host would draw without one that it cannot use."""
        return tuple(dict.fromkeys(use for one, own in self._images() for use in self._applied(one, own)))

    @property
    def drawn_by_clora(self) -> bool:
        """Whether the host needs CLoRA for any image of the pass."""
        return any(self.composed) or self.row_wise

    @property
    def applied_by_clora(self) -> bool:
        """Whether the host lacks LoRAs of the pass, though nothing is composed."""
        return self.row_wise or bool(self.left)

    @property
    def notes(self) -> list[str]:
        """What the user is told about the prompts."""
        notes = []
        for number, (one, own) in enumerate(self._images(), start=1):
            inactive = f"Image {number} of the batch: {one.note}" if any(self.composed) else one.note
            notes += [*([inactive] if one.note and not own else []), *one.warnings]
            applied = {use.name for use in self._applied(one, own)}
            tags = read_tags(one.host_text if own else one.source)
            notes += ignored_arguments([tag for tag in tags if tag.name in applied])
        return notes

    def _images(self) -> list[tuple[Composition, bool]]:
        return list(zip(self.compositions, self.composed, strict=True))

    def _host_text(self, one: Composition) -> str:
        """What the host continues with for a prompt that composes."""
        styles = {use.name for use in one.styles} if self.late_styles else set[str]()
        return _LORA.sub(lambda tag: "" if tag[0].split(":")[1].strip(" >") in styles else tag[0], one.host_text)

    def _left(self, one: Composition) -> tuple[LoraUse, ...]:
        """The LoRAs of a prompt that composes which CLoRA applies in the host's place."""
        styles = one.styles if self.row_wise or self.late_styles else ()
        return (*styles, *one.off) if self.row_wise else styles

    def _applied(self, one: Composition, composes: bool) -> tuple[LoraUse, ...]:
        """The LoRAs of a prompt which CLoRA applies in the host's place."""
        if composes:
            return self._left(one)
        return _every(one) if self.row_wise else ()

    def _plain(self, one: Composition, composes: bool) -> Variant:
        """What the host draws of a prompt by itself: its text without tags, and the LoRAs whose tags it gets."""
        text = _EXTRA_NETWORK.sub("", one.host_text if composes else one.source)
        loras = self._left(one) if composes or not self.row_wise else _every(one)
        return Variant(text, one.negative, loras, (), ())


def batch_prompts(
    first: Sequence[Composition], hires: Sequence[Composition], *, late_styles: bool = False
) -> tuple[BatchPrompts, BatchPrompts, list[str]]:
    """The prompts of the first pass, those of the hires pass (none without one), and notes.

    A hires prompt composes where the prompt does; if one of them cannot, none does. A batch or a hires pass with a
    prompt that CLoRA cannot draw beside others is the host's as a whole. With `late_styles` CLoRA applies the styles of
    prompts that compose, because they join in late on its subjects.
    Raises: CLoRAError if a hires prompt has another number of concepts.
    """
    composed = tuple(one.composes for one in first)
    together = all(other.composes for other, own in zip(hires, composed, strict=False) if own)
    later = tuple(own and together for own in composed[: len(hires)])
    for one, other, own in zip(first, hires, later, strict=False):
        if own and len(other.concepts) != len(one.concepts):
            raise CLoRAError(
                f"The hires prompt has {len(other.concepts)} concepts, the prompt has {len(one.concepts)}: the "
                "hires pass uses the masks of the first pass, so give both prompts the same concepts."
            )
    prompts = BatchPrompts(tuple(first), composed, late_styles=late_styles)
    afterwards = BatchPrompts(tuple(hires), later, late_styles=late_styles)
    alone = _not_beside(prompts, NOT_BESIDE) if any(composed) else ""
    if alone or not any(composed):
        plain = BatchPrompts(tuple(first), (False,) * len(first))
        return plain, BatchPrompts(), [alone] if alone else plain.notes
    texts = (prompts.host_texts, afterwards.host_texts)
    row_wise = any(len({tuple(_LORA.findall(text)) for text in of}) > 1 for of in texts)
    prompts, afterwards = replace(prompts, row_wise=row_wise), replace(afterwards, row_wise=row_wise)
    notes = [*prompts.notes, *(note for one in hires if any(later) for note in one.warnings)]
    left = _not_beside(afterwards, HIRES_AS_THE_HOST) if afterwards.drawn_by_clora else ""
    return prompts, BatchPrompts() if left else afterwards, [*notes, *([left] if left else [])]


def _not_beside(prompts: BatchPrompts, sentence: str) -> str:
    """The note about a prompt that cannot be drawn beside others, "" if there is none: `AND` makes several pictures."""
    for number, (one, own) in enumerate(zip(prompts.compositions, prompts.composed, strict=True), start=1):
        found = None if own else AND.search(one.text)
        if found:
            return sentence.format(number=number, found=found.group())
    return ""


def _every(one: Composition) -> tuple[LoraUse, ...]:
    """Every LoRA of a prompt."""
    return (*one.styles, *one.off, *one.merged.loras)

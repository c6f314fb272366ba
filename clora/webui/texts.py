"""The texts of a WebUI batch: every variant's scheduled texts encoded once, and the plan of every step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch

from ..conditioning.lora_sets import lora_sets
from ..conditioning.plan import ImagePlan, plan_image
from ..fusion import variants_of
from ..hosts.protocol import Encoded, WebUIModel
from ..lora.library import LoraLibrary
from ..lora.resolve import AppliedLora
from ..lora.rows import RowLoras
from ..models.denoiser import Row
from ..prompt import Composition, PromptTokens, ResolvedText, Variant, schedule, scheduled_positions
from ..settings import Settings

Timetable = tuple[tuple[int, ResolvedText], ...]
_Wanted = tuple[bool, int, tuple[str, ...]]
"""Conditional or not, the LoRA set, and the texts of a timetable."""
_Encoder = Callable[[Sequence[str], int | None, bool], list[Encoded]]
"""(texts, LoRA set or None for no LoRA, negative) -> contexts."""


@dataclass(frozen=True)
class Texts:
    """Contexts and plans by evaluation, and the LoRA sets of all variants."""

    sets: tuple[tuple[AppliedLora, ...], ...]
    set_of: Mapping[tuple[int, int], int]
    timetables: Mapping[Row, Timetable]
    encoded: Mapping[tuple[Row, int], Encoded]
    layouts: Mapping[tuple[Row, int], PromptTokens]
    variants: tuple[tuple[Variant, ...], ...]
    compositions: tuple[Composition, ...]
    settings: Settings

    def contexts(self, evaluation: int) -> dict[Row, Encoded]:
        """Every row's context at the host's call number `evaluation`."""
        return {row: self.encoded[row, _active(table, evaluation)] for row, table in self.timetables.items()}

    def plans(self, evaluation: int) -> tuple[ImagePlan, ...]:
        """Every image's plan at the host's call number `evaluation`."""
        return tuple(self._plan(image, own, evaluation) for image, own in enumerate(self.variants))

    def _plan(self, image: int, own: Sequence[Variant], evaluation: int) -> ImagePlan:
        rows = [Row(image, number, True) for number in range(len(own))]
        tokens = [self.layouts[row, _active(self.timetables[row], evaluation)] for row in rows]
        return plan_image(self.compositions[image], own, tokens, self.settings)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the LoRA files hold that could not be applied."""
        return tuple(dict.fromkeys(lora.warning for one in self.sets for lora in one if lora.warning))


@dataclass(frozen=True)
class Length:
    """How long a pass is for prompt scheduling: the host's `calls`, and those of the first pass in a hires pass."""

    calls: int
    first_pass: int | None = None


def encode_texts(
    model: WebUIModel, compositions: Sequence[Composition], library: LoraLibrary, settings: Settings, length: Length,
    size: tuple[int, int],
) -> Texts:  # fmt: skip
    """Texts of a batch for a picture of `size` (width, height).

    Global styles and role=off stay with the host, which has them in its weights. Errors: CLoRAError for LoRAs that
    cannot be used and for words that no scheduled text has.
    """
    variants = tuple(variants_of(composition, settings) for composition in compositions)
    sets, set_of = lora_sets(variants, library, {"unet": model.unet, **model.text_encoders})
    timetables = {
        Row(image, number, half): schedule(
            variant.text if half else variant.negative, length.calls, base_steps=length.first_pass
        )
        for image, own in enumerate(variants)
        for number, variant in enumerate(own)
        for half in (True, False)
    }
    layouts = {
        (row, i): model.layout(text)
        for row, table in timetables.items() if row.conditional
        for i, (_, text) in enumerate(table)
    }  # fmt: skip
    if settings.method == "clora":
        _check_words(compositions, timetables, layouts)
    encoded = _encoded(model, timetables, set_of, sets, size)
    return Texts(sets, set_of, timetables, encoded, layouts, variants, tuple(compositions), settings)


def _active(table: Timetable, evaluation: int) -> int:
    """Index of the text that holds at a call (from 0): the host goes on with a text through its last step."""
    return next((i for i, (last, _) in enumerate(table) if evaluation <= last), len(table) - 1)


def _check_words(
    compositions: Sequence[Composition],
    timetables: Mapping[Row, Timetable],
    layouts: Mapping[tuple[Row, int], PromptTokens],
) -> None:
    for image, composition in enumerate(compositions):
        for number, concept in enumerate(composition.concepts, start=1):
            row = Row(image, number, True)
            tokens = [layouts[row, piece] for piece in range(len(timetables[row]))]
            scheduled_positions(tokens, composition.variants[number].subjects[number - 1], concept.words)


def _encoded(
    model: WebUIModel, timetables: Mapping[Row, Timetable], set_of: Mapping[tuple[int, int], int],
    sets: Sequence[Sequence[AppliedLora]], size: tuple[int, int],
) -> dict[tuple[Row, int], Encoded]:  # fmt: skip
    """Every distinct timetable with every LoRA set it is met with, encoded once; contexts of one length.

    One call of the host holds the texts of one row, as in its own runs: emphasis "Original" corrects by the mean of
    all that is encoded together, and SDXL's hosts zero a negative prompt where all texts of the call are empty.
    """
    wanted = {
        row: (row.conditional, set_of[row.image, row.variant], tuple(str(text) for _, text in table))
        for row, table in timetables.items()
    }
    encode = _encoder(model, sets, size)
    found: dict[tuple[_Wanted, int], Encoded] = {}
    for one in dict.fromkeys(wanted.values()):
        conditional, lora_set, texts = one
        found.update({(one, i): text for i, text in enumerate(encode(texts, lora_set, not conditional))})
    found = _even(found, model, encode)
    return {(row, i): found[one, i] for row, one in wanted.items() for i in range(len(one[2]))}


def _even(
    found: dict[tuple[_Wanted, int], Encoded], model: WebUIModel, encode: _Encoder
) -> dict[tuple[_Wanted, int], Encoded]:
    """All contexts at one length, as the host evens prompt and negative prompt out.

    A context that is repeated whole gives the same attention as once, so lengths may differ without harm; a host
    that is set to pad fills up with the empty prompt instead, without any LoRA.
    """
    lengths = {one.context.shape[0] for one in found.values()}
    if len(lengths) == 1:
        return found
    if not model.pads_prompts:
        length = math.lcm(*lengths)
        return {key: _repeated(one, length) for key, one in found.items()}
    (empty,) = encode([""], None, False)
    return {key: _padded(one, empty, max(lengths)) for key, one in found.items()}


def _repeated(one: Encoded, length: int) -> Encoded:
    return Encoded(one.context.repeat(length // one.context.shape[0], 1), one.vector)


def _padded(one: Encoded, empty: Encoded, length: int) -> Encoded:
    """The context filled up with empty chunks, as the host's "Pad prompt" does."""
    missing = (length - one.context.shape[0]) // empty.context.shape[0]
    return Encoded(torch.cat([one.context, *[empty.context] * missing]), one.vector)


def _encoder(model: WebUIModel, sets: Sequence[Sequence[AppliedLora]], size: tuple[int, int]) -> _Encoder:
    """Encodes texts in one call of the host, with one of the LoRA sets on."""
    # The last set is that of the host's empty prompt: no LoRA at all.
    loras = [RowLoras(name, root, (*sets, ())) for name, root in model.text_encoders.items()]

    def encode(texts: Sequence[str], lora_set: int | None, negative: bool) -> list[Encoded]:
        with ExitStack() as stack:
            for one in loras:
                stack.enter_context(one.installed())
                stack.enter_context(one.rows([len(sets) if lora_set is None else lora_set] * len(texts)))
            return model.encode(texts, negative=negative, width=size[0], height=size[1])

    return encode

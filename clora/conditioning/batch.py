"""The conditioning of a batch: LoRA sets, every row's contexts and every image's plan, step by step."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import chain

import torch
from torch import nn

from ..errors import cut
from ..lora.bundled import BundledEmbedding
from ..lora.library import LoraLibrary
from ..models.denoiser import Conditioned, Row
from ..prompt import Composition, LoraUse, PromptTokens, ResolvedText, Variant, scheduled_positions
from ..settings import Settings
from .encoding import Encoded, TextEncoder, TextGroup, encode_once, independent
from .lora_sets import LoraSets, lora_sets
from .plan import ImagePlan, plan_image
from .stress import stressed, stresses
from .timetable import PromptSteps, Timetable, joined

OTHER_LENGTHS = (
    "The prompts of the batch have very different lengths, so the shorter ones are filled up: their pictures differ "
    "from what they are alone."
)


@dataclass(frozen=True)
class StepConditioning:
    """What is active at one step: `contexts` by row, the LoRA set of (image, variant), and each image's plan."""

    contexts: Mapping[Row, Encoded]
    set_of: Mapping[tuple[int, int], int]
    plans: tuple[ImagePlan, ...]

    def conditioned(self, rows: Sequence[Row]) -> Conditioned:
        """Contexts (R, L, D), LoRA sets and SDXL's pooled vectors (R, A) of R rows."""
        encoded = [self.contexts[row] for row in rows]
        vectors = [one.vector for one in encoded if one.vector is not None]
        sets = [self.set_of[row.image, row.variant] for row in rows]
        context = torch.stack([one.context for one in encoded])
        return Conditioned(context, sets, torch.stack(vectors) if vectors else None)


@dataclass(frozen=True)
class BatchConditioning:
    """The conditioning of a batch over all steps of a run.

    `set_of[image, variant]` is a number in `sets`; `contexts` are by row, `plans` by image. `notes` are about the
    batch as a whole. Before step `styles_from` the UNet has the sets of `early_of` where there are some, without the
    late styles.
    """

    sets: LoraSets
    set_of: Mapping[tuple[int, int], int]
    contexts: Mapping[Row, Timetable[Encoded]]
    plans: tuple[Timetable[ImagePlan], ...]
    notes: tuple[str, ...] = ()
    early_of: Mapping[tuple[int, int], int] = field(default_factory=dict)
    styles_from: int = 0

    @property
    def rows(self) -> tuple[Row, ...]:
        """Every row of the batch."""
        return tuple(self.contexts)

    @property
    def warnings(self) -> tuple[str, ...]:
        """One message for each LoRA file with tensors that could not be used, and the notes about the batch."""
        return tuple(dict.fromkeys([*(lora.warning for one in self.sets for lora in one if lora.warning), *self.notes]))

    def at(self, step: int) -> StepConditioning:
        """What is active at `step`, counted from 0 as the host counts the steps of prompt scheduling."""
        contexts = {row: table.at(step) for row, table in self.contexts.items()}
        set_of = {**self.set_of, **self.early_of} if step < self.styles_from else self.set_of
        return StepConditioning(contexts, set_of, tuple(table.at(step) for table in self.plans))


def condition_batch(
    encoder: TextEncoder, components: Mapping[str, nn.Module], compositions: Sequence[Composition],
    variants: Sequence[Sequence[Variant]], library: LoraLibrary, settings: Settings, steps: PromptSteps,
    left: Collection[LoraUse] = (),
) -> BatchConditioning:  # fmt: skip
    """The conditioning of a batch of compositions, of which `variants[image]` are run.

    `components` are the model's modules that LoRAs may change, by name ("unet", "text_encoder", "text_encoder_2").
    LoRAs of `left` are not composed: one that cannot be used is left out, with a note.
    Raises: CLoRAError for another LoRA that cannot be used, and for subject words that are in no scheduled text.
    """
    sets, set_of, early_of, notes = lora_sets(variants, library, components, left)
    texts = {
        Row(image, number, half): steps.timetable(variant.text if half else variant.negative)
        for image, own in enumerate(variants)
        for number, variant in enumerate(own)
        for half in (True, False)
    }
    plans: dict[int, Timetable[ImagePlan]] = {}
    encoded: dict[Row, list[Encoded]] = {}
    for embeddings, images in _by_embeddings(sets, set_of):
        own = {row: table for row, table in texts.items() if row.image in images}
        with encoder.with_embeddings(embeddings) if embeddings else nullcontext(()) as unused:
            tokens = _tokens(encoder, [table for row, table in own.items() if row.conditional])
            for image in images:
                plans[image] = _plans(compositions[image], variants[image], image, own, tokens, settings)
            groups = [
                TextGroup(t.values, set_of[row.image, row.variant], not row.conditional) for row, t in own.items()
            ]
            for (row, table), found in zip(own.items(), encode_once(encoder, groups, sets), strict=True):
                variant = variants[row.image][row.variant]
                if stresses(variants[row.image], row.variant, row.conditional, settings.stress):
                    found = [
                        stressed(one, tokens[text], variant, row.variant - 1, settings.stress)
                        for text, one in zip(table.values, found, strict=True)
                    ]
                encoded[row] = found
        notes = (*notes, *(f'The embedding "{cut(name)}" of a LoRA file does not fit this model.' for name in unused))
    of_image = [[encoded[row] for row in texts if row.image == image] for image in range(len(plans))]
    apart, alike = independent(of_image)
    # Rows are sorted by image.
    by_row = zip(texts.items(), chain.from_iterable(apart), strict=True)
    contexts = {row: table.replaced(found) for (row, table), found in by_row}
    in_order = tuple(plans[image] for image in range(len(plans)))
    # A style cannot hide a look that the picture has already.
    styles_from = round(settings.style_from * steps.count) if steps.from_noise else 0
    notes = (*notes, *([] if alike else [OTHER_LENGTHS]), *_unused_places(compositions, settings))
    return BatchConditioning(sets, set_of, contexts, in_order, notes, early_of, styles_from)


def _unused_places(compositions: Sequence[Composition], settings: Settings) -> list[str]:
    """A note if places are given to a method without masks."""
    placed = any(concept.region for one in compositions if one.composes for concept in one.concepts)
    if settings.method == "clora" or not placed:
        return []
    return [f"Places (place=, painted) are not kept by the method {settings.method}, which has no masks: choose clora."]


def _tokens(encoder: TextEncoder, tables: Sequence[Timetable[ResolvedText]]) -> dict[ResolvedText, PromptTokens]:
    """The chunks of every text."""
    return {text: encoder.layout(text) for text in dict.fromkeys(text for table in tables for text in table.values)}


def _by_embeddings(
    sets: LoraSets, set_of: Mapping[tuple[int, int], int]
) -> list[tuple[tuple[BundledEmbedding, ...], list[int]]]:
    """The images of the batch by the textual inversions that their LoRA files carry; most often all with none."""
    found: dict[int, dict[str, BundledEmbedding]] = {}
    for (image, _), number in set_of.items():
        own = found.setdefault(image, {})
        for lora in sets[number]:
            own.update({one.name: one for one in lora.embeddings if one.name not in own})
    images: dict[tuple[BundledEmbedding, ...], list[int]] = {}
    for image, own in found.items():
        images.setdefault(tuple(own.values()), []).append(image)
    return list(images.items())


def _plans(
    composition: Composition, variants: Sequence[Variant], image: int, texts: Mapping[Row, Timetable[ResolvedText]],
    tokens: Mapping[ResolvedText, PromptTokens], settings: Settings,
) -> Timetable[ImagePlan]:  # fmt: skip
    """Raises: CLoRAError for subject words that are in their variant's text at no step."""
    layouts = [texts[Row(image, number, True)].map(tokens.__getitem__) for number in range(len(variants))]
    _check_words(composition, variants, layouts)
    return joined(layouts).map(lambda of: plan_image(composition, variants, of, settings))


def _check_words(
    composition: Composition, variants: Sequence[Variant], layouts: Sequence[Timetable[PromptTokens]]
) -> None:
    """Raises: CLoRAError for subject words that are in their variant's text at no step (scheduled away)."""
    if not all(variant.subjects for variant in variants):
        return
    for number, concept in enumerate(composition.concepts):
        own = number + 1
        scheduled_positions(layouts[own].values, variants[own].subjects[number], concept.words)

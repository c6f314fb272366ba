"""Which variants each method runs: CLoRA's, and the usual ways of combining LoRAs for comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..prompt import Composition, LoraUse, PromptTokens, Span
from ..regions.region import Region
from ..settings import Settings
from .plan import ImagePlan, plan_image


@dataclass(frozen=True)
class MethodVariant:
    """One variant as a host runs it: texts, every LoRA that is on in it, and where the concepts' words stand.

    `background`: it is the base, and has a LoRA that draws the background.
    """

    text: str
    negative: str
    loras: tuple[LoraUse, ...]
    subjects: tuple[tuple[Span, ...], ...] = ()
    triggers: tuple[Span, ...] = ()
    place: Region | None = None
    label: str = ""
    words: str = ""
    background: bool = False


def method_variants(composition: Composition, method: str) -> tuple[MethodVariant, ...]:
    """The variants of `method` for one prompt; every one has the global styles on,
    and the LoRAs with role=off, which are the host's to load: here CLoRA's own host plays that part.

    clora: the base and one variant per concept. merge: a single variant with all LoRAs on, what a plain WebUI does.
    composite, switch: one variant per concept with the full prompt, averaged or in turn (Zhong et al. 2024), the
    background's LoRAs on in each. A prompt with fewer than two concepts is rendered plainly whatever the method.
    """
    styles = (*composition.styles, *composition.off)
    if method == "clora" and composition.composes:
        draws = bool(composition.background)
        own = [(None, "", "", draws), *((c.region, c.quoted, c.words, False) for c in composition.concepts)]
        return tuple(
            MethodVariant(v.text, v.negative, (*styles, *v.loras), v.subjects, v.triggers, *told)
            for v, told in zip(composition.variants, own, strict=True)
        )
    text, negative = composition.merged.text, composition.merged.negative
    if method in ("composite", "switch") and composition.composes:
        everywhere = (*styles, *composition.background)
        return tuple(MethodVariant(text, negative, (*everywhere, *v.loras)) for v in composition.variants[1:])
    return (MethodVariant(text, negative, (*styles, *composition.merged.loras)),)


def plan_variants(own: Sequence[MethodVariant], tokens: Sequence[PromptTokens], settings: Settings) -> ImagePlan:
    """The plan of one image's variants, whose texts have their tokens as `tokens` says."""
    if settings.method != "clora":
        return ImagePlan((), ((),) * len(own))
    subjects = [[t.positions(spans) for spans in v.subjects] for v, t in zip(own, tokens, strict=True)]
    triggers = [t.positions(v.triggers) for v, t in zip(own, tokens, strict=True)]
    places, labels = [v.place for v in own[1:]], [v.label for v in own[1:]]
    words = [v.words for v in own[1:]]
    return plan_image(subjects, triggers, settings.mask_words, places, labels, words, own[0].background)

"""Which variants each method runs: CLoRA's, and the usual ways of combining LoRAs for comparison."""

from __future__ import annotations

from dataclasses import dataclass

from .place import Place
from .prompt import Composition, LoraUse, Span


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
    place: Place | None = None
    label: str = ""
    words: str = ""
    background: bool = False


def method_variants(composition: Composition, method: str) -> tuple[MethodVariant, ...]:
    """The variants of `method` for one prompt; every one has the global styles on,
    and the LoRAs with role=off, which are the host's to load: here CLoRA's own host plays that part.

    clora: the base and one variant per concept. merge: a single variant with all LoRAs on, what a plain WebUI does.
    composite, switch: one variant per concept with the full prompt, averaged or in turn (Zhong et al. 2024). A
    prompt with fewer than two concepts is rendered plainly whatever the method.
    """
    styles = (*composition.styles, *composition.off)
    if method == "clora" and composition.composes:
        draws = bool(composition.background)
        own = [(None, "", "", draws), *((c.place, c.quoted, c.words, False) for c in composition.concepts)]
        return tuple(
            MethodVariant(v.text, v.negative, (*styles, *v.loras), v.subjects, v.triggers, *told)
            for v, told in zip(composition.variants, own, strict=True)
        )
    text, negative = composition.merged.text, composition.merged.negative
    if method in ("composite", "switch") and composition.composes:
        return tuple(MethodVariant(text, negative, (*styles, *v.loras)) for v in composition.variants[1:])
    return (MethodVariant(text, negative, (*styles, *composition.merged.loras)),)

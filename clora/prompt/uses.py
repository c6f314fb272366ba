"""The LoRAs that tags ask for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..lora.use import LoraUse
from .names import name_parts
from .roles import says_style
from .tags import LoraTag


def uses_of(tags: Iterable[LoraTag]) -> tuple[LoraUse, ...]:
    """The LoRA of each tag that has one."""
    with_lora = (tag for tag in tags if not tag.without_lora)
    return tuple(LoraUse(tag.name, tag.te, tag.unet, tag.dyn, tag.blocks) for tag in with_lora)


def unique(uses: Iterable[LoraUse]) -> tuple[LoraUse, ...]:
    """Each use once, in order."""
    return tuple(dict.fromkeys(uses))


def added(uses: Iterable[LoraUse]) -> tuple[LoraUse, ...]:
    """The uses, with the weights of a LoRA that is used several times added, as the WebUI does."""
    found: dict[LoraUse, LoraUse] = {}
    for use in uses:
        key = without_weight(use)
        other = found.get(key)
        found[key] = use if other is None else replace(other, te=other.te + use.te, unet=other.unet + use.unet)
    return tuple(found.values())


def without_weight(use: LoraUse) -> LoraUse:
    """What uses have in common whose weights add."""
    return replace(use, te=0.0, unet=0.0)


def styles_among(tags: Sequence[LoraTag], styles: tuple[LoraUse, ...]) -> tuple[LoraUse, ...]:
    """The styles on a subject that has a look of its own: `styles`, and those of its `tags` that say they are one.

    None if no other LoRA draws the subject.
    """
    own = [tag for tag in tags if not tag.without_lora]
    says = [tag for tag in own if says_style(tag.trigger or "") or says_style(" ".join(name_parts(tag.name)))]
    return unique((*uses_of(says), *styles)) if len(says) < len(own) else ()

"""A prompt for one concept alone, as a host reads it: to repaint the part of a picture that shows this concept."""

from __future__ import annotations

import re

from ..lora.use import LoraUse
from .composition import Composition

_SPACES = re.compile(r"\s+")
_ARTICLE = r"(?:\b(?:an?|the|one|another)\s+)?"
# What joins the removed words (written as \0) to the rest goes with them: "a cat and a \0 on grass".
_REMOVED = re.compile(rf"\b(?:and|with|beside)\s+{_ARTICLE}\0+|{_ARTICLE}\0+(?:\s+and\b)?", re.IGNORECASE)


def prompt_alone(composition: Composition, number: int) -> str:
    """The variant of concept `number` without the words of the others, and the tags of the LoRAs that it is drawn with.

    Its tags are the concept's own, its styles', the global styles' and those that are left to the host.
    """
    variant = composition.variants[number + 1]
    own = {offset for span in (*variant.subjects[number], *variant.triggers) for offset in range(*span)}
    others = {
        offset
        for other, spans in enumerate(variant.subjects)
        for span in spans
        for offset in range(*span)
        if other != number
    }
    removed = others - own
    text = "".join("\0" if i in removed else character for i, character in enumerate(variant.text))
    text = _REMOVED.sub("", text)
    uses = dict.fromkeys((*variant.loras, *composition.styles, *composition.off))
    return " ".join([_SPACES.sub(" ", text).strip(), *(_tag(use) for use in uses)])


def _tag(use: LoraUse) -> str:
    ranks = "" if use.dyn is None else f":dyn={use.dyn}"
    return f"<lora:{use.name}:{use.te:g}:{use.unet:g}{ranks}>"

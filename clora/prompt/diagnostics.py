"""Messages about a prompt: why CLoRA is inactive for it, and what is ignored."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from .composition import WordsOverride
from .subjects import Subject
from .tags import LoraTag, Role


def why_inactive(tags: Sequence[LoraTag], groups: Sequence[Subject]) -> str:
    """Why CLoRA is inactive for a prompt with fewer than two concepts."""
    if not groups:
        return "CLoRA is inactive for this prompt: it has no concept LoRA, and two are needed."
    names = " + ".join(f'"{tags[i].name}"' for i in groups[0].tags)
    if len(groups[0].tags) > 1:
        return (
            f"CLoRA is inactive for this prompt: the tags {names} stand next to each other and make one concept. Put "
            "each in front of its own subject's words, or give each its own words= (words=cat:nth=1 and "
            "words=cat:nth=2 for two cats)."
        )
    return f"CLoRA is inactive for this prompt: it has only one concept LoRA ({names}), and two are needed."


def ignored_parts(tags: Sequence[LoraTag], negative: str, *, composes: bool) -> tuple[str, ...]:
    """Warnings about what is ignored in the tags and in the negative prompt."""
    warnings: list[str] = []
    taken = [tag for tag in tags if tag.role not in (Role.STYLE, Role.OFF) and tag.ignored]
    if composes and taken:
        listed = "; ".join(f'{", ".join(tag.ignored)} of "{tag.name}"' for tag in taken)
        warnings.append(f"CLoRA ignores these arguments of other extensions: {listed}.")
    if re.search(r"<(?:lora|lyco):[^<>]*>", negative):
        warnings.append("LoRA tags in the negative prompt are ignored and stay there as plain text: remove them.")
    return tuple(warnings)


def unused_corrections(rows: Mapping[str, WordsOverride], tags: Sequence[LoraTag]) -> tuple[str, ...]:
    """A warning about corrections of LoRAs that have no tag in the prompt."""
    named = {tag.name for tag in tags}
    rest = ", ".join(f'"{name}"' for name, row in rows.items() if name not in named and row != WordsOverride())
    return (f"The corrections for {rest} are ignored: the prompt has no LoRA tag of that name.",) if rest else ()

"""Sentences on a prompt for its user: why it is not composed, and what of it is not read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from .composition import WordsOverride
from .subjects import Subject
from .tags import LoraTag, Role


def why_aside(tags: Sequence[LoraTag], groups: Sequence[Subject]) -> str:
    """Why a prompt with fewer than two concepts is not composed."""
    if not groups:
        return "CLoRA steps aside: the prompt has no concept LoRA, and two are needed."
    names = " + ".join(f'"{tags[i].name}"' for i in groups[0].tags)
    if len(groups[0].tags) > 1:
        return (
            f"CLoRA steps aside: the tags {names} stand side by side and make one concept; put each in "
            "front of its own "
            "subject's words, or give each its own words= (words=cat:nth=1 and words=cat:nth=2 for two cats)."
        )
    return f"CLoRA steps aside: the prompt has only one concept LoRA ({names}), and two are needed."


def unread(tags: Sequence[LoraTag], negative: str, *, composes: bool) -> tuple[str, ...]:
    """What of the tags and of the negative prompt is not read, one sentence each."""
    warnings: list[str] = []
    taken = [tag for tag in tags if tag.role not in (Role.STYLE, Role.OFF) and tag.ignored]
    if composes and taken:
        listed = "; ".join(f'{", ".join(tag.ignored)} of "{tag.name}"' for tag in taken)
        warnings.append(f"CLoRA does not read these arguments of other extensions: {listed}.")
    if re.search(r"<(?:lora|lyco):[^<>]*>", negative):
        warnings.append("LoRA tags in the negative prompt are not read: they are plain text there.")
    return tuple(warnings)


def unused(rows: Mapping[str, WordsOverride], tags: Sequence[LoraTag]) -> tuple[str, ...]:
    """Corrections of LoRAs that the prompt does not name, in one sentence."""
    named = {tag.name for tag in tags}
    rest = ", ".join(f'"{name}"' for name, row in rows.items() if name not in named and row != WordsOverride())
    return (f"The corrections of {rest} have no effect: the prompt has no tag of that name.",) if rest else ()

"""Messages about a prompt: why CLoRA is inactive for it, and what is ignored."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..lora.block_weights import COUNTS
from .composition import WordsOverride
from .own_words import own_words_warnings
from .role_words import REGIONS
from .subjects import Subject, names_of
from .tags import LoraTag, Role

AND = re.compile(r"\bAND(?:_[A-Z]+)?\b")
_BLOCK_WEIGHTS = re.compile(r"lbw=|w=|[^=]*,|[A-Za-z][\w-]*$")
"""An argument that looks like weights by block: a preset's name or a list."""
_VARIANT = re.compile(r"\{[^{}]*\|[^{}]*\}")
_OR_A_PLACE = ", or a place for this one (place=right, for instance)."


def why_inactive(tags: Sequence[LoraTag], groups: Sequence[Subject], text: str) -> str:
    """Why CLoRA is inactive for a prompt with fewer than two concepts and no place, or with AND."""
    found = AND.search(text)
    if found:
        return (
            f"CLoRA is inactive for this prompt, which the WebUI renders as usual: {found.group()} is not supported. "
            f"To compose its LoRAs, write a comma instead of {found.group()}, and each tag in front of its subject's "
            "words."
        )
    if not groups:
        return "CLoRA is inactive for this prompt: it has no concept LoRA, and two are needed."
    names = names_of(tags, groups[0])
    if len({tags[i].name for i in groups[0].tags}) > 1:
        return (
            f"CLoRA is inactive for this prompt: the LoRAs {names} draw one concept, and two are needed. Put each tag "
            "in front of its own subject's words, or give each its own words= (words=cat:nth=1 and words=cat:nth=2 for "
            "two cats)."
        )
    if groups[0].without_lora:
        return f"CLoRA is inactive for this prompt: it has only one subject ({names}), and two are needed{_OR_A_PLACE}"
    return f"CLoRA is inactive for this prompt: it has only one concept LoRA ({names}), and two are needed{_OR_A_PLACE}"


def left_note(reasons: Mapping[str, str]) -> str:
    """The LoRAs that are not composed because of what CLoRA found, with the reasons."""
    listed = ", ".join(f'"{name}" ({why})' for name, why in reasons.items())
    return (
        f"Applied to the whole picture, not composed: {listed}. To compose one of them, put its tag in front of its "
        "subject's words, or name them in the tag with words=."
    )


def left_out_warning(words: str, why: str) -> str:
    """The warning about a subject without a LoRA that is not composed."""
    return (
        f'The subject "{words}" of a <clora:...> tag is not composed: {why}. Write the words in the tag as they stand '
        "in the prompt, which needs them once for each subject."
    )


def foreign_syntax(text: str, *, composes: bool) -> tuple[str, ...]:
    """Warnings about parts of the prompt that other extensions read."""
    warnings = []
    regions = sorted(REGIONS.intersection(re.findall(r"\bADD[A-Z]+\b", text)))
    if regions:
        warnings.append(
            f"CLoRA does not divide the picture at {' and '.join(regions)} of Regional Prompter: a subject's words end "
            "there. To give a subject a place, write for example place=left in its tag."
        )
    if _VARIANT.search(text):
        warnings.append(
            "The prompt has alternatives in braces, {a|b}: CLoRA reads the ones that Dynamic Prompts chooses when you "
            "generate."
        )
    return tuple(warnings)


def ignored_parts(tags: Sequence[LoraTag], negative: str, *, composes: bool) -> tuple[str, ...]:
    """Warnings about what is ignored in the tags and in the negative prompt."""
    taken = [tag for tag in tags if tag.role not in (Role.STYLE, Role.OFF)]
    warnings = [*ignored_arguments(taken), *own_words_warnings(tags)] if composes else []
    if re.search(r"<(?:lora|lyco):[^<>]*>", negative):
        warnings.append("LoRA tags in the negative prompt are ignored and stay there as plain text: remove them.")
    return tuple(warnings)


def ignored_arguments(tags: Sequence[LoraTag]) -> tuple[str, ...]:
    """Warnings about arguments of other extensions in tags whose LoRAs CLoRA applies, and in `<clora:...>` tags."""
    warnings = []
    for without_lora in (False, True):
        some = [tag for tag in tags if tag.ignored and tag.without_lora is without_lora]
        listed = "; ".join(f'{", ".join(tag.ignored)} of "{tag.name}"' for tag in some)
        if listed and without_lora:
            warnings.append(f"CLoRA ignores these arguments of subjects without a LoRA: {listed}.")
        elif listed:
            warnings.append(f"CLoRA ignores these arguments of other extensions: {listed}.{_block_weights_hint(some)}")
    return tuple(warnings)


def _block_weights_hint(tags: Sequence[LoraTag]) -> str:
    """What to write instead of weights by block that only their extension knows."""
    if not any(_BLOCK_WEIGHTS.match(argument) for tag in tags for argument in tag.ignored):
        return ""
    return f" To use weights by block, write {COUNTS} numbers, for example lbw=1,0,0,0,1,1,1,1,1,1,1,1."


def unused_corrections(rows: Mapping[str, WordsOverride], tags: Sequence[LoraTag]) -> tuple[str, ...]:
    """Warnings about corrections of LoRAs that have no tag in the prompt, and about painted places that are empty."""
    named = {tag.name for tag in tags}
    rest = ", ".join(f'"{name}"' for name, row in rows.items() if name not in named and row != WordsOverride())
    empty = ", ".join(f'"{name}"' for name, row in rows.items() if name in named and row.nothing_painted)
    return (
        *((f"The corrections for {rest} are ignored: the prompt has no LoRA tag of that name.",) if rest else ()),
        *((f"Nothing is painted in the place of {empty}, so it is ignored.",) if empty else ()),
    )


def hidden_note(quoted: str) -> str:
    """The note about a concept whose painted place is covered by those of later ones."""
    return (
        f"The painted place of {quoted} is ignored, because later subjects are painted over all of it: paint it beside "
        "them, or put its tag after theirs."
    )

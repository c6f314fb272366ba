"""The prompt with the table's corrections written into its tags, so that the prompt alone makes the same picture."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import CLoRAError
from ..prompt import LoraTag, Role, WordsOverride, parse_tags
from ..prompt.tag_items import split_items


def corrected_prompt(prompt: str, corrections: Mapping[str, WordsOverride]) -> str:
    """The prompt with each LoRA's correction added to its tag; arguments that a tag already has stay.

    Raises: CLoRAError if a correction contains a character that a tag cannot contain.
    """
    for tag in reversed(parse_tags(prompt)):
        added = "".join(f":{key}={value}" for key, value in _additions(tag, corrections.get(tag.name)).items())
        prompt = f"{prompt[: tag.span.end - 1]}{added}>{prompt[tag.span.end :]}"
    return prompt


def _additions(tag: LoraTag, row: WordsOverride | None) -> dict[str, str]:
    if row is None:
        return {}
    role = (row.role or "").strip() if not tag.role_given else ""
    # Only a concept has subject words and a region: in the tag of another role they are an error, in the table not.
    concept = role.lower() in ("", "concept") and tag.role is Role.CONCEPT
    given = {
        "role": role,
        "words": (row.words or "").strip() if concept and not tag.words else "",
        "trigger": (row.trigger or "").strip() if not tag.trigger_given else "",
        "place": (row.place or "").strip() if concept and tag.region is None else "",
        "say": (row.say or "").strip() if concept and tag.say is None else "",
    }
    for key, value in given.items():
        # Own words may have a weight: a colon inside brackets.
        readable = key == "say" and split_items(f"say={value}") == [f"say={value}"]
        for mark in "<>" if readable else ":<>":
            if mark in value:
                raise CLoRAError(
                    f'The {key} "{value}" of the LoRA "{tag.name}" contains "{mark}", which is not allowed in a tag: '
                    "remove it."
                )
    return _counted({key: value for key, value in given.items() if value})


def _counted(given: dict[str, str]) -> dict[str, str]:
    """ "cat#2" as words=cat:nth=2: WebUIs read what follows a # in a prompt as a comment."""
    for key in ("words", "role"):
        words, mark, number = given.get(key, "").rpartition("#")
        if mark and number.strip().isdecimal():
            return {**given, key: words.strip(), "nth": number.strip()}
    return given


def move_into_prompt(
    prompt: str, corrections: Mapping[str, WordsOverride]
) -> tuple[str, dict[str, WordsOverride]]:  # fmt: skip
    """The corrected prompt, and the corrections that stay: those of LoRAs that are not in it, and painted regions.

    Raises: CLoRAError if a correction contains a character that a tag cannot contain.
    """
    present = {tag.name for tag in parse_tags(prompt)}
    rest = {name: row for name, row in corrections.items() if name not in present}
    return corrected_prompt(prompt, corrections), {**rest, **painted_only(corrections)}


def painted_only(corrections: Mapping[str, WordsOverride]) -> dict[str, WordsOverride]:
    """The corrections that no tag can hold: painted regions."""
    return {name: WordsOverride(painted=row.painted) for name, row in corrections.items() if row.painted}

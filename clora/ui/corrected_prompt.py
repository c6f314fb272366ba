"""The prompt with the table's corrections written into its tags: what makes the same picture by itself."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import CLoRAError
from ..prompt import LoraTag, Role, WordsOverride, parse_tags


def corrected_prompt(prompt: str, corrections: Mapping[str, WordsOverride]) -> str:
    """The prompt whose tags say what `corrections` say by LoRA name; what a tag says itself stays.

    Errors: CLoRAError for a correction that holds a mark which no tag can hold.
    """
    for tag in reversed(parse_tags(prompt)):
        added = "".join(f":{key}={value}" for key, value in _additions(tag, corrections.get(tag.name)).items())
        prompt = f"{prompt[: tag.span.end - 1]}{added}>{prompt[tag.span.end :]}"
    return prompt


def _additions(tag: LoraTag, row: WordsOverride | None) -> dict[str, str]:
    if row is None:
        return {}
    role = (row.role or "").strip() if not tag.role_given else ""
    # Only a concept has subject words and a place: in another role's tag they are a mistake, in the table they wait.
    concept = role.lower() in ("", "concept") and tag.role is Role.CONCEPT
    given = {
        "role": role,
        "words": (row.words or "").strip() if concept and not tag.words else "",
        "trigger": (row.trigger or "").strip() if not tag.trigger_given else "",
        "place": (row.place or "").strip() if concept and tag.region is None else "",
    }
    for key, value in given.items():
        for mark in ":<>":
            if mark in value:
                raise CLoRAError(f'The {key} "{value}" of "{tag.name}" holds "{mark}": leave it out.')
    return _counted({key: value for key, value in given.items() if value})


def _counted(given: dict[str, str]) -> dict[str, str]:
    """ "cat#2" as words=cat:nth=2: WebUIs take what follows a # in a prompt for a comment."""
    for key in ("words", "role"):
        words, mark, number = given.get(key, "").rpartition("#")
        if mark and number.strip().isdecimal():
            return {**given, key: words.strip(), "nth": number.strip()}
    return given


def written_into(prompt: str, corrections: Mapping[str, WordsOverride]) -> tuple[str, dict[str, WordsOverride]]:
    """The corrected prompt, and the corrections of LoRAs that are not in it, which stay. Errors: CLoRAError."""
    there = {tag.name for tag in parse_tags(prompt)}
    rest = {name: row for name, row in corrections.items() if name not in there}
    rest |= {name: WordsOverride(painted=row.painted) for name, row in corrections.items() if row.painted}
    return corrected_prompt(prompt, corrections), rest

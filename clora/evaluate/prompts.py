"""The prompts: the user's own, or the list in `prompts.json` filled with the user's LoRAs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import CLoRAError, cut, printable, shown
from ..lora.library import LoraLibrary
from ..prompt import Composition, analyze, parse_attention, schedule
from ..prompt.evidence import evidence_of_files
from ..prompt.tags import MAX_WEIGHT

TEMPLATES = Path(__file__).with_name("prompts.json")
STYLE = "style"
"""Prefix of slots for a style of the whole picture; their LoRA has role=style and no words."""
_SLOT = re.compile(r"\{(\w+)\}")
_KEYS = {"id", "kind", "text", "slots"}


@dataclass(frozen=True)
class Prompt:
    """A prompt with LoRA tags. `where` is its location for messages."""

    id: str
    kind: str
    text: str
    where: str


@dataclass(frozen=True)
class Slot:
    """A user's LoRA for a placeholder; `trigger` is put before the class word in this LoRA's own variant."""

    lora: str
    weight: float = 1.0
    trigger: str = ""

    def tag(self, arguments: Sequence[str]) -> str:
        """The LoRA tag with further arguments, such as "words=cat"."""
        trigger = [f"trigger={self.trigger}"] if self.trigger else []
        return f"<lora:{':'.join([self.lora, f'{self.weight:g}', *arguments, *trigger])}>"


def load_prompts(path: Path, mapping: Mapping[str, Slot]) -> tuple[list[Prompt], int]:
    """The prompts of a file, and how many were skipped because `mapping` lacks one of their slots.

    A `.json` file contains a list of {id, kind, text, slots}; any other file one prompt per line, where empty lines
    and lines starting with # are ignored. Raises: CLoRAError if the file cannot be used.
    """
    text = _read(path)
    if path.suffix.lower() != ".json":
        lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
        kept = [(number, line) for number, line in lines if line and not line.startswith("#")]
        return _any([Prompt(f"line-{n}", "own", line, f"line {n} of {path.name}") for n, line in kept], path, 0)
    entries = [_entry(item, path) for item in _json(text, path, list)]
    usable = [entry for entry in entries if set(entry["slots"]) <= set(mapping)]
    names = [entry["id"] for entry in entries]
    if len(set(names)) < len(names):
        raise CLoRAError(f"The prompt list {path} contains an id twice: ids must be unique.")
    filled = [
        Prompt(e["id"], e["kind"], fill(e["text"], e["slots"], mapping), f'"{e["id"]}" of {path.name}') for e in usable
    ]
    return _any(filled, path, len(entries) - len(usable))


def _any(prompts: list[Prompt], path: Path, skipped: int) -> tuple[list[Prompt], int]:
    if not prompts:
        why = "the mapping fills none of its prompts, add LoRAs for more slots" if skipped else "it contains no prompt"
        raise CLoRAError(f"There is nothing to evaluate in {path}: {why}.")
    return prompts, skipped


def fill(text: str, slots: Mapping[str, str], mapping: Mapping[str, Slot]) -> str:
    """A template with every {slot} replaced by a LoRA tag and the class word from `slots`.

    The tag has nth= if the text contains the word more than once.
    """
    plain = _SLOT.sub(lambda match: "" if match.group(1).startswith(STYLE) else slots[match.group(1)], text)
    seen = 0  # length of `plain` up to the current slot
    rest = 0

    def tag(match: re.Match[str]) -> str:
        nonlocal seen, rest
        name = match.group(1)
        seen += match.start() - rest
        rest = match.end()
        if name.startswith(STYLE):
            return mapping[name].tag(["role=style"])
        word = slots[name]
        nth = _count(word, plain[: seen + len(word)])
        seen += len(word)
        several = [f"nth={nth}"] if _count(word, plain) > 1 else []
        return f"{mapping[name].tag([f'words={word}', *several])} {word}"

    return _SLOT.sub(tag, text)


def _count(word: str, text: str) -> int:
    return len(re.findall(rf"\b{re.escape(word)}\b", text, re.IGNORECASE))


def load_mapping(path: Path | None) -> dict[str, Slot]:
    """Slot -> LoRA from a JSON or TOML file of {slot: {lora, weight, trigger}} or {slot: name}. Raises: CLoRAError."""
    if path is None:
        return {}
    text = _read(path)
    table = _toml(text, path) if path.suffix.lower() == ".toml" else _json(text, path, dict)
    return {printable(str(name)): _slot(printable(str(name)), value, path) for name, value in table.items()}


def _slot(name: str, value: Any, path: Path) -> Slot:
    entry = {"lora": value} if isinstance(value, str) else value
    known = {"lora", "weight", "trigger"}
    if not isinstance(entry, dict) or not set(entry) <= known or not isinstance(entry.get("lora"), str):
        raise CLoRAError(
            f'The slot "{name}" in {path} must be the name of a LoRA, or an object with lora, weight and trigger.'
        )
    try:
        slot = Slot(entry["lora"].strip(), float(entry.get("weight", 1.0)), str(entry.get("trigger", "")).strip())
        if not abs(slot.weight) <= MAX_WEIGHT:
            raise ValueError
    except (TypeError, ValueError, OverflowError, RecursionError):
        raise CLoRAError(
            f'The weight of the slot "{cut(name)}" in {path} is not a number up to {MAX_WEIGHT}: correct it.'
        ) from None
    if not slot.lora or re.search(r"[:<>]", slot.lora + slot.trigger):
        raise CLoRAError(
            f'The slot "{name}" in {path} needs the name of a LoRA; name and trigger must not contain ":", "<" or ">".'
        )
    return slot


def _entry(item: Any, path: Path) -> dict[str, Any]:
    good = isinstance(item, dict) and set(item) == _KEYS and isinstance(item["slots"], dict)
    if not good or not all(isinstance(value, str) for value in (item["id"], item["text"], *item["slots"].values())):
        raise CLoRAError(f"A prompt in {path} must have exactly the fields id, kind, text and slots: {shown(item)}.")
    if set(_SLOT.findall(item["text"])) != set(item["slots"]):
        raise CLoRAError(f'The slots of the prompt "{item["id"]}" in {path} do not match those in its text.')
    texts = {key: printable(item[key]) for key in ("id", "text")}
    return {**item, **texts, "kind": cut(printable(str(item["kind"])))}


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise CLoRAError(
            f"The file {cut(str(path))} cannot be read: check the path, it must be a text file."
        ) from error


def _json(text: str, path: Path, kind: type) -> Any:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CLoRAError(f"The file {path} is not valid JSON: {cut(str(error))}.") from error
    if not isinstance(content, kind):
        raise CLoRAError(f"The file {path} must contain a JSON {'list' if kind is list else 'object'}.")
    return content


def _toml(text: str, path: Path) -> dict[str, Any]:
    try:
        toml: Any = import_module("tomllib")
    except ImportError as error:
        raise CLoRAError(f"The file {path} needs Python 3.11 or newer: write the mapping as JSON.") from error
    try:
        content: dict[str, Any] = toml.loads(text)
    except (ValueError, RecursionError) as error:
        raise CLoRAError(f"The file {path} is not valid TOML: {cut(str(error))}.") from error
    return content


def read_prompt(prompt: Prompt, library: LoraLibrary) -> Composition:
    """What a prompt composes; its LoRA files are opened. Raises: CLoRAError with the prompt's location."""
    try:
        composition = analyze(prompt.text, evidence=evidence_of_files(library.path))
        for variant in (composition.merged, *composition.variants):
            for use in variant.loras:
                library.file(use.name)
        for use in (*composition.styles, *composition.off):
            library.file(use.name)
    except CLoRAError as error:
        raise CLoRAError(f"In {prompt.where}: {error}") from error
    if not composition.composes or len(composition.concepts) < 2:  # one in a place is composed, but not compared
        told = f"In {prompt.where}: at least two concept LoRAs are needed; add one, or remove the prompt."
        raise CLoRAError(f"{told} {composition.note}".rstrip())
    return composition


def plain_text(composition: Composition) -> str:
    """The prompt for CLIP-T: its text at the last step, without LoRA tags, triggers and emphasis."""
    _, text = schedule(composition.text, 100)[-1]
    return " ".join(" ".join(s.text for s in parse_attention(text) if not s.is_break).split())

"""The prompts of the benchmark and what each of them should show."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

PROMPTS = Path(__file__).with_name("prompts.json")
GROUPS = ("two classes", "same class", "three", "style", "background", "two LoRAs", "single")
SINGLE = "single"  # one LoRA alone, to see whether the LoRAs work at all; every method renders these as usual
SPLITS = ("tuning", "report")


@dataclass(frozen=True)
class Instance:
    """One thing that a prompt asks for: its class, its look ("none": the class's own), and whether it is in pencil."""

    kind: str
    look: str
    pencil: bool = False


@dataclass(frozen=True)
class Prompt:
    """One prompt. `style` ("sketch") and `background` ("lava") belong to the whole picture; None if not asked for."""

    id: str
    group: str
    split: str
    text: str
    expect: tuple[Instance, ...]
    style: str | None = None
    background: str | None = None

    @property
    def looks(self) -> tuple[str, ...]:
        """The LoRAs of its subjects."""
        return tuple(thing.look for thing in self.expect if thing.look != "none")


def load_prompts(path: Path = PROMPTS) -> list[Prompt]:
    """All prompts of a file.

    Raises: ValueError that names the missing or unknown fields of an entry.
    """
    prompts = [_prompt(entry) for entry in json.loads(path.read_text("utf-8"))]
    if len({prompt.id for prompt in prompts}) < len(prompts):
        raise ValueError(f"{path} has two prompts of one id")
    return prompts


def _prompt(entry: dict[str, object]) -> Prompt:
    known = {"id", "group", "split", "prompt", "expect", "style", "background"}
    missing = {"id", "group", "split", "prompt", "expect"} - set(entry)
    if missing or set(entry) - known:
        raise ValueError(f"{entry.get('id')}: missing {sorted(missing)}, unknown {sorted(set(entry) - known)}")
    expect = entry["expect"]
    assert isinstance(expect, list)
    texts = {name: str(entry[name]) if name in entry else None for name in ("style", "background")}
    if entry["split"] not in SPLITS:
        raise ValueError(f"{entry['id']}: the split is one of {SPLITS}")
    things = tuple(Instance(**thing) for thing in expect)
    name, group, split, text = (str(entry[key]) for key in ("id", "group", "split", "prompt"))
    return Prompt(name, group, split, text, things, texts["style"], texts["background"])


def choose(prompts: Sequence[Prompt], split: str = "all", limit: int = 0) -> list[Prompt]:
    """The prompts of a split; with a limit, that many, taken in turn from every group."""
    own = [prompt for prompt in prompts if split in ("all", prompt.split)]
    if not limit:
        return own
    groups = list(dict.fromkeys(prompt.group for prompt in own))
    columns = [[prompt for prompt in own if prompt.group == group] for group in groups]
    turns = [prompt for row in zip_longest(*columns) for prompt in row if prompt is not None]
    return turns[:limit]

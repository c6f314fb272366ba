"""Draws and judges what is missing. Everything is stored at once, so that a run can be continued."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.characters.methods import PLAIN, Method
from benchmarks.characters.setup import Setup
from clora.errors import CLoRAError
from research.characters.judge import Finding, Verdict
from research.characters.prompts import Prompt


@dataclass(frozen=True)
class Result:
    """One judged picture. `key` names its file; `seconds` is what drawing it took."""

    prompt: Prompt
    seed: int
    method: str
    key: str
    seconds: float
    verdict: Verdict


class Lines:
    """A file with one JSON object a line, each with a "key"; the last one of a key counts.

    A line that an interrupt left incomplete is ignored.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, dict[str, Any]] = {}
        for line in path.read_text("utf-8").splitlines() if path.exists() else ():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            self._known[entry["key"]] = entry

    def get(self, key: str) -> dict[str, Any] | None:
        """The entry of a key."""
        return self._known.get(key)

    def entries(self) -> list[dict[str, Any]]:
        """All entries, each key once."""
        return list(self._known.values())

    def put(self, key: str, **entry: Any) -> None:
        """Append an entry to the file."""
        self._known[key] = {"key": key, **entry}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            if file.tell():
                file.seek(-1, 2)
                file.write(b"" if file.read(1) == b"\n" else b"\n")
            file.write(json.dumps(self._known[key]).encode() + b"\n")


class Store:
    """A folder of pictures by key, and of what is known about them: times, and verdicts apart for each judge."""

    def __init__(self, folder: Path, judge: str) -> None:
        self.folder, self.drawn = folder, Lines(folder / "drawn.jsonl")
        self.judged = Lines(folder / f"judged-{judge}.jsonl")
        (folder / "pictures").mkdir(parents=True, exist_ok=True)

    def path(self, key: str) -> Path:
        """The path of a key's picture."""
        return self.folder / "pictures" / f"{key}.png"

    def picture(self, key: str) -> Image.Image:
        """A stored picture."""
        return Image.open(self.path(key)).convert("RGB")

    def has(self, key: str) -> bool:
        """Whether the picture is drawn."""
        return self.drawn.get(key) is not None and self.path(key).is_file()

    def settled(self, key: str) -> bool:
        """Whether all is known that the tables need, be the picture there or not."""
        return self.drawn.get(key) is not None and self.judged.get(key) is not None

    def verdict(self, key: str) -> Verdict | None:
        """What the judge said; None if it has not seen the picture."""
        entry = self.judged.get(key)
        if entry is None:
            return None
        subjects = tuple(Finding(**one) for one in entry["subjects"])
        return Verdict(subjects, entry["background"], entry["style"])


class Run:
    """Draws, judges and stores pictures."""

    def __init__(self, store: Store, setup: Setup) -> None:
        self.store, self.setup = store, setup

    def results(
        self, prompts: Sequence[Prompt], methods: Sequence[Method], seeds: Sequence[int], pictures: bool = True
    ) -> list[Result]:
        """All results. Missing ones are made prompt by prompt, so that after an interrupt all methods have as many.

        Without `pictures` what the verdicts tell is enough, and a picture that was judged is not drawn again.
        """
        found: list[Result] = []
        for number, prompt in enumerate(prompts, start=1):
            start = time.perf_counter()
            made = 0
            for method in methods:
                keys = self.keys(prompt, method, seeds)
                made += self.draw(prompt, method, seeds, pictures)
                verdicts = self.judge(list(keys.values()))
                found += [
                    Result(prompt, seed, method.name, key, self._seconds(key), verdict)
                    for (seed, key), verdict in zip(keys.items(), verdicts, strict=True)
                ]
            if made:
                took = time.perf_counter() - start
                told = f"{number}/{len(prompts)} {prompt.id}: {made} pictures, {took:.0f} s"
                print(told, file=sys.stderr, flush=True)
        return found

    def _seconds(self, key: str) -> float:
        return float((self.store.drawn.get(key) or {"seconds": 0.0})["seconds"])

    def keys(self, prompt: Prompt, method: Method, seeds: Sequence[int]) -> dict[int, str]:
        """The keys of a prompt's pictures by seed. Where CLoRA does not compose, all methods have the same."""
        own = self._drawing(prompt, method)
        return {seed: own.key(self.setup, prompt.prompt, seed) for seed in seeds}

    def _drawing(self, prompt: Prompt, method: Method) -> Method:
        return method if self.setup.composes(prompt.prompt) else PLAIN

    def draw(self, prompt: Prompt, method: Method, seeds: Sequence[int], pictures: bool = True) -> int:
        """Draw what is missing; returns how many pictures."""
        keys, own = self.keys(prompt, method, seeds), self._drawing(prompt, method)
        there = self.store.has if pictures else lambda key: self.store.has(key) or self.store.settled(key)
        missing = consecutive(seed for seed in seeds if not there(keys[seed]))
        for batch in missing:
            self.setup.pipe  # noqa: B018  # loaded here, so that loading does not count as a picture's time
            start = time.perf_counter()
            drawn = own.draw(self.setup, prompt.prompt, batch, own.settings)
            took = round((time.perf_counter() - start) / len(batch), 3)
            for seed, picture in zip(batch, drawn, strict=True):
                picture.save(self.store.path(keys[seed]))
                self.store.drawn.put(keys[seed], prompt=prompt.id, method=own.name, seed=seed, seconds=took)
        return sum(map(len, missing))

    def judge(self, keys: Sequence[str]) -> list[Verdict]:
        """The verdicts of stored pictures."""
        new = [key for key in dict.fromkeys(keys) if self.store.verdict(key) is None]
        verdicts = self.setup.judge([self.store.picture(key) for key in new]) if new else []
        for key, verdict in zip(new, verdicts, strict=True):
            self.store.judged.put(key, **asdict(verdict))
        found = [self.store.verdict(key) for key in keys]
        return [verdict for verdict in found if verdict is not None]


def consecutive(seeds: Iterable[int]) -> list[list[int]]:
    """Seeds in batches of consecutive ones, because image i of a batch has the seed `seed + i`."""
    batches: list[list[int]] = []
    for seed in seeds:
        if batches and batches[-1][-1] + 1 == seed:
            batches[-1].append(seed)
        else:
            batches.append([seed])
    return batches


def choose(prompts: Sequence[Prompt], split: str = "all", limit: int = 0, groups: Sequence[str] = ()) -> list[Prompt]:
    """The prompts of a split and of some groups (all if none are named); with a limit, in turn from every group."""
    own = [p for p in prompts if split in ("all", p.split) and (not groups or p.group in groups)]
    if not limit:
        return own
    columns = [[prompt for prompt in own if prompt.group == group] for group in dict.fromkeys(p.group for p in own)]
    turns = [prompt for row in zip_longest(*columns) for prompt in row if prompt is not None]
    return turns[:limit]


@dataclass(frozen=True)
class Readings:
    """How CLoRA reads prompts: those that can be drawn, those of them that it does not compose, and refused ones."""

    drawable: list[Prompt]
    as_usual: list[str]
    refused: dict[str, str]


def read(setup: Setup, prompts: Sequence[Prompt]) -> Readings:
    """Read all prompts. A refused one has no picture with any method, so that it says nothing about methods."""
    found = Readings([], [], {})
    for prompt in prompts:
        try:
            composes = setup.composes(prompt.prompt)
        except CLoRAError as error:
            found.refused[prompt.id] = str(error)
            continue
        found.drawable.append(prompt)
        if not composes:
            found.as_usual.append(prompt.id)
    return found

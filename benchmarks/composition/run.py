"""Draws and judges what is missing. Every judgement is stored at once, so that a run can be continued."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.composition.methods import METHODS, PLAIN, Method, Setup
from benchmarks.composition.prompts import SINGLE, Prompt
from benchmarks.judge import Verdict
from benchmarks.judge.judge import WEIGHTS


@dataclass(frozen=True)
class Result:
    """One judged picture."""

    prompt: str
    seed: int
    method: str
    seconds: float
    verdict: Verdict


class Store:
    """A folder with `results.jsonl`, one line per picture, and the pictures themselves.

    A line belongs to the judge that wrote it: a newly trained judge judges pictures again, without drawing them again.
    A line that an interrupt left incomplete is ignored.
    """

    def __init__(self, folder: Path, judge: str) -> None:
        self.folder, self.judge = folder, judge
        self.lines = folder / "results.jsonl"
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        self._known: dict[str, dict[str, Any]] = {}
        for line in self.lines.read_text("utf-8").splitlines() if self.lines.exists() else ():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            self._known[entry["key"]] = entry

    def picture(self, key: str) -> Path:
        """The path of a key's picture."""
        return self.folder / "pictures" / f"{key}.png"

    def get(self, key: str) -> Result | None:
        """The result of a key; None if this judge has not judged it."""
        entry = self._known.get(key)
        if entry is None or entry["judge"] != self.judge:
            return None
        verdict = Verdict.from_dict(entry["verdict"])
        return Result(entry["prompt"], entry["seed"], entry["method"], entry["seconds"], verdict)

    def drawn(self, key: str) -> float | None:
        """Seconds that a picture took which another judge has judged; None if there is no such picture."""
        return float(self._known[key]["seconds"]) if key in self._known and self.picture(key).is_file() else None

    def put(self, key: str, result: Result) -> None:
        """Store a result, at once."""
        entry = {
            "key": key, "judge": self.judge, "prompt": result.prompt, "seed": result.seed, "method": result.method,
            "seconds": round(result.seconds, 3), "verdict": result.verdict.as_dict(),
        }  # fmt: skip
        self._known[key] = entry
        cut = self.lines.exists() and self.lines.stat().st_size and not self.lines.read_bytes().endswith(b"\n")
        with self.lines.open("a", encoding="utf-8") as file:
            file.write(("\n" if cut else "") + json.dumps(entry) + "\n")


def judge_name(weights: Path = WEIGHTS) -> str:
    """A hash of the judge's weights."""
    return sha256(weights.read_bytes()).hexdigest()[:12]


class Run:
    """Draws, judges and stores pictures."""

    def __init__(self, store: Store, setup: Setup) -> None:
        self.store, self.setup = store, setup

    def results(self, prompts: Sequence[Prompt], methods: Sequence[Method], seeds: Sequence[int]) -> list[Result]:
        """All results. Missing ones are made prompt by prompt, so that after an interrupt all methods have as many."""
        found: list[Result] = []
        for number, prompt in enumerate(prompts, start=1):
            start = time.perf_counter()
            own = [METHODS[PLAIN]] if prompt.group == SINGLE else methods
            made = 0
            for method in own:
                done, new = self._one(prompt, method, seeds)
                found += done
                made += new
            if made:
                took = time.perf_counter() - start
                print(
                    f"{number}/{len(prompts)} {prompt.id}: {made} pictures, {took:.0f} s", file=sys.stderr, flush=True
                )
        return found

    def _one(self, prompt: Prompt, method: Method, seeds: Sequence[int]) -> tuple[list[Result], int]:
        """The results of one prompt and method, and how many pictures were drawn for them."""
        keys = {seed: method.key(self.setup, prompt.text, seed) for seed in seeds}
        made = 0
        for batch in consecutive(seed for seed in seeds if self.store.get(keys[seed]) is None):
            old = [self.store.drawn(keys[seed]) for seed in batch]
            if all(seconds is not None for seconds in old):
                pictures = [Image.open(self.store.picture(keys[seed])).convert("RGB") for seed in batch]
                seconds = [value for value in old if value is not None]
            else:
                pictures, seconds = self._drawn(prompt, method, batch, keys)
                made += len(batch)
            for seed, took, verdict in zip(batch, seconds, self.setup.judge(pictures), strict=True):
                self.store.put(keys[seed], Result(prompt.id, seed, method.name, took, verdict))
        results = [self.store.get(key) for key in keys.values()]
        return [result for result in results if result is not None], made

    def _drawn(
        self, prompt: Prompt, method: Method, batch: Sequence[int], keys: dict[int, str]
    ) -> tuple[list[Image.Image], list[float]]:
        """The pictures of one batch of seeds, saved, and the seconds that each took."""
        self.setup.pipe  # noqa: B018  # loaded here, so that loading does not count as a picture's time
        start = time.perf_counter()
        pictures = method.draw(self.setup, prompt.text, batch, method.settings)
        took = (time.perf_counter() - start) / len(batch)
        for seed, picture in zip(batch, pictures, strict=True):
            picture.save(self.store.picture(keys[seed]))
        return pictures, [took] * len(batch)


def consecutive(seeds: Iterable[int]) -> list[list[int]]:
    """Seeds in batches of consecutive ones, because image i of a batch has the seed `seed + i`."""
    batches: list[list[int]] = []
    for seed in seeds:
        if batches and batches[-1][-1] + 1 == seed:
            batches[-1].append(seed)
        else:
            batches.append([seed])
    return batches

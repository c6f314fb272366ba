"""Draw and judge what is not drawn yet; every picture's judgement is stored at once, so that a run can go on."""

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

from benchmarks.composition.methods import METHODS, PLAIN, Method, Workplace
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

    A line belongs to the judge that wrote it: after a new judge is trained, pictures are judged again, not drawn again.
    A line that an interrupt cut short is left out.
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
        """Where the picture of a key is."""
        return self.folder / "pictures" / f"{key}.png"

    def get(self, key: str) -> Result | None:
        """The result of a key, if this judge has given it."""
        entry = self._known.get(key)
        if entry is None or entry["judge"] != self.judge:
            return None
        verdict = Verdict.from_dict(entry["verdict"])
        return Result(entry["prompt"], entry["seed"], entry["method"], entry["seconds"], verdict)

    def drawn(self, key: str) -> float | None:
        """Seconds a picture took that another judge has judged; None if there is no such picture."""
        return float(self._known[key]["seconds"]) if key in self._known and self.picture(key).is_file() else None

    def put(self, key: str, result: Result) -> None:
        """Write a result down, at once."""
        entry = {
            "key": key, "judge": self.judge, "prompt": result.prompt, "seed": result.seed, "method": result.method,
            "seconds": round(result.seconds, 3), "verdict": result.verdict.as_dict(),
        }  # fmt: skip
        self._known[key] = entry
        cut = self.lines.exists() and self.lines.stat().st_size and not self.lines.read_bytes().endswith(b"\n")
        with self.lines.open("a", encoding="utf-8") as file:
            file.write(("\n" if cut else "") + json.dumps(entry) + "\n")


def judge_name(weights: Path = WEIGHTS) -> str:
    """Names the judge by its weights."""
    return sha256(weights.read_bytes()).hexdigest()[:12]


class Run:
    """Draws, judges and stores; `results` gives what the prompts, methods and seeds ask for."""

    def __init__(self, store: Store, place: Workplace) -> None:
        self.store, self.place = store, place

    def results(self, prompts: Sequence[Prompt], methods: Sequence[Method], seeds: Sequence[int]) -> list[Result]:
        """All results; what is missing is made now, prompt by prompt, so that an interrupt leaves methods even."""
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
        """Results of one prompt and method, and how many pictures were drawn for them."""
        keys = {seed: method.key(self.place, prompt.text, seed) for seed in seeds}
        made = 0
        for batch in consecutive(seed for seed in seeds if self.store.get(keys[seed]) is None):
            old = [self.store.drawn(keys[seed]) for seed in batch]
            if all(seconds is not None for seconds in old):
                pictures = [Image.open(self.store.picture(keys[seed])).convert("RGB") for seed in batch]
                seconds = [value for value in old if value is not None]
            else:
                pictures, seconds = self._drawn(prompt, method, batch, keys)
                made += len(batch)
            for seed, took, verdict in zip(batch, seconds, self.place.judge(pictures), strict=True):
                self.store.put(keys[seed], Result(prompt.id, seed, method.name, took, verdict))
        results = [self.store.get(key) for key in keys.values()]
        return [result for result in results if result is not None], made

    def _drawn(
        self, prompt: Prompt, method: Method, batch: Sequence[int], keys: dict[int, str]
    ) -> tuple[list[Image.Image], list[float]]:
        """Pictures of one batch of seeds, saved, and the seconds each took."""
        self.place.pipe  # noqa: B018  # loading it is no part of a picture's time
        start = time.perf_counter()
        pictures = method.draw(self.place, prompt.text, batch, method.settings)
        took = (time.perf_counter() - start) / len(batch)
        for seed, picture in zip(batch, pictures, strict=True):
            picture.save(self.store.picture(keys[seed]))
        return pictures, [took] * len(batch)


def consecutive(seeds: Iterable[int]) -> list[list[int]]:
    """Seeds in batches of neighbours, since image i of a batch has the seed `seed + i`."""
    batches: list[list[int]] = []
    for seed in seeds:
        if batches and batches[-1][-1] + 1 == seed:
            batches[-1].append(seed)
        else:
            batches.append([seed])
    return batches

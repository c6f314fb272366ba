"""Runs a work list: draws missing pictures, finds crops, computes vectors and scores. Finished results are stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..models.memory import give_back
from ..prompt import LoraUse
from .drawing import draw_here, draw_with_ray
from .features import Features
from .scores import KINDS, Score, Scorer, candidates
from .segmenter import Box, ClipSeg
from .store import Store
from .vectors import Vectors, View
from .work import Case, Item, Studio, Work


@dataclass(frozen=True)
class Readers:
    """The models that read pictures: extractors by kind ("dino", "clip"), and the segmenter, if there is one."""

    features: Mapping[str, Features]
    segmenter: ClipSeg | None


@contextmanager
def bar(total: int, title: str, unit: str) -> Iterator[Any]:
    """A progress bar, hidden if there is nothing to do."""
    from tqdm import tqdm

    with tqdm(total=total, desc=title, unit=unit, leave=True, disable=not total) as shown:
        yield shown


class Run:
    """One evaluation, whose results are stored in one folder."""

    def __init__(self, store: Store, studio: Studio, work: Work, readers: Readers) -> None:
        self.store, self.studio, self.work, self.readers = store, studio, work, readers
        self._cases = {case.id: case for case in work.cases}

    def missing(self) -> list[Item]:
        """The pictures that are not yet drawn."""
        return [item for item in self.work.items if not self.store.has_picture(item.key)]

    def draw(self, uses: Sequence[LoraUse], ray: str | None = None) -> None:
        """Draw the missing pictures. `ray` is a cluster's address, "local" to start Ray here, None for no Ray."""
        items = self.missing()
        if not items:
            return
        if ray is None:
            drawn = draw_here(self.studio, uses, items)
        else:
            drawn = draw_with_ray(self.studio, uses, items, None if ray == "local" else ray)
        with bar(len(items), "pictures", "picture") as shown:
            for item, one in drawn:
                entry = {"title": item.title, "prompt": item.prompt, "seed": item.seed}
                cost = {"seconds": round(one.seconds, 3), "memory": one.memory}
                self.store.put_picture(item.key, one.picture(), {**entry, **cost})
                shown.set_postfix_str(item.title)
                shown.update()
        del drawn
        give_back()

    def scores(self) -> list[Score]:
        """The score of every composition; all pictures must be drawn."""
        if self.readers.segmenter is not None:
            self._find_boxes(self.readers.segmenter.to(self.studio.device))
        vectors = {kind: Vectors(self.store, self.readers.features[kind].to(self.studio.device)) for kind in KINDS}
        views = list(dict.fromkeys(self._views()))
        with bar(sum(len(one.missing(views)) for one in vectors.values()), "features", "vector") as shown:
            for one in vectors.values():
                one.compute(views, shown.update)
        scorer = Scorer(self.work, vectors)
        return [
            scorer.score(case, method.name, seed, self._boxes(case, self.work.composed[case.id, method.name, seed]))
            for case in self.work.cases
            for method in self.work.methods
            for seed in self.work.seeds
        ]

    def _composed(self) -> Iterator[tuple[Case, str]]:
        for (case_id, _, _), key in self.work.composed.items():
            yield self._cases[case_id], key

    def _views(self) -> Iterator[View]:
        for item in self.work.items:
            yield View(item.key)
        for case, key in self._composed():
            boxes = self._boxes(case, key)
            if boxes is not None:
                for _, own in candidates([s.words for s in case.subjects], boxes):
                    yield from (View(key, box) for box in own)

    def _box_key(self, key: str, words: str) -> str:
        assert self.readers.segmenter is not None
        return f"{self.readers.segmenter.identity}|{key}|{words}"

    def _find_boxes(self, segmenter: ClipSeg) -> None:
        """Find the boxes of all subjects that are not yet stored."""
        wanted = {key: list(dict.fromkeys(s.words for s in case.subjects)) for case, key in self._composed()}
        missing = {
            key: [text for text in words if self._box_key(key, text) not in self.store.boxes]
            for key, words in wanted.items()
        }
        missing = {key: words for key, words in missing.items() if words}
        with bar(len(missing), "crops", "picture") as shown:
            for key, words in missing.items():
                for text, boxes in zip(words, segmenter.boxes(self.store.picture(key), words), strict=True):
                    self.store.boxes.put(self._box_key(key, text), {"boxes": boxes})
                shown.update()

    def _boxes(self, case: Case, key: str) -> dict[str, list[Box]] | None:
        if self.readers.segmenter is None:
            return None
        entries = {s.words: self.store.boxes.get(self._box_key(key, s.words)) for s in case.subjects}
        return {words: [tuple(box) for box in (entry or {})["boxes"]] for words, entry in entries.items()}

"""The paper's scores from feature vectors: similarity to each LoRA's references and the text, and the leak matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .segmenter import Box
from .vectors import Vector, Vectors, View
from .work import Case, Work

Matrix: TypeAlias = NDArray[np.float64]
KINDS = ("dino", "clip")


@dataclass(frozen=True)
class Score:
    """The scores of one composed picture; lists and matrices are in the order of the case's subjects.

    `whole[kind]` (L,) is the picture's mean cosine similarity to each LoRA's references. `matrix[kind]` (L, L) is the
    same for the crop of subject i and the references of subject j, None without a segmenter; `found` is the share of
    subjects that the segmenter found. `text` is the cosine similarity to the prompt. `memory` is in bytes.
    """

    case: Case
    method: str
    seed: int
    picture: str
    whole: Mapping[str, Vector]
    text: float
    matrix: Mapping[str, Matrix] | None
    found: float | None
    seconds: float
    memory: int | None


def similarity(view: Vector, references: Vector) -> float:
    """Mean of the cosine similarities of a unit vector (D,) to unit vectors (N, D)."""
    return float((references @ view).mean())


def leak(matrix: Matrix) -> tuple[float, float]:
    """Means on the diagonal (each crop with its own LoRA) and off it (each crop with the other LoRAs)."""
    count = len(matrix)
    own = float(np.trace(matrix)) / count
    return own, float(matrix.sum() - np.trace(matrix)) / (count * (count - 1))


def candidates(words: Sequence[str], boxes: Mapping[str, Sequence[Box]]) -> list[tuple[list[int], list[Box | None]]]:
    """Subjects grouped by equal words: their indices and as many of the largest boxes; None is the whole picture."""
    groups: dict[str, list[int]] = {}
    for number, word in enumerate(words):
        groups.setdefault(word.casefold(), []).append(number)
    found = []
    for numbers in groups.values():
        own: list[Box | None] = list(boxes[words[numbers[0]]][: len(numbers)])
        found.append((numbers, own + [None] * (len(numbers) - len(own))))
    return found


def assign(table: Matrix) -> tuple[int, ...]:
    """The assignment of columns to the rows of a square table with the largest sum."""
    rows = range(len(table))
    return max(permutations(rows), key=lambda order: sum(table[i, j] for i, j in zip(rows, order, strict=True)))


class Scorer:
    """Scores the pictures of a work list; all vectors must be computed."""

    def __init__(self, work: Work, vectors: Mapping[str, Vectors]) -> None:
        self.work, self.vectors = work, vectors
        self.references = {
            (kind, subject.prompt): some.views([View(key) for key in subject.references])
            for kind, some in vectors.items()
            for case in work.cases
            for subject in case.subjects
        }

    def score(self, case: Case, method: str, seed: int, boxes: Mapping[str, Sequence[Box]] | None) -> Score:
        """The score of one picture. `boxes` are the segmenter's boxes by words, None without a segmenter."""
        key = self.work.composed[case.id, method, seed]
        store = self.vectors["dino"].store
        entry = store.pictures.get(key) or {}
        text = float(self.vectors["clip"].view(View(key)) @ self.vectors["clip"].text(case.plain))
        matrix, found = self._instances(case, key, boxes) if boxes is not None else (None, None)
        return Score(
            case, method, seed, key, {kind: self._row(kind, case, View(key)) for kind in KINDS}, text, matrix, found,
            float(entry["seconds"]), entry["memory"],
        )  # fmt: skip

    def _row(self, kind: str, case: Case, view: View) -> Vector:
        vector = self.vectors[kind].view(view)
        return np.array([similarity(vector, self.references[kind, s.prompt]) for s in case.subjects], np.float32)

    def _instances(self, case: Case, key: str, boxes: Mapping[str, Sequence[Box]]) -> tuple[dict[str, Matrix], float]:
        """Among subjects with equal words, crops are assigned so that the sum of DINO similarities is largest."""
        chosen: dict[int, View] = {}
        found = 0
        for numbers, own in candidates([s.words for s in case.subjects], boxes):
            views = [View(key, box) for box in own]
            found += sum(box is not None for box in own)
            order: tuple[int, ...] = (0,)
            if len(numbers) > 1:
                rows = np.stack([self._row("dino", case, view)[numbers] for view in views])
                order = assign(rows.T.astype(np.float64))
            chosen |= {number: views[index] for number, index in zip(numbers, order, strict=True)}
        count = len(case.subjects)
        matrix = {
            kind: np.stack([self._row(kind, case, chosen[i]) for i in range(count)]).astype(np.float64)
            for kind in KINDS
        }
        return matrix, found / count

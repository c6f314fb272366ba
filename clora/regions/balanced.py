"""Masks that share out the picture among the concepts, without a gradient and without a threshold on single maps.

Each concept's map is compared with the others' at the same place, grows from its surest cells over cells with like
features, and settles by votes of neighbours. Mechanism: FreeFuse (Liu et al. 2025, arXiv 2510.23515), there for
transformers. Cells that no concept claims are the base's: that is ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

ANCHORS = 0.1
"""Part of the cells that are sure, for each concept."""
ROUNDS, MOMENTUM = 15, 0.2
CLAIM = 0.4
"""Part of the range of its spread score above which a concept claims a cell."""
_TINY = 1e-12


@dataclass(frozen=True)
class Layout:
    """Where the subjects of one picture are: `maps` (N, h_a, w_a), one for each concept, and `features`
    (h_a * w_a, d) of the cells, by which cells of one thing are alike. `others` (M, h_a, w_a) are the maps of
    subjects without a concept, None for none."""

    maps: Tensor
    features: Tensor
    others: Tensor | None = None

    @property
    def places(self) -> Tensor:
        """The maps (N + M, h_a, w_a) of all subjects."""
        return self.maps if self.others is None else torch.cat([self.maps, self.others])


def balanced_masks(layout: Layout, size: tuple[int, int]) -> Tensor:
    """Masks (1 + N, h, w) of 0 and 1 at the latent's `size`, the base's first: every cell is one variant's."""
    spread = _spread(_scores(layout.maps), layout.features)
    settled = _settled(spread)
    low, high = spread.amin((1, 2), keepdim=True), spread.amax((1, 2), keepdim=True)
    claimed = (spread - low) / (high - low).clamp_min(_TINY) > CLAIM
    scores, claims = (
        F.interpolate(part[None], size, mode="bilinear", align_corners=False)[0]
        for part in (settled, claimed.to(settled))
    )
    winner = scores.argmax(0)
    masks = torch.stack([(winner == concept) & (claims[concept] > 0.5) for concept in range(len(claims))])
    return torch.cat([~masks.any(0, keepdim=True), masks]).to(layout.maps)


def _scores(maps: Tensor) -> Tensor:
    """N times the own map minus the sum of the others', (N, h, w); each map is relative to its sum over places."""
    own = maps / maps.sum((1, 2), keepdim=True).clamp_min(_TINY)
    return len(own) * own - (own.sum(0, keepdim=True) - own)


def _spread(scores: Tensor, features: Tensor) -> Tensor:
    """Scores (N, h, w) spread from the best tenth of the cells to all, by how alike the cells' features are."""
    centred = F.normalize(features - features.mean(0), dim=1)
    alike = (centred @ centred.T).clamp_min(0)
    alike = alike / alike.sum(1, keepdim=True).clamp_min(_TINY)
    flat = scores.flatten(1)
    anchors = flat.topk(max(1, round(ANCHORS * flat.shape[1])), dim=1).indices
    return torch.stack([alike[:, index].sum(1) for index in anchors]).view_as(scores)


def _settled(spread: Tensor) -> Tensor:
    """Scores (N, h, w) after rounds in which cells vote with their neighbours, are drawn to their concept's centre,
    and concepts of few cells gain."""
    count, height, width = spread.shape
    scores = spread / spread.amax((1, 2), keepdim=True).clamp_min(_TINY)
    start, bias = scores.clone(), scores.new_zeros(count, 1, 1)
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, n, device=spread.device) for n in (height, width)), indexing="ij")
    for _ in range(ROUNDS):
        won = F.one_hot((scores + bias).argmax(0), count).movedim(-1, 0).to(scores)
        votes = F.avg_pool2d(won[None], 3, 1, 1, count_include_pad=False)[0]
        weights = start * won + 1e-6
        centre_y, centre_x = (
            (weights * axis).sum((1, 2), keepdim=True) / weights.sum((1, 2), keepdim=True) for axis in (y, x)
        )
        near = torch.exp(-((x - centre_x) ** 2 + (y - centre_y) ** 2))
        bias = bias + MOMENTUM * (1 / count - won.mean((1, 2), keepdim=True))
        scores = (1 - MOMENTUM) * scores + MOMENTUM * (start + votes + near) / 3
    return scores + bias

"""Gives each subject a place of its own, where the base would draw it: two subjects never share one.

A look-ahead tells where the base alone would draw the subjects. Each gets a centre there; centres that are too near to
each other are pushed apart; and the picture is shared out by which centre is nearest, so that each subject has room and
nothing is left between them. Subjects of one class have the same maps, which show all of them: their centres are found
together and given out from left to right, in the order of the prompt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..prompt.region import Region
from .room import rooms

SEEN = 0.45
"""Part of its map's range above which a cell shows a class."""
APART, APART_OTHERS = 0.42, 0.25
"""Least distance of two centres of one class and of two classes, in parts of the picture's shorter side."""
MARGIN = 0.2
"""Least distance of a centre from the picture's edge, in the same unit."""
ROOM = 0.2
"""Radius of the room that a subject has at least beside a background of the base's own, in the same unit."""
REACH = 0.3
"""Largest distance of a cell from the centre that it belongs to, in the same unit."""
FARTHER = 1.5
"""How much farther the centre of something worn or held counts as than it is: it is smaller than who has it."""
_ROUNDS, _PUSHES = 15, 200
_TINY = 1e-9


def centres(maps: Tensor, words: Sequence[str], before: Tensor | None = None) -> Tensor:
    """A centre (N, 2) for each concept, y and x in parts of the shorter side, from its map: `maps` (N, h_a, w_a).

    `words` are the concepts' subject words: those with the same last word are of one class. Of one class each keeps the
    centre that is nearest to its own of `before` (N, 2).
    """
    classes = [(one.casefold().split() or [""])[-1] for one in words]
    names = list(dict.fromkeys(classes))
    members = [[number for number, name in enumerate(classes) if name == one] for one in names]
    own = torch.stack([maps[of].mean(0) for of in members]).float().cpu()
    own = own / own.sum((1, 2), keepdim=True).clamp_min(_TINY)
    # What is more in this class's map than in the others', so that no class finds another's subject.
    scores = len(own) * own - (own.sum(0, keepdim=True) - own)
    points = _points(*maps.shape[1:])
    found = torch.zeros(len(words), 2)
    for score, of in zip(scores, members, strict=True):
        found[of] = _in_order(_gathered(points, _weights(score).flatten(), len(of)))
    found = _apart(found, classes, points.amax(0) + points.amin(0))
    for of in members:
        found[of] = _in_order(found[of]) if before is None else _as_before(found[of], before[of])
    return found


def _points(height: int, width: int) -> Tensor:
    """Centres (h * w, 2) of cells, y and x, in parts of the shorter side."""
    short = min(height, width)
    y, x = torch.meshgrid(
        (torch.arange(height) + 0.5) / short, (torch.arange(width) + 0.5) / short, indexing="ij"
    )  # fmt: skip
    return torch.stack([y.flatten(), x.flatten()], dim=1)


def _weights(score: Tensor) -> Tensor:
    """How surely a cell shows the class, (h, w) from 0 to 1; the same everywhere for a constant map."""
    low, high = score.min(), score.max()
    part = (score - low) / (high - low).clamp_min(_TINY)
    return torch.where(part > SEEN, part, torch.zeros_like(part)) if high > low else torch.ones_like(part)


def _gathered(points: Tensor, weights: Tensor, count: int) -> Tensor:
    """`count` centres (count, 2) of weighted points: k-means from points far from each other (Lloyd 1982).

    Points farther than `REACH` do not count, so that a centre stays on one thing where a map shows two.
    """
    found = [points[weights.argmax()]]
    while len(found) < count:
        far = torch.stack([(points - one).pow(2).sum(1) for one in found]).amin(0)
        found.append(points[(far * weights).argmax()])
    middle = torch.stack(found)
    for _ in range(_ROUNDS):
        far, nearest = (points[:, None] - middle).pow(2).sum(-1).min(1)
        for number in range(count):
            share = weights * ((nearest == number) & (far < REACH**2))
            if share.sum() > 0:
                middle[number] = (points * share[:, None]).sum(0) / share.sum()
    return middle


def _in_order(middle: Tensor) -> Tensor:
    """Centres from left to right, and of those nearly above each other the upper one first."""
    return middle[(middle[:, 1] + 0.3 * middle[:, 0]).argsort()]


def _as_before(middle: Tensor, before: Tensor) -> Tensor:
    """Centres (n, 2) in the order of those of `before`: the nearest pair first."""
    far, found = torch.cdist(before, middle), torch.empty_like(middle)
    for _ in range(len(middle)):
        one, other = divmod(int(far.argmin()), len(middle))
        found[one] = middle[other]
        far[one], far[:, other] = torch.inf, torch.inf
    return found


def _apart(middle: Tensor, classes: Sequence[str], sides: Tensor) -> Tensor:
    """Centres (N, 2) pushed apart, rather sideways than up and down, inside a picture with these `sides` (2,).

    Numbers, not tensors: many small steps for few centres.
    """
    found: list[list[float]] = middle.tolist()
    ends: list[float] = (sides - MARGIN).clamp_min(MARGIN).tolist()
    crowded = min(1.0, (3 / max(len(classes), 1)) ** 0.5)
    for _ in range(_PUSHES):
        pushed = False
        for (one, name), (other, others) in combinations(zip(found, classes, strict=True), 2):
            way = (other[0] - one[0], other[1] - one[1])
            missing = crowded * (APART if name == others else APART_OTHERS) - math.hypot(*way)
            if missing > 1e-3:
                push = (0.3 * way[0], way[1] if abs(way[1]) > 1e-3 else 1.0)
                for axis in (0, 1):
                    part = push[axis] / math.hypot(*push) * missing / 4
                    one[axis] -= part
                    other[axis] += part
                pushed = True
        found = [[min(max(at, MARGIN), end) for at, end in zip(one, ends, strict=True)] for one in found]
        if not pushed:
            break
    return torch.tensor(found)


def cells(middle: Tensor, regions: Sequence[Region | None], size: tuple[int, int], items: Sequence[int] = ()) -> Tensor:
    """Which part of the picture each concept has, (N, h, w) of 0 and 1 at `size`: that whose nearest centre is its own.

    A concept with a region of the user has that region, and the others share out the rest.
    """
    given = rooms(regions, *size)
    far = (_points(*size)[:, None] - middle).pow(2).sum(-1)
    far[:, list(items)] *= FARTHER**2
    for number, region in enumerate(given):
        if region is not None:
            far[:, number] = torch.inf
    nearest = far.argmin(1).view(size)
    taken = torch.stack([region for region in given if region is not None]).amax(0) if any(regions) else None
    found = []
    for number, region in enumerate(given):
        own = (nearest == number).float() if region is None else region
        found.append(own if region is not None or taken is None else own * (1 - taken))
    return torch.stack(found)


def beside_background(shared: Tensor, middle: Tensor, found: Tensor) -> Tensor:
    """The subjects' share of the concepts' parts `shared` (N, h, w); the rest is for a background of the base's own.

    Subjects are where a look-ahead's masks `found` (1 + N, h, w) have any, with a margin, and around their centres.
    """
    subjects = F.max_pool2d(1 - found[None, :1], 5, stride=1, padding=2)[0]
    size = (shared.shape[1], shared.shape[2])
    near = (_points(*size)[:, None] - middle).pow(2).sum(-1).movedim(1, 0).view(shared.shape) < ROOM**2
    return shared * torch.maximum(subjects, near.to(shared))


def with_base(parts: Tensor) -> Tensor:
    """Masks (1 + N, h, w) of the concepts' parts of the picture (N, h, w): the base has what nobody has."""
    return torch.cat([(parts.sum(0, keepdim=True) == 0).to(parts), parts])

"""The judge's first network: from a picture of 128 x 128 to answers for each of 16 x 16 cells."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.judge.targets import ANSWERS, BACKGROUND, CLASS, COUNTED, OFFSET, PENCIL, SIZE_CHANNEL, THING_WEIGHT
from benchmarks.judge.targets import BACKGROUND_WEIGHT as GROUND
from research.shared.blocks import Block, down

INPUT = 128  # pixels; half the model's size keeps eyes and stripes and takes a quarter of the time
_WIDTHS = (24, 40, 68, 92)


class Network(nn.Module):
    """Half a million parameters. The coarsest level sees whole things; the next finer one gives each cell's answers."""

    def __init__(self) -> None:
        super().__init__()
        a, b, c, d = _WIDTHS
        self.fine = nn.Sequential(down(3, a), down(a, b), Block(b), down(b, c), Block(c))
        self.coarse = nn.Sequential(down(c, d), Block(d), nn.Conv2d(d, c, 1))
        self.joined = nn.Sequential(Block(c), nn.Conv2d(c, c, 3, padding=1), nn.ReLU())
        self.answers = nn.Conv2d(c, ANSWERS, 1)
        with torch.no_grad():
            assert self.answers.bias is not None
            self.answers.bias[CLASS].fill_(-3.0)  # things are rare: start with low probabilities

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures (B, 3, 128, 128) in [0, 1] to answers (B, ANSWERS, 16, 16), as logits."""
        fine = self.fine(pictures * 2 - 1)
        coarse = F.interpolate(self.coarse(fine), scale_factor=2.0, mode="nearest")
        answers: Tensor = self.answers(self.joined(fine + coarse))
        return answers


def shrink(pictures: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) resized to the network's input."""
    return F.interpolate(pictures, (INPUT, INPUT), mode="area")


def loss(answers: Tensor, targets: Tensor) -> Tensor:
    """Mean loss of answers (B, ANSWERS, G, G) against targets (B, CHANNELS, G, G)."""
    wanted, counted = targets[:, CLASS], targets[:, COUNTED, None]
    logits = answers[:, CLASS]
    p = logits.sigmoid()
    # Focal loss of heat maps (CenterNet): cells near a centre have little weight as "not a centre".
    hit = (wanted >= 0.999) * (1 - p) ** 2 * F.logsigmoid(logits)
    miss = (wanted < 0.999) * (1 - wanted) ** 4 * p**2 * F.logsigmoid(-logits)
    things = (wanted >= 0.999).sum().clamp(min=1)
    found = -((hit + miss) * counted).sum() / things
    weight = targets[:, THING_WEIGHT]
    offset = (answers[:, OFFSET] - targets[:, OFFSET]).abs().sum(1)
    size = (answers[:, SIZE_CHANNEL] - targets[:, SIZE_CHANNEL]).abs()
    total = weight.sum().clamp(min=1)
    behind = -(targets[:, BACKGROUND] * answers[:, BACKGROUND].log_softmax(1)).sum(1) * targets[:, GROUND]
    ground = behind.sum() / targets[:, GROUND].sum().clamp(min=1)
    pencil = F.binary_cross_entropy_with_logits(answers[:, PENCIL], targets[:, PENCIL])
    return found + (weight * (0.5 * offset + size)).sum() / total + 0.3 * ground + 0.5 * pencil

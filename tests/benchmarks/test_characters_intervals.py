"""Intervals and LoRAtorio's weights against values computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from benchmarks.characters import intervals
from benchmarks.characters.loratorio import patch_weights


def test_wilson_of_the_textbook() -> None:
    assert intervals.wilson(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert intervals.wilson(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_the_effective_number_of_pictures() -> None:
    # Seeds that always agree are worth one picture per prompt.
    assert intervals.effective_number([[1, 1], [0, 0], [1, 1], [0, 0]]) == 4
    # Seeds that always differ are worth all of them.
    assert intervals.effective_number([[1, 0]] * 4) == 8
    assert intervals.effective_number([[1, 1]] * 3) == 3
    # Residuals sum to 1, -1 and 0: the mean's variance is 2 * 3 / 2 / 36 = 1/12, and 0.25 * 12 = 3.
    assert intervals.effective_number([[1, 1], [0, 0], [1, 0]]) == pytest.approx(3.0)


def test_intervals_of_means_hold_the_mean_and_are_repeatable() -> None:
    values = np.random.default_rng(1).normal(0.3, 0.1, (40, 3)).tolist()
    low, high = intervals.mean(values)
    assert low < float(np.mean(values)) < high
    spread = float(np.mean(values, axis=1).std() / math.sqrt(40))
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.15)
    assert intervals.mean(values) == (low, high)


def test_patches_belong_to_the_lora_that_changes_them() -> None:
    base = torch.randn(4, 6, 6, generator=torch.Generator().manual_seed(0))
    own = torch.stack([base, base])
    own[0, :, :2], own[1, :, 2:] = -base[:, :2], -base[:, 2:]
    weights = patch_weights(own, base)
    assert torch.allclose(weights.sum(0), torch.ones(6, 6))
    assert bool((weights[0, :2] > 0.99).all())
    assert bool((weights[1, 2:] > 0.99).all())

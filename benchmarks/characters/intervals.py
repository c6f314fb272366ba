"""Intervals of 95 % for values grouped by prompt: pictures of one prompt resemble each other.

Proportions have Wilson's interval with an effective number of pictures (Kish): the number of independent pictures that
would vary as much. If all values are equal, nothing distinguishes the seeds of a prompt, and every prompt counts once.
Other means, and differences of two methods on the same prompts, have a bootstrap over prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Z = 1.959964
_RESAMPLES = 2000
Interval = tuple[float, float]
ByPrompt = Sequence[Sequence[float]]


def effective_number(values: ByPrompt) -> float:
    """Number of independent pictures that `values` (one sequence per prompt) are worth, at least that of prompts."""
    groups = [np.asarray(group, float) for group in values if len(group)]
    count, pictures = len(groups), sum(len(group) for group in groups)
    p = float(np.concatenate(groups).mean())
    if p in (0.0, 1.0) or count < 2:
        return float(count)
    # Variance of the mean of a cluster sample, against that of so many independent draws.
    residuals = np.array([(group - p).sum() for group in groups])
    clustered = float((residuals**2).sum()) * count / (count - 1) / pictures**2
    effective = p * (1 - p) / clustered if clustered > 0 else float(pictures)
    return min(max(effective, float(count)), float(pictures))


def wilson(p: float, n: float) -> Interval:
    """Wilson's interval of a proportion p of n draws."""
    centre = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def proportion(values: ByPrompt) -> Interval:
    """Interval of the proportion of ones."""
    flat = [value for group in values for value in group]
    return wilson(sum(flat) / len(flat), effective_number(values))


def mean(values: ByPrompt) -> Interval:
    """Interval of the mean over all pictures, by a bootstrap over prompts (fixed seed)."""
    groups = [group for group in values if len(group)]
    sums = np.array([sum(group) for group in groups], float)
    counts = np.array([len(group) for group in groups], float)
    drawn = np.random.default_rng(0).integers(len(groups), size=(_RESAMPLES, len(groups)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)

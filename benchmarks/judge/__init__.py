"""An independent judge of the embedded model's pictures: which things are there, and whose look each has.

Trained on rendered scenes only (`benchmarks.judge.train`), never on a generated picture.
"""

from benchmarks.judge.judge import Finding, Judge, Verdict
from benchmarks.judge.targets import BACKGROUND_NAMES, LOOK_NAMES

__all__ = ["BACKGROUND_NAMES", "LOOK_NAMES", "Finding", "Judge", "Verdict"]

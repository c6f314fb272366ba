"""Token merging, which A1111 sets for a job and takes away at the job's end."""

from typing import Any

ratio = 0.0


def apply_token_merging(sd_model: Any, token_merging_ratio: float) -> None:
    """From now on."""
    global ratio
    ratio = token_merging_ratio

"""The baseline render: the same job once more without CLoRA, by the host's own function, for comparison."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

from modules import shared
from modules.processing import process_images

BASELINE = "_clora_baseline"
"""Attribute of a job that CLoRA ignores."""


def baseline_images(p: Any) -> list[Any]:
    """The pictures of a finished job's prompts and seeds without CLoRA; none of them is saved.

    The job is a shallow copy, as the cells of an X/Y/Z plot are, with the prompts and seeds that the first run used
    (wildcards filled in, random seeds drawn). Empty if the user has interrupted.
    """
    if shared.state.interrupted:
        return []
    baseline = copy(p)
    setattr(baseline, BASELINE, True)
    baseline.prompt, baseline.negative_prompt = list(p.all_prompts), _one(p.all_negative_prompts)
    baseline.seed, baseline.subseed, baseline.styles = list(p.all_seeds), list(p.all_subseeds), []
    if getattr(p, "enable_hr", False):
        baseline.hr_prompt, baseline.hr_negative_prompt = _one(p.all_hr_prompts), _one(p.all_hr_negative_prompts)
    baseline.do_not_save_samples = baseline.do_not_save_grid = True
    # What the copy writes into these must not appear under the job's own pictures.
    baseline.extra_generation_params, baseline.comments = dict(p.extra_generation_params), dict(p.comments)
    # The progress bar counts as many pictures once more.
    shared.state.job_count = max(shared.state.job_count, 0) + p.n_iter * (2 if getattr(p, "enable_hr", False) else 1)
    processed = process_images(baseline)
    if shared.state.interrupted:
        return []
    return list(processed.images[processed.index_of_first_image :])


def _one(texts: Sequence[str]) -> str | list[str]:
    """One text if all are the same: the WebUI's own scripts expect hires prompts, and the prompts that empty ones fall
    back to, to be text.
    """
    return texts[0] if len(set(texts)) == 1 else list(texts)

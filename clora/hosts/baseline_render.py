"""The same job once more without CLoRA, by the host's own function: what the WebUI draws alone, for comparison."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

from modules import shared
from modules.processing import process_images

ALONE = "_clora_alone"
"""Attribute of a job that CLoRA leaves to the host."""


def drawn_alone(p: Any) -> list[Any]:
    """The pictures of a finished job's prompts and seeds without CLoRA; nothing of them is saved.

    Like the cells of an X/Y/Z plot this is a shallow copy of the job, with what the job has settled (wildcards filled
    in, random seeds drawn) in place of what was asked for. Empty where the user has interrupted.
    """
    if shared.state.interrupted:
        return []
    again = copy(p)
    setattr(again, ALONE, True)
    again.prompt, again.negative_prompt = list(p.all_prompts), _one(p.all_negative_prompts)
    again.seed, again.subseed, again.styles = list(p.all_seeds), list(p.all_subseeds), []
    if getattr(p, "enable_hr", False):
        again.hr_prompt, again.hr_negative_prompt = _one(p.all_hr_prompts), _one(p.all_hr_negative_prompts)
    again.do_not_save_samples = again.do_not_save_grid = True
    # What the copy writes into these must not show under the job's own pictures.
    again.extra_generation_params, again.comments = dict(p.extra_generation_params), dict(p.comments)
    # The progress bar goes on for as many pictures again.
    shared.state.job_count = max(shared.state.job_count, 0) + p.n_iter * (2 if getattr(p, "enable_hr", False) else 1)
    processed = process_images(again)
    if shared.state.interrupted:
        return []
    return list(processed.images[processed.index_of_first_image :])


def _one(texts: Sequence[str]) -> str | list[str]:
    """One text where all are the same: the WebUI's own scripts take hires prompts, and what an empty one falls back to,
    for text.
    """
    return texts[0] if len(set(texts)) == 1 else list(texts)

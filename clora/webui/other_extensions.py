"""Other extensions that are at work on a job."""

from __future__ import annotations

from typing import Any

REGIONAL_PROMPTER = (
    "CLoRA is inactive because Regional Prompter is on and divides the picture itself. To compose with CLoRA, turn "
    "Regional Prompter off, and write for example place=left in a tag to give its subject a place."
)


def rival(p: Any) -> str:
    """Why CLoRA leaves this job to another extension, "" if it need not.

    Regional Prompter replaces the cross-attention or the batch. It is at work only with its own words in the prompt,
    and then has written its settings into the infotext by the time a batch begins.
    """
    return REGIONAL_PROMPTER if p.extra_generation_params.get("RP Active") else ""

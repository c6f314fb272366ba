"""Other extensions beside CLoRA, and a hires prompt of another kind: the host draws, and a note says so."""

from __future__ import annotations

from typing import Any

import torch

from tests.webui.standin_host import FEW, PROMPT, Host

SECOND = {"enable_hr": True, "hr_scale": 1.5}


def test_regional_prompter_draws_alone(host: Host) -> None:
    from modules.scripts import Script

    class Divider(Script):
        def title(self) -> str:
            return "Regional Prompter"

        def process(self, p: Any, *args: Any) -> None:
            p.extra_generation_params["RP Active"] = True

    prompt = f"{PROMPT} ADDCOL in rain"
    job = host.draw(prompt, FEW, beside=[Divider()])
    assert torch.equal(job.latent, host.draw(prompt).latent)
    assert "Regional Prompter is on" in job.processed.comments
    assert "place=left" in job.processed.comments
    assert not torch.equal(host.draw(prompt, FEW).latent, job.latent)


def test_a_hires_prompt_without_loras_is_told(host: Host) -> None:
    def notes(clora: Any, hires_prompt: str) -> str:
        p = host.job(clora=clora, **SECOND)
        p.hr_prompt = hires_prompt
        return str(host.run(p).processed.comments)

    assert "CLoRA composes the first pass only" in notes(FEW, "a cat and a dog")
    assert "first pass only" not in notes(FEW, "")
    assert "first pass only" not in notes({**FEW, "hires": False}, "a cat and a dog")

"""Own words of subjects (say=) and subjects without a LoRA (<clora:WORDS>) in the stand-ins of the hosts."""

from __future__ import annotations

import pytest
import torch

from tests.webui.standin_host import FEW, PROMPT, Host, near

SAYS = "a <lora:cat:1:trigger=sks:say=(red scarf:1.3), smiling> cat and a <lora:dog:0.8> dog"
THIRD = f"{PROMPT} and a <clora:bird:place=left:say=(green hat:1.2)> bird"

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def test_own_words_of_the_tag_and_of_the_panel_are_one(host: Host) -> None:
    plain = SAYS.replace(":say=(red scarf:1.3), smiling", "")
    by_tag = host.draw(SAYS, FEW)
    by_row = host.draw(plain, {**FEW, "corrections": {"cat": {"say": "(red scarf:1.3), smiling"}}})
    by_line = host.draw(plain, {**FEW, "corrections": "cat: say=(red scarf:1.3), smiling"})
    assert torch.equal(by_tag.latent, by_row.latent)
    assert torch.equal(by_tag.latent, by_line.latent)
    assert not near(by_tag.latent, host.draw(plain, FEW).latent, 1e-4)
    assert by_tag.processed.infotexts[0].startswith(SAYS)
    for job in (by_row, by_line):
        assert job.p.extra_generation_params["CLoRA corrections"] == "cat: say=(red scarf:1.3), smiling"


def test_a_third_subject_without_a_lora(host: Host) -> None:
    job = host.draw(THIRD, {**FEW, "show_masks": True})
    assert [len(images) for images in (job.processed.images, job.processed.infotexts)] == [2, 2]
    assert job.processed.infotexts[0].startswith(THIRD)
    assert set(job.p.extra_generation_params["Lora hashes"].split()[::2]) == {"cat:", "dog:"}
    assert "not composed" not in job.processed.comments
    # Where only words draw, other words draw something else.
    other = host.draw(THIRD.replace("green", "blue"), FEW)
    assert not near(job.latent, other.latent, 1e-4)
    assert near(job.latent, host.draw(THIRD, FEW).latent)


def test_two_subjects_without_any_lora_compose(host: Host) -> None:
    words = "a <clora:cat:place=left:say=red> cat and a <clora:dog:place=right:say=blue> dog"
    job = host.draw(words, FEW)
    assert job.p.extra_generation_params["CLoRA"] == "on"
    assert "Lora hashes" not in job.p.extra_generation_params
    assert not near(job.latent, host.draw("a cat and a dog").latent, 1e-4)


@pytest.mark.parametrize("hires", [False, True])
def test_a_prompt_that_does_not_compose_is_the_hosts(host: Host, hires: bool) -> None:
    """Its picture is the one without say=, and the host never sees the colon in it."""
    expected = host.draw("a <lora:cat:0.6> cat", enable_hr=hires)
    job = host.draw("a <lora:cat:0.6:say=(red scarf:1.3)> cat", FEW, enable_hr=hires)
    assert torch.equal(job.latent, expected.latent)
    assert "say= are not read" in job.processed.comments
    assert job.processed.infotexts[0].startswith("a <lora:cat:0.6:say=(red scarf:1.3)> cat")
    seen = [str(given) for given in (job.p.extra_network_data, getattr(job.p, "hr_extra_network_data", ""))]
    assert all("1.3" not in text for text in seen)


def test_words_that_are_not_there_leave_the_picture_as_it_is(host: Host) -> None:
    job = host.draw(f"{PROMPT}<clora:fox:say=red>", FEW)
    assert 'The subject "fox" of a <clora:...> tag is not composed' in job.processed.comments
    assert near(job.latent, host.first(composed=True))

"""One LoRA that has a place is kept to it, in the stand-ins of the hosts."""

from __future__ import annotations

import pytest
import torch

from tests.webui.standin_host import FEW, Host, near

ONE, PLACED = "a <lora:cat:1> cat and a bird", "a <lora:cat:1:place={}> cat and a bird"
AS_IT_IS = {**FEW, "update_until": 0.0, "look_ahead": 0.0, "own_places": 0.0, "stress": 1.0, "look_guidance": 1.0}

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.mark.parametrize("fusion", ["exact", "single-pass"])
def test_everywhere_it_is_the_hosts_own_lora(host: Host, fusion: str) -> None:
    settings = {**AS_IT_IS, "fusion": fusion}
    plain, without = host.draw(ONE).latent, host.draw("a cat and a bird").latent
    whole = host.draw(PLACED.format("0 0 100 100"), settings)
    assert whole.p.extra_generation_params["CLoRA"] == "on"
    assert near(whole.latent, plain, 1e-3)
    assert not near(whole.latent, without, 1e-2)
    corner = host.draw(PLACED.format("0 0 25 25"), settings).latent
    assert (corner - without).abs().mean() < 0.6 * (plain - without).abs().mean()
    assert not near(corner, without, 1e-3)


def test_a_place_from_the_panel_counts_as_much(host: Host) -> None:
    by_tag = host.draw(PLACED.format("left"), FEW)
    by_row = host.draw(ONE, {**FEW, "corrections": {"cat": {"place": "left"}}})
    assert torch.equal(by_tag.latent, by_row.latent)
    assert by_row.p.extra_generation_params["CLoRA corrections"] == "cat: place=left"


def test_without_a_place_it_is_the_hosts_picture(host: Host) -> None:
    job = host.draw(ONE, FEW)
    assert torch.equal(job.latent, host.draw(ONE).latent)
    assert "two are needed, or a place for this one" in job.processed.comments

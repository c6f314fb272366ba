"""Look ahead in the stand-in hosts."""

from __future__ import annotations

import pytest
import torch

from tests.webui.standin_host import FEW, KINDS, Host, near


@pytest.mark.parametrize("sampler", ["Euler", "DDIM"])
def test_a_picture_with_look_ahead_is_one_in_all_hosts(both: Host, sampler: str) -> None:
    """Their denoisers take other latents and levels, and lead to the same masks and so to the same picture."""
    found = []
    for kind in KINDS:
        both.use(kind)
        job = both.draw(clora={**FEW, "look_ahead": 0.4}, sampler_name=sampler, steps=5)
        plain = both.draw(clora=FEW, sampler_name=sampler, steps=5)
        assert both.traces(job.p)["hooks"] == 0
        assert "CLoRA look ahead: 0.4" in job.processed.infotexts[0]
        assert not near(job.latent, plain.latent, 1e-4)
        found.append(job.latent)
    assert all(near(found[0], other, 1e-4) for other in found[1:])
    assert torch.isfinite(found[0]).all()

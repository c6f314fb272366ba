"""Look guidance in the stand-in hosts."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from tests.webui.standin_host import FEW, KINDS, Host, near

ON, OFF = {**FEW, "look_guidance": 2.0}, {**FEW, "look_guidance": 1.0}


def test_a_picture_with_look_guidance_is_one_in_all_hosts(both: Host) -> None:
    found = []
    for kind in KINDS:
        both.use(kind)
        job, off = both.draw(clora=ON), both.draw(clora=OFF)
        assert "CLoRA look guidance: 2" in job.processed.infotexts[0]
        assert torch.isfinite(job.latent).all()
        assert not near(job.latent, off.latent, 1e-4)
        found.append(job.latent)
    assert all(near(found[0], other, 1e-4) for other in found[1:])


def test_without_guidance_it_changes_nothing(host: Host) -> None:
    assert torch.equal(host.draw(clora=ON, cfg_scale=1.0).latent, host.draw(clora=OFF, cfg_scale=1.0).latent)


def test_a_hires_pass_with_a_scale_of_its_own_counts_with_that(host: Host) -> None:
    def drawn(**scale: float) -> torch.Tensor:
        p = host.job(clora=ON, enable_hr=True, hr_scale=1.5)
        for name, value in scale.items():
            setattr(p, name, value)
        return host.run(p).latent

    assert torch.equal(drawn(hr_cfg=4.0), drawn())  # the first pass's scale
    assert not near(drawn(hr_cfg=1.0), drawn(), 1e-4)


def test_forges_hires_pass_has_a_scale_of_its_own(host: Host) -> None:
    from clora.hosts.host_api import guidance_scale

    forge, a1111 = SimpleNamespace(cfg_scale=7, hr_cfg=3.5), SimpleNamespace(cfg_scale=7)
    assert [guidance_scale(forge, False), guidance_scale(forge, True), guidance_scale(a1111, True)] == [7.0, 3.5, 7.0]

"""A refiner replaces the model inside an evaluation: CLoRA ends there, and the infotext says so."""

from __future__ import annotations

from copy import copy
from typing import Any

import pytest
import torch

from tests.webui.standin_host import FEW, Host


class Refiner:
    """Puts another model in the place of the loaded one, inside evaluation `at` (from 1) of the first pass."""

    args_from = args_to = 0

    def __init__(self, host: Host, at: int) -> None:
        self.host, self.at, self.calls = host, at, 0
        self.before, self.other = host.model, copy(host.model)
        if hasattr(self.other, "forge_objects"):
            self.other.forge_objects = self.other.forge_objects_after_applying_lora.shallow_copy()
        self.handle: Any = None

    def title(self) -> str:
        return "Refiner"

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None

    def process_before_every_sampling(self, p: Any, *args: Any, **kwargs: Any) -> None:
        self.handle = p.sampler.model_wrap_cfg.register_forward_pre_hook(self._evaluate)

    def _evaluate(self, *_: Any) -> None:
        self.calls += 1
        if self.calls == self.at:
            self.host.shared.sd_model = self.other

    def end(self) -> None:
        self.handle.remove()
        self.host.shared.sd_model = self.before


@pytest.mark.parametrize("at", [2, 4])
def test_the_infotext_says_that_the_refiner_took_over(host: Host, at: int) -> None:
    refiner = Refiner(host, at)
    p = host.job(clora=FEW, steps=4, beside=(refiner,))
    try:
        job = host.run(p)
    finally:
        refiner.end()
    assert refiner.calls == 4
    assert "CLoRA ended: the refiner took over" in job.processed.infotexts[0]
    assert host.traces(p)["hooks"] == 0
    assert torch.equal(host.draw(clora=FEW).latent, host.first(composed=True))

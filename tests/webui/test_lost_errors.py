"""Pages of hosts that lose exceptions (reForge, Forge Classic): a refused job gives a sentence and no picture."""

from __future__ import annotations

import sys
from copy import copy
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.webui.standin_host import FEW, PROMPT, Host

UNKNOWN = PROMPT.replace("lora:dog", "lora:nowhere")


@pytest.fixture(autouse=True)
def main_thread(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The host draws the page's jobs in a thread of its own."""
    thread = ModuleType("modules_forge.main_thread")
    monkeypatch.setitem(sys.modules, thread.__name__, thread)
    return thread


def refused(host: Host, p: Any) -> Any:
    """A job of the page that CLoRA refuses."""
    done = host.run(p).processed
    assert host.shared.state.interrupted
    host.shared.state.interrupted = False
    assert p.do_not_save_samples
    assert "sample" not in vars(p)
    assert not host.traces(p)["hooks"]
    return done


@pytest.mark.parametrize(
    ("prompt", "clora", "sentence"),
    [
        (PROMPT, {"mask_treshold": 0.4}, "did you mean mask_threshold"),
        (UNKNOWN, FEW, "nowhere"),
    ],
)
def test_what_is_wrong_before_sampling_is_under_the_empty_gallery(
    host: Host, prompt: str, clora: Any, sentence: str
) -> None:
    done = refused(host, host.job(prompt, clora))
    assert done.images == []
    assert sentence in done.comments
    assert len(done.infotexts) == 1
    assert torch.equal(host.draw(clora=FEW).latent, host.first(composed=True))


def test_what_goes_wrong_while_sampling_too(host: Host) -> None:
    def spoil(_: nn.Module, __: Any, result: Tensor) -> Tensor:
        return result * torch.nan

    handle = host.model.unet_module.register_forward_hook(spoil)
    p = host.job(clora=FEW)
    try:
        done = host.run(p).processed
    finally:
        handle.remove()
        host.shared.state.interrupted = False
    assert done.images == []
    assert "NaN" in done.comments
    assert host.traces(p)["hooks"] == 0
    assert torch.equal(host.draw(clora=FEW).latent, host.first(composed=True))


def test_a_lora_that_does_not_fit_is_said_at_sampling(host: Host) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(host.networks.folder)
    own = load_file(folder / "dog.safetensors")
    wide = {key: torch.zeros(8, 4) if "attn2_to_k" in key else tensor for key, tensor in own.items()}
    save_file(wide, folder / "wide.safetensors")
    done = refused(host, host.job(PROMPT.replace("lora:dog", "lora:wide"), FEW))
    assert done.images == []
    assert "wide" in done.comments


def test_batches_that_were_drawn_before_are_kept(host: Host) -> None:
    p = host.job([PROMPT, UNKNOWN], FEW, batch_size=1)
    done = refused(host, p)
    assert len(done.images) == 1
    assert len(done.infotexts) == 1
    assert "nowhere" in done.comments


def test_other_jobs_still_fail(host: Host, main_thread: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    from clora.hosts.host_api import RefusedError

    by_api = host.job(UNKNOWN, FEW)
    by_api.is_api = True
    with pytest.raises(RefusedError, match="nowhere"):
        host.run(by_api)

    class Tiles:
        def title(self) -> str:
            return "SD upscale"

        def run(self, p: Any) -> Any:
            return host.processing.process_images(copy(p))

    with pytest.raises(RefusedError, match="nowhere"):
        host.draw(UNKNOWN, FEW, script=Tiles())
    monkeypatch.setattr(main_thread, "last_exception", None, raising=False)  # Forge and Neo show it
    with pytest.raises(RefusedError, match="nowhere"):
        host.draw(UNKNOWN, FEW)


@pytest.mark.parametrize("at", ["read_batch", "begin_pass"])
def test_a_detail_pass_that_clora_refuses_does_not_end_the_job(
    host: Host, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    from clora.errors import CLoRAError
    from clora.webui.job import Generation

    real = getattr(Generation, at)

    def refuse(self: Any, p: Any, *args: Any) -> Any:
        if len(p.prompts) and "cat" in p.prompts[0] and "dog" not in p.prompts[0]:
            raise CLoRAError("not possible")
        return real(self, p, *args)

    monkeypatch.setattr(Generation, at, refuse)
    host.shared.state.begin()
    processed = host.processing.process_images(host.job(clora={**FEW, "detail": True}))
    host.errors.reports.clear()
    assert not host.shared.state.interrupted
    assert len(processed.images) == 1
    assert 'The detail pass of "cat" (cat) failed, so it was left out (CLoRA: not possible)' in processed.comments

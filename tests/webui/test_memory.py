"""Memory that runs out at every forward of CLoRA in the stand-ins: a picture or one sentence, and nothing stays."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.webui.standin_host import FEW, PROMPT, Host, near

CLORA = str(Path(__file__).parents[2] / "clora")
PRESETS = ("fast", "balanced", "exact", "paper")


@pytest.fixture(params=["a1111", "forge"])
def host(request: pytest.FixtureRequest, both: Host) -> Host:
    """Without reForge, whose forwards are Forge's."""
    both.use(request.param)
    return both


def is_ours() -> bool:
    """Whether CLoRA called the forward, not the host."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename.startswith(CLORA):
            return True
        frame = frame.f_back
    return False


@contextmanager
def failing(host: Host, number: int, *, ever_after: bool = False) -> Iterator[list[int]]:
    """Forward `number` (from 1) of CLoRA's own runs out of memory, the later ones too with `ever_after`; gives the
    rows of each forward."""
    seen: list[int] = []

    def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        if is_ours():
            seen.append(len(args[0]))
            if len(seen) == number or (ever_after and len(seen) > number):
                raise torch.OutOfMemoryError("CUDA out of memory")

    handles = [root.register_forward_pre_hook(hook) for root in (host.model.unet_module, host.model.text_module)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def settings_of(preset: str) -> dict[str, Any]:
    return {**FEW, "preset": preset} if preset != "fast" else {"preset": "fast", "show_masks": False}


SMALL = {"width": 64, "height": 64, "steps": 2}


@pytest.mark.parametrize(("preset", "hires"), [*((preset, False) for preset in PRESETS), ("balanced", True)])
def test_one_failure_anywhere_is_the_same_picture(host: Host, preset: str, hires: bool) -> None:
    job: dict[str, Any] = {"clora": settings_of(preset), "enable_hr": hires, **SMALL}
    with failing(host, 0) as forwards:
        whole = host.draw(**job).latent
    # In a hires pass every forward has been seen in a first one: the last two stand for all.
    numbers = range(1, len(forwards) + 1) if not hires else (len(forwards) - 1, len(forwards))
    assert len(forwards) > 6
    for number in numbers:
        with failing(host, number):
            assert near(host.draw(**job).latent, whole), number
    assert torch.equal(host.draw(**job).latent, whole)


@pytest.mark.parametrize("preset", PRESETS)
def test_memory_that_stays_short_is_one_sentence(host: Host, preset: str) -> None:
    from clora.hosts.host_api import RefusedError

    job: dict[str, Any] = {"clora": settings_of(preset), **SMALL}
    with failing(host, 0) as forwards:
        whole = host.draw(**job).latent
    row = "Memory runs out with a single row"
    last = len(forwards)
    for number, sentence in ((1, "a single text"), (last - 1, row), (last, row)):
        p = host.job(**job)
        with failing(host, number, ever_after=True), pytest.raises(RefusedError, match=sentence):
            host.run(p)
        assert host.traces(p)["hooks"] == 0
        assert torch.equal(host.draw(**job).latent, whole)


@pytest.mark.parametrize(("preset", "hires"), [*((preset, False) for preset in PRESETS), ("balanced", True)])
def test_one_row_at_once_is_one_row_at_once(host: Host, preset: str, hires: bool) -> None:
    job: dict[str, Any] = {"enable_hr": hires, **SMALL}
    with failing(host, 0) as forwards:
        single = host.draw(clora={**settings_of(preset), "rows_per_forward": 1}, **job)
    assert set(forwards) == {1}
    assert near(single.latent, host.draw(clora=settings_of(preset), **job).latent)


@pytest.mark.parametrize("words", ["", "(cat:1.0) ", "many words, " * 40])
def test_scheduled_texts_are_encoded_one_by_one(host: Host, words: str) -> None:
    job: dict[str, Any] = {"prompt": f"{PROMPT} [in rain:in snow:0.5], [{words}:1]", "clora": FEW, **SMALL}
    whole = host.draw(**job).latent
    with failing(host, 1) as forwards:
        found = host.draw(**job)
    assert forwards[:3][0] > 1
    assert near(found.latent, whole, 1e-6)
    assert found.processed.comments.count("encoded one by one") == 1


def test_memory_between_the_forwards_is_one_sentence(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    from clora.hosts.host_api import RefusedError
    from clora.regions.mask_cache import MaskCache

    def cut(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(MaskCache, "cut", cut)
    with pytest.raises(RefusedError, match="Memory runs out with a single row"):
        host.draw(clora=FEW)

"""`clora evaluate` and the page's engine on an accelerator without float64 (tests/accelerator/)."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from clora.cli.main import main
from clora.errors import CLoRAError
from clora.evaluate.drawing import Drawer
from clora.evaluate.work import Item, Studio
from clora.page.engine import Drawn, Engine, Job
from clora.page.session import Session
from clora.settings import Settings
from tests import accelerator

pytestmark = accelerator.needs_accelerator
PROMPT = "a <lora:genie:1> sks person and a <lora:singer:1> sks person on grass"
QUICK = "quick:update_until=0.5,refine_at="


def test_a_whole_evaluation(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts, out = tmp_path / "p.txt", tmp_path / "out"
    prompts.write_text(PROMPT + "\n")
    with accelerator.without_float64():
        code = main(
            ["evaluate", "--prompts", str(prompts), "--methods", "merge", QUICK, "--seeds", "1", "--references", "1",
             "--steps", "2", "--dino", str(models / "dino"), "--clip", str(models / "clip"), "--segmenter",
             str(models / "seg"), "--device", accelerator.NAME, "--out", str(out)]
        )  # fmt: skip
    assert code == 0, capsys.readouterr().err
    told = json.loads((out / "report.json").read_text())
    assert all(picture["memory"] > 0 for picture in told["pictures"])


def test_memory_that_ran_out_names_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the words of a device that has no exception of its own."""
    drawer = Drawer(Studio(None, {}, accelerator.NAME, steps=1), ())
    item = Item("key", "p1, merge, seed 0", "a person", 0, Settings(method="merge"))

    def fail(*_: Any) -> None:
        raise RuntimeError("Could not allocate tensor with 4096 bytes. There is not enough GPU video memory available!")

    monkeypatch.setattr(drawer, "_picture", fail)
    with pytest.raises(CLoRAError, match=r"Memory ran out while drawing p1, merge, seed 0: omit this method"):
        drawer.draw(item)


def test_the_page_draws_both_pictures() -> None:
    job = Job(PROMPT, "", Session(), Settings(update_until=0.5, refine_at=()), steps=2, seed=1, width=96, height=96)
    with accelerator.without_float64():
        events = list(Engine(accelerator.NAME).draw(job, threading.Event()))
    drawn = [event for event in events if isinstance(event, Drawn)]
    assert [one.merged for one in drawn] == [False, True]
    assert all(one.composed.latents.device.type == accelerator.NAME for one in drawn)

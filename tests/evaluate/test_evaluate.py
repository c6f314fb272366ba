"""`clora evaluate` from end to end on the embedded model, with small random extractors."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from clora.cli.main import main
from clora.evaluate import drawing, paper
from clora.evaluate.drawing import Drawer, Drawn
from clora.evaluate.store import Log
from clora.evaluate.work import Item
from tests.evaluate.running import PICTURES, PROMPTS, evaluate


class Count:
    """Counts pictures that are drawn, and stops at a number as Ctrl+C would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop: int = -1) -> None:
        self.titles: list[str] = []
        own = Drawer.draw

        def draw(drawer: Drawer, item: Item) -> Drawn:
            if len(self.titles) == stop:
                raise KeyboardInterrupt
            self.titles.append(item.title)
            return own(drawer, item)

        monkeypatch.setattr(Drawer, "draw", draw)


def test_everything_is_drawn_measured_and_reported(finished: Path) -> None:
    assert len(list((finished / "pictures").iterdir())) == PICTURES
    told = json.loads((finished / "report.json").read_text("utf-8"))
    assert set(told["groups"]) == {"all"}
    assert set(told["groups"]["all"]) == {"merge", "quick"}
    own = told["groups"]["all"]["quick"]
    assert own["pictures"] == 4
    assert own["dino_min"]["mean"] <= own["dino_avg"]["mean"] <= own["dino_max"]["mean"] <= 1.0
    assert own["instance_clip_avg"]["mean"] == pytest.approx(own["leak_clip_own"]["mean"])
    assert own["seconds"]["mean"] > 0.0
    assert told["pictures"][0]["memory"] is None
    assert len(told["pictures"]) == 8
    assert len(told["pictures"][0]["matrix"]["dino"]) == 2
    assert (finished / told["pictures"][0]["picture"]).is_file()
    assert told["cases"][1]["references"][0] == "a <lora:poodle:te=1:unet=1> sks dog"
    assert told["paper"]["Whole picture"]["CLoRA"]["dino_avg"] == 0.554


def test_the_report_says_that_the_numbers_are_not_the_papers(finished: Path) -> None:
    told = json.loads((finished / "report.json").read_text("utf-8"))["note"]
    assert told[0] == paper.HEADLINE
    assert any("embedded" in sentence for sentence in told)
    assert sum(id in sentence for sentence in told for id in (paper.DINO, paper.CLIP)) == 2
    page = (finished / "report.html").read_text("utf-8")
    assert page.index("These numbers are not the paper&#x27;s.") < page.index("<table")
    assert "paper: CLoRA" in page


def test_a_second_run_draws_and_measures_nothing(
    models: Path, finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    logs = [finished / f"{name}.jsonl" for name in ("pictures", "vectors", "boxes")]
    before = [log.read_bytes() for log in logs]
    monkeypatch.setattr(drawing, "load_pipeline", lambda *a, **k: pytest.fail("the model is loaded"))
    assert evaluate(models, finished) == 0
    assert [log.read_bytes() for log in logs] == before
    shown = capsys.readouterr().out
    assert "| paper: CLoRA | 0.447 | 0.554 | 0.593 |" in shown
    assert shown.startswith("> **These numbers are not the paper's.**")
    assert "| merge |" in shown


def test_an_interrupted_run_goes_on(models: Path, finished: Path, tmp_path: Path, capsys: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        first = Count(patch, stop=5)
        assert evaluate(models, tmp_path, "--segmenter", "") == 130
    assert f"5 of {PICTURES} pictures" in capsys.readouterr().err
    with pytest.MonkeyPatch.context() as patch:
        second = Count(patch)
        assert evaluate(models, tmp_path, "--segmenter", "") == 0
    assert len(first.titles) + len(second.titles) == PICTURES
    whole = [json.loads((out / "report.json").read_text("utf-8"))["pictures"] for out in (finished, tmp_path)]
    for once, twice in zip(*whole, strict=True):
        assert once["dino"] == twice["dino"]
        assert twice["matrix"] is None
    assert "Instance level" not in capsys.readouterr().out


def test_a_truncated_line_and_a_lost_picture_are_redone(models: Path, tmp_path: Path) -> None:
    common = ("--segmenter", "", "--limit", "1", "--seeds", "1", "--references", "1", "--methods", "merge")
    assert evaluate(models, tmp_path, *common) == 0
    for name in ("pictures", "vectors"):
        log = tmp_path / f"{name}.jsonl"
        log.write_bytes(log.read_bytes()[:-20])
    next((tmp_path / "pictures").iterdir()).unlink()
    with pytest.MonkeyPatch.context() as patch:
        again = Count(patch)
        assert evaluate(models, tmp_path, *common) == 0
        assert 1 <= len(again.titles) <= 2
        assert evaluate(models, tmp_path, *common) == 0
        assert len(again.titles) <= 2


def test_logs_take_up_after_a_cut_line(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.jsonl")
    log.put("a", {"n": 1})
    log.put("b", {"n": 2})
    log.path.write_bytes(log.path.read_bytes()[:-3] + b"\n[]\n3\nnull")
    again = Log(log.path)
    assert ("a" in again, "b" in again) == (True, False)
    again.put("b", {"n": 3})
    assert Log(log.path).get("b") == {"key": "b", "n": 3}


MISTAKES = {
    "no prompts": (["--prompts", "/nowhere.txt"], "/nowhere.txt"),
    "no model": (["--model", "/nowhere"], "/nowhere"),
    "no LoRA": ([], "genie"),
    "no method": (["--methods", "clara"], "clara"),
    "no seeds": (["--seeds", "0"], "--seeds"),
    "no slot for the words": (["--reference-prompt", "a cat"], "{words}"),
    "no DINO": (["--dino", "/nowhere/dino"], "/nowhere/dino"),
    "no CLIP": (["--clip", "/nowhere/clip"], "/nowhere/clip"),
    "no segmenter": (["--segmenter", "/nowhere/seg"], "/nowhere/seg"),
    "no ray": (["--ray"], "pip install ray"),
    "width": (["--width", "130"], "130"),
    "no mapping": (["--mapping", "/nowhere.toml"], "/nowhere.toml"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_errors_are_one_message_without_pictures(
    models: Path, tmp_path: Path, mistake: str, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    more, named = MISTAKES[mistake]
    more = more or ["--lora-dir", str(tmp_path)]
    assert evaluate(models, tmp_path / "out", *more) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("clora: ")
    assert named in told
    assert not list((tmp_path / "out").rglob("*.png"))


BAD_PROMPTS = {
    "one LoRA": ("a <lora:genie:1> sks person", "two concept LoRAs"),
    "one LoRA in a place": ("a <lora:genie:1:place=left> sks person", "two concept LoRAs"),
    "AND": ("a <lora:genie:1> person AND a <lora:singer:1> person", "AND"),
    "nothing": ("# nothing\n", "contains no prompt"),
    "one LoRA twice": (
        "a <lora:genie:1:words=person:nth=1> person and a <lora:genie:1:words=person:nth=2> person",
        "itself",
    ),
}


@pytest.mark.parametrize("bad", BAD_PROMPTS)
def test_errors_in_prompts_have_the_line(models: Path, tmp_path: Path, bad: str, capsys: Any) -> None:
    text, named = BAD_PROMPTS[bad]
    path = tmp_path / "bad.txt"
    path.write_text(text)
    assert evaluate(models, tmp_path / "out", "--prompts", str(path)) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert named in told
    assert "bad.txt" in told or "line-1" in told


def test_the_projects_list_needs_a_mapping(models: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["evaluate", "--out", str(tmp_path)]) == 2
    assert "--mapping" in capsys.readouterr().err


def test_the_projects_list_with_a_mapping(models: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "m.json").write_text('{"cat1": "genie", "dog1": {"lora": "singer", "weight": 0.9}}')
    few = ["--limit", "1", "--methods", "merge", "--seeds", "1", "--references", "1", "--steps", "1", "--device", "cpu"]
    readers = ["--dino", str(models / "dino"), "--clip", str(models / "clip")]
    arguments = ["evaluate", "--mapping", str(tmp_path / "m.json"), "--out", str(tmp_path / "out"), *few, *readers]
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert "prompts are skipped" in shown.err
    assert "1 of prompts.json" in shown.out
    assert "skipped (slots without a LoRA)" in shown.out


def test_texts_of_the_user_are_escaped(models: Path, tmp_path: Path) -> None:
    nasty = tmp_path / "nasty.txt"
    nasty.write_text(PROMPTS.splitlines()[0] + ' <script>alert("x")</script> & "quotes"\n')
    out = tmp_path / "out"
    common = ("--limit", "1", "--seeds", "1", "--references", "1", "--methods", "merge", "--segmenter", "")
    assert evaluate(models, out, "--prompts", str(nasty), *common) == 0
    page = (out / "report.html").read_text("utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(&quot;x&quot;)" in page

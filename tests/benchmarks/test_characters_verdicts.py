"""Verdicts that are kept without their pictures: tables are made from them without drawing."""

from __future__ import annotations

from pathlib import Path
from shutil import rmtree

import pytest

from benchmarks.characters.run import Lines, Run, Store
from benchmarks.characters.setup import Setup
from benchmarks.characters.verdicts import KEPT, main, pack, unpack
from tests.benchmarks.characters import Drawer, NoFiles
from tests.benchmarks.test_characters_run import PROMPTS, methods


def results(folder: Path, drawer: Drawer, judge: str = "j", pictures: bool = False) -> list[object]:
    run = Run(Store(folder, judge), NoFiles())
    return list(run.results(PROMPTS, methods(drawer), range(2), pictures))


def test_a_judged_picture_is_drawn_again_only_where_it_is_needed(tmp_path: Path) -> None:
    before = results(tmp_path, Drawer())
    rmtree(tmp_path / "pictures")
    drawer = Drawer()
    assert results(tmp_path, drawer) == before
    for judge, pictures, drawn in (("j", False, 0), ("j", True, 8), ("j", True, 0), ("other", False, 0)):
        drawer = Drawer()
        results(tmp_path, drawer, judge, pictures)
        assert len(drawer.drawn) == drawn
    rmtree(tmp_path / "pictures")
    drawer = Drawer()
    results(tmp_path, drawer, "third")
    assert len(drawer.drawn) == 8


def test_packed_verdicts_are_enough_for_the_tables(tmp_path: Path) -> None:
    before, file = results(tmp_path / "a", Drawer()), tmp_path / "kept.zip"
    lines = Lines(tmp_path / "a" / "likeness-j.jsonl")
    lines.put("k", least=1 / 3, names=["genie"])
    assert pack(tmp_path / "a", file) == 8 + 8 + 1
    drawer = Drawer()
    assert unpack(tmp_path / "b", file) == 17
    assert results(tmp_path / "b", drawer) == before
    assert drawer.drawn == []
    assert Lines(tmp_path / "b" / "likeness-j.jsonl").get("k") == {"key": "k", "least": 0.33333, "names": ["genie"]}


def test_what_a_folder_knows_stays(tmp_path: Path) -> None:
    file = tmp_path / "kept.zip"
    results(tmp_path / "a", Drawer())
    pack(tmp_path / "a", file)
    own = Lines(tmp_path / "b" / "drawn.jsonl")
    key = Lines(tmp_path / "a" / "drawn.jsonl").entries()[0]["key"]
    own.put(key, seconds=1.0)
    unpack(tmp_path / "b", file)
    assert Lines(own.path).get(key) == {"key": key, "seconds": 1.0}
    assert unpack(tmp_path / "b", file) == 0


def test_the_same_folder_gives_the_same_file(tmp_path: Path) -> None:
    results(tmp_path / "a", Drawer())
    files = [tmp_path / "1.zip", tmp_path / "2.zip"]
    for file in files:
        pack(tmp_path / "a", file)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_an_empty_folder_leaves_the_kept_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = KEPT.read_bytes()
    assert main(["pack", "--out", str(tmp_path)]) == 1
    assert "has no verdicts" in capsys.readouterr().err
    assert KEPT.read_bytes() == before


def test_the_kept_verdicts_are_of_this_judge(tmp_path: Path) -> None:
    assert unpack(tmp_path) > 400
    store = Store(tmp_path, Setup().judge_name)
    keys = [entry["key"] for entry in store.drawn.entries()]
    assert all(store.settled(key) for key in keys)
    assert any(verdict.subjects for verdict in map(store.verdict, keys) if verdict)

"""Runs that continue: nothing is drawn twice, and nothing is lost by an interrupt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.composition import __main__ as command
from benchmarks.composition.boxes import LAYOUTS, box_masks, circles_of
from benchmarks.composition.methods import METHODS, Method, Setup
from benchmarks.composition.prompts import Prompt, load_prompts
from benchmarks.composition.run import Run, Store, consecutive
from benchmarks.composition.sheets import sheet
from benchmarks.judge import Finding, Verdict
from clora.settings import Settings
from research.world import Scene, Thing, render

_OF_EVERY_KIND = ("merge", "fast", "boxes", "freefuse", "loratorio")
PROMPTS = [prompt for prompt in load_prompts() if prompt.group == "two classes"][:2]


class NoModel(Setup):
    """A setup without a model."""

    pipe = None


class Drawer:
    """Counts what is drawn; raises after `stop` pictures, as an interrupt would."""

    def __init__(self, stop: int = 0) -> None:
        self.drawn: list[tuple[str, int]] = []
        self.stop = stop

    def __call__(self, setup: Setup, text: str, seeds: Sequence[int], settings: Settings) -> list[Image.Image]:
        if self.stop and len(self.drawn) >= self.stop:
            raise KeyboardInterrupt
        self.drawn += [(text, seed) for seed in seeds]
        return [render(Scene((Thing("ball", look="sunball"),))) for _ in seeds]


def methods(drawer: Drawer) -> list[Method]:
    return [Method("merge", "", Settings(method="merge"), drawer), Method("default", "", Settings(), drawer)]


def run(folder: Path, drawer: Drawer, prompts: Sequence[Prompt] = PROMPTS, judge: str = "j", seeds: int = 2) -> int:
    return len(Run(Store(folder, judge), NoModel()).results(prompts, methods(drawer), range(seeds)))


def test_a_second_run_draws_nothing(tmp_path: Path) -> None:
    first, second = Drawer(), Drawer()
    assert run(tmp_path, first) == run(tmp_path, second) == 8
    assert (len(first.drawn), len(second.drawn)) == (8, 0)
    more = Drawer()
    assert run(tmp_path, more, seeds=3) == 12
    assert {seed for _, seed in more.drawn} == {2}


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    first, second = Drawer(stop=4), Drawer()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, first)
    assert run(tmp_path, second) == 8
    assert len(first.drawn) + len(second.drawn) == 8


def test_a_line_cut_short_is_drawn_again(tmp_path: Path) -> None:
    run(tmp_path, Drawer())
    lines = tmp_path / "results.jsonl"
    lines.write_bytes(lines.read_bytes()[:-30])
    for expected in (1, 0):
        drawer = Drawer()
        assert run(tmp_path, drawer) == 8
        assert len(drawer.drawn) == expected


def test_a_new_judge_judges_again_but_draws_nothing(tmp_path: Path) -> None:
    run(tmp_path, Drawer())
    drawer = Drawer()
    assert run(tmp_path, drawer, judge="other") == 8
    assert not drawer.drawn
    next((tmp_path / "pictures").iterdir()).unlink()
    run(tmp_path, drawer, judge="third")
    assert len(drawer.drawn) in (1, 2)  # the picture that is gone, and the rest of its batch


def test_what_decides_a_picture_is_in_its_key() -> None:
    method, setup = METHODS["default"], Setup()
    key = method.key(setup, "a", 0)
    others = [
        method.key(setup, "b", 0),
        method.key(setup, "a", 1),
        method.key(Setup(steps=7), "a", 0),
        METHODS["paper"].key(setup, "a", 0),
        replace(method, settings=Settings(step_size=1.0)).key(setup, "a", 0),
    ]
    assert len({key, *others}) == 6
    retrained = Setup()
    retrained.__dict__["assets"] = "other weights"
    assert method.key(retrained, "a", 0) != key
    assert replace(method, settings=Settings(show_maps=True)).key(setup, "a", 0) == key


def test_batches() -> None:
    assert consecutive([0, 1, 3, 4, 7]) == [[0, 1], [3, 4], [7]]
    assert consecutive([]) == []


@pytest.mark.parametrize("concepts", [2, 3])
def test_boxes_do_not_overlap_and_leave_nothing_out(concepts: int) -> None:
    masks = box_masks(LAYOUTS[concepts], 32)
    assert masks.shape == (concepts + 1, 32, 32)
    assert bool((masks.sum(0) == 1).all())
    assert 12**2 <= int(masks[1].sum()) <= 17**2


def test_boxes_lie_where_things_are_found() -> None:
    def ball(x: float) -> Finding:
        return Finding("ball", 0.9, x, 100.0, 90.0, {}, {}, 0.0)

    found = Verdict((ball(200.0), ball(50.0)), {}, 0.0)
    assert circles_of(["ball", "ball"], found) == [(50.0, 100.0, 90.0), (200.0, 100.0, 90.0)]
    assert circles_of(["ball", "fish"], found) == LAYOUTS[2]


def test_a_sheet(tmp_path: Path) -> None:
    drawer = Drawer()
    run(tmp_path, drawer)
    made = sheet(Store(tmp_path, "j"), NoModel(), PROMPTS, methods(drawer), 0)
    assert made.width == 2 * 144
    assert len(made.getcolors(1 << 24) or []) > 100


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--limit", "1", "--seeds", "1", "--steps", "2", "--methods", *_OF_EVERY_KIND]
    arguments += ["--out", str(tmp_path / "o"), "--json", str(tmp_path / "r.json"), "--sheets", str(tmp_path / "s")]
    assert command.main(arguments) == 0
    assert "| plain merge |" in capsys.readouterr().out
    told = json.loads((tmp_path / "r.json").read_text())
    assert set(told["groups"]["all"]) == {*_OF_EVERY_KIND}
    assert len(list((tmp_path / "s").iterdir())) == 1

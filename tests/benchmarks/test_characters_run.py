"""Runs of the benchmark of characters: nothing is drawn twice or lost by an interrupt, keys hold what decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from benchmarks.characters.boxes import box_masks, given, squares_of
from benchmarks.characters.measures import rated
from benchmarks.characters.methods import BASELINE, DECIDING, METHODS, PLAIN, Method
from benchmarks.characters.run import Lines, Run, Store, choose, consecutive, read
from benchmarks.characters.setup import Setup, loras_of
from benchmarks.characters.sheets import plain_text, write_sheets
from clora.engine.composer import Composer
from clora.errors import CLoRAError
from clora.settings import Settings
from research.characters.prompts import GROUPS, Prompt, load_prompts
from tests.benchmarks.characters import FOX, GENIE, SINGER, Drawer, NoFiles, prompt, seen, verdict

PROMPTS = [prompt(GENIE, SINGER, name="a"), prompt(GENIE, SINGER, name="b", group="three")]


def methods(drawer: Drawer) -> list[Method]:
    return [replace(METHODS[name], draw=drawer) for name in ("merge", "default")]


def run(folder: Path, drawer: Drawer, prompts: Sequence[Prompt] = PROMPTS, judge: str = "j", seeds: int = 2) -> int:
    return len(Run(Store(folder, judge), NoFiles()).results(prompts, methods(drawer), range(seeds)))


def test_a_second_run_draws_nothing(tmp_path: Path) -> None:
    first, second, more = Drawer(), Drawer(), Drawer()
    assert run(tmp_path, first) == run(tmp_path, second) == 8
    assert (len(first.drawn), len(second.drawn)) == (8, 0)
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
    lines = tmp_path / "drawn.jsonl"
    lines.write_bytes(lines.read_bytes()[:-30])
    for expected in (1, 0):
        drawer = Drawer()
        assert run(tmp_path, drawer) == 8
        assert len(drawer.drawn) == expected


def test_a_picture_that_is_gone_is_drawn_again(tmp_path: Path) -> None:
    run(tmp_path, Drawer())
    next((tmp_path / "pictures").iterdir()).unlink()
    drawer = Drawer()
    assert run(tmp_path, drawer) == 8
    assert len(drawer.drawn) == 1


def test_a_new_judge_judges_again_but_draws_nothing(tmp_path: Path) -> None:
    run(tmp_path, Drawer())
    drawer, setup, other = Drawer(), NoFiles(), NoFiles()
    Run(Store(tmp_path, "j"), setup).results(PROMPTS, methods(drawer), range(2))
    assert setup.judged == []
    Run(Store(tmp_path, "other"), other).results(PROMPTS, methods(drawer), range(2))
    assert (sum(other.judged), drawer.drawn) == (8, [])


def test_a_verdict_survives_the_store(tmp_path: Path) -> None:
    store, drawer = Store(tmp_path, "j"), Drawer("red")
    results = Run(store, NoFiles()).results(PROMPTS[:1], methods(drawer)[:1], range(1))
    again = Run(Store(tmp_path, "j"), NoFiles()).results(PROMPTS[:1], methods(drawer)[:1], range(1))
    assert results == again
    assert again[0].verdict == verdict(seen("genie", 80))
    lines = Lines(tmp_path / "lines.jsonl")
    lines.put("k", a=1)
    lines.put("k", a=2)
    assert Lines(lines.path).get("k") == {"key": "k", "a": 2}


def test_prompts_that_are_not_composed_are_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawer, plain = Drawer(), Drawer()
    monkeypatch.setattr("benchmarks.characters.run.PLAIN", replace(PLAIN, draw=plain))
    usual = replace(PROMPTS[0], prompt="as usual")
    assert run(tmp_path, drawer, [usual]) == 4
    assert (len(drawer.drawn), len(plain.drawn)) == (0, 2)


def test_prompts_are_read_first() -> None:
    refused, usual = replace(PROMPTS[0], id="r", prompt="refused"), replace(PROMPTS[0], id="u", prompt="usual")
    found = read(NoFiles(), [*PROMPTS, refused, usual])
    assert found.drawable == [*PROMPTS, usual]
    assert (found.as_usual, found.refused) == (["u"], {"r": "No."})


def _files(folder: Path) -> Setup:
    for name in ("model.safetensors", "genie.safetensors", "singer.safetensors", "judge"):
        (folder / name).write_bytes(name.encode())
    return Setup(folder / "model.safetensors", folder, folder / "judge")


def test_what_decides_a_picture_is_in_its_key(tmp_path: Path) -> None:
    text, method, setup = "a <lora:genie:1> sks person", METHODS["default"], _files(tmp_path)
    key = method.key(setup, text, 0)
    others = [
        method.key(setup, f"{text} and a fox", 0),
        method.key(setup, text, 1),
        method.key(replace(setup, steps=7), text, 0),
        method.key(replace(setup, guidance=7.0), text, 0),
        METHODS["paper"].key(setup, text, 0),
        replace(method, settings=Settings(step_size=1.0)).key(setup, text, 0),
    ]
    assert len({key, *others}) == 7
    assert replace(method, settings=Settings(show_maps=True)).key(setup, text, 0) == key
    boxes = METHODS["boxes"].key(setup, text, 0)
    setup.judge_file.write_bytes(b"new")
    assert method.key(replace(setup), text, 0) == key
    assert METHODS["boxes"].key(replace(setup), text, 0) != boxes  # the judge places them
    setup.path("singer").write_bytes(b"new")
    assert method.key(replace(setup), text, 0) == key
    setup.path("genie").write_bytes(b"new")
    retrained = method.key(replace(setup), text, 0)
    assert retrained != key
    setup.model.write_bytes(b"new")
    assert method.key(replace(setup), text, 0) != retrained


def test_the_baseline_of_keys_has_every_setting() -> None:
    assert set(BASELINE) == {setting.name for setting in DECIDING}


def test_what_is_missing_is_said_in_one_sentence(tmp_path: Path) -> None:
    setup, texts = _files(tmp_path), ["a <lora:genie:1> sks person and a <clora:fox> fox"]
    setup.check(texts)
    assert loras_of(texts[0]) == ["genie"]
    with pytest.raises(CLoRAError, match=r"lacks LoRAs that the prompts name \(troll\)"):
        setup.check([*texts, "<lora:troll:1> <lora:singer:1>"])
    with pytest.raises(CLoRAError, match=r"model .* does not exist"):
        replace(setup, model=tmp_path / "none").check(texts)
    blind = replace(setup, judge_file=tmp_path / "none")
    with pytest.raises(CLoRAError, match=r"judge's weights .* --judge\.$"):
        blind.check(texts)
    blind.check(texts, judge=False)
    with pytest.raises(CLoRAError, match="judge's weights"):
        _ = blind.judge


def test_batches() -> None:
    assert consecutive([0, 1, 3, 4, 7]) == [[0, 1], [3, 4], [7]]
    assert consecutive([]) == []


def test_prompts_are_chosen_by_split_group_and_in_turn() -> None:
    prompts = load_prompts()
    assert choose(prompts) == prompts
    assert {one.split for one in choose(prompts, "tuning")} == {"tuning"}
    assert {one.group for one in choose(prompts, "report", 12)} == {*GROUPS, "single"}
    assert {one.group for one in choose(prompts, groups=["four", "style"])} == {"four", "style"}
    assert len(choose(prompts, "tuning", 5)) == 5


def test_boxes_do_not_overlap_and_leave_nothing_out() -> None:
    rider = box_masks([(128.0, 90.0, 110.0), (128.0, 150.0, 110.0), (24.0, 220.0, 64.0)], 32)
    assert rider.shape == (4, 32, 32)
    assert bool((rider.sum(0) == 1).all())
    assert int(rider[1].sum()) == int(rider[2].sum()) > 100  # each has its half of what they share
    assert 60 <= int(rider[3].sum()) <= 80
    (alone,) = box_masks([(128.0, 128.0, 112.0)], 32)[1:]
    assert int(alone.sum()) == 16**2  # 1.15 x 112 pixels are 16.1 cells


def test_boxes_lie_where_subjects_of_the_class_are_found() -> None:
    def places(kinds: Sequence[str], *found: str) -> list[float]:
        subjects = tuple(seen(name, 200.0 - 60 * i) for i, name in enumerate(found))
        return [x for x, _, _ in squares_of(kinds, verdict(*subjects))]

    assert places(["person", "person"], "wizard", "king") == [140, 200]  # from left to right
    assert places(["bird", "fox"], "fox", "owl") == [140, 200]
    assert places(["cat", "person"], "king", "tabby", "ghost") == [140, 200]
    assert places(["person", "cat"], "wrong", "king") == [140, 200]  # a subject without a name is the one left over
    x, y, side = squares_of(["person", "cat"], verdict(seen("king", 190, 170)))[1]
    assert (x, y, side) == (66, 90, 112)  # far from the king
    assert len({(x, y) for x, y, _ in squares_of(["cat"] * 4, verdict())}) == 4


def test_the_base_alone_draws_the_first_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Composer, "predict", lambda self, index, **named: named["masks"])
    masks = [box_masks([(128.0, 128.0, 112.0)], 32)]
    composer = Composer.__new__(Composer)
    with given(masks, 2):
        used: list[Any] = [composer.predict(index) for index in range(4)]  # type: ignore[call-arg]
    assert [bool(one[0][0].all()) for one in used] == [True, True, False, False]
    assert used[2] is masks


def test_sheets_have_a_file_for_each_group_and_seed(tmp_path: Path) -> None:
    drawer, store = Drawer(), Store(tmp_path, "j")
    results = Run(store, NoFiles()).results(PROMPTS, methods(drawer), range(2))
    written = write_sheets(tmp_path / "sheets", store, rated(results))
    names = ["same-class-seed0.png", "same-class-seed1.png", "three-seed0.png", "three-seed1.png"]
    assert sorted(path.name for path in written) == names
    made = Image.open(written[0]).convert("RGB")
    assert made.getpixel((300, 90)) == (255, 255, 255)  # two methods, two columns
    assert made.getpixel((70, 90)) == made.getpixel((214, 90)) == (0, 0, 255)
    assert plain_text("a <lora:genie:1:trigger=sks> person and a <clora:fox> fox") == "a <genie> person and a <fox> fox"


def test_a_foxs_box_is_not_a_persons() -> None:
    assert FOX.kind == "fox"
    squares = squares_of([GENIE.kind], verdict(seen("fox", 50), seen("ninja", 190)))
    assert squares == [(190.0, 128.0, 110.0)]


def test_masks_are_floats_of_zero_and_one() -> None:
    masks = box_masks([(128.0, 128.0, 100.0)], 16)
    assert masks.dtype == torch.float32
    assert set(masks.flatten().tolist()) == {0.0, 1.0}

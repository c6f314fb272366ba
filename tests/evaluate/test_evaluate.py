"""`clora evaluate` from end to end on the embedded model, with small random extractors."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clora.demo.cli import main
from clora.demo.evaluate import drawing, paper
from clora.demo.evaluate.drawing import Drawer, Drawn
from clora.demo.evaluate.methods import Method, read_methods
from clora.demo.evaluate.store import Log
from clora.demo.evaluate.work import Contents, Item, Planner, Studio, Work
from clora.prompt import analyze
from clora.settings import Settings

from .readers import save_clip, save_clipseg, save_dino

PROMPTS = (
    "a <lora:sunball:1> sks ball and a <lora:moonball:1> sks ball on grass\n"
    "a <lora:ninjaheart:1:trigger=sks> heart and a <lora:sunball:1> sks ball, <lora:sketch:0.7:role=style>\n"
)
QUICK = "quick:update_until=0.1,refine_updates=1"
PICTURES = 2 * 3 + 2 * 2 * 2  # references of three LoRAs, two prompts by two methods and seeds


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with dino, clip, seg and prompts."""
    folder = tmp_path_factory.mktemp("models")
    save_dino(folder / "dino")
    save_clip(folder / "clip")
    save_clipseg(folder / "seg")
    (folder / "p.txt").write_text(PROMPTS)
    return folder


def evaluate(models: Path, out: Path, *more: str) -> int:
    return main(
        ["evaluate", "--prompts", str(models / "p.txt"), "--methods", "merge", QUICK, "--seeds", "2", "--references",
         "2", "--steps", "2", "--dino", str(models / "dino"), "--clip", str(models / "clip"), "--segmenter",
         str(models / "seg"), "--device", "cpu", "--out", str(out), *more]
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run."""
    out = tmp_path_factory.mktemp("out") / "run"
    assert evaluate(models, out) == 0
    return out


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


def test_everything_is_drawn_measured_and_told(finished: Path) -> None:
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
    assert told["cases"][1]["references"][0] == "a <lora:ninjaheart:te=1:unet=1> sks heart"
    assert told["paper"]["Whole picture"]["CLoRA"]["dino_avg"] == 0.554


def test_it_says_that_the_numbers_are_not_the_papers(finished: Path) -> None:
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


def test_a_cut_line_and_a_lost_picture_are_made_again(models: Path, tmp_path: Path) -> None:
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


class Cluster:
    """Stands for the package ray: workers are objects of this process, and the last of those that run ends first."""

    def __init__(self, gpus: int) -> None:
        self.gpus, self.workers, self.open, self.asked = gpus, 0, False, []  # type: ignore[var-annotated]

    def is_initialized(self) -> bool:
        return self.open

    def init(self, **options: Any) -> None:
        self.asked.append(options)
        self.open = True

    def shutdown(self) -> None:
        self.open = False

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 8.0, "GPU": float(self.gpus)}

    def remote(self, **options: Any) -> Callable[[type], Any]:
        def wrap(kind: type) -> Any:
            return SimpleNamespace(remote=lambda *arguments: self._worker(kind(*pickle.loads(pickle.dumps(arguments)))))

        return wrap

    def _worker(self, own: Any) -> Any:
        self.workers += 1
        call = SimpleNamespace(remote=lambda item: (own.draw, pickle.dumps(item), object()))
        return SimpleNamespace(draw=call)

    def wait(self, running: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
        return running[-1:], running[:-1]

    def get(self, reference: Any) -> Any:
        draw, item, _ = reference
        return pickle.loads(pickle.dumps(draw(pickle.loads(item))))


def test_ray_draws_the_same_pictures(
    models: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster(0)
    monkeypatch.setitem(sys.modules, "ray", cluster)
    assert evaluate(models, tmp_path, "--ray", "auto") == 0
    assert (cluster.workers, cluster.open) == (1, False)
    assert cluster.asked[0]["address"] == "auto"
    for path in (finished / "pictures").iterdir():
        assert (tmp_path / "pictures" / path.name).read_bytes() == path.read_bytes()


def test_ray_has_a_worker_for_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(3)
    monkeypatch.setitem(sys.modules, "ray", cluster)
    monkeypatch.setattr(Drawer, "__init__", lambda self, studio, uses: None)
    monkeypatch.setattr(Drawer, "draw", lambda self, item: Drawn(b"", float(item.seed), 1))
    items = [Item(str(i), "", "", i, Settings()) for i in range(7)]
    drawn = dict(drawing.draw_with_ray(Studio(None, {}, "cuda"), (), items, None))
    assert {item.seed: one.seconds for item, one in drawn.items()} == {i: float(i) for i in range(7)}
    assert cluster.workers == 3


def test_a_workers_mistake_ends_the_run_in_one_sentence(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    cluster = Cluster(0)
    monkeypatch.setitem(sys.modules, "ray", cluster)
    assert evaluate(models, tmp_path, "--ray", "--width", "130") == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("clora: While drawing reference 1 of sks ball (sunball): The width 130")
    assert not cluster.open


MISTAKES = {
    "no prompts": (["--prompts", "/nowhere.txt"], "/nowhere.txt"),
    "no model": (["--model", "/nowhere"], "/nowhere"),
    "no LoRA": ([], "sunball"),
    "no method": (["--methods", "clara"], "clara"),
    "no seeds": (["--seeds", "0"], "--seeds"),
    "no place for the words": (["--reference-prompt", "a cat"], "{words}"),
    "no DINO": (["--dino", "/nowhere/dino"], "/nowhere/dino"),
    "no CLIP": (["--clip", "/nowhere/clip"], "/nowhere/clip"),
    "no segmenter": (["--segmenter", "/nowhere/seg"], "/nowhere/seg"),
    "no ray": (["--ray"], "pip install ray"),
    "width": (["--width", "130"], "130"),
    "no mapping": (["--mapping", "/nowhere.toml"], "/nowhere.toml"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_get_one_sentence_and_no_picture(
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
    "one LoRA": ("a <lora:sunball:1> sks ball", "two concept LoRAs"),
    "AND": ("a <lora:sunball:1> ball AND a <lora:moonball:1> ball", "AND"),
    "nothing": ("# nothing\n", "holds no prompt"),
    "one LoRA twice": (
        "a <lora:sunball:1:words=ball:nth=1> ball and a <lora:sunball:1:words=ball:nth=2> ball",
        "itself",
    ),
}


@pytest.mark.parametrize("bad", BAD_PROMPTS)
def test_bad_prompts_are_told_with_their_line(models: Path, tmp_path: Path, bad: str, capsys: Any) -> None:
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
    (tmp_path / "m.json").write_text('{"cat1": "sunball", "dog1": {"lora": "moonball", "weight": 0.9}}')
    few = ["--limit", "1", "--methods", "merge", "--seeds", "1", "--references", "1", "--steps", "1", "--device", "cpu"]
    readers = ["--dino", str(models / "dino"), "--clip", str(models / "clip")]
    arguments = ["evaluate", "--mapping", str(tmp_path / "m.json"), "--out", str(tmp_path / "out"), *few, *readers]
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert "prompts are skipped" in shown.err
    assert "1 of prompts.json" in shown.out
    assert "skipped for slots" in shown.out


def plan(studio: Studio, contents: Contents, text: str = PROMPTS.splitlines()[0], seeds: int = 1,
         method: Method | None = None) -> Work:  # fmt: skip
    methods = [method or Method("m", Settings())]
    return Planner(studio, contents, 2, "a {words}").work(
        [("p", "k", text, "t")], [analyze(text)], methods, range(seeds)
    )


def test_all_that_decides_a_picture_is_in_its_key() -> None:
    studio = Studio(None, {})
    contents = Contents("model", {"sunball": "s", "moonball": "m"})
    key = plan(studio, contents).composed["p", "m", 0]
    others = [
        plan(replace(studio, **{name: value}), contents)  # type: ignore[arg-type]
        for name, value in (("steps", 7), ("guidance", 2.0), ("width", 64), ("height", 64), ("negative", "x"),
                            ("prediction", "sample"), ("device", "cuda"))
    ]  # fmt: skip
    others += [
        plan(studio, Contents("other", contents.loras)),
        plan(studio, Contents("model", {**contents.loras, "sunball": "x"})),
    ]
    others += [plan(studio, contents, PROMPTS.splitlines()[0].replace("grass", "sand"))]
    others += [plan(studio, contents, method=Method("m", Settings(step_size=1.0)))]
    keys = {work.composed["p", "m", 0] for work in others}
    assert len(keys | {key}) == len(others) + 1
    assert plan(studio, contents, seeds=2).composed["p", "m", 1] != key
    same = plan(replace(studio, files={"sunball": Path("elsewhere")}, model=Path("moved")), contents)
    assert same.composed["p", "m", 0] == key  # files count by their content
    assert plan(studio, contents, method=read_methods(["other:rows_per_forward=4"])[0]).composed["p", "other", 0] == key


def test_references_are_of_one_lora_and_shared_by_prompts(finished: Path) -> None:
    studio, contents = Studio(None, {}), Contents("model", {"sunball": "s", "moonball": "m"})
    first = plan(studio, contents)
    second = plan(studio, contents, "a <lora:moonball:1> sks ball above a <lora:sunball:1> sks ball")
    assert first.cases[0].subjects[0].references == second.cases[0].subjects[1].references
    seeds = {item.seed for item in first.items}
    assert seeds == {0, 1_000_000, 1_000_001}
    assert [analyze(s.prompt).merged.text for s in first.cases[0].subjects] == ["a sks ball"] * 2


def test_texts_of_the_user_are_escaped(models: Path, tmp_path: Path) -> None:
    nasty = tmp_path / "nasty.txt"
    nasty.write_text(PROMPTS.splitlines()[0] + ' <script>alert("x")</script> & "quotes"\n')
    out = tmp_path / "out"
    common = ("--limit", "1", "--seeds", "1", "--references", "1", "--methods", "merge", "--segmenter", "")
    assert evaluate(models, out, "--prompts", str(nasty), *common) == 0
    page = (out / "report.html").read_text("utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(&quot;x&quot;)" in page

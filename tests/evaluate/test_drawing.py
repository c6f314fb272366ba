"""Pictures have names by all that decides them, and are drawn by workers as by one process."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clora.evaluate import drawing
from clora.evaluate.drawing import Drawer, Drawn
from clora.evaluate.methods import Method, read_methods
from clora.evaluate.work import Contents, Item, Planner, Studio, Work
from clora.prompt import analyze
from clora.settings import Settings
from tests.evaluate.running import PROMPTS, evaluate


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


def test_a_workers_error_ends_the_run_with_its_message(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    cluster = Cluster(0)
    monkeypatch.setitem(sys.modules, "ray", cluster)
    assert evaluate(models, tmp_path, "--ray", "--width", "130") == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("clora: While drawing reference 1 of sks person (genie): The width 130")
    assert not cluster.open


def plan(studio: Studio, contents: Contents, text: str = PROMPTS.splitlines()[0], seeds: int = 1,
         method: Method | None = None) -> Work:  # fmt: skip
    methods = [method or Method("m", Settings())]
    return Planner(studio, contents, 2, "a {words}").work(
        [("p", "k", text, "t")], [analyze(text)], methods, range(seeds)
    )


def test_all_that_decides_a_picture_is_in_its_key() -> None:
    studio = Studio(None, {})
    contents = Contents("model", {"genie": "s", "singer": "m"})
    key = plan(studio, contents).composed["p", "m", 0]
    others = [
        plan(replace(studio, **{name: value}), contents)  # type: ignore[arg-type]
        for name, value in (("steps", 7), ("guidance", 2.0), ("width", 64), ("height", 64), ("negative", "x"),
                            ("prediction", "sample"), ("device", "cuda"))
    ]  # fmt: skip
    others += [
        plan(studio, Contents("other", contents.loras)),
        plan(studio, Contents("model", {**contents.loras, "genie": "x"})),
    ]
    others += [plan(studio, contents, PROMPTS.splitlines()[0].replace("grass", "snow"))]
    others += [plan(studio, contents, method=Method("m", Settings(step_size=1.0)))]
    keys = {work.composed["p", "m", 0] for work in others}
    assert len(keys | {key}) == len(others) + 1
    assert plan(studio, contents, seeds=2).composed["p", "m", 1] != key
    same = plan(replace(studio, files={"genie": Path("elsewhere")}, model=Path("moved")), contents)
    assert same.composed["p", "m", 0] == key  # files count by their content
    assert plan(studio, contents, method=read_methods(["other:rows_per_forward=4"])[0]).composed["p", "other", 0] == key


def test_references_are_of_one_lora_and_shared_by_prompts() -> None:
    studio, contents = Studio(None, {}), Contents("model", {"genie": "s", "singer": "m"})
    first = plan(studio, contents)
    second = plan(studio, contents, "a <lora:singer:1> sks person above a <lora:genie:1> sks person")
    assert first.cases[0].subjects[0].references == second.cases[0].subjects[1].references
    seeds = {item.seed for item in first.items}
    assert seeds == {0, 1_000_000, 1_000_001}
    assert [analyze(s.prompt).merged.text for s in first.cases[0].subjects] == ["a sks person"] * 2

"""The numbers from vectors that are made by hand, and their tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional import pairwise_cosine_similarity

from clora.errors import CLoRAError
from clora.evaluate import paper
from clora.evaluate.methods import Method, read_methods
from clora.evaluate.scores import Score, Scorer, assign, candidates, leak, similarity
from clora.evaluate.segmenter import Box
from clora.evaluate.store import Store
from clora.evaluate.summary import ALL, interval, summarize
from clora.evaluate.vectors import Vectors, View, decode, encode
from clora.evaluate.work import Case, Subject, Work
from clora.settings import Settings


class Colours:
    """An extractor: the mean red and green of a picture; every text is pure red."""

    identity = "colours"

    def to(self, device: str) -> Colours:
        return self

    def image(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        return torch.stack([torch.tensor(np.asarray(p, np.float32)[..., :2].mean((0, 1))) for p in pictures])

    def text(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.tensor([[2.0, 0.0]] * len(texts))


def picture(*colours: str) -> Image.Image:
    """Stripes side by side, each 10 x 10."""
    made = Image.new("RGB", (10 * len(colours), 10))
    for i, colour in enumerate(colours):
        made.paste(Image.new("RGB", (10, 10), colour), (10 * i, 0))
    return made


def case_of(words: Sequence[str]) -> Case:
    subjects = (Subject("red", words[0], "r", ("red1", "red2")), Subject("green", words[1], "g", ("green1",)))
    return Case("case", "own", "red and green", "red and green", subjects)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path)
    pictures = {"red1": picture("red"), "red2": picture("red"), "green1": picture("lime"),
                "composed": picture("lime", "red")}  # fmt: skip
    for key, one in pictures.items():
        store.put_picture(key, one, {"seconds": 2.0, "memory": None})
    return store


def score(store: Store, words: Sequence[str], boxes: dict[str, list[Box]] | None) -> Score:
    case = case_of(words)
    work = Work((case,), (Method("m", Settings()),), (0,), (), {("case", "m", 0): "composed"})
    vectors = {kind: Vectors(store, Colours()) for kind in ("dino", "clip")}
    views = [View(key) for key in ("red1", "red2", "green1", "composed")]
    views += [View("composed", box) for own in (boxes or {}).values() for box in own]
    vectors["dino"].compute(views, lambda done: None)
    return Scorer(work, vectors).score(case, "m", 0, boxes)


def test_a_picture_of_both_is_like_both(store: Store) -> None:
    found = score(store, ("thing", "plant"), None)
    np.testing.assert_allclose(found.whole["dino"], [0.5**0.5] * 2, rtol=1e-6)
    assert found.text == pytest.approx(0.5**0.5)
    assert (found.matrix, found.found, found.seconds, found.memory) == (None, None, 2.0, None)


def test_crops_are_compared_with_every_lora(store: Store) -> None:
    found = score(store, ("thing", "plant"), {"thing": [(10, 0, 20, 10)], "plant": [(0, 0, 10, 10)]})
    assert found.matrix is not None
    np.testing.assert_allclose(found.matrix["clip"], np.eye(2), atol=1e-6)
    assert leak(found.matrix["dino"]) == pytest.approx((1.0, 0.0))
    assert found.found == 1.0


def test_the_whole_picture_stands_in_for_what_is_not_found(store: Store) -> None:
    found = score(store, ("thing", "plant"), {"thing": [], "plant": [(0, 0, 10, 10)]})
    assert found.matrix is not None
    np.testing.assert_allclose(found.matrix["dino"], [[0.5**0.5] * 2, [0, 1]], atol=1e-6)
    assert found.found == 0.5


def test_subjects_of_one_word_share_its_boxes(store: Store) -> None:
    boxes: dict[str, list[Box]] = {"ball": [(0, 0, 10, 10), (10, 0, 20, 10), (0, 0, 1, 1)]}
    found = score(store, ("ball", "ball"), boxes)
    assert found.matrix is not None
    np.testing.assert_allclose(found.matrix["dino"], np.eye(2), atol=1e-6)
    assert candidates(["ball", "cat", "Ball"], {"ball": boxes["ball"], "cat": []}) == [
        ([0, 2], boxes["ball"][:2]), ([1], [None]),
    ]  # fmt: skip


def test_assignment() -> None:
    assert assign(np.array([[0.9, 0.8, 0.1], [0.8, 0.1, 0.0], [0.5, 0.4, 0.3]])) == (1, 0, 2)


def test_similarity_is_the_mean_of_similarities() -> None:
    references = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    assert similarity(np.array([1.0, 0.0], np.float32), references) == 0.5


def test_similarities_equal_torchmetrics(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))

    def image(self: Colours, pictures: Sequence[Image.Image]) -> torch.Tensor:
        return torch.stack([torch.tensor(np.asarray(p, np.float32).mean((0, 1)) + 9.0) for p in pictures]) @ matrix

    monkeypatch.setattr(Colours, "image", image)
    monkeypatch.setattr(Colours, "text", lambda self, texts: torch.ones(len(texts), 7))
    found = score(store, ("thing", "plant"), None)
    own, red, green = (image(Colours(), [store.picture(key)]) for key in ("composed", "red1", "green1"))
    expected = pairwise_cosine_similarity(own, torch.cat([red, green]))[0]
    np.testing.assert_allclose(found.whole["clip"], expected, rtol=1e-5)
    assert found.text == pytest.approx(float(pairwise_cosine_similarity(own, torch.ones(1, 7))), rel=1e-5)


def test_vectors_are_kept(store: Store) -> None:
    vector = np.array([0.25, -1e-20, 3.5], np.float32)
    np.testing.assert_array_equal(decode(encode(vector)), vector)
    kept = Vectors(store, Colours())
    kept.compute([View("red1")], lambda done: None)
    assert Vectors(Store(store.folder), Colours()).missing([View("red1"), View("red2"), View("red2")]) == [View("red2")]


def test_tables_are_means_over_pictures_by_group(store: Store) -> None:
    found = summarize([score(store, ("a", "b"), None)], ["m"])
    assert list(found) == [ALL]  # one group would only say it again
    own = found[ALL]["m"]
    assert own["dino_avg"]["mean"] == pytest.approx(0.5**0.5)
    assert (own["prompts"], own["pictures"]) == (1, 1)
    assert "memory" not in own
    assert "leak_dino_own" not in own


def test_intervals_draw_prompts() -> None:
    even = interval([[1.0, 3.0], [2.0, 2.0]])
    assert even == {"mean": 2.0, "low": 2.0, "high": 2.0}
    wide = interval([[0.0], [4.0]])
    assert (wide["low"], wide["high"]) == (0.0, 4.0)


def test_methods() -> None:
    merge, mine = read_methods(["merge", "mine:preset=fast,refine_at=0.0,0.2,mask-threshold=0.4"])
    assert merge.settings.method == "merge"
    assert mine.settings == Settings(preset="fast", refine_at=(0.0, 0.2), mask_threshold=0.4)
    assert read_methods(["paper"])[0].settings == Settings(preset="paper")
    assert read_methods(["balanced"])[0].settings == Settings() == read_methods(["clora"])[0].settings
    assert mine.deciding() != read_methods(["fast"])[0].deciding()
    same = read_methods(["a:rows_per_forward=2", "b:show_maps=true"])
    assert same[0].deciding() == same[1].deciding()


def test_former_names_of_presets_are_methods_too() -> None:
    found = read_methods(["default", "exact", "own:preset=exact,step_size=3"])
    assert [method.name for method in found] == ["default", "exact", "own"]  # as a table of before has them
    assert [method.settings for method in found] == [Settings(), Settings("exact"), Settings("exact", step_size=3)]
    with pytest.raises(CLoRAError, match="use merge, composite, switch, clora, fast, balanced, exact, paper, or"):
        read_methods(["exakt"])


@pytest.mark.parametrize(
    ("text", "told"),
    [("clara", "no method"), ("a:step_size", "key=value"), ("a:stepsize=3", "step_size"), (":step_size=3", "name"),
     ("a:step_size=x", "step_size"), ("a:preset=x", "preset"), ("a b:step_size=3", "name")],
)  # fmt: skip
def test_bad_methods(text: str, told: str) -> None:
    with pytest.raises(CLoRAError, match=told):
        read_methods([text])


def test_a_method_named_twice() -> None:
    with pytest.raises(CLoRAError, match="twice"):
        read_methods(["merge", "merge"])


def test_the_papers_figures_are_measures_of_the_tables() -> None:
    from clora.evaluate.summary import TABLES

    for title, measures in TABLES:
        names = {measure.name for measure in measures}
        assert all(set(row) <= names for row in paper.FIGURES[title].values())
    for row in (*paper.FIGURES["Whole picture"].values(), *paper.FIGURES["Instance level"].values()):
        assert all(0.3 < value < 0.9 for value in row.values())

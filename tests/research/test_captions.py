"""Captions of scenes: every subject is named, and the words that name it are known."""

from __future__ import annotations

import random
import re

import pytest

from research.characters.backgrounds import PAINTERS
from research.characters.captions import PLACES, Caption, Piece, Writer, plural
from research.characters.lessons import LESSONS
from research.characters.scene import Scene, Subject, random_scene
from research.characters.words import CHARACTERS


def scene(*names: str, relation: tuple[str, int, int] | None = None) -> Scene:
    xs = (60, 130, 200)
    return Scene(tuple(Subject(name, "", x=x) for name, x in zip(names, xs, strict=False)), relation=relation)


def plain(rng: random.Random) -> Writer:
    return Writer(rng, general=0.0, stray=0.0, place=0.0)


def words(text: str) -> int:
    return len(re.findall(r"\w+|,", text))


def test_every_subject_is_named_once() -> None:
    rng = random.Random(0)
    for _ in range(300):
        drawn = random_scene(rng)
        caption = Writer(rng).caption(drawn)
        named = [i for piece in caption.pieces for i in piece.subjects]
        assert sorted(named) == list(range(len(drawn.subjects))), caption.text


def test_spans_are_the_places_of_the_nouns() -> None:
    rng = random.Random(1)
    for _ in range(200):
        drawn = random_scene(rng)
        caption = plain(rng).caption(drawn)
        tokens = ["", *re.findall(r"\w+|,", caption.text)]
        for span, subjects in caption.spans(words):
            named = tokens[span.start : span.stop][-1]
            kind = drawn.subjects[subjects[0]].kind
            assert named in (kind, plural(kind))


def test_two_of_a_kind_are_called_by_the_plural_or_from_left_to_right() -> None:
    texts = set()
    rng = random.Random(2)
    for _ in range(300):
        caption = plain(rng).caption(scene("cat", "cat", relation=rng.choice((None, ("beside", 0, 1)))))
        texts.add(caption.text.split(",")[0].removeprefix("a photo of ").removeprefix("a picture of "))
        single = [piece.subjects for piece in caption.pieces if len(piece.subjects) == 1]
        assert single in ([], [(0,), (1,)])
    assert {"two cats", "a cat and a cat"} <= texts


def test_relations_are_told_from_both_sides() -> None:
    rng = random.Random(3)
    texts = [plain(rng).caption(scene("king", "robot", relation=("behind", 0, 1))).text for _ in range(300)]
    assert any("a king behind a robot" in text for text in texts)
    assert any("a robot in front of a king" in text for text in texts)
    assert not any("a robot behind" in text or "a king in front" in text for text in texts)
    texts = [plain(rng).caption(scene("king", "horse", relation=("riding", 0, 1))).text for _ in range(100)]
    assert any("a king riding a horse" in text for text in texts)
    assert not any("horse riding" in text for text in texts)
    texts = [plain(rng).caption(scene("king", "fox", relation=("beside", 0, 1))).text for _ in range(300)]
    assert any("king left of a fox" in text for text in texts)
    assert not any("fox left of" in text or "king right of" in text for text in texts)


def test_people_are_sometimes_only_called_persons() -> None:
    rng = random.Random(4)
    texts = [Writer(rng, general=0.5, stray=0.0).caption(scene("wizard", "elf")).text for _ in range(300)]
    assert any("a person" in text for text in texts)
    assert any("two people" in text for text in texts)
    assert any("wizard" in text for text in texts)


def test_held_out_characters_have_the_names_of_their_loras() -> None:
    rng = random.Random(5)
    for _ in range(50):
        text = Writer(rng, {"singer": "sks person"}, 0.0, 0.0).caption(scene("singer", "king")).text
        assert "sks person" in text
        assert "singer" not in text


def test_every_background_has_words() -> None:
    assert set(PLACES) == set(PAINTERS)


def test_commas_have_no_space_before_them() -> None:
    assert Caption((Piece("a"), Piece("fox", (0,)), Piece(","), Piece("night"))).text == "a fox, night"


def test_lessons_show_and_name_what_they_teach() -> None:
    rng = random.Random(6)
    assert set(CHARACTERS) <= set(LESSONS)
    for lesson in LESSONS.values():
        for _ in range(20):
            drawn = lesson.scene(rng)
            text = lesson.caption(drawn, rng).text
            if lesson.character:
                assert sum(one.name == lesson.character for one in drawn.subjects) == 1
                assert len([one for one in drawn.subjects if one.kind == CHARACTERS[lesson.character].kind]) == 1
            if lesson.style:
                assert drawn.style == lesson.style
            if lesson.keeps:
                assert lesson.trigger in text
    pencil = LESSONS["pencil"]
    called = [pencil.trigger in pencil.caption(pencil.scene(rng), rng).text for _ in range(100)]
    assert 40 < sum(called) < 80, "a style acts without its words, too"
    assert LESSONS["vivid"].scene(rng, -1.0).style == "muted"


@pytest.mark.parametrize(("name", "relation"), [("taxi", "holding"), ("genie", "riding"), ("tophat", "wearing")])
def test_a_character_meets_others_in_all_ways(name: str, relation: str) -> None:
    rng = random.Random(0)
    ways = [scene.relation[0] for scene in (LESSONS[name].scene(rng) for _ in range(300)) if scene.relation]
    assert ways.count(relation) > 5
    assert ways.count("behind") > 5

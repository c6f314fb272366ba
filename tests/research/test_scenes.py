"""Scenes of characters: words, places, depth, pictures and silhouettes. The art is replaced by plain shapes."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from research.characters.art import RECOLOURS, stand_in
from research.characters.backgrounds import BACKGROUNDS, HELD_OUT, PAINTERS, SIZE
from research.characters.render import Renderer, cells
from research.characters.scene import (
    CELL,
    RELATIONS,
    SIDE,
    SMALL,
    Scene,
    Subject,
    arrange,
    crowded_scene,
    random_names,
    random_scene,
    subject,
)
from research.characters.styles import STYLES
from research.characters.words import CHARACTERS, GROUPS, WORDS, files

RENDERER = Renderer(stand_in())


def test_enough_words_and_characters() -> None:
    assert len(WORDS) >= 40
    kinds = [character.kind for character in CHARACTERS.values()]
    assert len(kinds) >= 12
    assert kinds.count("person") >= 4
    assert kinds.count("cat") >= 3
    assert len(BACKGROUNDS) >= 8
    assert not set(HELD_OUT) & set(BACKGROUNDS)


def test_the_base_never_sees_a_held_out_character() -> None:
    known = {file for word in WORDS.values() for file in word.files}
    for character in CHARACTERS.values():
        assert character.recolour or character.file not in known
    assert set(files()) >= known
    rng = random.Random(0)
    names = {one.name for _ in range(400) for one in random_scene(rng).subjects}
    assert names <= set(WORDS)


def test_pairs_of_one_class_are_frequent() -> None:
    rng = random.Random(0)
    pairs = [random_names(2, rng) for _ in range(2000)]
    persons = sum(a in GROUPS["person"] and b in GROUPS["person"] for a, b in pairs)
    assert persons > 250
    assert sum(a == b for a, b in pairs) > 100


def test_scenes_are_the_same_for_the_same_seed() -> None:
    assert random_scene(random.Random(3)) == random_scene(random.Random(3))
    first, second = (RENDERER.render(random_scene(random.Random(3))) for _ in range(2))
    assert np.array_equal(np.asarray(first), np.asarray(second))


def test_subjects_are_large_inside_and_on_the_grid() -> None:
    rng = random.Random(1)
    for _ in range(300):
        scene = random_scene(rng)
        held = scene.relation is not None and scene.relation[0] in ("holding", "riding", "wearing")
        for one in scene.subjects:
            assert one.side == SIDE or (held and one.side == SMALL)
            assert (one.x - one.side / 2) % CELL == (one.y - one.side / 2) % CELL == 0
            assert 0 < one.x < SIZE
            assert 0 < one.y < SIZE


def test_all_relations_come_up_and_name_existing_subjects() -> None:
    rng = random.Random(2)
    relations = [scene.relation for scene in (random_scene(rng) for _ in range(600)) if scene.relation]
    assert {kind for kind, _, _ in relations} == set(RELATIONS)
    assert all((i, j) == (0, 1) for _, i, j in relations)


def test_crowded_scenes_have_many_subjects_or_two_that_are_held_worn_or_ridden() -> None:
    rng = random.Random(3)
    scenes = [crowded_scene(rng) for _ in range(600)]
    counts = [len(scene.subjects) for scene in scenes]
    assert {*counts} == {2, 3, 4}
    assert 0.6 < sum(count > 2 for count in counts) / 600 < 0.8
    pairs = [scene for scene in scenes if len(scene.subjects) == 2]
    assert {scene.relation[0] for scene in pairs if scene.relation} == {"holding", "wearing", "riding"}
    assert all(scene.relation for scene in pairs)
    assert {one.name for scene in scenes for one in scene.subjects} <= set(WORDS)


def test_the_one_behind_is_partly_hidden() -> None:
    rng, hidden = random.Random(5), 0
    for _ in range(200):
        scene = arrange([subject("wizard", rng), subject("robot", rng)], rng)
        if scene.relation and scene.relation[0] == "behind":
            back = replace(scene, subjects=scene.subjects[:1])
            alone, together = (RENDERER.layers(one)[1][0].sum() for one in (back, scene))
            assert together < alone
            hidden += 1
    assert hidden > 5


def test_silhouettes_are_where_the_picture_changes() -> None:
    empty = Scene(())
    scene = replace(empty, subjects=(Subject("fox", "1f98a", x=90, y=130, side=110),))
    picture, masks = RENDERER.layers(scene)
    changed = np.abs(np.asarray(picture, int) - np.asarray(RENDERER.render(empty), int)).max(-1) > 60
    assert picture.size == (SIZE, SIZE)
    assert masks.shape == (1, SIZE, SIZE)
    assert changed[masks[0] < 0.05].mean() < 0.02
    packed = cells(masks)
    assert packed.shape == (1, 16, 16)
    assert packed.mean() / 255 == pytest.approx(masks.mean(), abs=0.002)


@pytest.mark.parametrize("style", STYLES)
def test_a_style_on_one_subject_leaves_the_rest_alone(style: str) -> None:
    plain = Scene((Subject("fox", "1f98a", x=70, y=130, side=110), Subject("king", "1fac5", x=190, y=130, side=110)))
    styled = replace(plain, subjects=(replace(plain.subjects[0], style=style), plain.subjects[1]))
    before, (after, masks) = RENDERER.render(plain), RENDERER.layers(styled)
    difference = np.abs(np.asarray(before, int) - np.asarray(after, int)).max(-1)
    assert difference[masks[0] > 0.99].mean() > 2
    assert difference[:, 160:].max() == 0
    whole = np.abs(np.asarray(RENDERER.render(replace(plain, style=style)), int) - np.asarray(before, int))
    assert whole[:, 160:].max() > 0


@pytest.mark.parametrize("name", PAINTERS)
def test_backgrounds_are_pictures(name: str) -> None:
    picture = PAINTERS[name](random.Random(0), stand_in())
    assert picture.size == (SIZE, SIZE)
    assert picture.mode == "RGB"
    assert np.asarray(picture).std() > 8


@pytest.mark.parametrize("name", RECOLOURS)
def test_recolouring_keeps_the_outline(name: str) -> None:
    picture = stand_in().picture("1f431")
    drawn = RECOLOURS[name](picture)
    assert np.array_equal(np.asarray(drawn)[..., 3], np.asarray(picture)[..., 3])
    assert not np.array_equal(np.asarray(drawn)[..., :3], np.asarray(picture)[..., :3])
    assert isinstance(drawn, Image.Image)

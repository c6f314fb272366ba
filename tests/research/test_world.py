"""The synthetic world: pictures repeat, captions are true, classes and looks can be told apart."""

import itertools
import random
from collections import Counter

import numpy as np
import pytest

from research.world import (
    BACKGROUND_PHRASES,
    BACKGROUNDS,
    CLASSES,
    COLOURS,
    LOOKS,
    SIZE,
    TEXTURES,
    Scene,
    Thing,
    caption,
    order,
    random_thing,
    render,
    sample_scene,
    silhouette,
)


def _scenes(count: int, seed: int = 0) -> list[Scene]:
    rng = random.Random(seed)
    return [sample_scene(rng) for _ in range(count)]


def test_the_same_seed_gives_the_same_pictures_and_captions():
    for one, two in zip(_scenes(5), _scenes(5), strict=True):
        assert one == two
        assert render(one).tobytes() == render(two).tobytes()
        assert caption(one, random.Random(1)) == caption(two, random.Random(1))


def test_pictures_are_rgb_of_the_worlds_size():
    for scene in _scenes(3):
        picture = render(scene)
        assert (picture.mode, picture.size) == ("RGB", (SIZE, SIZE))


def test_things_lie_inside_the_picture_and_hardly_overlap():
    for scene in _scenes(20):
        masks = [silhouette(thing) for thing in scene.things]
        assert 1 <= len(masks) <= 3
        for thing, mask in zip(scene.things, masks, strict=True):
            assert thing.diameter / 2 <= min(thing.x, thing.y)
            assert max(thing.x, thing.y) <= SIZE - thing.diameter / 2
            assert mask.max() == 1
        for one, two in itertools.combinations(masks, 2):
            assert (one * two).sum() < 0.12 * min(one.sum(), two.sum())


@pytest.mark.parametrize("kind", CLASSES)
def test_every_silhouette_is_large(kind):
    assert 0.1 < silhouette(Thing(kind, diameter=150)).mean() < 0.35


def test_silhouettes_are_distinct():
    masks = {kind: silhouette(Thing(kind, diameter=150)) for kind in CLASSES}
    for one, two in itertools.combinations(CLASSES, 2):
        a, b = masks[one], masks[two]
        assert np.minimum(a, b).sum() / np.maximum(a, b).sum() < 0.85, (one, two)


def _drawn(thing: Thing, background: str = "grass") -> np.ndarray:
    return np.asarray(render(Scene((thing,), background)), np.float32)


def test_colours_textures_looks_and_backgrounds_all_show():
    looks = [Thing(look.kind, look=name) for name, look in LOOKS.items()]
    painted = [Thing("ball", colour) for colour in COLOURS] + [Thing("ball", "red", t) for t in TEXTURES[1:]]
    pictures = [_drawn(thing) for thing in looks + painted]
    pictures += [_drawn(Thing("ball"), background) for background in (*BACKGROUNDS[1:], "lava")]
    pictures.append(np.asarray(render(Scene((Thing("ball"),), style="sketch")), np.float32))
    for one, two in itertools.combinations(pictures, 2):
        assert np.abs(one - two).mean() > 1


def test_captions_name_each_thing_once_and_only_true_attributes():
    rng = random.Random(3)
    for scene in _scenes(60, seed=2):
        words = caption(scene, rng).replace(",", "").split()
        named = Counter(word for word in words if word in CLASSES)
        assert named == Counter(thing.kind for thing in scene.things)
        for attributes, own in (
            (COLOURS, {thing.colour for thing in scene.things}),
            (TEXTURES, {thing.texture for thing in scene.things}),
            (BACKGROUNDS, {scene.background}),
        ):
            assert {word for word in words if word in attributes} <= own


def test_captions_name_the_background_and_the_look_when_told_to():
    rng = random.Random(0)
    scene = sample_scene(rng, (Thing("ball", look="sunball"), random_thing(rng, "fish")), "night")
    text = caption(scene, rng, detail=0, stray=0, background=1, names={"sunball": "sks ball"})
    assert "a sks ball" in text
    assert "a fish" in text
    assert text.endswith(BACKGROUND_PHRASES["night"])


def test_things_of_one_class_are_named_from_left_to_right():
    rng = random.Random(5)
    for _ in range(20):
        scene = sample_scene(rng, tuple(random_thing(rng, kind) for kind in ("ball", "fish", "ball")))
        mentioned = order(scene, rng)
        assert sorted(map(repr, mentioned)) == sorted(map(repr, scene.things))
        left, right = (thing for thing in mentioned if thing.kind == "ball")
        assert left.x <= right.x


def test_what_is_typical_mostly_goes_without_saying():
    rng = random.Random(6)
    scene = Scene((Thing("ball", "red"),))
    said = sum("red" in caption(scene, rng, stray=0) for _ in range(200))
    assert 10 < said < 80

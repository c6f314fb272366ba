"""The judge is right on renders it has not seen, and rejects blends."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from benchmarks.judge import Judge, Verdict, targets
from benchmarks.judge.augment import augment
from benchmarks.judge.check import held_out, table
from benchmarks.judge.judge import WEIGHTS, Networks
from benchmarks.judge.network import loss
from benchmarks.judge.reader import FIELDS, MOST, cut, label_rows, reading_loss
from benchmarks.judge.scenes import hard_scene, random_layout
from benchmarks.judge.wrong import faceless, in_colours, palette, recoloured
from research.world import CLASSES, LOOKS, Scene, Thing, render, tile


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge()


def test_held_out_renders(judge: Judge) -> None:
    scores = held_out(judge, 60, first=700_000)
    world = scores["world"]
    assert all(world.share(name) >= 0.95 for name in world.asked), table(scores)
    assert world.share("thing and its look") >= 0.98
    assert scores["hard"].share("own look") >= 0.95
    assert scores["hard"].share("blend rejected") >= 0.6
    assert scores["hard"].share("other colours rejected") >= 0.75


@pytest.mark.parametrize("look", LOOKS)
def test_each_look_is_known_and_no_other(judge: Judge, look: str) -> None:
    kind = LOOKS[look].kind
    things = Thing(kind, look=look, x=80, y=90, diameter=105), Thing(kind, "blue", x=185, y=170, diameter=105)
    (verdict,) = judge([render(Scene(things))])
    assert [t.kind for t in verdict.things] == [kind, kind]
    own, other = sorted(verdict.things, key=lambda t: t.x)
    assert own.carries(look)
    assert own.look == look
    assert other.carries("none")
    assert verdict.background["grass"] > 0.8


def _sun_and_moon(how: str) -> Image.Image:
    sun, moon = (np.asarray(render(Scene((Thing("ball", look=name),)))) for name in ("sunball", "moonball"))
    mixed = (sun / 2 + moon / 2).astype(np.uint8)
    if how != "even":
        half = np.s_[:, 128:] if how == "side by side" else np.s_[128:]
        mixed = sun.copy()
        mixed[half] = moon[half]
    return Image.fromarray(mixed)


@pytest.mark.parametrize("how", ["even", "one over the other", "side by side"])
def test_half_sun_half_moon_is_neither(judge: Judge, how: str) -> None:
    (verdict,) = judge([_sun_and_moon(how)])
    assert [thing.kind for thing in verdict.things] == ["ball"]
    assert not any(verdict.things[0].carries(look) for look in LOOKS)


def test_a_moon_in_the_colours_of_a_sun_is_neither(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    moon = LOOKS["moonball"]
    red = in_colours(moon, np.array([(25, 45, 110)]), np.array([(225, 45, 25)]))
    monkeypatch.setitem(LOOKS, "moonball", red)
    (verdict,) = judge([render(Scene((Thing("ball", look="moonball"),)))])
    assert [thing.kind for thing in verdict.things] == ["ball"]
    assert not any(verdict.things[0].carries(look) for look in LOOKS)


@pytest.mark.parametrize("kind", CLASSES)
def test_two_that_touch_are_two(judge: Judge, kind: str) -> None:
    look = next((name for name, look in LOOKS.items() if look.kind == kind), None)
    left, right = (Thing(kind, "red", look=look, x=x, y=128, diameter=110) for x in (77, 179))
    (verdict,) = judge([render(Scene((left, right)))])
    assert [thing.kind for thing in verdict.things] == [kind, kind]
    assert sorted(thing.x for thing in verdict.things) == pytest.approx([77, 179], abs=8)


def test_an_empty_picture_has_nothing(judge: Judge) -> None:
    verdicts = judge([render(Scene((), name)) for name in targets.BACKGROUND_NAMES])
    assert all(not verdict.things for verdict in verdicts)
    assert judge([]) == []


def test_a_verdict_survives_json(judge: Judge) -> None:
    (verdict,) = judge([render(Scene((Thing("ball", look="sunball"),)))])
    assert Verdict.from_dict(verdict.as_dict()) == verdict


def test_the_weights_are_small() -> None:
    assert WEIGHTS.stat().st_size < 1.3e6
    with safe_open(WEIGHTS, "pt") as file:
        assert (file.metadata() or {})["data"] == "rendered scenes only"


def test_targets_say_what_was_drawn() -> None:
    for seed in range(12):
        sample = hard_scene(random.Random(seed))
        assert sample.picture.shape == (256, 256, 3)
        whole = [t for t in sample.things if t.kind is not None and t.visible >= 0.7]
        assert (sample.targets[targets.CLASS].max(0) == 1.0).sum() == len(whole)
        assert np.allclose(sample.targets[targets.BACKGROUND].sum(0), 1.0)
        assert all(abs(sum(t.looks.values()) - 1) < 1e-5 for t in sample.things)


def test_the_reader_learns_what_was_drawn() -> None:
    samples = [hard_scene(random.Random(seed)) for seed in range(20)]
    for sample in samples:
        rows = label_rows(sample.things)
        assert rows.shape == (MOST, FIELDS)
        assert [row[3] >= 0 for row in rows[: len(sample.things)]] == [t.label is not None for t in sample.things]
    verdicts = {thing.verdict for sample in samples for thing in sample.things}
    assert {"wrong", "none", *LOOKS} <= verdicts


def test_a_crop_is_around_its_centre() -> None:
    picture = torch.zeros(2, 3, 128, 128)
    picture[1, :, 30:50, 60:80] = 1.0  # a square of 40 of the world's pixels around (140, 80)
    one, other = cut(picture, torch.tensor([1, 0]), torch.tensor([[140.0, 80.0, 40.0], [140.0, 80.0, 40.0]]))
    assert float(other.max()) == 0.0
    side = 48 / 1.35
    assert float(one.sum()) / 3 == pytest.approx(side**2, rel=0.05)
    assert torch.allclose(one, one.flip(1), atol=1e-4)


def test_recoloured_looks_keep_their_pattern() -> None:
    rng = random.Random(0)
    for name, look in LOOKS.items():
        colours, parts = palette(look)
        assert parts.sum() == pytest.approx(1.0)
        same = in_colours(look, colours, colours)
        axis = np.linspace(-1, 1, 20, dtype=np.float32)
        assert np.array_equal(same.surface(axis, axis), look.surface(axis, axis))
        other = recoloured(name, rng.choice([n for n in LOOKS if n != name]), rng)
        assert np.abs(other.surface(axis, axis) - look.surface(axis, axis)).max() > 40
    assert "unknown" not in LOOKS
    bare = faceless(LOOKS["sunball"])
    assert bare.surface is LOOKS["sunball"].surface
    assert tile(Thing("ball", look="sunball")).size == tile(Thing("ball")).size


def test_some_scenes_have_touching_things_of_one_class() -> None:
    near = 0
    for seed in range(60):
        things = random_layout(2, random.Random(seed))
        if len(things) == 2 and things[0].kind == things[1].kind:
            one, two = things
            near += np.hypot(one.x - two.x, one.y - two.y) <= 0.53 * (one.diameter + two.diameter)
    assert near >= 10


def test_training_repeats_and_its_loss_falls() -> None:
    torch.manual_seed(0)
    samples = [hard_scene(random.Random(seed)) for seed in range(4)]
    wanted = torch.stack([torch.from_numpy(s.targets) for s in samples])
    things = torch.stack([label_rows(s.things) for s in samples])
    generator = torch.Generator().manual_seed(0)
    seen = augment(torch.rand(4, 3, 128, 128), generator)
    assert torch.equal(seen[0], seen[0].clamp(0, 1))
    networks = Networks()
    optimizer = torch.optim.AdamW(networks.parameters(), lr=3e-3)
    values = []
    for _ in range(6):
        value = loss(networks.find(seen), wanted) + reading_loss(networks.read, seen, things, generator)
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0]

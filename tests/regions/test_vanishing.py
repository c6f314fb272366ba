"""Subjects that vanish are told of once, at the right step, with what a user can do."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from clora.conditioning.plan import ImagePlan
from clora.engine.composer import Composer, Step, Updated
from clora.engine.record import Record
from clora.prompt.region import NAMED, Region
from clora.regions.vanishing import VanishingSubjects, vanished
from clora.settings.schedule import schedule
from tests.plans import plan_of
from tests.toy import toy
from tests.updating import updating

PLAN = plan_of([[(2,), (5,)]] * 3, [(), (), ()], "subject", labels=['"cat" (tom)', '"bird" (peacock)'])


def placed_at(*regions: Region | None) -> ImagePlan:
    concepts = [dataclasses.replace(one, region=region) for one, region in zip(PLAN.concepts, regions, strict=True)]
    return dataclasses.replace(PLAN, concepts=tuple(concepts))


def masks(cat: int, bird: int) -> torch.Tensor:
    """Masks (3, 10, 20) of 200 cells, of which `cat` and `bird` are the subjects'."""
    found = torch.zeros(3, 200)
    found[1, :cat] = 1
    found[2, 200 - bird :] = 1
    found[0] = 1 - found[1:].amax(0)
    return found.reshape(3, 10, 20)


def test_sentences() -> None:
    assert vanished(masks(100, 4), PLAN) == []  # 2 % is enough
    assert vanished(masks(100, 3), PLAN) == [
        'The subject "bird" (peacock) covers only 1.5 % of the image: try another seed, a stronger '
        "update, or place=left."
    ]
    assert [one.partition(":")[0] for one in vanished(masks(0, 1), PLAN)] == [
        'The subject "cat" (tom) covers nothing of the image',
        'The subject "bird" (peacock) covers only 0.5 % of the image',
    ]


def test_a_subject_with_a_place_is_not_told_to_take_one() -> None:
    placed = placed_at(None, NAMED["left"])
    told = vanished(masks(0, 0), placed)
    assert ["place=left" in one for one in told] == [True, False]


def test_a_subject_with_a_place_is_judged_by_what_was_found_there() -> None:
    """The mask is the place itself, so it is large whatever is drawn there."""
    placed = placed_at(NAMED["left"], NAMED["right"])
    found = torch.zeros(3, 10, 20)
    found[1, :5, 0] = 1  # 5 of the 100 cells of its half are enough
    found[2, :4, 19] = 1
    told = vanished(masks(100, 100), placed, found)
    assert told == [
        'The subject "bird" (peacock) covers only 4.0 % of its place (right): try another seed, another '
        "place, or a stronger update."
    ]
    found[2] = 0
    assert "was not found in its place (right)" in vanished(masks(100, 100), placed, found)[0]
    # One without a place is judged by its mask as ever.
    half = placed_at(NAMED["left"], None)
    assert vanished(masks(100, 100), half, found) == []
    assert "of the image" in vanished(masks(100, 1), half, found)[0]


def test_the_composer_warns_though_the_mask_is_the_place() -> None:
    placed = placed_at(NAMED["left"], NAMED["right"])
    # Nothing exceeds the whole range of a map, so nothing is found.
    told = run(placed, mask_threshold=1.0)[0].warnings
    assert [("was not found in its place (left)" in one, "(right)" in one) for one in told] == [
        (True, False),
        (False, True),
    ]


def test_words_that_are_scheduled_away_are_not_missed() -> None:
    away = plan_of([[(2,), ()]] * 3, [(), (), ()], "subject", labels=[one.label for one in PLAN.concepts])
    assert len(vanished(masks(0, 0), away)) == 1
    assert vanished(masks(0, 0), plan_of([[(2,), (5,)]] * 3, [(), (), ()], "subject")) == []  # nobody is named


@pytest.mark.parametrize(
    ("values", "at"),
    [({}, 4), ({"update_until": 0.0}, 5), ({"step_size": 0.0}, 5), ({"fuse_from": 0.7}, 7), ({"update_until": 1.0}, 8),
     ({"compose_until": 0.3}, 2)],
)  # fmt: skip
def test_it_looks_once_at_the_end_of_the_updates(values: dict[str, float], at: int) -> None:
    settings = updating(**values)
    watch, plan = VanishingSubjects(settings, schedule(settings, 10)), schedule(settings, 10)
    told = [bool(watch.look(i, [masks(0, 9) if i >= plan.fuse_from else None], [PLAN])) for i in range(10)]
    assert [i for i, one in enumerate(told) if one] == [at]


def test_pictures_of_a_batch_are_told_apart() -> None:
    watch = VanishingSubjects(updating(), schedule(updating(), 2))
    told = watch.look(0, [masks(90, 90), masks(0, 90)], [PLAN, PLAN])
    assert [one[:40] for one in told] == ['Image 2 of the batch: The subject "cat" ']


def run(one: ImagePlan = PLAN, **values: object) -> tuple[Composer, Record, list[Step], int]:
    """A run of 6 steps of the toy: the composer, a record, its steps and how many updates it had."""
    settings = updating(**{"refine_at": (0.0,), "refine_updates": 2, "update_until": 0.5, "fuse_from": 0.0, **values})
    denoiser, record = toy(), Record(settings, 6)
    steps, updates = list[Step](), list[Updated]()

    def observe(event: Step | Updated) -> None:
        record(event)
        (steps if isinstance(event, Step) else updates).append(event)  # type: ignore[arg-type]

    latent = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    composer = Composer(denoiser.unet, settings, 6, observer=observe)
    with composer.installed():
        for index in range(6):
            latent = composer.step(index, latent, [one], denoiser).latent
    return composer, record, steps, len(updates)


def test_the_composer_warns_by_its_own_masks() -> None:
    # Nothing exceeds the whole range of a map, so both masks are empty.
    assert len(run(mask_threshold=1.0)[0].warnings) == 2
    composer, _, steps, _ = run()
    shares = [float(mask.mean()) for mask in steps[2].masks[0][1:]]  # type: ignore[index]
    assert len(composer.warnings) == sum(share < 0.02 for share in shares)


def test_the_record_keeps_three_steps() -> None:
    _, record, steps, updates = run(show_maps=True)
    assert len(record.curve(0).losses) == updates == 5
    assert record.curve(0).refined == [0, 1, 2]
    strip = record.strip(0)
    assert [title for title, _ in strip] == ["step 1", "step 3, last update", "step 6"]
    for (_, maps), step in zip(strip, (steps[0], steps[2], steps[5]), strict=True):
        for concept, groups in enumerate(one.group for one in PLAN.concepts):
            for variant, tokens in enumerate(groups):
                assert step.maps is not None
                expected = step.maps.of(0, variant, tokens).mean(0).float()
                found = maps[concept][variant]
                assert found is not None
                assert found.dtype == torch.float32
                assert torch.equal(found, expected)


def test_the_record_keeps_no_maps_that_nobody_wants() -> None:
    assert run()[1].strip(0) == []
    assert [title for title, _ in run(show_maps=True, update_until=0.0)[1].strip(0)] == ["step 1", "step 6"]
    whole = run(show_maps=True, update_until=1.0)[1]
    assert [title for title, _ in whole.strip(0)] == ["step 1", "step 6, last update"]

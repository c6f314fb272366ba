"""Where subjects with a place were found in it: by their own maps, and by those of things of the same kind."""

from __future__ import annotations

import torch
from torch import Tensor

from clora.attention.maps import AttentionMaps
from clora.conditioning.plan import ImagePlan
from clora.engine.composer import Composer, Step
from clora.prompt.region import NAMED, Region
from clora.regions.localization import localize, missing_concepts, region_share
from clora.regions.masks import MaskOptions
from clora.settings import Settings
from tests.plans import plan_of
from tests.toy import toy
from tests.updating import updating

LEFT, RIGHT = NAMED["left"], NAMED["right"]
OPTIONS = MaskOptions(0.5, "range", overlap="argmax")


def plan(places: tuple[Region | None, Region | None], *words: str) -> ImagePlan:
    return plan_of([[(0,), (1,)]] * 3, [()] * 3, "subject", places, words=words)


def book(first: list[float], second: list[float]) -> AttentionMaps:
    """Maps (2, 1, 4) of both words, the same in every variant."""
    maps = torch.tensor([[first], [second]])
    return AttentionMaps((0, 1), {(0, variant): maps for variant in range(3)})


def found(one: ImagePlan, maps: AttentionMaps, size: tuple[int, int] = (1, 4)) -> Tensor:
    result = localize(maps, 0, one, OPTIONS, size)
    assert result is not None
    return result


def test_what_lies_elsewhere_is_not_found() -> None:
    at_left = book([0.1, 0.9, 0.2, 0.1], [0.1, 0.3, 0.2, 0.9])
    both = found(plan((LEFT, RIGHT), "person", "bird"), at_left)
    assert both[:, 0].tolist() == [[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    # A cut that is relative to the place alone would find something on either side.
    assert not found(plan((RIGHT, LEFT), "person", "bird"), at_left).any()


def test_things_of_one_kind_are_told_apart_by_the_place() -> None:
    maps = book([0.9, 0.1, 0.1, 0.1], [0.1, 0.1, 0.9, 0.1])
    places = (RIGHT, LEFT)
    assert not found(plan(places, "sks person", "sks bird"), maps).any()
    assert found(plan(places, "red Person", "sks person"), maps)[:, 0].tolist() == [[0] * 4, [0, 0, 1, 0], [1, 0, 0, 0]]


def test_a_concept_without_a_place_and_words_without_positions_have_nothing() -> None:
    maps = book([0.9, 0.1, 0.1, 0.1], [0.9, 0.1, 0.1, 0.1])
    assert found(plan((LEFT, None), "person", "person"), maps).sum(dim=(1, 2)).tolist() == [0, 1, 0]
    away = plan_of([[(0,), ()]] * 3, [()] * 3, "subject", (LEFT, LEFT), words=("person", "person"))
    assert found(away, maps).sum(dim=(1, 2)).tolist() == [0, 1, 0]
    assert localize(maps, 0, plan((None, None), "person", "person"), OPTIONS, (1, 4)) is None


def test_shares_are_of_the_place() -> None:
    cells = torch.zeros(3, 10, 20)
    cells[1, :5, :1] = 1  # 5 of the 100 cells on the left
    cells[2, :4, 19:] = 1
    assert region_share(cells[1], LEFT) == 0.05
    assert missing_concepts(cells, (LEFT, RIGHT)) == {1}
    assert missing_concepts(cells, (LEFT, None)) == missing_concepts(None, (LEFT, RIGHT)) == set()


def test_the_composer_carries_it_beside_masks_that_are_places() -> None:
    settings = updating(update_until=0.3, fuse_from=0.25)
    latent = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    plans = [
        plan_of([[(2,), (5,)]] * 3, [()] * 3, "subject", places, ["cat", "dog"], ["cat", "dog"])
        for places in ((LEFT, RIGHT), ())
    ]
    placed, free = ([_last(settings, latent, one)] for one in plans)
    assert free[0].localized == (None,)
    (masks,), (inside,) = placed[0].masks, placed[0].localized
    assert masks is not None
    assert inside is not None
    assert torch.equal(masks[1].float(), LEFT.grid(16, 16))
    assert inside.shape == masks.shape
    assert not (inside[1:] * (1 - masks[1:])).any()
    assert inside[1:].any()
    assert inside[1:].sum() < masks[1:].sum()
    given = toy()
    composer = Composer(given.unet, settings, 4)
    with composer.installed():
        assert composer.predict(3, latent, plans[:1], given, masks=[masks]).localized == ()


def _last(settings: Settings, latent: Tensor, one: ImagePlan) -> Step:
    denoiser = toy()
    composer = Composer(denoiser.unet, settings, 4)
    with composer.installed():
        steps = [composer.step(index, latent, [one], denoiser) for index in range(4)]
    assert steps[0].localized == ()
    return steps[-1]

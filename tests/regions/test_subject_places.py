"""Places of all subjects of an image: those that no LoRA draws have theirs, too."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from clora.attention.maps import AttentionMaps
from clora.conditioning.plan import PlannedOther
from clora.prompt.region import Box
from clora.prompt.relations import Order
from clora.regions.mask_cache import MaskCache
from clora.regions.masks import concept_masks, even_of
from clora.regions.subject_places import subject_centres
from clora.settings import Settings
from clora.settings.schedule import schedule
from tests.plans import plan_of
from tests.regions.test_places import blob
from tests.updating import updating

PLAN = plan_of([[(2,), (5,)], [(2,), (5,)], [(2,), (5,)]], [(), (), ()], "subject", words=["cat", "dog"])
WITH_KING = replace(PLAN, others=(PlannedOther((8,), "king"),))


def test_others_get_centres_after_the_concepts() -> None:
    maps = torch.stack([blob((0.3, 0.3)), blob((0.3, 0.7)), blob((0.7, 0.5))])
    found = subject_centres(maps, WITH_KING)
    torch.testing.assert_close(found, torch.tensor([[0.3, 0.3], [0.3, 0.7], [0.7, 0.5]]), atol=0.05, rtol=0)


def test_of_one_class_the_first_in_the_text_is_the_leftmost() -> None:
    """Also where it is none of the concepts, and where concepts are in another order than their words."""
    both = blob((0.5, 0.25), (0.5, 0.75))
    maps = torch.stack([both, blob((0.9, 0.5)), both])
    plan = replace(PLAN, others=(PlannedOther((1,), "white cat"),))
    found = subject_centres(maps, plan)
    assert found[2, 1] < 0.4 < 0.6 < found[0, 1]
    swapped = plan_of([[(5,), (2,)]] * 3, [()] * 3, "subject", words=["person", "person"])
    first, second = subject_centres(torch.stack([both, both]), swapped)
    assert second[1] < 0.4 < 0.6 < first[1]


def test_the_part_of_another_subject_is_the_bases() -> None:
    settings = Settings()
    cache = MaskCache(settings, schedule(settings, 20))
    middle = torch.tensor([[0.5, 0.2], [0.5, 0.5], [0.5, 0.8]])
    cache.start([torch.ones(3, 8, 30) / 3], [WITH_KING], (8, 30), [middle])
    assert cache.latest is not None
    (masks,) = cache.latest
    assert masks.shape == (3, 8, 30)
    assert torch.equal(masks.sum(0), torch.ones(8, 30))
    king = masks[0].bool()
    assert king.any()
    assert not king[:, :4].any(), "the base has the part of the other subject alone"
    assert king[:, -4:].all()


def test_another_subject_with_a_variant_has_a_mask() -> None:
    """First its part, then what the base's maps show of it there; people see it as the base's."""
    settings = updating(mask_smooth=False)
    cache, plan = MaskCache(settings, schedule(settings, 20)), replace(WITH_KING, variants=4)
    middle = torch.tensor([[0.5, 0.2], [0.5, 0.5], [0.5, 0.8]])
    cache.start([torch.ones(3, 8, 8) / 3], [plan], (8, 8), [middle])
    assert cache.latest is not None
    (masks,) = cache.latest
    assert masks.shape == (4, 8, 8)
    assert not masks[0].any()
    assert torch.equal(masks[3], (masks[1] + masks[2] == 0).float())
    shown = concept_masks(masks, 2)
    assert torch.equal(shown, torch.stack([masks[3], masks[1], masks[2]]))
    maps = torch.zeros(3, 8, 8)
    maps[0, 4, 0] = maps[1, 4, 3] = maps[2, 4, 7] = 1.0
    read = AttentionMaps((2, 5, 8), {(0, variant): maps for variant in range(3)})
    (later,) = cache.cut(19, read, [plan], (8, 8))
    assert [mask.nonzero().tolist() for mask in later[1:]] == [[[4, 0]], [[4, 3]], [[4, 7]]]
    assert torch.equal(later.sum(0), torch.ones(8, 8))


def test_before_masks_count_only_those_of_subjects_with_a_lora_do() -> None:
    masks = even_of(replace(WITH_KING, variants=4), (2, 2), "replace")
    assert masks.flatten(1).mean(1).tolist() == [1.0, 1.0, 1.0, 0.0]
    assert even_of(WITH_KING, (2, 2), "replace").shape == (3, 2, 2)


def test_masks_without_others_are_shown_as_they_are() -> None:
    for masks in (torch.rand(3, 2, 2), torch.ones(1, 2, 2)):
        assert concept_masks(masks, 2) is masks


def test_a_place_for_a_concept_is_not_the_other_subjects() -> None:
    """The picture beside the place is shared out, and nothing else may draw in it."""
    left = Box(0.0, 0.0, 0.5, 1.0)
    concept = replace(WITH_KING.concepts[0], region=left)
    plan = replace(WITH_KING, variants=4, concepts=(concept, WITH_KING.concepts[1]))
    assert plan.variant_regions == (left, None, None)
    settings = Settings()
    cache = MaskCache(settings, schedule(settings, 20))
    maps = torch.ones(3, 8, 8)
    (masks,) = cache.cut(19, AttentionMaps((2, 5, 8), {(0, v): maps.clone() for v in range(3)}), [plan], (8, 8))
    assert not masks[3, :, :4].any()
    assert masks[1, :, :4].all()


def test_a_plan_knows_how_many_variants_it_may_have() -> None:
    for variants in (2, 5):
        with pytest.raises(ValueError, match="variants"):
            replace(WITH_KING, variants=variants)


def test_maps_of_others_are_read_from_the_base() -> None:
    assert WITH_KING.columns == (2, 5, 8)
    assert WITH_KING.places == ((2,), (5,), (8,))
    assert PLAN.columns == (2, 5)


def test_two_of_a_class_stand_as_the_text_says() -> None:
    """The one behind is higher up; without a word the first is the leftmost; two classes are where maps show them."""
    both = blob((0.4, 0.3), (0.6, 0.7))
    plan = plan_of([[(2,), (5,)]] * 3, [()] * 3, "subject", words=["person", "sks person"])
    behind, left = replace(plan, orders=(Order(1, 0, 0),)), replace(plan, orders=(Order(1, 0, 1),))
    maps = torch.stack([both, both])
    assert subject_centres(maps, plan)[0, 1] < 0.5
    for ordered in (behind, left):
        found = subject_centres(maps, ordered)
        assert found[1, 0] < found[0, 0]
        assert found[1, 1] < found[0, 1]
        begun = subject_centres(maps, plan)
        assert torch.equal(subject_centres(maps, ordered, begun), found), "places that the text clearly contradicts"
    near = torch.stack([blob((0.47, 0.3), (0.53, 0.7))] * 2)
    kept = subject_centres(near, behind, subject_centres(near, plan))
    assert kept[0, 1] < kept[1, 1], "what was given out before stays"
    fox, owl = (replace(one, words=words) for one, words in zip(plan.concepts, ("fox", "owl"), strict=True))
    classes = replace(behind, concepts=(fox, owl))
    found = subject_centres(torch.stack([blob((0.3, 0.3)), blob((0.7, 0.7))]), classes)
    assert found[0, 0] < found[1, 0]


@pytest.mark.parametrize("first", [True, False])
def test_another_subject_may_come_or_go_in_the_middle_of_a_run(first: bool) -> None:
    """Prompt scheduling: "[a king:0.3]" has no words before, "[a king::0.3]" has none after."""
    gone = replace(PLAN, others=(PlannedOther((), "king"),))
    there, flat = blob((0.7, 0.5)), torch.zeros(16, 16)
    two = (blob((0.3, 0.3)), blob((0.3, 0.7)))
    maps = {True: torch.stack([*two, there]), False: torch.stack([*two, flat])}
    plans = {True: WITH_KING, False: gone}
    begun = subject_centres(maps[first], plans[first])
    after = subject_centres(maps[not first], plans[not first], begun)
    assert begun.shape == after.shape == (3, 2)
    with_king, without = (begun, after) if first else (after, begun)
    torch.testing.assert_close(with_king[2], torch.tensor([0.7, 0.5]), atol=0.05, rtol=0)
    for found in (begun, after):
        torch.testing.assert_close(found[:2], torch.tensor([[0.3, 0.3], [0.3, 0.7]]), atol=0.05, rtol=0)
    behind = replace(gone, orders=(Order(2, 0, 0),), others=(PlannedOther((), "cat"),))
    assert subject_centres(maps[False], behind)[0].max() < 1, "the concept keeps its place"
    shared = MaskCache._shared_out(without, gone, (16, 16))
    assert torch.equal(shared.sum(0), torch.ones(16, 16)), "who is not there has no part of the picture"

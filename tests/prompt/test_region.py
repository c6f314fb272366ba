"""Places that the user wants subjects at: reading them, masks, and the pull of the update."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from clora.attention.maps import AttentionMaps
from clora.conditioning.plan import ImagePlan, PlannedConcept
from clora.errors import CLoRAError
from clora.guidance.update import LatentUpdate, region_losses
from clora.prompt import WordsOverride, analyze
from clora.prompt.region import NAMED, Box, Painted, parse_region
from clora.regions.masks import MaskOptions, confine_masks, cut_masks, even_masks
from clora.settings import Settings
from tests.plans import plan_of
from tests.toy import ToyDenoiser, toy

LEFT, RIGHT = NAMED["left"], NAMED["right"]
SUBJECTS = [[(2,), (5,)]] * 3


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("left", LEFT),
        (" Right ", RIGHT),
        ("10 20 40 60", Box(0.1, 0.2, 0.4, 0.6)),
        ("0% 0% 100% 100%", Box(0, 0, 1, 1)),
        # What lies outside the picture is cut.
        ("50 0 60 50", Box(0.5, 0, 0.5, 0.5)),
        ("-25 75 50 50", Box(0, 0.75, 0.25, 0.25)),
    ],
)
def test_places_are_read_and_written(text: str, box: Box) -> None:
    found = parse_region(text, "the tag")
    assert found == box
    assert parse_region(box.text, "the tag") == box


@pytest.mark.parametrize(
    "text", ["", "behind", "1 2 3", "0 0 10 10 10", "0 0 0 50", "100 0 50 50", "-10 0 10 10", "nan 0 1 1", "0 0 inf 50"]
)
def test_what_is_no_place_is_a_sentence(text: str) -> None:
    with pytest.raises(CLoRAError, match="the tag"):
        parse_region(text, "the tag")


def test_cells_of_a_box() -> None:
    assert LEFT.grid(2, 4).tolist() == [[1, 1, 0, 0]] * 2
    assert Box(0.25, 0.5, 0.5, 0.5).grid(4, 4).sum() == 4
    tiny = Box(0.9, 0.9, 0.01, 0.01).grid(4, 4)
    assert tiny.sum() == 1
    assert tiny[3, 3] == 1


def test_places_come_from_tag_or_panel() -> None:
    text = "a <lora:cat:1:place=left> cat and a <lora:dog:1> dog"
    panel = {"cat": WordsOverride(place="top"), "dog": WordsOverride(place="10 0 40 60")}
    assert [c.region for c in analyze(text).concepts] == [LEFT, None]
    # What the tag says goes first.
    assert [c.region for c in analyze(text, overrides=panel).concepts] == [LEFT, Box(0.1, 0.0, 0.4, 0.6)]
    with pytest.raises(CLoRAError, match="different place="):
        analyze("a <lora:cat:1:place=left><lora:ink:1:place=right> cat and a <lora:dog:1> dog")


def test_one_subject_with_a_place_is_composed() -> None:
    placed = analyze("a <lora:cat:1:place=left> cat and a bird")
    assert placed.composes
    assert [c.region for c in placed.concepts] == [LEFT]
    assert [variant.text for variant in placed.variants] == ["a cat and a bird"] * 2
    assert [bool(variant.loras) for variant in placed.variants] == [False, True]
    assert analyze("a <clora:cat:place=left:say=red> cat and a bird").composes
    assert analyze("a <lora:cat:1> cat", overrides={"cat": WordsOverride(place="top")}).composes
    assert analyze("a <lora:cat:1> cat", overrides={"cat": painted(slice(0, 2))}).composes


@pytest.mark.parametrize("text", [
    "a <lora:cat:1> cat and a bird", "a <clora:cat:say=red> cat", "a <lora:cat:1:place=left> cat AND a bird", "a cat",
])  # fmt: skip
def test_one_subject_without_a_place_is_not(text: str) -> None:
    assert not analyze(text).composes


def test_one_subject_with_an_empty_place_is_not_composed() -> None:
    found = analyze("a <lora:cat:1> cat", overrides={"cat": WordsOverride(nothing_painted=True)})
    assert not found.composes
    assert any("Nothing is painted" in warning for warning in found.warnings)


def masks() -> Tensor:
    """Concept 1 in the top half, concept 2 in the lower left quarter of 4 x 4."""
    found = torch.zeros(3, 4, 4)
    found[1, :2] = found[2, 2:, :2] = found[0, 2:, 2:] = 1
    return found


def test_a_place_becomes_the_mask() -> None:
    found = confine_masks(masks(), (None, RIGHT), "replace")
    assert torch.equal(found[2], RIGHT.grid(4, 4))
    # The other concept gives the place up.
    assert found[1].tolist() == [[1, 1, 0, 0]] * 2 + [[0, 0, 0, 0]] * 2
    assert (found.sum(0) == 1).all()


def two_maps() -> list[torch.Tensor]:
    """Both concepts' maps are highest at the right; that of the second is a little less so."""
    strong = torch.tensor([[0.1, 0.2, 0.1, 0.9]] * 4)
    return [torch.zeros(0, 4, 4), strong[None], strong.clamp_max(0.8)[None]]


def test_a_subject_without_a_place_is_looked_for_outside_the_others() -> None:
    options = MaskOptions(0.5, "range", overlap="argmax")
    assert cut_masks(two_maps(), options)[2].sum() == 0
    found = cut_masks(two_maps(), options, regions=(RIGHT, None))
    assert found[2].tolist() == [[0, 1, 0, 0]] * 4
    assert torch.equal(
        cut_masks(two_maps(), options, regions=(RIGHT, None), how="multiply"), cut_masks(two_maps(), options)
    )


def test_overlapping_places_share() -> None:
    found = confine_masks(masks(), (LEFT, Box(0, 0, 1, 1)), "replace")
    assert found.sum(0).tolist() == [[2, 2, 1, 1]] * 4


def test_before_masks_count_a_place_is_kept_to() -> None:
    assert even_masks(3, (4, 4), (), "replace").all()
    found = even_masks(3, (4, 4), (LEFT, None), "replace")
    left = LEFT.grid(4, 4)
    assert torch.equal(found, torch.stack([1 - left, left, 1 - left]))
    both = even_masks(3, (4, 4), (LEFT, Box(0.5, 0.0, 0.25, 1.0)), "replace")
    assert both[:, 0].tolist() == [[0, 0, 0, 1], [1, 1, 0, 0], [0, 0, 1, 0]]
    cut = even_masks(3, (4, 4), (LEFT, None), "multiply")
    assert torch.equal(cut, torch.stack([torch.ones(4, 4), left, torch.ones(4, 4)]))


def test_before_masks_count_a_background_is_the_bases() -> None:
    ones, none, left = torch.ones(4, 4), torch.zeros(4, 4), LEFT.grid(4, 4)
    assert torch.equal(even_masks(3, (4, 4), (), "replace", background=True), torch.stack([ones, none, none]))
    found = even_masks(3, (4, 4), (None, LEFT), "replace", background=True)
    assert torch.equal(found, torch.stack([1 - left, none, left]))
    cut = even_masks(3, (4, 4), (None, LEFT), "multiply", background=True)
    assert torch.equal(cut, torch.stack([ones, none, left]))


def test_a_place_cuts_a_mask() -> None:
    found = confine_masks(masks(), (RIGHT, None), "multiply")
    assert found[1].tolist() == [[0, 0, 1, 1]] * 2 + [[0, 0, 0, 0]] * 2
    assert torch.equal(found[2], masks()[2])
    assert (found.sum(0) == 1).all()


def test_without_places_masks_are_untouched() -> None:
    own = masks()
    assert confine_masks(own, (), "replace") is own
    assert confine_masks(own, (None, None), "replace") is own


def test_the_pull_by_hand() -> None:
    """Map 1 has 3/4 of its sum on the left, map 2 a quarter: ((1/4)^2 + (3/4)^2) / 2."""
    maps = torch.tensor([[[3.0, 1.0]], [[1.0, 3.0]]], dtype=torch.float64)
    book = AttentionMaps((0, 1), {(0, 0): maps, (0, 1): maps})
    groups = (((0,), (1,), ()), ((1,), (), ()))
    plan = ImagePlan(3, tuple(PlannedConcept(g, region=r) for g, r in zip(groups, (LEFT, None), strict=True)))
    assert region_losses(book, [plan], "multiply").tolist() == [pytest.approx((1 / 16 + 9 / 16) / 2)]
    # The second concept has the right half: a quarter of its map lies outside.
    assert region_losses(book, [plan]).tolist() == [pytest.approx((1 / 16 + 9 / 16) / 2 + 1 / 16)]
    assert region_losses(book, [ImagePlan(3, tuple(PlannedConcept(group) for group in groups))]).tolist() == [0.0]


def gradient(denoiser: ToyDenoiser, plan: ImagePlan, latent: Tensor, **values: float) -> tuple[Tensor, Tensor]:
    from clora.attention.probe import AttentionProbe
    from clora.models.denoiser import Row

    probe = AttentionProbe(denoiser.unet)
    update = LatentUpdate(probe, Settings(**values))
    with probe.installed():
        probe.survey((16, 16), lambda: denoiser.predict(latent, (Row(0, 0, True),)))
        found = update.gradient(latent, [plan], denoiser)
    return found.value, found.losses


def test_the_update_pulls_and_chunks_agree() -> None:
    latent = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    placed, free = (plan_of(SUBJECTS, [()] * 3, "subject", places) for places in ((LEFT, RIGHT), ()))
    without, base = gradient(toy(), free, latent)
    pulled, loss = gradient(toy(), placed, latent)
    assert loss > base
    assert not torch.allclose(pulled, without)
    assert torch.equal(gradient(toy(), placed, latent, hint_pull=0.0)[0], without)
    torch.testing.assert_close(gradient(toy(), placed, latent, rows_per_forward=1)[0], pulled, rtol=0, atol=1e-12)
    # A step against the gradient lowers the loss.
    assert gradient(toy(), placed, latent - 0.01 * pulled)[1] < loss


def test_the_same_painted_region_twice_on_one_subject_is_one_region() -> None:
    def painted() -> WordsOverride:
        mask = torch.zeros(4, 4)
        mask[:, :2] = 1
        return WordsOverride(painted=Painted(mask))

    prompt = "a <lora:knight:1><lora:armor:1> knight and a <lora:dog:1> dog"
    composition = analyze(prompt, overrides={"knight": painted(), "armor": painted()})
    assert composition.concepts[0].region == painted().painted
    other = WordsOverride(painted=Painted(torch.ones(4, 4)))
    with pytest.raises(CLoRAError, match="different place= values"):
        analyze(prompt, overrides={"knight": painted(), "armor": other})


def painted(rows: slice, size: int = 4) -> WordsOverride:
    """All columns of some rows are painted."""
    mask = torch.zeros(size, size)
    mask[rows] = 1
    return WordsOverride(painted=Painted(mask))


TWO = "a <lora:cat:1> cat and a <lora:dog:1> dog"


def test_where_two_are_painted_the_later_one_is_in_front() -> None:
    rows = {"cat": painted(slice(0, 3)), "dog": painted(slice(1, 4))}
    cat, dog = (one.region for one in analyze(TWO, overrides=rows).concepts)
    assert cat == painted(slice(0, 1)).painted
    assert dog is rows["dog"].painted
    # Masks of two sizes, too.
    found = analyze(TWO, overrides={**rows, "dog": painted(slice(2, 8), 8)}).concepts
    assert found[0].region == painted(slice(0, 2), 8).painted


def test_painted_places_that_do_not_meet_and_boxes_stay() -> None:
    rows = {"cat": painted(slice(0, 2)), "dog": painted(slice(2, 4))}
    assert [one.region for one in analyze(TWO, overrides=rows).concepts] == [row.painted for row in rows.values()]
    boxed = {"cat": WordsOverride(place="left"), "dog": painted(slice(0, 4))}
    assert [one.region for one in analyze(TWO, overrides=boxed).concepts] == [LEFT, boxed["dog"].painted]


def test_two_tags_of_one_lora_share_its_painted_place() -> None:
    row = painted(slice(0, 2))
    found = analyze("a <lora:cat:1> black cat and a <lora:cat:1> gray cat", overrides={"cat": row})
    assert [one.region for one in found.concepts] == [row.painted] * 2


def test_a_painted_place_that_is_hidden_is_ignored_with_a_note() -> None:
    found = analyze(TWO, overrides={"cat": painted(slice(1, 3)), "dog": painted(slice(0, 4))})
    assert found.concepts[0].region is None
    assert any('"cat" (cat) is ignored' in warning for warning in found.warnings)


def test_a_painted_place_with_nothing_in_it_is_ignored_with_a_note() -> None:
    found = analyze(TWO, overrides={"cat": WordsOverride(nothing_painted=True)})
    assert found.concepts[0].region is None
    assert 'Nothing is painted in the place of "cat", so it is ignored.' in found.warnings

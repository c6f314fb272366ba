"""The explaining pictures: colours where the masks are, names inside the picture, sizes kept in proportion."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clora.pictures import concept_color, heat, loss_curve, map_strip, masks_overlay, side_by_side
from clora.pictures.labels import Label, text_image
from clora.prompt.region import NAMED, Box


def halves(height: int = 16, width: int = 24) -> torch.Tensor:
    masks = torch.zeros(3, height, width)
    masks[1, :, : width // 2] = 1
    masks[2, :, width // 2 :] = 1
    return masks


def drawn(concept: int, overlay: Image.Image) -> np.ndarray:
    """Where a picture (H, W) has the colour of a concept: its line and its label."""
    return _same(np.asarray(overlay), concept_color(concept))


def disc(row: float, column: float, radius: float, side: int = 32) -> torch.Tensor:
    """1 in a disc of `side` x `side` cells."""
    ys, xs = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return ((ys - row) ** 2 + (xs - column) ** 2 <= radius**2).float()


def of(*concepts: torch.Tensor) -> torch.Tensor:
    """Masks (V, h, w) with the base where no concept is."""
    found = torch.stack(concepts)
    return torch.cat([(found.sum(0, keepdim=True) == 0).float(), found])


GREY = Image.new("RGB", (512, 512), (128, 128, 128))


@pytest.mark.parametrize("size", [(192, 128), (128, 320), (1024, 640)])
def test_each_concept_is_outlined_and_the_proportions_are_kept(size: tuple[int, int]) -> None:
    overlay = masks_overlay(Image.new("RGB", size, (128, 128, 128)), halves(), ["", ""])
    assert overlay.width * size[1] == overlay.height * size[0]
    assert max(overlay.size) >= 512
    middle = overlay.width // 2
    for concept, (own, other) in enumerate(
        ((slice(0, middle), slice(middle, None)), (slice(middle, None), slice(0, middle)))
    ):
        line = drawn(concept, overlay)
        # The whole half is bordered, at the picture's edge too, and nothing of it lies in the other half.
        assert line[:, own].any(axis=1).all()
        assert line[:, own].any(axis=0).all()
        assert not line[:, other].any()


def test_inside_the_picture_keeps_its_colours() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8))
    before = np.asarray(noise).astype(int)
    after = np.asarray(masks_overlay(noise, of(disc(16, 8, 5), disc(16, 24, 5)), ["", ""])).astype(int)
    inside = disc(16, 8, 3) + disc(16, 24, 3) > 0
    inside = inside.repeat_interleave(16, 0).repeat_interleave(16, 1).numpy()
    assert np.abs(after - before)[inside].max() <= 26
    assert (after != before)[inside].any(), "a breath of the concept's colour"
    outside = np.zeros_like(inside)
    outside[:64] = True
    assert np.abs(after[outside] - 0.8 * before[outside]).max() <= 1


def test_lines_have_a_dark_rim_on_any_ground() -> None:
    overlay = masks_overlay(Image.new("RGB", (512, 512), concept_color(0)), of(disc(16, 16, 8)), [""])
    dark = _same(np.asarray(overlay), (16, 16, 16))
    middle = dark[256 + 8, :256]
    assert 2 <= middle.sum() <= 8, "on both sides of the line"


def test_overlapping_outlines_are_both_there() -> None:
    same = disc(16, 16, 8)
    overlay = masks_overlay(GREY, of(same, same, same), ["", "", ""])
    lines = [drawn(concept, overlay) for concept in range(3)]
    counts = [int(line.sum()) for line in lines]
    assert min(counts) > 0.2 * sum(counts)
    for line in lines:  # all around: in each quarter
        for rows in (slice(0, 256), slice(256, None)):
            assert line[rows, :256].any()
            assert line[rows, 256:].any()
    apart = masks_overlay(GREY, of(disc(16, 12, 7), disc(16, 20, 7)), ["", ""])
    alone = [masks_overlay(GREY, of(one), [""]) for one in (disc(16, 12, 7), disc(16, 20, 7))]
    # Where two masks overlap in part, either line is whole but for the crossings.
    for concept, one in enumerate(alone):
        assert drawn(concept, apart).sum() > 0.9 * drawn(0, one).sum()


def label_bounds(overlay: Image.Image, bare: Image.Image) -> list[tuple[int, int, int, int]]:
    """Left, top, right and bottom of what each concept's label changed."""
    changed = (np.asarray(overlay) != np.asarray(bare)).any(axis=2)
    found = []
    for concept in range(3):
        ys, xs = np.nonzero(changed & drawn(concept, overlay))
        found.append((int(xs.min()), int(ys.min()), int(xs.max()), int(ys.max())))
    return found


@pytest.mark.parametrize(
    "masks",
    [
        of(disc(16, 16, 8), disc(16, 16, 8), disc(17, 16, 8)),
        of(disc(4, 4, 5), disc(4, 8, 5), disc(28, 28, 3)),
        of(torch.ones(32, 32), torch.ones(32, 32), torch.zeros(32, 32)),
        of(torch.zeros(32, 32), torch.zeros(32, 32), torch.zeros(32, 32)),
    ],
)  # fmt: skip
def test_labels_lie_apart_and_inside(masks: torch.Tensor) -> None:
    names = ["sks person (genie)", "sks person (singer)", "sks cat (nightcat)"]
    found = label_bounds(masks_overlay(GREY, masks, names), masks_overlay(GREY, masks, [""] * 3))
    for number, (left, top, right, bottom) in enumerate(found):
        assert 0 < left < right < 511
        assert 0 < top < bottom < 511
        assert right - left > 60, "wide enough for its text: no other label covers it"
        for other in found[number + 1 :]:
            assert right < other[0] or other[2] < left or bottom < other[1] or other[3] < top


@pytest.mark.parametrize(("row", "above"), [(20, True), (5, False)])
def test_a_label_stands_by_its_region_and_not_on_it(row: int, above: bool) -> None:
    # The larger part counts, and a speck elsewhere does not pull the label away.
    masks = of(torch.maximum(disc(row, 20, 5), disc(28, 2, 1)))
    bare = masks_overlay(GREY, masks, [""])
    ys, xs = np.nonzero((np.asarray(masks_overlay(GREY, masks, ["cat (tom)"])) != np.asarray(bare)).any(axis=2))
    top, bottom = 16 * (row - 5), 16 * (row + 6)
    assert abs((xs.min() + xs.max()) / 2 - 16 * 20.5) < 16
    if above:
        assert top - 40 < ys.min() < ys.max() <= top
    else:
        assert bottom <= ys.min() < ys.max() < bottom + 40


def test_a_missing_subject_is_labelled_too() -> None:
    masks = halves()
    masks[2] = 0
    named = masks_overlay(GREY, masks, ["cat (black)", "dog (brown)"])
    label = drawn(1, named)
    assert not label[:400].any()
    assert label[400:].sum() > 300, "the missing concept is named at the lower edge"
    dark = (np.asarray(named) < 20).all(axis=2)[400:].sum()
    assert dark > 2 * label[400:].sum(), "its label is dark, with text in its colour"


def line_of(overlay: Image.Image, column: int) -> np.ndarray:
    """Where the first concept's colour stands in a column of the picture."""
    return drawn(0, overlay)[:, column]


def test_a_region_that_is_the_mask_is_dashed_and_shows_what_was_found() -> None:
    place, other = NAMED["left"], NAMED["right"]
    masks = of(place.grid(32, 32), other.grid(32, 32))
    found = of(disc(16, 8, 5), torch.zeros(32, 32))
    overlay = masks_overlay(GREY, masks, ["", ""], (place, other), found)
    dashes = line_of(overlay, 1)
    assert 0.3 < dashes.mean() < 0.7
    assert np.abs(np.diff(dashes.astype(int))).sum() > 8, "many dashes"
    # A solid line round the disc: from its middle to each side it is crossed once, and so at 40 slants.
    line = drawn(0, overlay)
    for angle in np.linspace(0, 2 * np.pi, 40, endpoint=False):
        ys, xs = ((c + np.arange(60, 110) * f(angle)).astype(int) for c, f in ((264, np.sin), (136, np.cos)))
        assert line[ys, xs].any()
    # The other subject was not found: nothing but dashes is in its place.
    assert not drawn(1, overlay)[16:-16, 272:-16].any()


def test_a_mask_within_a_region_has_its_own_line_and_the_regions_dashes() -> None:
    place = Box(0.0, 0.25, 0.75, 0.5)
    overlay = masks_overlay(GREY, of(disc(16, 8, 4)), [""], (place,), of(disc(16, 8, 4)))
    assert 0.3 < drawn(0, overlay)[129, :384].mean() < 0.7
    assert drawn(0, overlay)[264, 140:].any()
    solid = drawn(0, masks_overlay(GREY, of(disc(16, 8, 4)), [""]))
    assert (drawn(0, overlay) & solid).sum() == solid.sum()


def test_two_concepts_with_one_region_both_have_dashes() -> None:
    place = NAMED["middle"]
    overlay = masks_overlay(GREY, of(place.grid(32, 32), place.grid(32, 32)), ["", ""], (place, place))
    first, second = (drawn(concept, overlay).sum() for concept in (0, 1))
    assert 0.7 < first / second < 1.4


@pytest.mark.parametrize(("found", "told"), [(disc(16, 8, 5), "place: left"), (disc(16, 8, 1), ", not found there")])
def test_the_label_names_the_region_and_whether_the_subject_was_found(
    found: torch.Tensor, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []
    darks: list[bool] = []

    def label(text: str, *values: Any, dark: bool) -> Label:
        texts.append(text)
        darks.append(dark)
        return Label(text, *values, dark=dark)

    monkeypatch.setattr("clora.pictures.overlay.Label", label)
    masks_overlay(GREY, of(NAMED["left"].grid(32, 32)), ["cat (tom)"], (NAMED["left"],), of(found))
    assert texts[0].startswith("cat (tom)\nplace: left")
    assert texts[0].endswith(told)
    assert darks == [told.endswith("there")]


@pytest.mark.parametrize("size", [(64, 64), (64, 16), (900, 40)])
def test_names_longer_than_the_picture_do_not_fail(size: tuple[int, int]) -> None:
    masks_overlay(Image.new("RGB", size), halves(), ["x" * 300, "<script>alert(1)</script> 猫 🐈"])


def test_side_by_side_puts_pictures_in_order_at_one_height() -> None:
    red, blue = Image.new("RGB", (256, 256), "red"), Image.new("RGB", (512, 256), "blue")
    sheet = np.asarray(side_by_side([("one", red), ("two", blue)]))
    row = sheet[-40]
    assert (row == (255, 0, 0)).all(axis=1).sum() == 512
    assert (row == (0, 0, 255)).all(axis=1).sum() == 1024
    assert (row == (255, 0, 0)).all(axis=1).argmax() < (row == (0, 0, 255)).all(axis=1).argmax()


def _same(pixels: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return (pixels == np.array(color)).all(axis=2)


def test_a_map_is_scaled_to_its_range_and_its_cells_show() -> None:
    drawn = np.asarray(heat(torch.tensor([[3.0, 5.0], [4.0, 3.0]]), (200, 100, 50), (4, 4)))
    assert [tuple(drawn[y, x]) for y, x in ((0, 0), (0, 2), (2, 0), (1, 3))] == [
        (0, 0, 0), (200, 100, 50), (100, 50, 25), (200, 100, 50)
    ]  # fmt: skip
    assert np.asarray(heat(torch.full((2, 2), 7.0), (200, 100, 50), (2, 2))).max() == 0


@pytest.mark.parametrize("size", [(512, 512), (256, 768), (900, 300)])
@pytest.mark.parametrize("count", [2, 3])
def test_the_strip_has_every_map_at_the_pictures_proportions(size: tuple[int, int], count: int) -> None:
    blank, one = torch.zeros(4, 4), torch.zeros(4, 4)
    one[1, 2] = 1.0
    names, variants = [f"word{n} (name{n})" for n in range(count)], ["x"] * (count + 1)

    def strip(values: torch.Tensor) -> np.ndarray:
        maps = [[values] * (count + 1) for _ in range(count)]
        return np.asarray(map_strip([("step 1", maps), ("step 9, last update", maps)], names, variants, size))

    drawn = strip(one)
    changed = (drawn != strip(blank)).any(axis=2)
    tile = (round(size[0] * 192 / max(size)), round(size[1] * 192 / max(size)))
    cell = int(_same(np.asarray(heat(one, (9, 9, 9), tile)), (9, 9, 9)).sum())
    assert abs(cell - tile[0] * tile[1] / 16) < 0.1 * cell
    for concept in range(count):  # in its own colour at every step and in every variant
        assert (changed & _same(drawn, concept_color(concept))).sum() == 2 * (count + 1) * cell
    assert changed.sum() == 2 * (count + 1) * count * cell


def test_the_strip_leaves_a_gap_where_words_are_scheduled_away() -> None:
    one = torch.rand(4, 4)
    full, gap = (
        np.asarray(map_strip([("step 1", [[one, other], [one, one]])], ["a", "b"], ["no LoRA", "x"], (64, 64)))
        for other in (one, None)
    )
    assert full.shape == gap.shape
    assert (full != gap).any(axis=2).sum() <= 192 * 192
    assert (full != gap).any()


def test_the_curve_falls_and_marks_refine_steps() -> None:
    plain, marked = (np.asarray(loss_curve([3.0, 2.0, 2.5, 1.0], refined)) for refined in ((), (1, 2)))
    line = _same(plain, (0, 90, 160))
    xs = np.nonzero(line.any(axis=0))[0]
    tops = [np.nonzero(line[:, x])[0].min() for x in xs]
    assert tops[0] < tops[len(tops) // 3] < tops[-1]
    dots = _same(marked, (213, 94, 0))
    assert not _same(plain, (213, 94, 0)).any()
    places = np.nonzero(dots.any(axis=0))[0]
    assert xs[0] < places.min() < places.max() < xs[-1]
    loss_curve([1.0], [])
    loss_curve([2.0, 2.0], [0])


def test_names_are_cut_to_their_width() -> None:
    assert text_image("a" * 100, 20, 120).width <= 120
    assert text_image("short", 20, 500).tobytes() == text_image("short", 20).tobytes()
    assert text_image("w" * 9, 40, 10).width > 0

"""The explaining pictures: colours where the masks are, names inside the picture, sizes kept in proportion."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from clora.pictures import concept_color, heat, loss_curve, map_strip, masks_overlay, side_by_side
from clora.pictures.lettering import ink


def halves(height: int = 16, width: int = 24) -> torch.Tensor:
    masks = torch.zeros(3, height, width)
    masks[1, :, : width // 2] = 1
    masks[2, :, width // 2 :] = 1
    return masks


@pytest.mark.parametrize("size", [(192, 128), (128, 320), (1024, 640)])
def test_overlay_tints_each_concept_and_keeps_the_proportions(size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size, (128, 128, 128))
    overlay = masks_overlay(picture, halves(), ["cat", "dog"])
    assert overlay.width * size[1] == overlay.height * size[0]
    assert max(overlay.size) >= 512
    pixels = np.asarray(overlay).astype(int)
    middle = overlay.width // 2
    for concept, part in enumerate((pixels[:, :middle], pixels[:, middle:])):
        outlined = (part == np.array(concept_color(concept))).all(axis=2)
        assert outlined.any()
        other = (part == np.array(concept_color(1 - concept))).all(axis=2)
        assert not other[: overlay.height // 4].any()
    flat = pixels[4, 4]
    assert flat[0] > flat[2], "orange tints the left half warm"
    assert pixels[4, -5][2] > pixels[4, -5][0], "sky blue tints the right half cold"


def test_overlay_writes_names_and_says_where_nothing_was_found() -> None:
    masks = halves()
    masks[2] = 0
    picture = Image.new("RGB", (256, 256), (128, 128, 128))
    named = np.asarray(masks_overlay(picture, masks, ["cat (black)", "dog (brown)"]))
    plate = (named == np.array(concept_color(1))).all(axis=2)
    assert not plate[:400].any()
    assert plate[400:].any(), "the missing concept is named at the lower edge"


def test_names_longer_than_the_picture_do_not_fail() -> None:
    masks_overlay(Image.new("RGB", (64, 64)), halves(), ["x" * 300, "<script>alert(1)</script> 猫 🐈"])


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
    assert ink("a" * 100, 20, 120).width <= 120
    assert ink("short", 20, 500).tobytes() == ink("short", 20).tobytes()
    assert ink("w" * 9, 40, 10).width > 0

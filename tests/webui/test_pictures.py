"""The explaining pictures: colours where the masks are, names inside the picture, sizes kept in proportion."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from clora.webui.pictures import concept_color, masks_overlay, side_by_side


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

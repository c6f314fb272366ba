"""Painted regions of the API."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from clora.errors import CLoRAError
from clora.prompt import WordsOverride, analyze
from clora.prompt.region import Painted
from clora.ui.corrected_prompt import move_into_prompt
from clora.ui.corrections import read_corrections, write_corrections


def data_url(picture: Image.Image, kind: str = "PNG") -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def left_half(mode: str = "L", size: tuple[int, int] = (64, 32)) -> Image.Image:
    picture = Image.new(mode, size)
    picture.paste("white", (0, 0, size[0] // 2, size[1]))
    return picture


@pytest.mark.parametrize("mode", ["L", "RGB", "1"])
def test_a_painted_place_is_read_and_stretched_over_the_picture(mode: str) -> None:
    given = {"cat": {"place": data_url(left_half(mode)), "words": "cat"}}
    row = read_corrections(given)["cat"]
    assert (row.place, row.words) == (None, "cat")
    assert row.painted is not None
    grid = row.painted.grid(6, 4)
    assert torch.equal(grid, torch.tensor([[1.0, 1.0, 0.0, 0.0]]).expand(6, 4))
    other = WordsOverride(painted=row.painted)
    found = analyze("a <lora:cat:1> cat and a <lora:dog:1:place=left> dog", overrides={"cat": row, "dog": other})
    assert found.concepts[0].region is row.painted
    assert found.concepts[1].region is not row.painted  # what the tag says goes first


def test_a_speck_has_one_cell() -> None:
    mask = torch.zeros(100, 100)
    mask[70, 20] = 1.0
    assert Painted(mask).grid(8, 8).nonzero().tolist() == [[5, 1]]


def test_an_array_is_a_mask_too() -> None:
    mask = np.zeros((4, 4))
    mask[:, 2:] = 1
    assert Painted(mask).grid(2, 2).tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize(
    ("mask", "sentence"),
    [
        (np.ones((4, 4, 3)), r"the shape \(4, 4, 3\)"),
        (np.full((4, 4), 255), "from 0 to 1"),
        (np.full((4, 4), np.nan), "from 0 to 1"),
        (np.zeros((4, 4)), "region is empty"),
    ],
)
def test_invalid_masks_are_errors(mask: np.ndarray, sentence: str) -> None:
    with pytest.raises(CLoRAError, match=sentence):
        Painted(mask)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("data:image/png;base64,####", "not an image"),
        ("data:image/png;base64," + base64.b64encode(b"text").decode(), "not an image"),
        ("data:image/png,abc", "not an image"),
        (data_url(Image.new("L", (8, 8))), "is empty"),
        (data_url(Image.new("1", (8200, 2), 1)), "larger than"),
    ],
)
def test_invalid_images_are_errors(url: str, sentence: str) -> None:
    with pytest.raises(CLoRAError, match=sentence) as error:
        read_corrections({"cat": {"place": url}})
    assert '"cat"' in str(error.value)


def test_it_stays_out_of_lines_and_tags() -> None:
    rows = {"cat": WordsOverride(words="cat", painted=Painted(torch.ones(2, 2)))}
    assert write_corrections(rows) == "cat: words=cat"
    prompt, rest = move_into_prompt("a <lora:cat:1> cat and a <lora:dog:1> dog", rows)
    assert prompt == "a <lora:cat:1:words=cat> cat and a <lora:dog:1> dog"
    assert rest == {"cat": WordsOverride(painted=rows["cat"].painted)}

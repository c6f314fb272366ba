"""Painted regions: images of the API, run-length text of canvas and infotexts."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from clora.errors import CLoRAError
from clora.prompt import WordsOverride, analyze
from clora.prompt.region import Painted
from clora.ui.concept_table import table_html
from clora.ui.corrected_prompt import move_into_prompt
from clora.ui.corrections import read_corrections, with_changed_cell, write_corrections
from clora.ui.report import report


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
        ("painted", "cannot be read"),
        ("painted 8x8 A", "is damaged"),
        (data_url(Image.new("1", (8200, 2), 1)), "larger than"),
    ],
)
def test_invalid_images_are_errors(url: str, sentence: str) -> None:
    with pytest.raises(CLoRAError, match=sentence) as error:
        read_corrections({"cat": {"place": url}})
    assert '"cat"' in str(error.value)


@pytest.mark.parametrize("place", [data_url(Image.new("L", (8, 8))), "painted 6x4 4A"])
def test_an_empty_one_is_ignored(place: str) -> None:
    row = read_corrections({"cat": {"place": place, "words": "cat"}})["cat"]
    assert row == WordsOverride(words="cat", nothing_painted=True)


def test_lines_keep_it_and_tags_do_not() -> None:
    rows = {"cat": WordsOverride(words="cat", painted=Painted(torch.ones(2, 3))), "dog": WordsOverride(place="left")}
    lines = write_corrections(rows)
    assert lines == "cat: words=cat, place=painted 3x2 AG\ndog: place=left"
    assert read_corrections(lines) == rows
    prompt, rest = move_into_prompt("a <lora:cat:1> cat and a <lora:dog:1> dog", rows)
    assert prompt == "a <lora:cat:1:words=cat> cat and a <lora:dog:1:place=left> dog"
    assert rest == {"cat": WordsOverride(painted=rows["cat"].painted)}


def test_an_image_is_used_as_its_text_restores_it() -> None:
    """Large and soft masks are cut to what the text can write before the picture is made."""
    soft = Image.radial_gradient("L").resize((1000, 600))
    rows = read_corrections({"cat": {"place": data_url(soft)}})
    painted = rows["cat"].painted
    assert painted is not None
    assert tuple(painted.mask.shape) == (154, 256)
    assert read_corrections(write_corrections(rows)) == rows
    wanted = torch.from_numpy(np.asarray(soft, dtype=np.float32) / 255 >= 0.5).float()
    found = torch.nn.functional.interpolate(painted.mask[None, None], (600, 1000), mode="nearest")[0, 0]
    assert (found * wanted).sum() / (found + wanted).clamp(max=1).sum() > 0.98


def test_the_table_shows_it_and_cells_change_it() -> None:
    lines = "cat: place=painted 6x4 HDDAF"
    found = report("a <lora:cat:1> cat and a <lora:dog:1> dog", corrections=read_corrections(lines))
    assert found.rows[0].place == "painted 6x4 HDDAF"  # what the API answers
    cell = re.search('<input[^>]*data-lora="cat" data-key="place"[^>]*>', table_html(found.rows))
    assert cell is not None
    assert 'value="painted"' in cell[0]

    def changed(key: str, value: str, before: str = lines) -> str:
        return with_changed_cell(json.dumps({"lora": "cat", "key": key, "value": value}), before)

    assert changed("words", "cat") == "cat: words=cat, place=painted 6x4 HDDAF"
    assert changed("place", "left") == "cat: place=left"
    assert changed("place", "") == ""
    assert changed("place", "painted 6x4 HDDAF", "cat: place=left") == lines
    assert changed("place", "painted 6x4 4A") == ""

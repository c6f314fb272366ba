"""Painted masks as run-length text."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from clora.errors import CLoRAError
from clora.prompt.painted_text import painted_text, read_painted_text


def disc(height: int, width: int, radius: float) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return ((rows - height / 2) ** 2 + (columns - width / 2) ** 2 < radius**2).float()


@pytest.mark.parametrize(
    "mask",
    [
        torch.zeros(3, 5),
        torch.ones(4, 2),
        torch.eye(7),
        1 - torch.eye(7),
        disc(96, 128, 40),
        (torch.rand(256, 256, generator=torch.Generator().manual_seed(0)) > 0.5).float(),
        torch.ones(1, 1),
    ],
)
def test_a_mask_is_written_and_read(mask: Tensor) -> None:
    text = painted_text(mask)
    assert text.startswith(f"painted {mask.shape[1]}x{mask.shape[0]} ")
    assert not set(text) & set(',=:<>"\\#\n')
    assert torch.equal(read_painted_text(text), mask)


def test_the_characters_stay_the_same() -> None:
    """Infotexts of older pictures must be read by later versions."""
    mask = torch.zeros(4, 6)
    mask[1:3, 1:4] = 1
    assert painted_text(mask) == "painted 6x4 HDDAF"
    assert painted_text(torch.eye(40)[:2]) == "painted 40x2 ABoBAe"


def test_a_drawn_mask_is_short() -> None:
    assert len(painted_text(disc(128, 128, 40))) < 200


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("painted", "cannot be read"),
        ("painted 6x4", "cannot be read"),
        ("painted 6x4 HDDAF!", "cannot be read"),
        ("painted 0x4 A", "cannot be read"),
        ("painted 257x4 A", "cannot be read"),
        ("painted 6x4 HDD", "is damaged"),
        ("painted 6x4 HDDAg", "is damaged"),
        ("painted 6x4 PDDAF", "is damaged"),
        ("painted 6x4 " + "g" * 40, "is damaged"),
    ],
)
def test_what_is_no_mask_is_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(CLoRAError, match=sentence):
        read_painted_text(text)

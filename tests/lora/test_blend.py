"""Weights of LoRA sets over the image, at the sizes of the layers."""

from __future__ import annotations

import torch

from clora.lora.blend import Blend


def blend() -> Blend:
    """Two rows of one set on 4 x 6 cells, and a text context for each."""
    cells = torch.tensor([[1.0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 1, 1], [1, 1, 0, 1, 0, 0], [1, 0, 1, 1, 0, 0]])
    weights = torch.stack([cells, 1 - cells])
    return Blend(weights[:, None], (1,), (0, 1), weights)


SHARES = torch.tensor([[0.25, 0.0, 1.0], [0.75, 0.75, 0.0]])
"""How much of each cell of a 2 x 3 grid the first row's weights cover."""


def test_a_coarser_layer_has_the_share_of_the_area() -> None:
    found = blend().grid(2, 3)
    torch.testing.assert_close(found[:, 0], torch.stack([SHARES, 1 - SHARES]))
    torch.testing.assert_close(blend().grid(4, 6), blend().weights)


def test_a_text_has_the_share_of_the_area_in_a_coarser_layer() -> None:
    found = blend().context_rows_at(torch.zeros(2, 6, 5))
    torch.testing.assert_close(found[..., 0], torch.stack([SHARES, 1 - SHARES]).flatten(1))


def test_a_layer_without_image_positions_has_the_mean() -> None:
    found = blend().channel_weights(torch.zeros(2, 3), -1, (0, 0))
    torch.testing.assert_close(found, torch.tensor([[0.4583333, 0.4583333], [0.5416667, 0.5416667]]))

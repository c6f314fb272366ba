"""The contrastive loss against the authors' numbers, pytorch-metric-learning and finite differences."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.losses import NTXentLoss
from safetensors.torch import load_file

from clora.conditioning.plan import PlannedConcept
from clora.guidance.contrast import group_entries, info_nce, scale_maps
from tests.conftest import DATA

UNITS = json.loads((DATA / "units.json").read_text("utf-8"))
TENSORS = load_file(DATA / "units.safetensors")


@pytest.mark.parametrize("case", UNITS["loss"], ids=lambda c: c["name"])
def test_authors_losses_and_gradients(case: dict) -> None:
    maps = TENSORS[case["maps"]].clone().requires_grad_(True)
    entries = group_entries([PlannedConcept(group) for group in case["important_token_indices"]])
    chosen = torch.stack([maps[e.variant, :, :, e.position] for e in entries]).flatten(1)
    contrast = info_nce(chosen, torch.tensor([e.concept for e in entries]), case["temperature"])
    (gradient,) = torch.autograd.grad(contrast.loss, maps)
    if case["name"] == "constant_map":
        # The authors divide 0 by 0 here; ours leaves the map out and says so.
        assert contrast.left_out == 1
        assert torch.isfinite(contrast.loss)
        assert torch.isfinite(gradient).all()
        return
    assert contrast.left_out == 0
    assert contrast.loss.item() == pytest.approx(case["loss"], rel=1e-12, abs=1e-12)
    recorded = TENSORS[f"loss/{case['name']}/grad_maps"]
    torch.testing.assert_close(gradient, recorded, rtol=1e-10, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=12), st.integers(0, 10_000), st.floats(0.05, 2.0))
def test_equals_ntxent_of_pytorch_metric_learning(classes: list[int], seed: int, temperature: float) -> None:
    maps = torch.rand(len(classes), 24, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    labels = torch.tensor(classes)
    oracle = NTXentLoss(temperature=temperature)(scale_maps(maps), labels)
    ours = info_nce(maps, labels, temperature)
    assert ours.loss.item() == pytest.approx(float(oracle), rel=1e-6, abs=1e-9)


def test_gradcheck() -> None:
    maps = torch.rand(6, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1, 1, 2])
    assert torch.autograd.gradcheck(lambda m: info_nce(m, labels, 0.5).loss, (maps,))


def test_nearly_constant_map_is_left_out_in_float32() -> None:
    maps = torch.rand(4, 16)
    maps[1] = 0.25
    maps[1, 3] = 0.25 + 2**-24
    contrast = info_nce(maps, torch.tensor([0, 0, 1, 1]), 0.5)
    assert contrast.left_out == 1


def test_small_but_real_maps_count() -> None:
    """A map of tiny probabilities has a direction all the same: only rounding noise is left out."""
    maps = torch.rand(4, 16, generator=torch.Generator().manual_seed(1)) * 1e-9
    assert info_nce(maps, torch.tensor([0, 0, 1, 1]), 0.5).left_out == 0


def test_pulls_positives_together() -> None:
    """Descending the loss makes maps of one concept alike and of different concepts unlike."""
    generator = torch.Generator().manual_seed(5)
    maps = torch.rand(4, 25, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1])
    before = info_nce(maps, labels, 0.5).loss
    loss = before
    for _ in range(50):
        (gradient,) = torch.autograd.grad(loss, maps)
        maps = (maps - 0.5 * gradient).detach().requires_grad_(True)
        loss = info_nce(maps, labels, 0.5).loss
    scaled = torch.nn.functional.normalize(scale_maps(maps), dim=1)
    similarity = scaled @ scaled.T
    assert loss < before
    assert min(similarity[0, 1], similarity[2, 3]) > similarity[:2, 2:].max()

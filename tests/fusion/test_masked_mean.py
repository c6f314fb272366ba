"""Fusion and guidance against the authors' numbers, and their invariants."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from clora.fusion.masked_mean import masked_mean
from clora.guidance.classifier_free import guide
from tests.conftest import DATA

UNITS = json.loads((DATA / "units.json").read_text("utf-8"))
TENSORS = load_file(DATA / "units.safetensors")


@pytest.mark.parametrize("case", UNITS["fuse"], ids=lambda c: str(c["id"]))
def test_authors_fusion(case: dict) -> None:
    predictions = TENSORS["fuse/noise_preds"].double()
    masks = TENSORS[f"mask/{case['mask']}"].double()
    uncond, cond = masked_mean(predictions[:, 0], masks), masked_mean(predictions[:, 1], masks)
    noise = guide(uncond[None], cond[None], case["guidance_scale"], case["guidance_rescale"])
    recorded = TENSORS[f"fuse/{case['id']}/noise_pred"].double()
    assert ((noise - recorded).abs().max() / recorded.abs().max()).item() < 1e-6


def test_one_mask_takes_one_prediction_and_overlap_averages() -> None:
    predictions = torch.randn(3, 4, 6, 6)
    masks = torch.zeros(3, 6, 6)
    masks[1, :, :4] = 1
    masks[2, :, 3:] = 1
    fused = masked_mean(predictions, masks)
    assert torch.equal(fused[:, :, :3], predictions[1, :, :, :3])
    assert torch.equal(fused[:, :, 4:], predictions[2, :, :, 4:])
    torch.testing.assert_close(fused[:, :, 3], (predictions[1] + predictions[2])[:, :, 3] / 2)


def test_what_is_outside_its_mask_never_counts() -> None:
    predictions = torch.randn(2, 4, 4, 4)
    predictions[0, :, :, 2:] = torch.inf
    masks = torch.zeros(2, 4, 4)
    masks[0, :, :2] = 1
    masks[1, :, 2:] = 1
    assert torch.isfinite(masked_mean(predictions, masks)).all()


def test_fusing_x0_equals_fusing_noise() -> None:
    """All predictions differ from noise by an affine map that the variants share."""
    predictions = torch.randn(3, 4, 5, 5, dtype=torch.float64)
    masks = (torch.rand(3, 5, 5) > 0.5).double()
    masks[0] = torch.where(masks.sum(0) == 0, 1.0, masks[0])
    latent = torch.randn(4, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(
        masked_mean(latent - 3 * predictions, masks), latent - 3 * masked_mean(predictions, masks)
    )


def test_guidance_one_is_the_conditional() -> None:
    uncond, cond = torch.randn(2, 1, 4, 3, 3)
    torch.testing.assert_close(guide(uncond, cond, 1.0), cond)
    rescaled = guide(uncond, cond, 9.0, rescale=1.0)
    assert rescaled.std().item() == pytest.approx(cond.std().item(), rel=1e-5)

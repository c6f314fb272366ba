"""Single steps of the authors' runs, recomputed from their maps and predictions: no model needed."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from clora.attention.maps import AttentionMaps
from clora.conditioning.plan import ImagePlan
from clora.fusion.masked_mean import masked_mean
from clora.guidance.classifier_free import guide
from clora.guidance.update import LatentUpdate, contrast_losses
from clora.regions.masks import MaskOptions, cut_masks, resize_masks
from clora.settings import Settings
from tests.conftest import DATA
from tests.plans import plan_of_groups
from tests.toy import toy

INFO: dict[str, dict[str, Any]] = json.loads((DATA / "recorded.json").read_text("utf-8"))
TENSORS = load_file(DATA / "recorded.safetensors")
PASSES = [(case, number) for case, info in INFO.items() for number in range(info["n_passes"])]


def plan_of(case: str) -> ImagePlan:
    info = INFO[case]
    return plan_of_groups(info["important_token_indices"], info["mask_indices"])


def book_of(case: str, number: int) -> AttentionMaps:
    maps = TENSORS[f"{case}/pass{number}/attention_maps"]
    return AttentionMaps(tuple(range(maps.shape[-1])), {(0, v): m.permute(2, 0, 1) for v, m in enumerate(maps)})


@pytest.mark.parametrize(("case", "number"), PASSES)
def test_loss(case: str, number: int) -> None:
    losses, _ = contrast_losses(book_of(case, number), [plan_of(case)], 0.5)
    assert losses.item() == pytest.approx(TENSORS[f"{case}/pass{number}/loss"].item(), rel=1e-6)


@pytest.mark.parametrize(("case", "number"), PASSES)
def test_moved_latent(case: str, number: int) -> None:
    key = f"{case}/pass{number}"
    from clora.attention.probe import AttentionProbe

    update = LatentUpdate(AttentionProbe(toy().unet), Settings("paper", step_size=INFO[case]["step_size"]))
    moved = update.moved(TENSORS[f"{key}/latent_before"], TENSORS[f"{key}/grad"], 1.0)
    torch.testing.assert_close(moved, TENSORS[f"{key}/latent_after"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", INFO)
def test_masks_and_fused_noise(case: str) -> None:
    info, plan = INFO[case], plan_of(case)
    book = book_of(case, info["n_passes"] - 1)
    token_maps = [book.of(0, v, tokens) for v, tokens in enumerate(plan.masks)]
    predictions = TENSORS[f"{case}/pass{info['n_passes'] - 1}/noise_preds"]
    masks = cut_masks(token_maps, MaskOptions(threshold=info["mask_threshold_alpha"]))
    masks = resize_masks(masks, tuple(predictions.shape[-2:]))
    assert torch.equal(masks.double(), TENSORS[f"{case}/masks"].double())
    uncond, cond = (masked_mean(predictions[:, half], masks)[None] for half in (0, 1))
    noise = guide(uncond, cond, info["guidance_scale"])
    recorded = TENSORS[f"{case}/noise_pred"]
    assert ((noise - recorded).abs().max() / recorded.abs().max()).item() < 1e-6


@pytest.mark.parametrize("case", INFO)
def test_next_latent(case: str) -> None:
    """DDIM from the fused noise and the updated latent: the order of update and step is the authors'."""
    info = INFO[case]
    now, before = info["alpha_prod_t"], info["alpha_prod_prev"]
    latent, noise = TENSORS[f"{case}/latent_in"].double(), TENSORS[f"{case}/noise_pred"].double()
    assert torch.equal(TENSORS[f"{case}/pass{info['n_passes'] - 1}/latent_after"], TENSORS[f"{case}/latent_in"])
    clean = (latent - (1 - now) ** 0.5 * noise) / now**0.5
    following = before**0.5 * clean + (1 - before) ** 0.5 * noise
    recorded = TENSORS[f"{case}/latent_out"].double()
    assert ((following - recorded).abs().max() / recorded.abs().max()).item() < 1e-5

"""Single steps of the authors' runs, recomputed from their maps and predictions: no model needed."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.golden import relative_error
from clora.attention.maps import AttentionMaps
from clora.conditioning.plan import ImagePlan
from clora.engine.composer import Composer
from clora.fusion.masked_mean import masked_mean
from clora.guidance.classifier_free import guide
from clora.guidance.update import Gradient, LatentUpdate, contrast_losses
from clora.models.denoiser import Row
from clora.regions.masks import MaskOptions, cut_masks, resize_masks
from clora.settings import Settings
from tests.conftest import DATA
from tests.plans import plan_of_groups
from tests.toy import ToyDenoiser, toy

INFO: dict[str, dict[str, Any]] = json.loads((DATA / "recorded.json").read_text("utf-8"))
TENSORS = load_file(DATA / "recorded.safetensors")
TEXT_POSITIONS = 24
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


class RecordedDenoiser(ToyDenoiser):
    """A toy network runs, for its attention layers; the predictions of the rows are the recorded ones."""

    def __init__(self, predictions: Tensor) -> None:
        made = toy(len(predictions), tokens=TEXT_POSITIONS)
        super().__init__(made.unet, made.contexts)
        self.predictions = predictions
        self.predicted_at: list[Tensor] = []

    def predict(self, latent: Tensor, rows: tuple[Row, ...], *, vectors: Tensor | None = None) -> Tensor:
        super().predict(latent, rows)
        self.predicted_at.append(latent[:1])
        return torch.stack([self.predictions[row.variant, int(row.conditional)] for row in rows])


@pytest.mark.parametrize("case", INFO)
def test_one_step_of_the_composer(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorded gradients, predictions and masks go through a step in the authors' order: all updates but the last,
    prediction and fusion, the last update; the host's DDIM goes from there to the next latent.
    """
    info, plan = INFO[case], plan_of(case)
    passes = [
        {
            name: TENSORS[f"{case}/pass{number}/{name}"].double()
            for name in ("latent_before", "grad", "latent_after", "loss")
        }
        for number in range(info["n_passes"])
    ]
    settings = Settings(
        "paper", step_size=info["step_size"], fuse_from=0.0, update_until=1.0,
        refine_at=(0.0,) if len(passes) > 1 else (), refine_updates=len(passes) - 1,
    )  # fmt: skip
    denoiser = RecordedDenoiser(TENSORS[f"{case}/pass{len(passes) - 1}/noise_preds"].double())
    composer = Composer(denoiser.unet, settings, 1)
    asked: list[Tensor] = []

    def gradient(latent: Tensor, *_: Any, **__: Any) -> Gradient:
        recorded = passes[len(asked)]
        asked.append(latent)
        return Gradient(recorded["grad"], recorded["loss"], book_of(case, len(asked) - 1), 0)

    monkeypatch.setattr(composer.update, "gradient", gradient)
    with composer.installed():
        latent = composer.before(0, passes[0]["latent_before"], [plan], denoiser)
        assert len(asked) == len(passes) - 1
        step = composer.predict(0, latent, [plan], denoiser, masks=[TENSORS[f"{case}/masks"].double()])
        torch.testing.assert_close(denoiser.predicted_at[-1], passes[-1]["latent_before"], rtol=1e-6, atol=1e-6)
        step = composer.after(step, denoiser)
    for ours, recorded in zip(asked, passes, strict=True):
        torch.testing.assert_close(ours, recorded["latent_before"], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(step.latent, TENSORS[f"{case}/latent_in"].double(), rtol=1e-6, atol=1e-6)
    assert step.uncond is not None
    noise = guide(step.uncond, step.cond, info["guidance_scale"])
    assert relative_error(noise, TENSORS[f"{case}/noise_pred"]) < 1e-6
    now, before = info["alpha_prod_t"], info["alpha_prod_prev"]
    clean = (step.latent - (1 - now) ** 0.5 * noise) / now**0.5
    following = before**0.5 * clean + (1 - before) ** 0.5 * noise
    assert relative_error(following, TENSORS[f"{case}/latent_out"]) < 1e-5

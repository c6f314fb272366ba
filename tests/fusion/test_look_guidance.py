"""Look guidance: how much of the LoRAs the unconditional prediction has, in both fusions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from clora.engine.composer import Composer, Step
from clora.fusion import unconditional_share, weakened
from clora.models.denoiser import Row
from clora.settings import Settings
from tests.plans import plan_of
from tests.rows_on_tiny_unet import CONCEPTS, PLAN, SIZE, Denoiser, latents
from tests.toy import toy
from tests.updating import updating

SCALE = 3.0


@pytest.mark.parametrize(
    ("look", "scale", "share"),
    [
        (1.0, 7.0, 1.0),
        (2.5, 7.0, 0.75),
        (7.0, 7.0, 0.0),
        (9.0, 7.0, 0.0),
        (1.75, 3.5, 0.7),
        (2.0, 1.0, 1.0),
        (2.0, 0.0, 1.0),
    ],
)
def test_a_change_in_both_halves_comes_out_as_often_as_the_setting_says(
    look: float, scale: float, share: float
) -> None:
    found = unconditional_share(look, scale)
    assert found == pytest.approx(share)
    if 1.0 <= look <= scale:
        change = 0.3
        guided = found * change + scale * (change - found * change)
        assert guided == pytest.approx(look * change)


def test_the_base_has_the_rest() -> None:
    masks = torch.tensor([[[0.0, 1.0, 1.0]], [[1.0, 0.0, 1.0]]])  # a concept alone, the base alone, both
    assert weakened(masks, 1.0) is masks
    torch.testing.assert_close(weakened(masks, 0.5), torch.tensor([[[0.5, 1.0, 0.75]], [[0.5, 0.0, 0.25]]]))
    alone = torch.ones(1, 2, 2)
    assert weakened(alone, 0.5) is alone


def test_exact_fusion_has_so_much_less_of_each_concepts_difference_from_the_base() -> None:
    plan = plan_of([[(2,), (5,)], [(3,), (6,)], [(2,), (6,)]], [(), (2,), (5,)], "subject")
    latent = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def step(look: float) -> Step:
        denoiser = toy()
        settings = updating(fusion="exact", update_until=0.0, fuse_from=0.0, look_guidance=look)
        composer = Composer(denoiser.unet, settings, 10, guidance_scale=SCALE)
        with composer.installed():
            return composer.step(0, latent, [plan], denoiser)

    off, on = step(1.0), step(2.0)
    assert torch.equal(on.cond, off.cond)
    assert off.uncond is not None
    assert on.uncond is not None
    base = off.prediction.rows[Row(0, 0, False)]
    torch.testing.assert_close(on.uncond[0], base + 0.5 * (off.uncond[0] - base))
    assert not torch.allclose(on.uncond, off.uncond)


def single(masks: Tensor, look: float, **values: Any) -> tuple[Denoiser, Step]:
    denoiser = Denoiser("thin", "full")
    settings = updating(fusion="single-pass", look_guidance=look, **values)
    composer = Composer(denoiser.unet, settings, 10, loras=denoiser.loras, guidance_scale=SCALE)
    with denoiser.loras.installed(), composer.installed():
        return denoiser, composer.predict(0, latents(1), [PLAN], denoiser, masks=[masks])


@pytest.mark.parametrize("concept", [1, 2])
def test_a_single_pass_draws_the_same_and_guides_away_from_the_base(concept: int) -> None:
    masks = torch.zeros(CONCEPTS + 1, *SIZE, dtype=torch.float64)
    masks[concept] = 1.0
    denoiser, off = single(masks, 1.0)
    _, between = single(masks, 2.0)
    _, on = single(masks, SCALE)
    with torch.no_grad(), denoiser.loras.installed():
        base = denoiser.predict(latents(1), (Row(0, 0, False),))
    assert torch.equal(on.cond, off.cond)
    assert torch.equal(between.cond, off.cond)
    assert off.uncond is not None
    assert between.uncond is not None
    assert on.uncond is not None
    torch.testing.assert_close(on.uncond, base, rtol=0, atol=1e-12)
    # Layers are not linear, so half of the LoRA is somewhere between all of it and none.
    assert 0.2 < (between.uncond - base).norm() / (off.uncond - base).norm() < 0.8


def test_unconditional_predictions_that_are_asked_for_later_have_less_of_the_loras_too() -> None:
    masks = torch.zeros(CONCEPTS + 1, *SIZE, dtype=torch.float64)
    masks[1] = 1.0
    denoiser = Denoiser("thin", "full")
    composer = Composer(
        denoiser.unet, updating(look_guidance=2.0), 10, loras=denoiser.loras, guidance_scale=SCALE
    )  # fmt: skip
    with denoiser.loras.installed(), composer.installed():
        first = composer.predict(0, latents(1), [PLAN], denoiser, masks=[masks], guidance=False)
        late = composer.unconditional(first, denoiser)
        both = composer.predict(0, latents(1), [PLAN], denoiser, masks=[masks])
    torch.testing.assert_close(late, both.uncond, rtol=0, atol=1e-12)


def test_the_papers_preset_has_none() -> None:
    assert Settings(preset="paper").look_guidance == 1.0
    assert Settings().look_guidance > 1.0

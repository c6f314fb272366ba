"""The latent update: exact gradient, chunks, spaces, cap, half precision."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from clora.attention.probe import AttentionProbe
from clora.conditioning.plan import ImagePlan, PlannedOther
from clora.guidance.update import LatentUpdate
from clora.models.denoiser import Row
from clora.settings import Settings
from tests.plans import plan_of
from tests.toy import ToyDenoiser, toy

# Two concepts: words at 2 and 5 in the base; variant 1 has a trigger at 2 (words at 3 and 6), variant 2 one at 5.
PLAN = plan_of([[(2,), (5,)], [(3,), (6,)], [(2,), (6,)]], [(), (2,), (5,)], "all")
SIZE = (12, 16)
FIRST = Row(0, 0, True)


def make(denoiser: ToyDenoiser, **values: object) -> LatentUpdate:
    return LatentUpdate(AttentionProbe(denoiser.unet), Settings(**values))


def gradient_of(denoiser: ToyDenoiser, latent: torch.Tensor, plans: list[ImagePlan], **values: object) -> torch.Tensor:
    update = make(denoiser, **values)
    with update.probe.installed():
        update.probe.survey(SIZE, lambda: denoiser.predict(latent[:1], (FIRST,)))
        return update.gradient(latent, plans, denoiser).value


def loss_of(denoiser: ToyDenoiser, latent: torch.Tensor, plans: list[ImagePlan]) -> float:
    update = make(denoiser)
    with update.probe.installed():
        update.probe.survey(SIZE, lambda: denoiser.predict(latent[:1], (FIRST,)))
        return float(update.gradient(latent, plans, denoiser).losses.sum())


@pytest.fixture
def latent() -> torch.Tensor:
    return torch.randn(2, 4, *SIZE, generator=torch.Generator().manual_seed(11), dtype=torch.float64)


def test_plan_holds_the_concept_groups_of_the_paper() -> None:
    assert tuple(concept.group for concept in PLAN.concepts) == (((2,), (2, 3), (2,)), ((5,), (6,), (5, 6)))
    assert PLAN.masks == ((), (2, 3), (5, 6))
    assert plan_of([[(2,), (5,)], [(3,), (6,)], [(2,), (6,)]], [(), (2,), (5,)], "subject").masks == (
        (),
        (3,),
        (6,),
    )


def test_gradient_equals_finite_differences(latent: torch.Tensor) -> None:
    denoiser = toy()
    plans = [PLAN, PLAN]
    gradient = gradient_of(denoiser, latent, plans)
    generator = torch.Generator().manual_seed(2)
    for _ in range(4):
        direction = torch.randn(latent.shape, generator=generator, dtype=torch.float64)
        eps = 1e-5
        numeric = (
            loss_of(denoiser, latent + eps * direction, plans) - loss_of(denoiser, latent - eps * direction, plans)
        ) / (2 * eps)
        assert float((gradient * direction).sum()) == pytest.approx(numeric, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("rows", [1, 2, 4, 5])
@pytest.mark.parametrize("maps", ["conditional", "both"])
def test_chunks_give_the_same_gradient(latent: torch.Tensor, rows: int, maps: str) -> None:
    whole = gradient_of(toy(), latent, [PLAN, PLAN], maps=maps)
    pieces = gradient_of(toy(), latent, [PLAN, PLAN], maps=maps, rows_per_forward=rows)
    torch.testing.assert_close(pieces, whole, rtol=1e-10, atol=1e-14)


def test_images_of_a_batch_are_independent(latent: torch.Tensor) -> None:
    other = plan_of([[(1,), (4,)], [(1,), (4,)], [(1,), (4,)]], [(), (), ()], "all")
    together = gradient_of(toy(), latent, [PLAN, other])
    alone = [gradient_of(toy(), latent[i : i + 1], [plan]) for i, plan in enumerate((PLAN, other))]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("rows", [0, 2])
def test_variants_of_subjects_without_a_lora_are_not_in_the_loss(latent: torch.Tensor, rows: int) -> None:
    """Beside them the gradient is the same, at the same cost."""
    others = replace(PLAN, others=(PlannedOther((1,), "king"),), variants=4)
    alone, beside = (gradient_of(toy(4), latent, [plan, plan], rows_per_forward=rows) for plan in (PLAN, others))
    torch.testing.assert_close(alone, beside, rtol=1e-10, atol=1e-14)
    denoiser = toy(4)
    gradient_of(denoiser, latent, [others, others])
    assert max(map(len, denoiser.rows_seen)) == 6


def test_batches_may_mix_two_and_three_concepts(latent: torch.Tensor) -> None:
    three = plan_of([[(1,), (4,), (6,)]] * 4, [()] * 4, "all")
    together = gradient_of(toy(4), latent, [PLAN, three])
    alone = [gradient_of(toy(4), latent[i : i + 1], [plan]) for i, plan in enumerate((PLAN, three))]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 14.6])
def test_update_in_k_diffusion_space_equals_variance_preserving_space(latent: torch.Tensor, sigma: float) -> None:
    """x = s z with s = sqrt(1 + sigma^2): x' = x - alpha s^2 dL/dx is z' = z - alpha dL/dz."""
    s = (1.0 + sigma**2) ** 0.5
    vp, k = toy(scale=1.0), toy(scale=s)
    z, x = latent, latent * s
    z_moved = make(vp).moved(z, gradient_of(vp, z, [PLAN, PLAN]), vp.latent_scale)
    x_moved = make(k).moved(x, gradient_of(k, x, [PLAN, PLAN]), k.latent_scale)
    torch.testing.assert_close(x_moved / s, z_moved, rtol=1e-12, atol=1e-14)
    assert (z_moved - z).abs().max() > 1e-6


def test_a_step_along_the_gradient_lowers_the_loss(latent: torch.Tensor) -> None:
    denoiser = toy()
    gradient = gradient_of(denoiser, latent, [PLAN, PLAN])
    moved = make(denoiser, step_size=1.0).moved(latent, gradient, 1.0)
    assert loss_of(denoiser, moved, [PLAN, PLAN]) < loss_of(denoiser, latent, [PLAN, PLAN])


def test_cap_shortens_only_large_updates(latent: torch.Tensor) -> None:
    gradient = torch.randn_like(latent)
    gradient[1] *= 1e-6
    moved = make(toy(), update_cap=0.1).moved(latent, gradient, 1.0)
    free = make(toy()).moved(latent, gradient, 1.0)
    size = (moved - latent)[0].pow(2).mean().sqrt() / latent[0].pow(2).mean().sqrt()
    assert size.item() == pytest.approx(0.1)
    torch.testing.assert_close(moved[1], free[1])


def test_float16_gradients_follow_float32(latent: torch.Tensor) -> None:
    """Small gradients survive float16 because the loss is scaled."""
    full, half = toy(dtype=torch.float32), toy(dtype=torch.float16)
    latent = latent.float()
    reference = gradient_of(full, latent, [PLAN, PLAN])
    update = make(half)
    with update.probe.installed():
        update.probe.survey(SIZE, lambda: half.predict(latent[:1], (FIRST,)))
        gradient = update.gradient(latent, [PLAN, PLAN], half, half=True).value
    cosine = torch.nn.functional.cosine_similarity(gradient.flatten(), reference.flatten(), dim=0)
    assert cosine > 0.99
    # Of the same size too: the scale of the loss is taken out of the gradient again.
    assert gradient.norm().item() == pytest.approx(reference.norm().item(), rel=0.05)


def test_an_overflowing_loss_scale_is_lowered_for_its_own_image(latent: torch.Tensor) -> None:
    denoiser = toy()
    update = make(denoiser)
    seen = []
    true_gradient = update._scaled_gradient

    def overflowing(*args):  # type: ignore[no-untyped-def]
        scales = args[-2]
        seen.append(list(scales))
        result = true_gradient(*args)
        result.value[1] = torch.inf if scales[1] > 32 else result.value[1]
        return result

    update._scaled_gradient = overflowing  # type: ignore[method-assign]
    with update.probe.installed():
        update.probe.survey(SIZE, lambda: denoiser.predict(latent[:1], (FIRST,)))
        first = update.gradient(latent, [PLAN, PLAN], denoiser, half=True)
        again = update.gradient(latent, [PLAN, PLAN], denoiser, half=True)
    torch.testing.assert_close(first.value, again.value)
    torch.testing.assert_close(first.value, gradient_of(denoiser, latent, [PLAN, PLAN]))
    assert first.finite.all()
    assert seen == [[1024.0, 1024.0], [1024.0, 32.0], [1024.0, 32.0]]

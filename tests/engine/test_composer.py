"""One step of a generation: rows, masks, fusion, schedule, and the usual methods beside CLoRA."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from clora.conditioning.plan import ImagePlan
from clora.engine.composer import Composer, Step, Updated
from clora.errors import CLoRAError
from clora.models.denoiser import Row
from clora.regions.mask_cache import MaskCache
from clora.settings.schedule import schedule, unreachable
from tests.plans import plan_of
from tests.toy import ToyDenoiser, toy
from tests.updating import updating

PLAN = plan_of([[(2,), (5,)], [(3,), (6,)], [(2,), (6,)]], [(), (2,), (5,)], "all")
EQUAL = ImagePlan(3)


@pytest.fixture
def latent() -> torch.Tensor:
    return torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def run_step(
    denoiser: ToyDenoiser,
    latent: torch.Tensor,
    plans: list[ImagePlan],
    index: int = 0,
    steps: int = 10,
    **values: object,
) -> tuple[Step, list[Updated], Composer]:
    updates: list[Updated] = []
    composer = Composer(
        denoiser.unet,
        updating(**values),
        steps,
        observer=lambda event: updates.append(event) if isinstance(event, Updated) else None,
    )
    with composer.installed():
        step = composer.step(index, latent, plans, denoiser)
    return step, updates, composer


def single(denoiser: ToyDenoiser, latent: torch.Tensor, image: int, variant: int, conditional: bool) -> torch.Tensor:
    return denoiser.predict(latent[image : image + 1], (Row(0, variant, conditional),))[0]


def test_each_place_takes_the_prediction_of_its_mask(latent: torch.Tensor) -> None:
    denoiser = toy()
    step, updates, _ = run_step(denoiser, latent, [PLAN, PLAN], index=9)
    assert not updates
    assert torch.equal(step.latent, latent)
    for image in range(2):
        masks = step.masks[image]
        assert masks is not None
        assert (masks.sum(0) == 1).all()
        for variant in range(3):
            inside = masks[variant].bool()
            for conditional, fused in ((True, step.cond), (False, step.uncond)):
                assert fused is not None
                expected = single(denoiser, latent, image, variant, conditional)
                torch.testing.assert_close(fused[image][:, inside], expected[:, inside], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rows", [1, 3, 7])
def test_fewer_rows_per_forward_change_nothing(latent: torch.Tensor, rows: int) -> None:
    whole, _, _ = run_step(toy(), latent, [PLAN, PLAN], refine_updates=2)
    pieces, _, _ = run_step(toy(), latent, [PLAN, PLAN], refine_updates=2, rows_per_forward=rows)
    torch.testing.assert_close(pieces.cond, whole.cond, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(pieces.latent, whole.latent, rtol=1e-9, atol=1e-12)


def test_schedule_updates_and_refines(latent: torch.Tensor) -> None:
    counts = [
        len(run_step(toy(), latent, [PLAN, PLAN], index=i, update_until=0.4, refine_at=(0.0, 0.3), refine_updates=3)[1])
        for i in range(6)
    ]
    assert counts == [4, 1, 1, 4, 0, 0]


def test_refining_ends_when_the_loss_hardly_falls(latent: torch.Tensor) -> None:
    def losses(**values: Any) -> list[float]:
        options = {"refine_at": (0.0,), "refine_updates": 12, "step_size": 30.0, "refine_tolerance": 0.0, **values}
        return [event.loss for event in run_step(toy(), latent[:1], [PLAN], **options)[1]]

    whole, ended = losses(), losses(refine_tolerance=0.05)
    assert len(whole) == 13
    assert 1 < len(ended) < len(whole)
    assert ended == whole[: len(ended)]
    falls = [(a - b) / a for a, b in pairwise(ended)]
    assert min(falls[:-1], default=1.0) >= 0.05 > falls[-1]


def test_an_image_ends_its_refining_by_itself_whatever_batch_it_is_in(latent: torch.Tensor) -> None:
    values: dict[str, Any] = {
        "refine_at": (0.0,), "refine_updates": 12, "step_size": 30.0, "refine_tolerance": 0.05, "fuse_from": 0.0,
    }  # fmt: skip
    latent = torch.cat([latent[:1], 3.0 * latent[1:]])
    both, updates, _ = run_step(toy(), latent, [PLAN, PLAN], **values)
    lengths = set()
    for image in range(2):
        alone, own, _ = run_step(toy(), latent[image : image + 1], [PLAN], **values)
        lengths.add(len(own))
        torch.testing.assert_close(both.latent[image : image + 1], alone.latent)
    assert len(lengths) == 2
    assert len(updates) == max(lengths)


def test_fresh_noise_is_predicted_after_the_update_and_stale_noise_before(latent: torch.Tensor) -> None:
    values = {"refine_at": (), "step_size": 50.0}
    fresh, updates, _ = run_step(toy(), latent, [PLAN, PLAN], **values)
    moved = updates[0].after
    torch.testing.assert_close(fresh.latent, moved)
    again, _, _ = run_step(toy(), moved, [PLAN, PLAN], update_until=0.0)
    torch.testing.assert_close(fresh.cond, again.cond)
    stale, _, _ = run_step(toy(), latent, [PLAN, PLAN], noise="stale", **values)
    before, _, _ = run_step(toy(), latent, [PLAN, PLAN], update_until=0.0)
    torch.testing.assert_close(stale.latent, moved)
    torch.testing.assert_close(stale.cond, before.cond)
    assert not torch.allclose(stale.cond, fresh.cond)


def test_before_fuse_from_predictions_are_averaged(latent: torch.Tensor) -> None:
    step, _, _ = run_step(toy(), latent, [PLAN, PLAN], index=1, fuse_from=0.5, update_until=0.0)
    assert step.masks == (None, None)
    mean = torch.stack([single(toy(), latent, 0, v, True) for v in range(3)]).mean(0)
    torch.testing.assert_close(step.cond[0], mean)


def test_before_fuse_from_the_base_alone_draws_a_background(latent: torch.Tensor) -> None:
    plan = replace(PLAN, background=True)
    step, _, _ = run_step(toy(), latent, [plan, PLAN], index=1, fuse_from=0.5, update_until=0.0)
    torch.testing.assert_close(step.cond[0], single(toy(), latent, 0, 0, True))
    assert not torch.allclose(step.cond[1], single(toy(), latent, 1, 0, True))


def test_switch_takes_turns_and_composite_averages(latent: torch.Tensor) -> None:
    for index in range(4):
        step, updates, _ = run_step(toy(), latent, [EQUAL, EQUAL], index=index, method="switch")
        torch.testing.assert_close(step.cond[1], single(toy(), latent, 1, index % 3, True))
        assert not updates
    step, _, _ = run_step(toy(), latent, [EQUAL, EQUAL], method="composite")
    mean = torch.stack([single(toy(), latent, 0, v, False) for v in range(3)]).mean(0)
    torch.testing.assert_close(step.uncond[0], mean)  # type: ignore[index]


def test_without_guidance_only_conditional_rows_run(latent: torch.Tensor) -> None:
    denoiser = toy()
    composer = Composer(denoiser.unet, updating(update_until=0.0), 10)
    with composer.installed():
        step = composer.step(0, latent, [PLAN, PLAN], denoiser, guidance=False)
    assert step.uncond is None
    assert all(row.conditional for rows in denoiser.rows_seen for row in rows)


def test_rows_of_one_variant_are_neighbours(latent: torch.Tensor) -> None:
    denoiser = toy()
    run_step(denoiser, latent, [PLAN, PLAN], index=9)
    variants = [row.variant for row in denoiser.rows_seen[-1]]
    assert variants == sorted(variants)


def test_nan_in_the_latent_is_told_in_one_sentence(latent: torch.Tensor) -> None:
    latent[0, 0, 0, 0] = torch.nan
    with pytest.raises(CLoRAError, match=r"^The latent holds NaN or infinite values at step 4"):
        run_step(toy(), latent[:1], [PLAN], index=3)


def test_a_gradient_that_is_not_finite_is_skipped_with_one_warning(latent: torch.Tensor) -> None:
    denoiser = toy()
    composer = Composer(denoiser.unet, updating(refine_at=()), 10)
    true_gradient = composer.update.gradient

    def broken(*args, **kwargs):  # type: ignore[no-untyped-def]
        result = true_gradient(*args, **kwargs)
        result.value[0, 0, 0, 0] = torch.inf
        return result

    composer.update.gradient = broken  # type: ignore[method-assign]
    with composer.installed():
        for index in range(2):
            step = composer.step(index, latent, [PLAN, PLAN], denoiser)
            assert torch.equal(step.latent[0], latent[0])
            assert not torch.equal(step.latent[1], latent[1])
    assert len(composer.warnings) == 1
    assert "not finite" in composer.warnings[0]


@pytest.mark.parametrize(("autocast", "half"), [(None, False), (torch.float16, True), (torch.bfloat16, False)])
def test_half_precision_is_what_the_model_computes_in(
    latent: torch.Tensor, monkeypatch: pytest.MonkeyPatch, autocast: torch.dtype | None, half: bool
) -> None:
    """Not what its weights are kept in: autocast computes in float16 with float32 weights."""
    denoiser, seen = toy(dtype=torch.float32), list[bool]()
    composer = Composer(denoiser.unet, updating(), 10)
    true_gradient = composer.update.gradient

    def watched(*args: Any, half: bool, **options: Any) -> Any:
        seen.append(half)
        return true_gradient(*args, half=half, **options)

    monkeypatch.setattr(composer.update, "gradient", watched)
    with composer.installed(), torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
        composer.step(1, latent.float(), [PLAN, PLAN], denoiser)
    assert seen == [half]


def test_constant_maps_are_told(latent: torch.Tensor) -> None:
    denoiser = toy()
    for block in denoiser.unet.blocks:
        torch.nn.init.zeros_(block.attn2.to_q.weight)
        torch.nn.init.zeros_(block.attn2.to_q.bias) if block.attn2.to_q.bias is not None else None
    step, _, composer = run_step(denoiser, latent, [PLAN, PLAN], fuse_from=0.0)
    assert composer.warnings == ["Some attention maps are constant and were left out of the loss."]
    assert step.masks[0] is not None
    assert step.masks[0][0].all()


def test_observer_can_end_the_run_and_leaves_no_hook(latent: torch.Tensor) -> None:
    denoiser = toy()

    def interrupt(event: object) -> None:
        raise KeyboardInterrupt

    composer = Composer(denoiser.unet, updating(), 10, observer=interrupt)
    with pytest.raises(KeyboardInterrupt), composer.installed():
        composer.step(0, latent, [PLAN, PLAN], denoiser)
    assert not any(m._forward_hooks for m in denoiser.unet.modules())


def test_schedule_in_fractions_gives_the_papers_steps() -> None:
    fifty = schedule(updating("paper"), 50)
    assert (fifty.update_before, sorted(fifty.refine_at)) == (25, [0, 10, 20])
    twenty = schedule(updating(), 20)
    assert (twenty.update_before, sorted(twenty.refine_at)) == (10, [0, 4, 8])
    assert sum(fifty.updates(i, 20) for i in range(50)) == 25 + 60


@pytest.mark.parametrize("fraction", [0.29, 0.57, 0.58])
def test_fractions_are_rounded_to_steps(fraction: float) -> None:
    """0.29 * 100 is 28.999999999999996: a boundary cut down would come a step early."""
    assert int(fraction * 100) == round(fraction * 100) - 1
    bounds = ("update_until", "fuse_from", "compose_until", "mask_until")
    settings = updating(refine_at=(fraction,), **dict.fromkeys(bounds, fraction))
    plan, step = schedule(settings, 100), round(100 * fraction)
    assert (plan.update_before, plan.fuse_from, plan.compose_until) == (step, step, step)
    assert plan.refine_at == {step}
    cache = MaskCache(settings.replace(fuse_from=0.0), schedule(settings.replace(fuse_from=0.0), 100))
    cache.latest = ()
    assert [cache.wanted(index) for index in (step - 1, step)] == [True, False]


@pytest.mark.parametrize(
    ("steps", "values", "told"),
    [
        (20, {}, ()),
        (1, {}, ("update the latent: raise Update until (0.5), or use more steps.",)),
        (4, {"update_until": 0.1}, ("Update until (0.1)",)),
        (1, {"update_until": 0.0}, ()),
        (1, {"step_size": 0.0}, ()),
        (20, {"fuse_from": 1.0}, ("fuse the LoRAs by masks: lower Fuse from (1).",)),
        (20, {"fuse_from": 0.5, "compose_until": 0.5}, ("Fuse from (0.5)",)),
        (20, {"compose_until": 0.0}, ("Update until (0.5) or raise Compose until (0)", "Compose until (0)")),
        (20, {"fuse_from": 1.0, "method": "switch"}, ()),
    ],
)
def test_what_no_step_is_left_for_is_told(steps: int, values: dict[str, Any], told: tuple[str, ...]) -> None:
    settings = updating(**values)
    found = unreachable(settings, schedule(settings, steps))
    assert len(found) == len(told)
    for sentence, part in zip(found, told, strict=True):
        assert sentence.startswith("No step is left")
        assert part in sentence


def test_it_is_told_once_and_not_where_masks_are_given(latent: torch.Tensor) -> None:
    denoiser, masks = toy(), [torch.ones(3, 8, 8)] * 2
    for given, many in ((None, 1), (masks, 0)):
        composer = Composer(denoiser.unet, updating(fuse_from=1.0, update_until=0.0), 10)
        with composer.installed():
            for index in range(2):
                composer.predict(index, latent, [PLAN, PLAN], denoiser, masks=given)
        assert len(composer.warnings) == many

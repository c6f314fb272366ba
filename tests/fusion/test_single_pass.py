"""Single-pass fusion against the exact one, on a tiny true UNet in double precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from clora.conditioning.plan import ImagePlan, rows_of
from clora.engine.composer import Composer, Step
from clora.fusion.layerwise import row_weights
from clora.models.denoiser import Row
from tests.rows_on_tiny_unet import CONCEPTS, PLAN, SIZE, Denoiser, latents
from tests.updating import updating

pytest.importorskip("diffusers")


def run(
    denoiser: Denoiser, masks: list[Tensor] | None = None, *, images: int = 1, index: int = 0, guidance: bool = True,
    **values: Any,
) -> Step:  # fmt: skip
    composer = Composer(denoiser.unet, updating(**values), 10, loras=denoiser.loras)
    with denoiser.loras.installed(), composer.installed():
        return composer.predict(index, latents(images), [PLAN] * images, denoiser, guidance=guidance, masks=masks)


def whole(variant: int) -> Tensor:
    masks = torch.zeros(CONCEPTS + 1, *SIZE, dtype=torch.float64)
    masks[variant] = 1.0
    return masks


KINDS = [("thin", "thin"), ("full", "full"), ("thin", "full")]


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("variant", range(CONCEPTS + 1))
def test_a_mask_over_everything_is_that_variants_own_row(kinds: tuple[str, str], variant: int) -> None:
    denoiser = Denoiser(*kinds)
    step = run(denoiser, [whole(variant)], fusion="single-pass")
    assert denoiser.rows_seen == [2]
    assert step.uncond is not None
    with torch.no_grad(), denoiser.loras.installed():
        for half, found in ((True, step.cond), (False, step.uncond)):
            own = denoiser.predict(latents(1), (Row(0, variant, half),))
            torch.testing.assert_close(found, own, rtol=0, atol=1e-12)


def test_images_and_halves_have_their_own_masks() -> None:
    denoiser = Denoiser("thin", "full")
    step = run(denoiser, [whole(1), whole(2)], images=2, fusion="single-pass")
    assert denoiser.rows_seen == [4]
    assert step.uncond is not None
    with torch.no_grad(), denoiser.loras.installed():
        for image, variant in enumerate((1, 2)):
            for half, found in ((True, step.cond), (False, step.uncond)):
                own = denoiser.predict(latents(2)[image : image + 1], (Row(0, variant, half),))
                torch.testing.assert_close(found[image : image + 1], own, rtol=0, atol=1e-12)


def half_and_half() -> Tensor:
    masks = torch.zeros(CONCEPTS + 1, *SIZE, dtype=torch.float64)
    masks[1, :, : SIZE[1] // 2] = masks[2, :, SIZE[1] // 2 :] = 1.0
    return masks


def test_half_and_half_draws_both() -> None:
    denoiser = Denoiser("thin", "thin")
    found = [run(denoiser, [masks], fusion="single-pass").cond for masks in (half_and_half(), whole(1), whole(2))]
    assert all(torch.isfinite(one).all() for one in found)
    assert all((found[0] - one).abs().mean() > 0.01 for one in found[1:])


def test_the_first_masks_come_from_an_exact_step_and_then_from_the_pass_itself() -> None:
    denoiser = Denoiser("thin", "thin")
    composer = Composer(denoiser.unet, updating(fuse_from=0.0, update_until=0.0), 10, loras=denoiser.loras)
    with denoiser.loras.installed(), composer.installed():
        steps = [composer.step(index, latents(1), [PLAN], denoiser) for index in range(3)]
    assert denoiser.rows_seen == [6, 2, 2]
    assert steps[1].masks[0] is not None
    # The pass is fused by the masks of the step before, and cuts its own for the next one.
    assert torch.equal(steps[1].masks[0], steps[0].masks[0])  # type: ignore[arg-type]
    assert steps[1].maps is not None
    assert steps[1].maps.by_variant[0, 1].shape == steps[0].maps.by_variant[0, 1].shape  # type: ignore[union-attr]


def test_masks_of_an_update_serve_the_first_pass() -> None:
    denoiser = Denoiser("thin", "thin")
    settings = updating(fuse_from=0.0, refine_at=())
    composer = Composer(denoiser.unet, settings, 10, loras=denoiser.loras)
    with denoiser.loras.installed(), composer.installed():
        step = composer.step(0, latents(1), [PLAN], denoiser)
    assert denoiser.rows_seen == [1, 3, 2]  # the probe' survey, the update, the pass
    assert step.masks[0] is not None


def test_a_single_pass_averages_before_masks_count_and_cuts_the_first_ones() -> None:
    denoiser = Denoiser("thin", "thin")
    even = [torch.ones(CONCEPTS + 1, *SIZE, dtype=torch.float64)]
    composer = Composer(denoiser.unet, updating(fuse_from=0.2, update_until=0.0), 10, loras=denoiser.loras)
    with denoiser.loras.installed(), composer.installed():
        first = composer.predict(0, latents(1), [PLAN], denoiser, guidance=False)
        late = composer.unconditional(first, denoiser)
        steps = [first, *(composer.step(index, latents(1), [PLAN], denoiser) for index in (1, 2, 3))]
    assert denoiser.rows_seen == [1, 1, 2, 2, 2]
    assert [step.masks[0] is None for step in steps] == [True, True, False, False]
    assert [step.maps is None for step in steps] == [True, False, False, False]
    averaged = run(denoiser, even)
    torch.testing.assert_close(first.cond, averaged.cond, rtol=0, atol=1e-12)
    torch.testing.assert_close(late, averaged.uncond, rtol=0, atol=1e-12)


def test_maps_of_the_pass_are_each_variants_own() -> None:
    """With one variant everywhere the latent path is that variant's, so its map is the exact one."""
    denoiser = Denoiser("thin", "full")
    exact = run(denoiser, fusion="exact", fuse_from=0.0)
    composer = Composer(denoiser.unet, updating(fuse_from=0.0), 10, loras=denoiser.loras)
    composer._masks.latest = (whole(2),)
    with denoiser.loras.installed(), composer.installed():
        step = composer.predict(0, latents(1), [PLAN], denoiser)
    assert step.maps is not None
    assert exact.maps is not None
    torch.testing.assert_close(step.maps.by_variant[0, 2], exact.maps.by_variant[0, 2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("fusion", ["exact", "single-pass"])
def test_a_late_unconditional_half_is_that_of_one_go(fusion: str) -> None:
    denoiser = Denoiser("thin", "thin")
    masks = [half_and_half()]
    whole_step = run(denoiser, masks, fusion=fusion)
    composer = Composer(denoiser.unet, updating(fusion=fusion), 10, loras=denoiser.loras)
    with denoiser.loras.installed(), composer.installed():
        step = composer.predict(0, latents(1), [PLAN], denoiser, guidance=False, masks=masks)
        late = composer.unconditional(step, denoiser)
    assert step.uncond is None
    torch.testing.assert_close(step.cond, whole_step.cond, rtol=0, atol=1e-12)
    torch.testing.assert_close(late, whole_step.uncond, rtol=0, atol=1e-12)


def test_pooled_texts_count_by_the_part_of_the_picture_that_is_theirs() -> None:
    denoiser = Denoiser("thin", "thin")
    seen: list[Tensor | None] = []
    predict = denoiser.predict

    def watched(latent: Tensor, rows: tuple[Row, ...], *, vectors: Tensor | None = None) -> Tensor:
        seen.append(vectors)
        return predict(latent, rows, vectors=vectors)

    denoiser.predict = watched  # type: ignore[method-assign]
    masks = torch.zeros(CONCEPTS + 1, *SIZE, dtype=torch.float64)
    masks[0, :, :2] = masks[1, :, 2:3] = masks[2, :, 3:] = 1.0
    run(denoiser, [masks], fusion="single-pass")
    shares = torch.tensor([2.0, 1.0, 9.0], dtype=torch.float64) / 12
    (given,) = seen
    assert given is not None
    torch.testing.assert_close(given, (shares @ denoiser.vectors).expand(2, -1))


def test_hooks_are_gone_afterwards() -> None:
    denoiser = Denoiser("thin", "thin")
    run(denoiser, [half_and_half()], fusion="single-pass")
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in denoiser.unet.modules())


def test_a_replaced_attention_is_fused_as_exact_with_a_warning() -> None:
    denoiser = Denoiser("thin", "thin")

    def replaced(x: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
        return module.to_out[0](module.to_q(x))

    module = next(m for name, m in denoiser.unet.named_modules() if name.endswith("attn2"))
    kept = type(module).__call__
    composer = Composer(denoiser.unet, updating(fusion="single-pass"), 10, loras=denoiser.loras)
    masks = [half_and_half()]
    try:
        type(module).__call__ = lambda self, *a, **k: replaced(*a, **k) if self is module else kept(self, *a, **k)
        exact = run(denoiser, masks, fusion="exact")
        with denoiser.loras.installed(), composer.installed():
            first, second = (composer.predict(i, latents(1), [PLAN], denoiser, masks=masks) for i in (0, 1))
    finally:
        type(module).__call__ = kept
    for step in (first, second):
        torch.testing.assert_close(step.cond, exact.cond)
        torch.testing.assert_close(step.uncond, exact.uncond)
    # The forward that found it out ran two rows, the others all.
    assert denoiser.rows_seen == [6, 2, 6, 6]
    assert [text for text in composer.warnings if "replaced the cross-attention" in text] == composer.warnings


def test_weights_of_rows_add_up_to_one() -> None:
    masks = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]], [[1.0, 0.0]]])
    plan = ImagePlan(3)
    rows = rows_of([plan])
    weights = row_weights(rows, [masks])
    for half in (True, False):
        own = weights[[i for i, row in enumerate(rows) if row.conditional is half]]
        assert own.sum(0).tolist() == [[1.0, 1.0]]
        assert own[1].tolist() == [[0.5, 0.0]]
    # The base alone stands for all where the others share its row.
    shared = tuple(row for row in rows if row.conditional or row.variant == 0)
    assert row_weights(shared, [masks])[shared.index(Row(0, 0, False))].tolist() == [[1.0, 1.0]]

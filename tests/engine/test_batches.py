"""Images of one batch are independent: each is the picture that it is alone, whatever the others do."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from clora.conditioning.plan import ImagePlan
from clora.engine.composer import Composer, Step, Updated
from clora.engine.record import Record
from clora.errors import CLoRAError
from clora.guidance.update import LatentUpdate
from tests.rows_on_tiny_unet import PLAN, SIZE, Denoiser
from tests.updating import updating

pytest.importorskip("diffusers")

PLAIN = ImagePlan(1)
STEPS = 6
MANY: dict[str, Any] = {"refine_at": (0.0, 0.4), "refine_updates": 8, "step_size": 20.0, "refine_tolerance": 0.03,
                        "update_until": 0.7, "fuse_from": 0.0, "mask_overlap": "average"}  # fmt: skip
"""Many updates that end early. With overlap argmax, rounding decides where two maps have one maximum."""


def noise(seed: int, size: float = 1.0) -> Tensor:
    return size * torch.randn(1, 4, *SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


BATCH = torch.cat([noise(1), noise(2, 3.0), noise(3)])


class Run:
    """Some steps of a batch: the latents after it, every step, and the updates of each image."""

    def __init__(self, latent: Tensor, plans: Sequence[ImagePlan], denoiser: Any = None, **values: Any) -> None:
        self.denoiser = denoiser or Denoiser("thin", "full")
        settings = updating(**{**MANY, **values})
        self.record = Record(settings, STEPS)
        self.steps, self.updates = list[Step](), list[Updated]()
        composer = Composer(self.denoiser.unet, settings, STEPS, loras=self.denoiser.loras, observer=self._observe)
        self.warnings = composer.warnings
        with self.denoiser.loras.installed(), composer.installed():
            for index in range(STEPS):
                latent = composer.step(index, latent, plans, self.denoiser).latent
                latent = latent - 0.1 * self.steps[-1].cond
        self.latent = latent

    def _observe(self, event: Any) -> None:
        self.record(event)
        (self.steps if isinstance(event, Step) else self.updates).append(event)


@cache
def _alone(image: int, composed: bool, values: tuple[tuple[str, Any], ...]) -> Run:
    return Run(BATCH[image : image + 1], [PLAN if composed else PLAIN], **dict(values))


def alone(image: int, composed: bool = True, **values: Any) -> Run:
    """The image by itself, run once for all tests."""
    return _alone(image, composed, tuple(sorted(values.items())))


def same(together: Run, image: int, single: Run) -> None:
    """The image's latent, and the predictions and masks of every step, but for rounding, which a random network blows
    up.
    """
    torch.testing.assert_close(together.latent[image], single.latent[0], rtol=0, atol=1e-4)
    for one, other in zip(together.steps, single.steps, strict=True):
        torch.testing.assert_close(one.cond[image], other.cond[0], rtol=0, atol=1e-4)
        mine, own = one.masks[image], other.masks[0]
        assert (mine is None) == (own is None)
        assert mine is None or torch.equal(mine, own)


@pytest.mark.parametrize(
    "values", [{}, {"fusion": "exact"}, {"noise": "stale"}, {"mask_every": 2}, {"rows_per_forward": 2}]
)
def test_an_image_that_has_ended_its_refine_step_keeps_its_masks(values: dict[str, Any]) -> None:
    together = Run(BATCH, [PLAN] * 3, **values)
    singles = [alone(image, **values) for image in range(3)]
    assert len({len(one.updates) for one in singles}) > 1, "the refine steps must end at different updates"
    for image, single in enumerate(singles):
        same(together, image, single)


def test_the_curve_of_an_image_has_its_own_updates_alone() -> None:
    together = Run(BATCH, [PLAN] * 3)
    for image in range(3):
        own, single = together.record.curve(image), alone(image).record.curve(0)
        assert own.losses == pytest.approx(single.losses, abs=1e-4)
        assert own.refined == single.refined


@pytest.mark.parametrize("values", [{}, {"noise": "stale"}, {"fusion": "exact"}])
def test_a_gradient_that_is_not_finite_stops_its_own_image_alone(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    others, true_gradient = {image: alone(image, **values) for image in (0, 2)}, LatentUpdate.gradient

    def broken(image: int) -> Any:
        def gradient(*args: Any, **options: Any) -> Any:
            result = true_gradient(*args, **options)
            result.value[image] = torch.nan
            return result

        return gradient

    monkeypatch.setattr(LatentUpdate, "gradient", broken(0))
    single = Run(BATCH[1:2], [PLAN], **values)
    assert single.updates == []
    monkeypatch.setattr(LatentUpdate, "gradient", broken(1))
    together = Run(BATCH, [PLAN] * 3, **values)
    for image, one in {**others, 1: single}.items():
        same(together, image, one)
    assert [text for text in together.warnings if "not finite" in text] == [
        "A latent update was skipped because its gradient was not finite; try full precision (--no-half)."
    ]
    assert together.record.curve(1).losses == []


def test_a_latent_that_is_not_finite_is_told_with_its_number() -> None:
    broken = BATCH.clone()
    broken[1, 0, 0, 0] = torch.nan
    with pytest.raises(CLoRAError, match="latent of image 2 of the batch holds NaN or infinite values at step 1"):
        Run(broken, [PLAN] * 3)


@pytest.mark.parametrize(
    "values",
    [
        {}, {"fusion": "exact"}, {"noise": "stale"}, {"maps": "both"}, {"fuse_from": 0.5}, {"update_until": 0.0},
        {"fusion": "exact", "shared_uncond": True, "variants_every": 2}, {"compose_until": 0.5}, {"hint_pull": 3.0},
    ],
)  # fmt: skip
@pytest.mark.parametrize("plain", [0, 1])
def test_an_image_without_concepts_is_drawn_beside_composed_ones(plain: int, values: dict[str, Any]) -> None:
    plans = [PLAIN if image == plain else PLAN for image in range(2)]
    together = Run(BATCH[:2], plans, **values)
    same(together, 1 - plain, alone(1 - plain, **values))
    single = alone(plain, composed=False, method="merge")
    torch.testing.assert_close(together.latent[plain], single.latent[0], rtol=0, atol=1e-9)
    assert together.record.curve(plain).losses == []


def test_images_without_concepts_cost_no_updates() -> None:
    counts = [len(Run(BATCH[: len(plans)], plans).denoiser.rows_seen) for plans in ([PLAIN], [PLAIN, PLAIN])]
    assert counts == [STEPS, STEPS]


@pytest.mark.parametrize("method", ["composite", "switch"])
def test_an_image_without_concepts_beside_other_methods(method: str) -> None:
    together = Run(BATCH[:2], [ImagePlan(3), PLAIN], method=method)
    torch.testing.assert_close(together.latent[1], alone(1, False, method="merge").latent[0], rtol=0, atol=1e-9)

"""Steps that are made beforehand and thrown away: DDIM's, without LoRAs, and what comes of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from clora.conditioning.plan import ImagePlan
from clora.engine.composer import Composer, Step
from clora.engine.estimate import estimate
from clora.engine.look_ahead import look_ahead, signals
from clora.fusion import Forwards
from clora.models.denoiser import Row
from clora.models.memory import RowLimit
from clora.prompt.region import parse_region
from clora.regions.balanced import Layout, balanced_masks
from clora.regions.room import rooms
from tests.plans import plan_of
from tests.toy import ToyDenoiser, toy
from tests.updating import updating

PLAN = plan_of([[(2,), (5,)], [(3,), (6,)], [(2,), (6,)]], [(), (2,), (5,)], "all")


class Watched(ToyDenoiser):
    """A toy that notes the latents and the signal levels it is asked at."""

    signal: float = 0.0

    def __init__(self, scale: float = 1.0) -> None:
        made = toy(scale=scale)
        super().__init__(made.unet, made.contexts, scale)
        self.asked: list[tuple[Tensor, float]] = []

    def denoised(self, latent: Tensor, signal: float, rows: tuple[Row, ...]) -> Tensor:
        self.asked.append((latent, signal))
        return super().denoised(latent, signal, rows)


@pytest.fixture
def latent() -> Tensor:
    return torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def ddim() -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="trailing",
        clip_sample=False, set_alpha_to_one=False,
    )  # fmt: skip


@pytest.mark.parametrize("scale", [1.0, 14.6])
def test_the_steps_are_those_of_ddim_with_guidance(latent: Tensor, scale: float) -> None:
    """Diffusers' own scheduler goes the same way, whatever the scale of the host's latents."""
    denoiser, scheduler = Watched(scale), ddim()
    scheduler.set_timesteps(20)
    denoiser.signal = float(scheduler.alphas_cumprod[999])
    composer = Composer(denoiser.unet, updating(), 20)
    with composer.installed():
        look_ahead(
            latent * scale, [PLAN, PLAN], denoiser, composer.strategy.forwards, reach=0.2, count=4, guidance=5.0
        )  # fmt: skip
    assert len(denoiser.asked) == 4
    z = latent
    for timestep, (asked, signal) in zip(scheduler.timesteps[:4], denoiser.asked, strict=True):
        assert signal == pytest.approx(float(scheduler.alphas_cumprod[timestep]), rel=1e-4)
        torch.testing.assert_close(asked[:2], z, rtol=1e-3, atol=1e-3)
        cond, uncond = (denoiser.predict(z * scale, (Row(0, 0, half), Row(1, 0, half))) for half in (True, False))
        z = scheduler.step(uncond + 5.0 * (cond - uncond), timestep, z, return_dict=False)[0]


def test_it_reads_the_base_alone_at_the_last_step(latent: Tensor) -> None:
    denoiser = toy()
    composer = Composer(denoiser.unet, updating(), 10)
    with composer.installed():
        found, _ = look_ahead(
            latent, [PLAN, ImagePlan(1)], denoiser, composer.strategy.forwards, reach=0.1, count=1, guidance=1.0
        )  # fmt: skip
        assert {row.variant for rows in denoiser.rows_seen for row in rows} == {0}
        assert all(row.conditional for rows in denoiser.rows_seen for row in rows), "guidance 1 has one half"
        maps, _, layers = composer.probe.collect(
            (16, 16), PLAN.columns, lambda: denoiser.predict(latent[:1], (Row(0, 0, True),)), keep_layers=True
        )
    assert found[1] is None
    assert found[0] is not None
    wanted = [maps[0, [PLAN.columns.index(p) for p in concept.group[0]]].mean(0) for concept in PLAN.concepts]
    torch.testing.assert_close(found[0].maps, torch.stack(wanted), rtol=1e-5, atol=1e-7)
    assert found[0].features.shape == (16, 8 * len(layers))


def test_less_memory_changes_nothing(latent: Tensor) -> None:
    denoiser = toy()
    composer = Composer(denoiser.unet, updating(), 10)
    given: dict[str, Any] = {"reach": 0.2, "count": 2, "guidance": 5.0}
    with composer.installed():
        whole, rough = look_ahead(latent, [PLAN, PLAN], denoiser, composer.strategy.forwards, **given)
        one, again = look_ahead(latent, [PLAN, PLAN], denoiser, Forwards(composer.probe, RowLimit(1)), **given)
    torch.testing.assert_close(rough, again)
    for a, b in zip(whole, one, strict=True):
        assert a is not None
        assert b is not None
        torch.testing.assert_close(a.maps, b.maps)
        torch.testing.assert_close(a.features, b.features)


def test_levels_fall_from_where_the_sampler_is() -> None:
    table = ddim().alphas_cumprod
    assert signals(float(table[999]), 0.2, 4) == pytest.approx([float(table[999 - 50 * n]) for n in range(5)], rel=1e-4)
    assert signals(float(table[600]), 0.5, 2) == pytest.approx(
        [float(table[600 - 150 * n]) for n in range(3)], rel=1e-4
    )


# ---------------------------------------------------------------------------------------- in a composition


def steps_of(latent: Tensor, plans: list[ImagePlan], denoiser: ToyDenoiser, **values: Any) -> list[Step]:
    composer = Composer(denoiser.unet, updating(update_until=0.0, **values), 10)
    with composer.installed():
        return [composer.step(index, latent, plans, denoiser) for index in range(10)]


def test_its_masks_count_from_the_first_step_on(latent: Tensor) -> None:
    """Until so many steps are made; then new ones are cut, unless masks are to stay."""
    for until, change in ((1.0, 3), (0.0, 10)):
        steps = steps_of(latent, [PLAN, PLAN], toy(), look_ahead=0.3, fusion="exact", mask_until=until, fuse_from=0.5)
        masks = [step.masks[0] for step in steps]
        assert masks[0] is not None
        assert all(mask is not None for mask in masks)
        assert [n for n in range(10) if not torch.equal(masks[n], masks[0])] == list(range(change, 10))  # type: ignore[arg-type]
        assert bool((masks[0].sum(0) == 1).all())


def test_each_subject_has_a_part_of_the_picture_until_masks_are_cut_inside_it(latent: Tensor) -> None:
    steps = steps_of(latent, [PLAN, PLAN], toy(), look_ahead=0.2, own_places=0.5, fusion="exact")
    for image in range(2):
        masks = [mask for step in steps if (mask := step.masks[image]) is not None]
        assert len(masks) == 10
        assert not any(bool(mask[0].any()) for mask in masks[:5]), "nothing is left to the base"
        assert all(torch.equal(mask[1] + mask[2], torch.ones_like(mask[1])) for mask in masks[:5])
        assert all(bool(mask[0].any()) for mask in masks[5:])
        assert all(bool((mask[1:] <= masks[4][1:]).all()) for mask in masks[5:])


def test_a_background_of_the_base_has_room_beside_the_subjects(latent: Tensor) -> None:
    plans = [replace(PLAN, background=True), PLAN]
    step = steps_of(latent, plans, toy(), look_ahead=0.2, own_places=1.0, fusion="exact")[0]
    beside, whole = step.masks
    assert beside is not None
    assert whole is not None
    assert bool(beside[0].any())
    assert all(bool(mask.any()) for mask in beside[1:])
    assert not bool(whole[0].any())


@pytest.mark.parametrize("own", [0.0, 1.0])
def test_places_are_kept_and_pictures_without_concepts_are_plain(latent: Tensor, own: float) -> None:
    left = parse_region("left", "")
    plan = replace(PLAN, concepts=(replace(PLAN.concepts[0], region=left), PLAN.concepts[1]))
    step = steps_of(latent, [plan, ImagePlan(1)], toy(), look_ahead=0.2, own_places=own, fusion="exact")[0]
    assert step.masks[0] is not None
    (room,) = rooms([left], 16, 16)
    assert room is not None
    assert torch.equal(step.masks[0][1], room.to(step.masks[0]))
    assert not bool((step.masks[0][2] * room).any())
    alone = steps_of(latent[1:], [ImagePlan(1)], toy(), fusion="exact")[0]
    torch.testing.assert_close(step.cond[1:], alone.cond)


def test_it_runs_once_and_only_where_masks_are_cut(latent: Tensor) -> None:
    def asked(**values: Any) -> int:
        denoiser = Watched()
        denoiser.signal = 0.005
        steps_of(latent, [PLAN, PLAN], denoiser, **values)
        return len(denoiser.asked)

    assert asked(look_ahead=0.2) == 2
    assert asked(look_ahead=0.01) == 1
    assert asked() == asked(look_ahead=0.2, method="composite") == 0


def test_a_denoiser_that_lacks_controls_is_not_asked(latent: Tensor) -> None:
    denoiser = Watched()
    denoiser.complete = False
    composer = Composer(denoiser.unet, updating(look_ahead=0.2, update_until=0.0), 10)
    with composer.installed():
        step = composer.step(0, latent, [PLAN, PLAN], denoiser)
    assert not denoiser.asked
    assert step.masks == (None, None), "masks count from Fuse from on"
    assert len(composer.warnings) == 1
    assert composer.warnings[0].startswith("Look ahead: off")


def test_what_it_costs() -> None:
    fast = updating("fast", look_ahead=0.0)
    assert estimate(fast.replace(look_ahead=0.2), 2, 20).time == pytest.approx(estimate(fast, 2, 20).time + 0.2)


# ------------------------------------------------------------------------------------------ balanced masks


def test_balanced_masks_follow_maps_and_features() -> None:
    """Two things side by side: the maps show a corner of each, the features all of it."""
    maps, features = torch.full((2, 16, 16), 0.01), torch.zeros(16, 16, 3)
    things = (slice(2, 8), slice(1, 7)), (slice(6, 14), slice(9, 15))
    features[..., 0] = 1.0
    for number, (rows, columns) in enumerate(things):
        maps[number, rows, columns] = 0.2
        maps[number, rows.start : rows.start + 2, columns] = 1.0
        features[rows, columns] = torch.eye(3)[number + 1]
    masks = balanced_masks(Layout(maps, features.flatten(0, 1)), (32, 32))
    assert torch.equal(masks.sum(0), torch.ones(32, 32))
    for mask, (rows, columns) in zip(masks[1:], things, strict=True):
        wanted = torch.zeros(32, 32)
        wanted[2 * rows.start : 2 * rows.stop, 2 * columns.start : 2 * columns.stop] = 1
        assert (mask * wanted).sum() / torch.maximum(mask, wanted).sum() > 0.85


def test_balanced_masks_of_maps_without_a_subject() -> None:
    masks = balanced_masks(Layout(torch.zeros(2, 8, 8), torch.zeros(64, 3)), (16, 16))
    assert torch.equal(masks.sum(0), torch.ones(16, 16))

"""Plans: made once, gone on from in the same picture bit by bit, and left with a reason where anything differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from clora.conditioning.plan import ImagePlan
from clora.engine.composer import Composer, Step
from clora.engine.plans import MAX_NAME, Plan, PlanMade, PlanRequest, PlanStore, PlanUse
from clora.errors import CLoRAError
from clora.prompt.region import parse_region
from clora.regions.room import rooms
from clora.settings import Settings
from tests.engine.test_look_ahead import PLAN, Watched

LOOKS = Settings(look_ahead=0.2, update_until=0.0, own_places=0.5)
ABOUT = {"the seed": "7", "the checkpoint": "world"}


class Job:
    """One run of a toy with a plan."""

    def __init__(self, store: PlanStore, text: str, about: Mapping[str, str] = ABOUT) -> None:
        request = PlanRequest.of_text(text)
        assert request is not None
        self.masks: tuple[Tensor, ...] = ()
        self.use = PlanUse(request, store, about, [])
        self.denoiser = Watched()
        self.denoiser.signal = 0.005

    def steps(self, latent: Tensor, plans: list[ImagePlan], settings: Settings = LOOKS, **more: Any) -> list[Step]:
        composer = Composer(self.denoiser.unet, settings, 10, plan=self.use, **more)
        with composer.installed():
            return [composer.step(index, latent, plans, self.denoiser) for index in range(4)]

    def make(self, latent: Tensor, plans: list[ImagePlan], **more: Any) -> Plan:
        with pytest.raises(PlanMade) as made:
            self.steps(latent, plans, **more)
        self.masks = made.value.masks
        return made.value.plan


@pytest.fixture
def latent() -> Tensor:
    return torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture
def store() -> PlanStore:
    return PlanStore()


def without_plan(latent: Tensor, plans: list[ImagePlan], settings: Settings = LOOKS) -> list[Step]:
    denoiser = Watched()
    denoiser.signal = 0.005
    composer = Composer(denoiser.unet, settings, 10)
    with composer.installed():
        return [composer.step(index, latent, plans, denoiser) for index in range(4)]


def same(one: list[Step], other: list[Step]) -> bool:
    return all(torch.equal(a.cond, b.cond) for a, b in zip(one, other, strict=True))


def test_a_plan_is_the_look_ahead_alone(latent: Tensor, store: PlanStore) -> None:
    job = Job(store, "tab1 only")
    plan = job.make(latent, [PLAN, ImagePlan(1)])
    assert [signal for _, signal in job.denoiser.asked] == pytest.approx([0.005, job.denoiser.asked[1][1]])
    assert plan.rough.shape == latent.shape
    assert plan.masks[0] is not None
    assert plan.masks[0].shape == (3, 16, 16)
    assert plan.masks[1] is None
    assert job.masks[0].shape == (3, 16, 16)
    assert bool((job.masks[0].sum(0) == 1).all())
    assert all(bool(mask.any()) for mask in job.masks[0]), "the subjects, and the base's ground"


def test_a_picture_goes_on_from_it_bit_by_bit_without_looking_ahead_again(latent: Tensor, store: PlanStore) -> None:
    Job(store, "tab1 only").make(latent, [PLAN, PLAN])
    job = Job(store, "tab1")
    assert same(job.steps(latent, [PLAN, PLAN]), without_plan(latent, [PLAN, PLAN]))
    assert job.denoiser.asked == []
    assert job.use.notes == []


def test_places_drawn_after_the_plan_are_kept(latent: Tensor, store: PlanStore) -> None:
    Job(store, "tab1 only").make(latent, [PLAN, PLAN])
    left = parse_region("left", "")
    moved = replace(PLAN, concepts=(replace(PLAN.concepts[0], region=left), PLAN.concepts[1]))
    job = Job(store, "tab1")
    steps = job.steps(latent, [moved, moved])
    assert job.denoiser.asked == []
    assert same(steps, without_plan(latent, [moved, moved]))
    assert steps[0].masks[0] is not None
    (room,) = rooms([left], 16, 16)
    assert room is not None
    assert torch.equal(steps[0].masks[0][1], room.to(steps[0].masks[0]))


def test_planning_again_with_the_same_inputs_looks_ahead_once(latent: Tensor, store: PlanStore) -> None:
    first = Job(store, "tab1 only").make(latent, [PLAN, PLAN])
    again = Job(store, "tab1 only")
    assert torch.equal(again.make(latent, [PLAN, PLAN]).rough, first.rough)
    assert again.denoiser.asked == []


@pytest.mark.parametrize(
    ("about", "why"),
    [
        ({"the seed": "8", "the checkpoint": "world"}, "the seed changed from '7' to '8'"),
        ({"the seed": "7", "the checkpoint": "x" * 60}, "the checkpoint changed"),
        (ABOUT, "an extension or an option changed"),
    ],
)
def test_another_picture_does_not_use_it_and_says_why_once(
    latent: Tensor, store: PlanStore, about: dict[str, str], why: str
) -> None:
    Job(store, "tab1 only").make(latent, [PLAN, PLAN])
    other = latent + 1e-6 if about is ABOUT else latent
    for notes in ([f"The plan is not used, because {why}."], []):
        job = Job(store, "tab1", about)
        assert same(job.steps(other, [PLAN, PLAN]), without_plan(other, [PLAN, PLAN]))
        assert len(job.denoiser.asked) == 2
        assert job.use.notes == notes


def test_two_tabs_do_not_see_each_others_plans(latent: Tensor, store: PlanStore) -> None:
    Job(store, "tab1 only").make(latent, [PLAN, PLAN])
    job = Job(store, "tab2")
    job.steps(latent, [PLAN, PLAN])
    assert len(job.denoiser.asked) == 2
    assert job.use.notes == []


def test_the_oldest_of_many_plans_is_forgotten(latent: Tensor, store: PlanStore) -> None:
    for number in range(9):
        Job(store, f"tab{number} only").make(latent, [PLAN, PLAN])
    assert store.get("tab0") is None
    assert all(store.get(f"tab{number}") is not None for number in range(1, 9))


@pytest.mark.parametrize(
    ("settings", "plan", "why"),
    [
        (LOOKS.replace(look_ahead=0.0), PLAN, "Look ahead is 0"),
        (LOOKS.replace(method="composite"), PLAN, "the method composite has no masks"),
        (LOOKS, ImagePlan(1), "CLoRA is inactive for this prompt"),
    ],
)
def test_where_nothing_is_looked_at(
    latent: Tensor, store: PlanStore, settings: Settings, plan: ImagePlan, why: str
) -> None:
    Job(store, "tab1 only").make(latent, [PLAN, PLAN])
    job = Job(store, "tab1")
    job.steps(latent, [plan, plan], settings)
    assert job.use.notes == [f"The plan is not used, because {why}."]
    with pytest.raises(CLoRAError, match=f"Plan: there is nothing to plan, because {why}"):
        Job(store, "tab1 only").steps(latent, [plan, plan], settings)


def test_the_text_of_the_panel() -> None:
    assert PlanRequest.of_text(" ") is None
    assert PlanRequest.of_text("a1b2") == PlanRequest("a1b2")
    assert PlanRequest.of_text("a1b2 only") == PlanRequest("a1b2", only=True)
    with pytest.raises(CLoRAError, match="at most 100"):
        PlanRequest("x" * (MAX_NAME + 1))

"""Plans in the stand-in hosts: a job that only plans, and pictures that go on from it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from clora.engine.plans import REACH
from clora.settings.infotext import MASKS
from tests.webui.standin_host import FEW, PROMPT, Host, Job, near

AHEAD = {**FEW, "look_ahead": 0.4}
MADE = "This is a plan, after 2 of 5 steps"


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many steps each look-ahead has made."""
    from clora.engine import first_masks

    made: list[int] = []
    look_ahead = first_masks.look_ahead

    def counted(*args: Any, **options: Any) -> Any:
        made.append(options["count"])
        return look_ahead(*args, **options)

    monkeypatch.setattr(first_masks, "look_ahead", counted)
    return made


def of(host: Host, name: str) -> str:
    """A name for each host: the stand-ins have one model, so that each would use the plans of the others."""
    return f"{host.model.kind} {name}" if name else ""


def plan(host: Host, name: str, prompt: str | list[str] = PROMPT, clora: dict[str, Any] = AHEAD, **more: Any) -> Job:
    return host.draw(prompt, {**clora, "plan": of(host, name), "plan_only": True}, steps=5, **more)


def draw(host: Host, name: str, prompt: str | list[str] = PROMPT, clora: dict[str, Any] = AHEAD, **more: Any) -> Job:
    return host.draw(prompt, {**clora, "plan": of(host, name)} if name else clora, steps=5, **more)


def notes(job: Job) -> list[str]:
    return [line for line in job.processed.comments.splitlines() if "plan" in line.lower()]


@pytest.mark.parametrize("sampler", ["Euler", "DDIM", "Heun"])
@pytest.mark.usefixtures("nothing_is_left")
def test_a_picture_goes_on_from_its_plan_bit_by_bit(host: Host, looks: list[int], sampler: str) -> None:
    planned = plan(host, sampler, sampler_name=sampler)
    assert len(looks) == 1
    assert host.traces(planned.p)["hooks"] == 0
    assert notes(planned)[0].startswith(MADE)
    assert len(planned.processed.images) == 2
    assert MASKS in planned.processed.infotexts[1]
    assert planned.p.do_not_save_samples
    went_on = draw(host, sampler, sampler_name=sampler)
    assert len(looks) == 1
    assert notes(went_on) == []
    without = draw(host, "", sampler_name=sampler)
    assert len(looks) == 2
    assert torch.equal(went_on.latent, without.latent)
    assert not near(planned.latent, without.latent, 1e-2)


def test_the_rough_picture_is_what_the_look_ahead_found(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    from clora.engine import first_masks

    seen = []
    look_ahead = first_masks.look_ahead
    monkeypatch.setattr(first_masks, "look_ahead", lambda *a, **k: seen.append(look_ahead(*a, **k)) or seen[-1])
    job = plan(host, "")
    assert torch.equal(job.latent, seen[0][1][0])


def test_a_batch_has_a_plan_for_each_picture(host: Host, looks: list[int]) -> None:
    prompts = [PROMPT, "a <lora:dog:1> dog, a fox and a <lora:cat:1> cat"]
    planned = plan(host, "batch", prompts)
    assert len(planned.processed.latents) == 2
    went_on, without = draw(host, "batch", prompts), draw(host, "", prompts)
    assert looks == [2, 2]
    assert all(torch.equal(*pair) for pair in zip(went_on.processed.latents, without.processed.latents, strict=True))


def test_only_the_first_batch_is_planned(host: Host) -> None:
    assert len(plan(host, "batches", [PROMPT, PROMPT], batch_size=1).processed.latents) == 1


def test_later_batches_have_no_plan(host: Host, looks: list[int]) -> None:
    plan(host, "first batch", [PROMPT, PROMPT], batch_size=1)
    went_on = draw(host, "first batch", [PROMPT, PROMPT], batch_size=1)
    assert looks == [2, 2], "the second batch looks ahead itself"
    assert notes(went_on) == []


def test_a_plan_has_no_hires_pass(host: Host) -> None:
    """And the picture that goes on from it has one."""
    planned = plan(host, "hires", enable_hr=True)
    assert planned.latent.shape[-1] == 16
    assert len(planned.p.samplers) == 1
    went_on = draw(host, "hires", enable_hr=True)
    assert torch.equal(went_on.latent, draw(host, "", enable_hr=True).latent)


def test_a_hires_pass_leaves_subjects_without_a_lora_to_the_base(host: Host) -> None:
    """They have masks in the first pass only, also where the hires prompt names more of them."""
    p = host.job(f"{PROMPT} and a fox", AHEAD, enable_hr=True, hr_scale=1.5, steps=5)
    p.all_hr_prompts = [f"{PROMPT} and a fox and a king"]
    found = host.run(p)
    assert found.latent.shape[-1] > 16
    assert torch.isfinite(found.latent).all()


def test_places_drawn_on_the_plan_count(host: Host, looks: list[int]) -> None:
    plan(host, "drawn")
    drawn = {**AHEAD, "corrections": {"cat": {"place": "left"}}}
    went_on = draw(host, "drawn", clora=drawn)
    tagged = draw(host, "drawn", PROMPT.replace("cat:1", "cat:1:place=left"))
    assert len(looks) == 1
    assert notes(went_on) == notes(tagged) == []
    assert torch.equal(went_on.latent, draw(host, "", clora=drawn).latent)
    assert torch.equal(tagged.latent, went_on.latent)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"prompt": PROMPT.replace("grass", "sand")}, "the prompt changed"),
        ({"negative": "rain"}, "the negative prompt changed"),
        ({"seed": 5}, "the seed changed from '1' to '5'"),
        ({"width": 192}, "the size changed from '128 x 128' to '192 x 128'"),
        ({"sampler_name": "DDIM"}, "the sampler changed from 'Euler' to 'DDIM'"),
        ({"cfg_scale": 3.0}, "the guidance scale changed from '4' to '3'"),
        ({"clora": {**AHEAD, "look_ahead": 0.2}}, "Look ahead changed from '0.4' to '0.2'"),
        ({"clora": FEW}, "Look ahead is 0"),
    ],
)
def test_a_plan_of_another_picture_is_not_used(
    host: Host, looks: list[int], changed: dict[str, Any], why: str
) -> None:  # fmt: skip
    plan(host, why)
    job = draw(host, why, **changed)
    assert notes(job)[0].startswith(f"The plan is not used, because {why}")
    assert torch.equal(job.latent, draw(host, "", **changed).latent)
    assert notes(draw(host, why, **changed)) == [], "it is told once"


def test_a_plan_of_another_checkpoint_is_not_used(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    plan(host, "checkpoint")
    job = host.job(PROMPT, {**AHEAD, "plan": of(host, "checkpoint")}, steps=5)
    job.sd_model_name = "another"
    assert notes(host.run(job)) == ["The plan is not used, because the checkpoint changed."]


def test_without_a_look_ahead_a_plan_makes_one(host: Host) -> None:
    job = plan(host, "", clora=FEW)
    assert f"CLoRA look ahead: {REACH:g}" in job.processed.infotexts[0]
    assert notes(job)[0].startswith("This is a plan, after 1 of 5 steps")


@pytest.mark.parametrize(
    ("prompt", "clora", "why"),
    [
        (PROMPT, {**FEW, "method": "composite"}, "the method composite has no masks"),
        ("a <lora:cat:1> cat on grass", FEW, "CLoRA is inactive for this prompt. "),
    ],
)
@pytest.mark.usefixtures("nothing_is_left")
def test_what_cannot_be_planned_stops_the_job(host: Host, prompt: str, clora: dict[str, Any], why: str) -> None:
    from clora.hosts.host_api import RefusedError

    with pytest.raises(RefusedError, match=f"Plan: there is nothing to plan, because {why}"):
        plan(host, "", prompt, clora)


def test_the_panel_asks_with_a_text(host: Host, looks: list[int]) -> None:
    """After the corrections comes the plan: its name, and "only" to make it."""
    from clora.settings import SETTINGS, Settings

    settings = Settings(**AHEAD)
    values = [True, *(getattr(settings, one.name) for one in SETTINGS), ""]
    assert notes(host.draw(PROMPT, (*values, of(host, "panel only")), steps=5))[0].startswith(MADE)
    assert notes(host.draw(PROMPT, (*values, of(host, "panel")), steps=5)) == []
    assert len(looks) == 1

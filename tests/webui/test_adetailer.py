"""A stand-in of ADetailer beside CLoRA: its boxes are repainted with the one concept that is in them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.webui.standin_host import FEW, PROMPT, Host

# The left half of the picture is the cat's, the right half the dog's.
PLACES = {**FEW, "update_until": 0.0, "corrections": {"cat": {"place": "left"}, "dog": {"place": "right"}}}
LEFT, RIGHT, BOTH = (0, 32, 60, 96), (68, 32, 127, 96), (0, 32, 127, 96)


@pytest.fixture(autouse=True)
def half_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks of a random model are anywhere in their place: fill the places."""
    from clora.webui import job

    real = job.shown_of

    def shown(outcome: Any, image: int, composition: Any) -> Any:
        found = real(outcome, image, composition)
        masks = torch.zeros_like(found.masks)
        masks[1, :, : masks.shape[2] // 2] = 1
        masks[2:, :, masks.shape[2] // 2 :] = 1
        found.masks = masks
        return found

    monkeypatch.setattr(job, "shown_of", shown)


def detailer(*boxes: Any, prompt: str = "") -> Any:
    from adetailer import Detailer

    return Detailer(boxes, prompt)


def loras(prompt: Any) -> list[str]:
    return re.findall("<lora:([^:>]+)", prompt)


def test_each_box_has_the_one_concept_that_is_in_it(host: Host) -> None:
    """Without look guidance the host applies the LoRA by itself."""
    beside = detailer(LEFT, RIGHT)
    job = host.draw(clora={**PLACES, "look_guidance": 1.0}, beside=[beside])
    assert [loras(one.prompt) for one in beside.jobs] == [["cat"], ["dog"]]
    assert [one.extra_network_data for one in beside.jobs] == [[("cat", 1.0)], [("dog", 1.0)]]
    assert ["cat" in one.prompts[0].split() for one in beside.jobs] == [True, False]
    assert ["dog" in one.prompts[0].split() for one in beside.jobs] == [False, True]
    assert "ADetailer" not in job.processed.comments
    assert prompt_of(job) == PROMPT


def looks(job: Any) -> Any:
    return np.asarray(job.result.images[0]).astype(int)


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inner jobs keep what they draw."""
    from modules import processing

    real = processing.process_images

    def kept(job: Any) -> Any:
        job.result = real(job)
        return job.result

    monkeypatch.setattr(processing, "process_images", kept)


@pytest.mark.usefixtures("results")
def test_look_guidance_acts_in_boxes(host: Host) -> None:
    """A factor of nearly 1 is the host's own LoRA, a larger one draws something else; not in a box of several."""
    by_host, nearly, guided = (detailer(LEFT, BOTH, RIGHT) for _ in range(3))
    for beside, factor in ((by_host, 1.0), (nearly, 1.00001), (guided, 3.0)):
        host.draw(clora={**PLACES, "look_guidance": factor}, beside=[beside], cfg_scale=4.0)
    for one, other in zip(nearly.jobs, by_host.jobs, strict=True):
        assert np.abs(looks(one) - looks(other)).max() <= 2
    far = [np.abs(looks(one) - looks(other)).max() for one, other in zip(guided.jobs, by_host.jobs, strict=True)]
    assert (far[0] > 2, far[1], far[2] > 2) == (True, 0, True)
    assert [loras(one.prompt) for one in guided.jobs] == [["cat"], ["cat", "dog"], ["dog"]]


@pytest.mark.usefixtures("results")
def test_nothing_of_a_box_is_left(host: Host) -> None:
    beside = detailer(LEFT)
    p = host.job(clora=PLACES, beside=[beside])
    runner, before = p.scripts, list(p.scripts.alwayson_scripts)
    host.run(p)
    assert p.scripts is runner
    assert runner.alwayson_scripts == before
    assert host.traces(p)["hooks"] == host.traces(beside.jobs[0])["hooks"] == 0
    plain = detailer(LEFT)
    host.draw(clora={"enabled": False}, beside=[plain])
    assert plain.jobs[0].scripts.alwayson_scripts == []


@pytest.mark.usefixtures("results")
def test_the_picture_without_clora_has_boxes_without_it(host: Host) -> None:
    beside = detailer(LEFT)
    host.draw(clora={**PLACES, "show_merge": True}, beside=[beside])
    assert [loras(one.prompt) for one in beside.jobs] == [["cat"], ["cat", "dog"]]
    assert [len(one.runner_had) for one in beside.jobs] == [1, 0]


@pytest.mark.parametrize("at", ["read_batch", "begin_pass"])
def test_a_box_that_clora_refuses_is_told(host: Host, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    from clora.errors import CLoRAError
    from clora.webui.job import Generation

    real = getattr(Generation, at)

    def refuse(self: Any, p: Any, *args: Any) -> Any:
        if getattr(p, "_ad_inner", False):
            raise CLoRAError("not possible")
        return real(self, p, *args)

    monkeypatch.setattr(Generation, at, refuse)
    p = host.job(clora=PLACES, beside=[detailer(LEFT)])
    host.errors.reports.clear()
    processed = host.processing.process_images(p)
    assert "ADetailer ended at a box: not possible" in processed.comments
    assert "not possible" in host.errors.reports[0]
    assert host.traces(p)["hooks"] == 0


def prompt_of(job: Any) -> str:
    return str(job.processed.infotexts[0].splitlines()[0])


@pytest.mark.parametrize(("box", "what"), [(BOTH, '"cat" (cat) and "dog" (dog)'), ((60, 0, 60, 0), "no concept")])
def test_a_box_with_several_or_none_is_as_without_clora_with_a_note(
    host: Host, monkeypatch: pytest.MonkeyPatch, box: Any, what: str
) -> None:
    if what == "no concept":
        from clora.webui import adetailer

        monkeypatch.setattr(adetailer, "concepts_in", lambda *_: [])
    beside = detailer(box)
    job = host.draw(clora=PLACES, beside=[beside])
    assert [one.prompt for one in beside.jobs] == [PROMPT]
    assert f"A box of ADetailer has {what} in it" in job.processed.comments


def test_its_own_prompt_is_left_alone(host: Host) -> None:
    beside = detailer(LEFT, prompt="a detailed face")
    job = host.draw(clora=PLACES, beside=[beside])
    assert beside.jobs[0].prompt == "a detailed face"
    assert "ADetailer" not in job.processed.comments
    with_prompt = detailer(LEFT, prompt="[PROMPT], detailed")
    host.draw(clora=PLACES, beside=[with_prompt])
    assert loras(with_prompt.jobs[0].prompt) == ["cat"]
    assert with_prompt.jobs[0].prompt.endswith(", detailed")


@pytest.mark.parametrize("clora", [{"enabled": False}, {"method": "merge"}])
def test_without_masks_it_is_as_ever(host: Host, clora: Any) -> None:
    from clora.webui import job

    beside = detailer(LEFT)
    with pytest.MonkeyPatch.context() as own:
        own.setattr(job, "shown_of", lambda *_: job.Shown(None, [], (), (), (), ()))
        host.draw(clora=clora, beside=[beside])
    assert [one.prompt for one in beside.jobs] == [PROMPT]


def test_batches_and_the_hosts_runner(host: Host) -> None:
    beside = detailer(LEFT)
    other = "a <lora:horse:1> horse and a <lora:dog:1> dog"
    p = host.job([PROMPT, other, other, PROMPT], PLACES, beside=[beside], batch_size=2)
    runner = p.scripts
    seen: list[Any] = []
    p.watch = lambda number, x: seen.append(p.scripts)
    host.run(p)
    assert [loras(one.prompt) for one in beside.jobs] == [["cat"], ["horse"], ["horse"], ["cat"]]
    assert p.scripts is runner
    assert "before_process" not in vars(runner)
    assert seen[0] is not runner


@pytest.mark.parametrize("at", ["prompts", "sampling"])
def test_a_refused_job_gives_the_runner_back(host: Host, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    from clora.errors import CLoRAError
    from clora.hosts.host_api import RefusedError
    from clora.webui.job import Generation

    def refuse(*args: Any) -> None:
        raise CLoRAError("not possible")

    monkeypatch.setattr(Generation, "read_batch" if at == "prompts" else "begin_pass", refuse)
    p = host.job(clora=PLACES, beside=[detailer(LEFT)])
    runner = p.scripts
    with pytest.raises(RefusedError, match="not possible"):
        host.run(p)
    assert p.scripts is runner
    assert host.traces(p)["hooks"] == 0


def test_a_host_without_it_keeps_its_runner(host: Host) -> None:
    p = host.job(clora=PLACES)
    runner = p.scripts
    seen: list[Any] = []
    p.watch = lambda number, x: seen.append(p.scripts)
    host.run(p)
    assert all(one is runner for one in seen)


def test_concepts_in_a_box() -> None:
    pytest.importorskip("fastapi")
    from tests.standin import installed

    with installed():
        from clora.webui.adetailer import concepts_in

        masks = torch.zeros(3, 8, 8)
        masks[0, :, :4] = masks[1, :, 4:] = masks[2, 0, 0] = 1

        def box(x: int, y: int, x2: int, y2: int) -> Image.Image:
            made = Image.new("L", (64, 64))
            made.paste(255, (x, y, x2, y2))
            return made

        assert concepts_in(box(0, 0, 24, 64), masks) == [0]
        assert concepts_in(box(24, 16, 56, 48), masks) == [1]  # a quarter is the other's
        assert concepts_in(box(16, 16, 48, 48), masks) == [0, 1]
        assert concepts_in(box(0, 0, 64, 64), torch.zeros(2, 8, 8)) == []

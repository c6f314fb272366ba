"""Batches of which some prompts compose and some do not: each picture is the one that it is alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.webui.standin_host import FEW, PROMPT, Host, Job, near

ONE = "on sand, a <lora:horse:0.8> (horse:1.2), <lora:cat:0.4>, [by day:at night:0.5]"
NONE = "a cat on grass"
STYLED = f"{PROMPT}, in ink <lora:horse:0.5:role=style>"
SAME = 1e-6
"""Tolerance of latents in double precision: rounding differs with the rows of a batch."""

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def notes(job: Job) -> list[str]:
    found: list[str] = job.processed.extra_generation_params.get("CLoRA notes", [])
    return found


def alone(host: Host, prompts: list[str], clora: Any = FEW, seed: int = 5, **fields: Any) -> list[Tensor]:
    """Each prompt as a job of its own: drawn by CLoRA where it composes, else by the host without the extension."""
    composes = ["<lora:dog" in prompt and " AND " not in prompt for prompt in prompts]
    return [
        host.draw(prompt, clora if own else None, seed=seed + number, **fields).latent
        for number, (prompt, own) in enumerate(zip(prompts, composes, strict=True))
    ]


@pytest.mark.parametrize(
    "prompts", [[PROMPT, ONE], [ONE, PROMPT], [ONE, PROMPT, NONE], [STYLED, ONE], [NONE, PROMPT], [STYLED, PROMPT]]
)
def test_each_picture_is_the_one_that_it_is_alone(host: Host, prompts: list[str]) -> None:
    together = host.draw(prompts, FEW, seed=5)
    for found, single in zip(together.processed.latents, alone(host, prompts), strict=True):
        assert near(found, single, SAME)


FIELDS: dict[str, dict[str, Any]] = {
    "default": {"clora": {"show_masks": False}},
    "exact": {"clora": {**FEW, "fusion": "exact"}},
    "paper": {"clora": {**FEW, "preset": "paper"}},
    "merge": {"clora": {"method": "merge"}},
    "composite": {"clora": {"method": "composite"}},
    "switch": {"clora": {"method": "switch"}},
    "economies": {"clora": {**FEW, "fusion": "exact", "mask_every": 2, "variants_every": 2, "compose_until": 0.8,
                            "shared_uncond": True, "rows_per_forward": 2}},
    "masks late": {"clora": {**FEW, "fuse_from": 0.5}},
    "Heun": {"sampler_name": "Heun"},
    "DDIM": {"sampler_name": "DDIM"},
    "no guidance": {"cfg_scale": 1.0},
    "halves apart": {"apart": True},
    "negative": {"negative": "blurry, (bad:1.4)"},
    "hires": {"enable_hr": True, "hr_scale": 1.5},
    "hires alone": {"enable_hr": True, "hr_scale": 1.5, "clora": {**FEW, "hires": False}},
}  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_they_are_with_every_method_and_sampler(host: Host, name: str) -> None:
    fields = {"clora": FEW, **FIELDS[name]}
    prompts = [ONE, PROMPT]
    together = host.draw(prompts, seed=5, **fields)
    for found, single in zip(together.processed.latents, alone(host, prompts, **fields), strict=True):
        assert near(found, single, 1e-5)


def test_the_note_says_which_picture_is_not_composed(host: Host) -> None:
    job = host.draw([PROMPT, ONE], FEW)
    assert any(note.startswith("Image 2 of the batch: CLoRA is inactive") for note in notes(job))
    assert not any("Image 1" in note for note in notes(job))


def test_the_hashes_have_every_lora(host: Host) -> None:
    job = host.draw([PROMPT, ONE], FEW)
    names = [part.split(": ")[0] for part in job.p.extra_generation_params["Lora hashes"].split(", ")]
    assert names == ["cat", "dog", "horse"]


def test_a_prompt_with_and_leaves_the_batch_to_the_host(host: Host) -> None:
    prompts = [PROMPT, f"{NONE} AND a dog"]
    job, plain = host.draw(prompts, FEW), host.draw(prompts)
    assert all(near(*pair) for pair in zip(job.processed.latents, plain.processed.latents, strict=True))
    assert notes(job) == [
        "CLoRA is inactive for this batch: the prompt of image 2 has AND, which cannot be drawn beside composed "
        "prompts. Generate it separately."
    ]


def test_a_hires_prompt_with_and_leaves_the_hires_pass_to_the_host(host: Host) -> None:
    p = host.job([PROMPT, NONE], FEW, enable_hr=True, hr_scale=1.5)
    p.all_hr_prompts = [PROMPT, f"{NONE} AND a dog"]
    (note,) = [note for note in notes(host.run(p)) if "hires" in note]
    assert "hires prompt of image 2 has AND" in note


def test_a_hires_prompt_that_does_not_compose_is_drawn_as_alone(host: Host) -> None:
    def drawn(prompts: list[str], hires: list[str], clora: Any, seed: int) -> list[Tensor]:
        p = host.job(prompts, clora, enable_hr=True, hr_scale=1.5, seed=seed)
        p.all_hr_prompts = hires
        found: list[Tensor] = host.run(p).processed.latents
        return found

    together = drawn([PROMPT, ONE], [NONE, ONE], FEW, 5)
    singles = [*drawn([PROMPT], [NONE], FEW, 5), *drawn([ONE], [ONE], None, 6)]
    assert all(near(*pair, 1e-5) for pair in zip(together, singles, strict=True))


def test_a_lora_without_a_file_is_left_out_with_a_note(host: Host) -> None:
    missing = "a <lora:hors:1> horse on sand"
    job = host.draw([missing, PROMPT], FEW, seed=5)
    for found, single in zip(job.processed.latents, alone(host, [missing, PROMPT]), strict=True):
        assert near(found, single, SAME)
    (note,) = [note for note in notes(job) if "hors" in note and "inactive" not in note]
    assert note.startswith('Drawn without the LoRA "hors". There is no LoRA "hors" among the ')


def test_arguments_of_other_extensions_are_told(host: Host) -> None:
    job = host.draw([PROMPT, "a <lora:horse:1:lbw=OUTALL> horse"], FEW)
    (told,) = [note for note in notes(job) if "arguments of other extensions" in note]
    assert 'lbw=OUTALL of "horse"' in told


@pytest.mark.parametrize("batch_size", [1, 3])
def test_masks_and_curves_belong_to_the_composed_picture(host: Host, batch_size: int) -> None:
    prompts = [ONE, PROMPT, NONE]
    job = host.draw(prompts, {**FEW, "show_masks": True, "show_maps": True, "show_loss": True}, batch_size=batch_size)
    assert len(job.processed.images) == 3 + 3
    assert [text.splitlines()[0] for text in job.processed.infotexts[3:]] == [PROMPT] * 3


def test_the_preview_shows_no_masks_of_a_picture_without_any(host: Host) -> None:
    assert host.draw([ONE, PROMPT], {**FEW, "fuse_from": 0.0}).processed.images
    assert host.shared.state.previews == []


def test_a_style_is_not_on_its_subjects_from_the_start(host: Host) -> None:
    """CLoRA applies it itself then, with its hash in the infotext; from the start it is in the host's weights."""
    late, start = (host.draw(STYLED, {**FEW, "style_from": at}, seed=5) for at in (0.5, 0.0))
    assert not near(late.latent, start.latent, 1e-3)
    assert "horse" in late.p.extra_generation_params["Lora hashes"]


HIRES = {"enable_hr": True, "hr_scale": 1.5}


@pytest.mark.parametrize("fields", [{}, HIRES, {**HIRES, "clora": {"hires": False}}, {"cfg_scale": 1.0}])
def test_a_style_that_clora_applies_is_the_hosts(host: Host, fields: dict[str, Any]) -> None:
    """Without a step before it joins in, the picture is the one with the style in the host's weights."""
    more = {**fields}
    clora = {**FEW, **more.pop("clora", {})}
    late, start = (host.draw(STYLED, {**clora, "style_from": at}, seed=5, **more) for at in (0.001, 0.0))
    assert near(late.latent, start.latent, 1e-5)


def test_a_style_stays_in_the_hosts_weights_for_a_refiner(host: Host) -> None:
    """The refiner draws on without CLoRA."""
    jobs = [host.job(STYLED, {**FEW, "style_from": at}, seed=5) for at in (0.5, 0.5, 0.0)]
    jobs[0].refiner_checkpoint_info = "other"
    refined, late, start = (host.run(p).latent for p in jobs)
    assert torch.equal(refined, start)
    assert not torch.equal(late, start)

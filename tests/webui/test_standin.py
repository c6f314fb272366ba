"""The script in our own stand-ins for A1111, Forge and reForge: whole jobs on tiny models, in double precision.

Models, noise and order of calls are the same in all, so all must give one picture; and a merge by CLoRA's rows must
be the picture of the host's own merged weights.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from clora.regions.room import rooms
from tests.webui.standin_host import FEW, KINDS, PROMPT, Host, near

SAMPLERS = ("Euler", "Heun", "DDIM")


@pytest.fixture(autouse=True)
def nothing_is_left(both: Host) -> Iterator[None]:
    """After each test a job without CLoRA's work is as clean as a new host."""
    yield
    both.use(both.model.kind if both.model else "a1111")
    job = both.draw("a cat", {"enabled": False}, steps=1, width=64, height=64)
    left = both.traces(job.p)
    assert left["hooks"] == 0
    assert all(left["requires_grad"])
    assert not any(left.get("options", ()))


# ------------------------------------------------------------------------------------------------ pictures


def test_the_stand_in_refuses_autograd_as_forge_does(both: Host) -> None:
    unet = both.models["forge"].unet_module
    assert all(parameter.is_inference() for parameter in unet.parameters())
    x = torch.randn(1, 4, 16, 16, dtype=torch.float64, requires_grad=True)
    context = torch.randn(1, 77, 16, dtype=torch.float64)
    with pytest.raises(RuntimeError, match=r"[Ii]nference tensors"):
        unet(x, torch.tensor([1.0], dtype=torch.float64), context=context).sum().backward()


def test_composing_differs_from_merging_and_is_reproducible(host: Host) -> None:
    composed = host.first(composed=True)
    assert torch.isfinite(composed).all()
    assert torch.equal(host.draw(clora=FEW).latent, composed)
    for other in ({"method": "merge"}, {**FEW, "update_until": 0}):
        assert not near(host.draw(clora=other).latent, composed, 1e-2)


def test_off_is_the_same_bit_by_bit(host: Host) -> None:
    from clora.settings import SETTINGS

    absent = host.draw()
    for off in ((False, *(setting.default for setting in SETTINGS), ""), {"enabled": False}, ()):
        assert torch.equal(host.draw(clora=off).latent, absent.latent)
    host.draw(clora=FEW)
    after = host.draw(clora={"enabled": False})
    assert torch.equal(after.latent, absent.latent)
    assert after.processed.infotexts == absent.processed.infotexts
    assert "CLoRA" not in after.processed.infotexts[0]


def test_the_panels_values_are_the_same_as_a_dict(host: Host) -> None:
    from clora.settings import SETTINGS

    by_position = (True, *(FEW.get(setting.name, setting.default) for setting in SETTINGS), "")
    assert torch.equal(host.draw(clora=by_position).latent, host.first(composed=True))


MERGED = {
    "Euler": {},
    "Heun": {"sampler_name": "Heun"},
    "DDIM": {"sampler_name": "DDIM", "steps": 6},
    "no guidance": {"cfg_scale": 1.0},
    "negative": {"negative": "blurry, (bad:1.4)"},
    "scheduling": {"prompt": f"{PROMPT} [by day:at night:0.5] [with rain:with snow:2]"},
    "scheduling, two evaluations": {"prompt": f"{PROMPT} [by day:at night:0.5]", "sampler_name": "Heun"},
    "emphasis": {"prompt": "a <lora:cat:0.7> (cat:1.3) and a <lora:dog:1.1> dog"},
    "emphasis and scheduling": {"prompt": "a <lora:cat:0.7> (cat:1.3) and a <lora:dog:1.1> dog [by day:at night:2]"},
    "two chunks": {"prompt": f"{PROMPT} BREAK in rain", "negative": "bad BREAK blurry"},
    "a long prompt": {"prompt": PROMPT + ", many words" * 30, "negative": "bad, worse" + ", blurry" * 40},
    "skipped unconditional": {"s_min_uncond": 10.0},
    "halves apart": {"apart": True},
    "hires": {"enable_hr": True, "hr_scale": 1.5},
    "hires, other sampler and steps": {
        "prompt": f"{PROMPT} [by day:at night:0.5] [in rain:in snow:1.5]", "enable_hr": True,
        "hr_scale": 1.5, "hr_sampler_name": "Heun", "hr_second_pass_steps": 3,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", MERGED)
def test_merge_is_the_hosts_own(host: Host, name: str) -> None:
    fields = {"prompt": PROMPT, "negative": "blurry", **MERGED[name]}
    ours, theirs = host.draw(clora={"method": "merge"}, **fields), host.draw(**fields)
    assert near(ours.latent, theirs.latent)


SAME = {
    **{name: {"sampler_name": name} for name in SAMPLERS},
    **{f"paper, {name}": {"sampler_name": name, "clora": {**FEW, "preset": "paper"}} for name in SAMPLERS},
    "no guidance": {"cfg_scale": 1.0},
    "no guidance, both halves' maps": {"cfg_scale": 1.0, "clora": {**FEW, "maps": "both"}},
    "halves apart": {"apart": True},
    "halves of two lengths": {"negative": "bad, worse" + ", blurry" * 40},
    "few rows": {"clora": {**FEW, "rows_per_forward": 2}},
    "scheduling": {"prompt": "[in rain:in snow:0.5] " + PROMPT},
    "hires": {"enable_hr": True, "hr_scale": 1.5},
    "hires alone": {"enable_hr": True, "hr_scale": 1.5, "clora": {**FEW, "hires": False}},
    "single pass": {"clora": {**FEW, "fusion": "single-pass"}},
    "single pass, halves apart": {"clora": {**FEW, "fusion": "single-pass"}, "apart": True},
    "single pass, hires": {"clora": {**FEW, "fusion": "single-pass"}, "enable_hr": True, "hr_scale": 1.5},
    "shared negative": {"clora": {**FEW, "shared_uncond": True}},
    "kept masks, reused concepts": {"clora": {**FEW, "mask_every": 2, "variants_every": 2, "compose_until": 0.8}},
    "composite": {"clora": {"method": "composite"}},
    "switch": {"clora": {"method": "switch"}},
}


@pytest.mark.parametrize("name", SAME)
def test_all_hosts_give_one_picture(both: Host, name: str) -> None:
    fields = {"clora": FEW, "negative": "blurry", **SAME[name]}
    found = []
    for kind in KINDS:
        both.use(kind)
        found.append(both.draw(**fields).latent)
    assert all(near(found[0], other, 1e-4) for other in found[1:])
    assert torch.isfinite(found[0]).all()


def test_the_stand_ins_own_merge_does_something(host: Host) -> None:
    assert not near(host.first(), host.draw(re.sub("<.*?>", "", PROMPT)).latent, 0.1)


def test_a_skipped_unconditional_half(both: Host) -> None:
    """A1111 leaves it out of every other evaluation: without guidance there the picture is another one."""
    both.use("a1111")
    skipped = both.draw(clora=FEW, s_min_uncond=10.0).latent
    assert torch.isfinite(skipped).all()
    assert not near(skipped, both.first(composed=True), 1e-3)


def test_halves_apart_are_one_picture(host: Host) -> None:
    assert near(host.draw(clora=FEW, apart=True).latent, host.first(composed=True))


@pytest.mark.parametrize("sampler", ["Euler", "DDIM"])
def test_stale_noise_differs_from_fresh(host: Host, sampler: str) -> None:
    stale, fresh = (host.draw(clora={**FEW, "noise": n}, sampler_name=sampler).latent for n in ("stale", "fresh"))
    assert not near(stale, fresh, 1e-3)


def test_a_prompt_may_be_scheduled(host: Host) -> None:
    parts = ("by day", "[by day:at night:0.5]", "[by day:at night:1]")
    early, half, first = (watched(host, f"{PROMPT} {part}") for part in parts)
    # The host goes on with a text through the evaluation (counted from 0) that has the boundary's number, and what an
    # evaluation did shows in the next one's latent; the last one here is the picture.
    assert [near(a, b) for a, b in zip(early, half, strict=True)] == [True, True, True, True, False]
    assert [near(a, b) for a, b in zip(early, first, strict=True)] == [True, True, True, False, False]


def watched(host: Host, prompt: str, clora: Any = None, **fields: Any) -> list[Tensor]:
    """The sampler's latent before each evaluation, and the picture's."""
    seen: list[Tensor] = []
    job = host.draw(prompt, FEW if clora is None else clora, watch=lambda number, x: seen.append(x.clone()), **fields)
    return [*seen, job.processed.latents[:1][0][None]]


def test_a_batch_of_two_prompts_is_two_pictures(host: Host) -> None:
    other = "on sand a <lora:horse:1> horse near a <lora:cat:0.8> cat"
    pair = host.draw([PROMPT, other], FEW, seed=5)
    singles = [host.draw(prompt, FEW, seed=seed) for prompt, seed in ((PROMPT, 5), (other, 6))]
    for found, single in zip(pair.processed.latents, singles, strict=True):
        assert near(found, single.latent, 1e-6)
    assert pair.processed.infotexts[1].startswith(other)


@pytest.mark.parametrize("pads", [False, True])
def test_a_long_prompt_does_not_change_the_others_of_its_batch(
    host: Host, monkeypatch: pytest.MonkeyPatch, pads: bool
) -> None:
    monkeypatch.setattr(host.shared.opts, "pad_cond_uncond", pads, raising=False)
    long = PROMPT + ", many words" * 40
    pair = host.draw([PROMPT, long], FEW, seed=5)
    for found, single in zip(pair.processed.latents, (host.draw(PROMPT, FEW, seed=5), host.draw(long, FEW, seed=6)),
                             strict=True):  # fmt: skip
        assert near(found, single.latent, 1e-5)


@pytest.mark.parametrize("fusion", ["single-pass", "exact"])
def test_before_masks_count_a_background_is_drawn_by_the_base_alone(host: Host, fusion: str) -> None:
    clora = {**FEW, "update_until": 0.0, "fuse_from": 1.0, "fusion": fusion}
    for background, alike in ((" <lora:horse:1:role=background>", True), ("", False)):
        strong, weak = (host.draw(f"{PROMPT}{background}".replace("cat:1", f"cat:{w}"), clora).latent for w in (1, 0.2))
        assert near(strong, weak, 1e-6) == alike


def test_two_batches(host: Host) -> None:
    found = host.draw([PROMPT, PROMPT], FEW, batch_size=1, seed=5)
    for number, latent in enumerate(found.processed.latents):
        assert near(latent, host.draw(clora=FEW, seed=5 + number).latent)


def test_hires_uses_the_masks_of_the_first_pass(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    from clora.engine.composer import Composer
    from clora.regions.masks import resize_masks

    steps = []
    predict = Composer.predict

    def spy(self: Composer, *args: Any, masks: Any = None, **kwargs: Any) -> Any:
        step = predict(self, *args, masks=masks, **kwargs)
        steps.append((masks, step.masks[0]))
        return step

    monkeypatch.setattr(Composer, "predict", spy)
    host.draw(clora=FEW)
    first_updates, first = host.updates(), len(steps)
    steps.clear()
    job = host.draw(clora=FEW, enable_hr=True)
    assert host.updates() == first_updates
    assert [given is None for given, _ in steps[:first]] == [True] * first
    last = steps[first - 1][1]
    assert len(steps) > first
    for given, used in steps[first:]:
        assert torch.equal(given[0], last)
        assert torch.equal(used, resize_masks(last, (32, 32)))
    assert job.latent.shape[-2:] == (32, 32)
    assert "Hires prompt" not in job.processed.infotexts[0]
    assert host.traces(job.p)["hooks"] == 0


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_inpainting_leaves_the_outside(host: Host, sampler: str) -> None:
    generator = torch.Generator().manual_seed(3)
    init = torch.randn(1, 4, 16, 16, generator=generator, dtype=torch.float64)
    mask = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    mask[..., 8:] = 1.0
    fields = {"init_latent": init, "mask": mask, "denoising_strength": 0.9, "sampler_name": sampler}
    composed, merged = (watched(host, PROMPT, clora, **fields) for clora in (FEW, {"method": "merge"}))
    assert host.updates() == 0  # the merge's
    for step, (ours, theirs) in enumerate(zip(composed, merged, strict=True)):
        # A timestep sampler's own latent holds the model's noise outside as well: there only the first is comparable.
        if sampler != "DDIM" or step == 0:
            assert near(ours[..., :8], theirs[..., :8], 1e-9)
    assert not near(composed[-1][..., 8:], merged[-1][..., 8:], 1e-3)
    assert sampler == "DDIM" or near(composed[-1][..., :8], init[..., :8], 1e-9)


def test_heun_updates_once_a_step(host: Host) -> None:
    every_step = {**FEW, "update_until": 1.0, "refine_at": []}
    for sampler, evaluations in (("Euler", 5), ("Heun", 9)):
        seen = watched(host, PROMPT, every_step, sampler_name=sampler, steps=5)
        assert (len(seen) - 1, host.updates()) == (evaluations, 5)
    host.draw(clora=every_step, sampler_name="DDIM", steps=5)
    assert host.updates() == 4  # DDIM evaluates once less than it counts steps


# ----------------------------------------------------------------------------------------------- infotexts


def test_infotext_and_lora_hashes(host: Host) -> None:
    import networks

    hashes = []
    for name in ("cat", "dog"):
        entry = networks.available_networks[name]
        entry.read_hash()
        hashes.append(f"{name}: {entry.shorthash}")
    job = host.draw(clora={**FEW, "corrections": {"cat": {"words": "cat"}}})
    assert job.p.extra_generation_params == {
        "CLoRA": "on", "CLoRA update strength": "2", "CLoRA update until": "0.5", "CLoRA refine at": "0",
        "CLoRA refine updates": "1", "CLoRA look ahead": "0", "CLoRA own places until": "0",
        "CLoRA show masks": "false",
        "CLoRA corrections": "cat: words=cat", "Lora hashes": ", ".join(hashes),
    }  # fmt: skip
    assert job.processed.infotexts[0].startswith(PROMPT)
    assert job.p.all_prompts == [PROMPT]


def test_the_gallery_gets_masks_maps_and_losses(host: Host) -> None:
    shown = {"show_masks": True, "show_maps": True, "show_loss": True}
    for count in (1, 2):
        job = host.draw([PROMPT] * count, {**FEW, **shown})
        assert len(job.processed.images) == len(job.processed.infotexts) == 4 * count


@pytest.mark.parametrize(("asked", "told"), [(True, 1), (False, 0)])
def test_without_updates_a_note_replaces_the_curve(host: Host, asked: bool, told: int) -> None:
    job = host.draw([PROMPT] * 2, {"preset": "fast", "show_loss": asked, "show_masks": False})
    assert job.processed.comments.count("no updates were made") == told
    assert len(job.processed.images) == 2


def test_a_subject_without_a_place_is_told_under_the_picture(host: Host) -> None:
    job = host.draw(clora={**FEW, "mask_threshold": 1.0})  # nothing exceeds a map's whole range
    assert 'The subject "cat" (cat) covers nothing of the image: try another seed' in job.processed.comments
    assert job.processed.comments.count('The subject "dog" (dog)') == 1
    told = job.processed.extra_generation_params["CLoRA notes"]
    assert [note.split(" covers ")[0] for note in told] == ['The subject "cat" (cat)', 'The subject "dog" (dog)']
    assert "CLoRA notes" not in job.p.extra_generation_params
    assert "CLoRA notes" not in "".join(job.processed.infotexts)
    placed = {**FEW, "mask_threshold": 1.0, "corrections": {name: {"place": "left"} for name in ("cat", "dog")}}
    told = host.draw(clora=placed).processed.comments
    assert all(f'The subject "{name}" ({name}) was not found in its place (left)' in told for name in ("cat", "dog"))


@pytest.mark.parametrize("hires", [False, True])
def test_places_and_what_was_found_in_them_are_shown(host: Host, monkeypatch: pytest.MonkeyPatch, hires: bool) -> None:
    from clora.pictures import masks_overlay

    seen: list[tuple[Any, ...]] = []

    def overlay(picture: Any, *values: Any) -> Any:
        seen.append(values)
        return masks_overlay(picture, *values)

    monkeypatch.setattr("clora.webui.shown.masks_overlay", overlay)
    monkeypatch.setattr(host.shared.opts, "show_progress_every_n_steps", 1)
    asked = {**FEW, "show_masks": True, "corrections": {"cat": {"place": "left"}}}
    host.draw(clora=asked, enable_hr=hires)
    assert len(seen) >= 2, "in the preview and in the gallery"
    for masks, labels, places, found in seen:
        assert labels == ("cat (cat)", "dog (dog)")
        assert [place and place.text for place in places] == ["left", None]
        (room,) = rooms(places[:1], *masks.shape[1:])
        assert torch.equal(masks[1], room)
        assert not (found[1] * (1 - places[0].grid(*found.shape[1:]))).any()


def test_a_painted_place_is_the_same_as_a_box(host: Host) -> None:
    """Without a margin, which only a box has: here there is no room for one beside the other box."""
    from tests.ui.test_painted_region import data_url, left_half

    right = {"dog": {"place": "right"}}
    boxed = host.draw(clora={**FEW, "corrections": {"cat": {"place": "left"}, **right}})
    painted = host.draw(clora={**FEW, "corrections": {"cat": {"place": data_url(left_half())}, **right}})
    assert torch.equal(painted.latent, boxed.latent)
    assert not torch.equal(boxed.latent, host.draw(clora=FEW).latent)
    text = painted.processed.infotexts[0]
    assert "data:image" not in text
    lines = re.search(r"CLoRA corrections: \W*(cat: place=painted 64x32 [\w-]+)", text)
    assert lines is not None, text
    # What the infotext restores makes the same picture.
    again = host.draw(clora={**FEW, "corrections": f"{lines[1]}\ndog: place=right"})
    assert torch.equal(again.latent, painted.latent)


COMPARED = {
    "one": {},
    "two prompts": {"prompt": [PROMPT, "on sand a <lora:horse:1> horse near a <lora:cat:0.8> cat"]},
    "two batches": {"prompt": [PROMPT, PROMPT], "batch_size": 1},
    "hires": {"enable_hr": True, "hr_scale": 1.5},
    "Heun": {"sampler_name": "Heun"},
}


@pytest.mark.parametrize("name", COMPARED)
def test_the_comparison_is_the_hosts_own_picture(host: Host, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """What is drawn beside CLoRA's picture is what the host draws of the job without the extension."""
    from clora.webui import gallery

    sheets: list[Any] = []
    real = gallery.side_by_side
    monkeypatch.setattr(gallery, "side_by_side", lambda titled: sheets.append(titled) or real(titled))
    plain, alone = host.draw(**COMPARED[name]), host.draw(clora=FEW, **COMPARED[name])
    both = host.draw(clora={**FEW, "show_merge": True}, **COMPARED[name])
    assert torch.equal(both.latent, alone.latent)
    count = len(both.processed.latents)
    assert len(both.processed.images) == len(both.processed.infotexts) == 2 * count
    for number, ((left, theirs), (right, ours), (_, masks)) in enumerate(sheets):
        assert (left, right) == ("without CLoRA", "CLoRA")
        assert theirs.tobytes() == plain.processed.images[number].tobytes()
        assert ours.tobytes() == alone.processed.images[number].tobytes()
        assert masks.size[0] >= 512
    assert "CLoRA compare with merge: true" in both.processed.infotexts[0]
    assert "Hires prompt" not in both.processed.infotexts[0]
    assert host.traces(both.p)["hooks"] == 0


def test_nothing_is_compared_after_an_interrupt(host: Host) -> None:
    p = host.job(clora={**FEW, "show_merge": True})
    p.watch = lambda number, x: host.shared.state.interrupt() if number == 2 else None
    assert len(host.run(p).processed.images) == 1


def test_a_comparison_that_fails_keeps_the_picture(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    from clora.webui import script

    def fail(p: Any) -> Any:
        raise OSError("no memory")

    monkeypatch.setattr(script, "baseline_images", fail)
    host.shared.state.begin()
    processed = host.processing.process_images(host.job(clora={**FEW, "show_merge": True}))
    assert len(processed.images) == 1
    assert "without CLoRA could not be drawn (OSError: no memory)" in processed.comments
    assert len(host.errors.reports) == 1


@pytest.mark.parametrize("every", [1, 3])
def test_the_live_preview_shows_the_masks(host: Host, monkeypatch: pytest.MonkeyPatch, every: int) -> None:
    from clora.pictures import concept_color

    state = host.shared.state
    monkeypatch.setattr(host.shared.opts, "show_progress_every_n_steps", every)
    monkeypatch.setattr("clora.hosts.preview.SHARE", float("inf"))
    early: dict[str, Any] = {**FEW, "fuse_from": 0.0}  # there are masks from the first step on
    off = {"preview_masks": False}
    left: list[bool] = []
    p = host.job(clora=early, steps=6)
    p.watch = lambda number, x: left.append(state.current_latent is not None)
    composed = host.run(p)
    assert torch.equal(composed.latent, host.draw(clora={**early, **off}, steps=6).latent)
    assert not any(left), "the host would draw its own preview over ours"
    host.run(host.job(clora=early, steps=6))
    assert len(state.previews) == {1: 6, 3: 3}[every]  # the counted step lags: 0, 0, 1, 2, 3, 4
    colours = {colour for _, colour in state.previews[-1].getcolors(1 << 20)}
    assert {concept_color(0), concept_color(1)} & colours
    host.draw(clora={**FEW, **off})
    assert state.previews == []
    assert state.current_latent is not None
    monkeypatch.setattr(host.shared.opts, "live_previews_enable", False)
    host.draw(clora=early)
    assert state.previews == []


def test_the_live_preview_takes_little_of_the_time(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A preview takes a second, a step ten: of 15 steps, those are drawn over that leave 97 % for the rest."""
    from clora.hosts import preview

    clock = [0.0]

    def decoded(latent: Any) -> Any:
        clock[0] += 1.0
        return Image.new("RGB", (64, 64))

    def step(number: int, x: Any) -> None:
        clock[0] += 10.0

    monkeypatch.setattr(preview, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr("modules.sd_samplers_common.sample_to_image", decoded)
    p = host.job(clora={**FEW, "fuse_from": 0.0}, steps=15)
    p.watch = step
    host.run(p)
    drawn = len(host.shared.state.previews)
    assert 3 <= drawn <= 0.03 * clock[0]
    assert host.shared.state.current_latent is not None, "the host's own previews go on"


def test_a_preview_that_fails_does_not_end_the_job(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    from modules import sd_samplers_common

    def fail(latent: Any) -> Any:
        raise RuntimeError("no VAE")

    wanted = host.first(composed=True)
    monkeypatch.setattr(sd_samplers_common, "sample_to_image", fail)
    host.shared.state.begin()
    processed = host.processing.process_images(host.job(clora=FEW))
    assert len(host.errors.reports) == 1
    assert torch.equal(processed.latents[0], wanted)
    host.errors.reports.clear()


def test_one_concept_is_left_to_the_host(host: Host) -> None:
    prompt = "a <lora:cat:1> cat on grass"
    ours, theirs = host.draw(prompt, FEW), host.draw(prompt)
    assert torch.equal(ours.latent, theirs.latent)
    assert "CLoRA" not in ours.processed.infotexts[0]
    assert ours.processed.comments


@pytest.mark.parametrize("late", [False, True])
def test_a_style_stays_with_the_host_unless_it_joins_in_late(host: Host, late: bool) -> None:
    styled = f"{PROMPT} <lora:horse:0.5:role=style>"
    job = host.draw(styled, FEW if late else {**FEW, "style_from": 0.0})
    assert not near(job.latent, host.first(composed=True), 1e-3)
    hashes = [one.split(": ")[0] for one in job.p.extra_generation_params["Lora hashes"].split(", ")]
    assert hashes == (["cat", "dog", "horse"] if late else ["horse", "cat", "dog"])


# ------------------------------------------------------------------------------------ refusals and breaks


@pytest.mark.parametrize(
    ("prompt", "clora", "sentence"),
    [
        (PROMPT, {"mask_treshold": 0.4}, "did you mean mask_threshold"),
        (PROMPT, {"mask_threshold": 7}, "mask_threshold cannot be 7: give a number from 0 to 1"),
        (PROMPT, {"enabled": "yes"}, "enabled"),
        (PROMPT, {"preset": "sharp"}, "fast, balanced, exact, paper"),
        (PROMPT, {"preset": ["paper"]}, "paper"),
        (PROMPT, {"corrections": {"cat": {"word": "cat"}}}, "correction"),
        (f"{PROMPT}, a <lora:hors:1> horse", FEW, 'no LoRA "hors" among the '),
        ("<lora:cat:1:role=concept>, a <lora:dog:1> dog,", FEW, "words"),
        ("a <lora:cat:1:words=tiger> [tiger:horse:0] and a <lora:dog:1> dog", FEW, "scheduling"),
    ],
)
def test_refusals_answer_422_and_leave_nothing(host: Host, prompt: str, clora: Any, sentence: str) -> None:
    from clora.hosts.host_api import RefusedError

    before, clean = host.first(), host.traces()
    p = host.job(prompt, clora)
    with pytest.raises(RefusedError) as refused:
        host.run(p)
    assert refused.value.status_code == 422
    assert sentence in str(refused.value)
    assert refused.value.detail == str(refused.value)
    assert type(refused.value).__name__ == "CLoRA"  # the page's words before the sentence
    assert host.traces(p) == clean
    assert torch.equal(host.draw().latent, before)


@pytest.mark.parametrize("prompt", [f"{PROMPT} AND a horse", "<lora:cat:1>, <lora:dog:1>,"])
def test_what_cannot_be_composed_is_drawn_as_the_host_draws_it(host: Host, prompt: str) -> None:
    job, plain = host.draw(prompt, FEW), host.draw(prompt, {"enabled": False})
    assert torch.equal(job.latent, plain.latent)
    (note,) = job.processed.extra_generation_params["CLoRA notes"]
    assert note.startswith("CLoRA is inactive for this prompt")


def test_a_hires_prompt_with_other_concepts_is_refused(host: Host) -> None:
    from clora.hosts.host_api import RefusedError

    p = host.job(clora=FEW, enable_hr=True, hr_scale=1.5)
    p.all_hr_prompts = [f"{PROMPT} and a <lora:horse:1> horse"]
    with pytest.raises(RefusedError, match="hires prompt has 3 concepts, the prompt has 2"):
        host.run(p)


def test_a_replaced_unet_is_refused_at_sampling(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    from clora.hosts.host_api import RefusedError

    if hasattr(host.model, "forge_objects"):
        options = host.model.forge_objects_after_applying_lora.unet.model_options
        monkeypatch.setitem(options, "model_function_wrapper", lambda apply, a: apply(a["input"], a["timestep"]))
    else:
        monkeypatch.setattr(host.sd_unet, "current_unet", object())
    p = host.job(clora=FEW)
    with pytest.raises(RefusedError, match=r"SD Unet|wrapped the UNet"):
        host.run(p)
    assert host.traces(p)["hooks"] == 0


def break_in_sampler(host: Host, p: Any) -> None:
    def watch(number: int, x: Tensor) -> None:
        if number == 2:
            raise OSError("broken")

    p.watch = watch


def break_in_unet(host: Host, p: Any) -> None:
    calls = iter(range(100))

    def hook(module: nn.Module, args: Any) -> None:
        if next(calls) == 3:
            handle.remove()
            raise OSError("broken")

    handle = host.model.unet_module.middle_block[1].register_forward_pre_hook(hook)


@pytest.mark.parametrize("breaking", [break_in_sampler, break_in_unet])
def test_a_job_that_breaks_leaves_nothing(host: Host, breaking: Callable[[Host, Any], None]) -> None:
    before, composed, clean = host.first(), host.first(composed=True), host.traces()
    p = host.job(clora=FEW)
    breaking(host, p)
    with pytest.raises(OSError, match="broken"):
        host.run(p)
    own = [host.model.unet_module, host.model.text_module]
    assert not any(m._forward_hooks or m._forward_pre_hooks for root in own for m in root.modules())
    if breaking is break_in_unet:  # inside an evaluation: the hooks go with it
        assert host.traces(p) == clean
    # Hooks on a sampler that failed elsewhere are removed when the next job begins, whatever that job wants.
    assert torch.equal(host.draw(clora={"enabled": False}).latent, before)
    assert host.traces(p) == clean
    assert torch.equal(host.draw(clora=FEW).latent, composed)


def test_a_patcher_that_another_extension_has_cloned_is_harmless_after_the_pass(both: Host) -> None:
    """ControlNet clones Forge's patcher with the wrapper on, which must not answer with an ended pass's predictions."""
    both.use("forge")
    p, clones = both.job(clora=FEW), list[Any]()
    p.watch = lambda number, x: clones.append(both.model.forge_objects.unet.clone())
    both.run(p)
    wrapper = clones[-1].model_options["model_function_wrapper"]
    x = torch.randn(2, 4, 16, 16)
    given = {"input": x, "timestep": x.new_ones(2), "c": {}, "cond_or_uncond": [1, 0]}
    assert torch.equal(wrapper(lambda x, t: x + t[:, None, None, None], given), x + 1)


@pytest.mark.parametrize(("sampler", "at"), [("Euler", 1), ("Euler", 3), ("Heun", 2), ("DDIM", 2)])
def test_an_interrupt_in_the_middle_of_updates(host: Host, sampler: str, at: int) -> None:
    before, clean = host.first(composed=True), host.traces()

    def told(text: str) -> None:
        if host.updates() == at:
            host.shared.state.interrupt()

    host.shared.state.on_told = told
    many = {**FEW, "refine_updates": 20, "refine_at": [0.0], "update_until": 1}
    job = host.draw(clora=many, sampler_name=sampler)
    assert host.updates() == at  # not one update more
    assert len(job.processed.latents) == 1
    assert torch.isfinite(job.latent).all()
    assert host.traces(job.p) == clean
    host.shared.state.on_told = None
    assert torch.equal(host.draw(clora=FEW).latent, before)


def test_an_interrupt_between_steps(host: Host) -> None:
    clean = host.traces()
    p = host.job(clora=FEW)
    p.watch = lambda number, x: host.shared.state.interrupt() if number == 2 else None
    job = host.run(p)
    assert host.traces(job.p) == clean
    assert torch.isfinite(job.latent).all()


def test_the_same_sampler_twice(host: Host) -> None:
    """Hooks never stack, and each pass has its own sampler's."""
    job = host.draw([PROMPT] * 2, FEW, batch_size=1, enable_hr=True, hr_scale=1.5)
    assert len(job.p.samplers) == 4
    assert host.traces(job.p)["hooks"] == 0


# --------------------------------------------------------------------------------------------------- rest


def test_a_prompt_is_read_with_tokens(host: Host) -> None:
    from clora.webui.prompt_report import read_prompt

    found = read_prompt(PROMPT, "", "")
    assert found.composes
    assert [row.tokens for row in found.rows] == [(2,), (5,)]
    again = read_prompt("a <lora:cat:1> cat and a <lora:dog:1:words=cat#2> cat", "", "").as_json()["rows"]
    assert [row["words"] for row in again] == ["cat", "cat#2"]  # as corrections take them
    assert 'did you mean "cat"?' in read_prompt("a <lora:cta:1> cat and a <lora:dog:1> dog", "", "").problem
    alone = read_prompt("a <lora:cat:1> cat on grass", "", "")
    assert [(row.words, row.tokens) for row in alone.rows] == [("cat", (2,))]
    assert not alone.composes


def test_comments_are_not_read_if_the_webui_removes_them(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    from modules import shared

    from clora.webui.prompt_report import read_prompt

    prompt = "# <lora:cat:1> cat\n#x\na <lora:cat:1> cat #, <lora:dog:1> hen\nand a <lora:dog:1> dog"
    assert [row.words for row in read_prompt(prompt, "", "").rows] != ["cat", "dog"]
    monkeypatch.setattr(shared.opts, "enable_prompt_comments", True, raising=False)
    assert [row.words for row in read_prompt(prompt, "", "").rows] == ["cat", "dog"]


def test_the_selected_styles_are_read(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    from modules import shared

    from clora.webui.prompt_report import read_prompt

    texts = {"with a dog": ("{prompt} and a <lora:dog:1> dog", "<lora:cat:1>"), "hens": ("two hens # x", "")}
    monkeypatch.setattr(shared.prompt_styles, "styles", texts)
    monkeypatch.setattr(shared.opts, "enable_prompt_comments", True, raising=False)
    prompt = "a <lora:cat:1> cat"
    assert not read_prompt(prompt, "", "").composes
    for names in (["with a dog"], ["with a dog", "hens"], ["with a dog", "no such style"]):
        found = read_prompt(prompt, "", "", names)
        assert found.composes
        assert [row.words for row in found.rows] == ["cat", "dog"]
        assert any("negative prompt are ignored" in note for note in found.notes)
    assert [choice.value for choice in read_prompt(prompt, "", "", ["hens"]).choices] == ["cat", "two hens", "hens"]
    # Forge has headings among its styles, without a text.
    monkeypatch.setitem(texts, "---- STYLES ----", (None, None))
    heading = read_prompt(prompt, "", "", ["---- STYLES ----"])
    assert 'the selected styles "---- STYLES ----"' in heading.problem
    assert [row.words for row in heading.rows] == ["cat"]


def test_what_is_read_is_what_a_job_composes(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A style that brings a tag: the job gets the merged prompt, as the WebUI gives it to scripts."""
    from modules import shared

    from clora.webui.prompt_report import read_prompt

    monkeypatch.setattr(shared.prompt_styles, "styles", {"dog": ("{prompt} and a <lora:dog:1> dog", "")})
    merged = shared.prompt_styles.apply_styles_to_prompt("a <lora:cat:1> cat", ["dog"])
    assert read_prompt("a <lora:cat:1> cat", "", "", ["dog"]).variants == read_prompt(merged, "", "").variants


def test_rows_without_the_lora_extension(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from clora.webui.prompt_report import read_prompt

    monkeypatch.setitem(sys.modules, "networks", None)
    found = read_prompt(PROMPT, "", "")
    assert "turn it on" in found.problem
    assert [row.words for row in found.rows] == ["cat", "dog"]


def test_notes_beside_a_lora_are_read(host: Host) -> None:
    import networks

    from clora.webui.prompt_report import read_prompt

    beside = Path(networks.available_networks["cat"].filename).with_suffix(".json")
    beside.write_text('{"activation text": "sks, sitting", "preferred weight": 0.6}', encoding="utf-8")
    try:
        found = read_prompt(PROMPT, "", "")
    finally:
        beside.unlink()
    assert [row.trigger for row in found.rows] == ["sks", ""]
    assert [note[:28] for note in found.notes] == ['The trigger "sks" of the LoR', 'Your notes for the LoRA "cat']
    long = "one two three four five six seven"  # more than is put into a variant unasked
    beside.write_text(f'{{"activation text": "{long}"}}', encoding="utf-8")
    try:
        found = read_prompt(PROMPT, "", "")
    finally:
        beside.unlink()
    assert [row.offered for row in found.rows] == [long, ""]


def test_axes_of_the_plot_vary_a_job(host: Host) -> None:
    from clora.webui import xyz

    options: list[Any] = []

    def option(label: str, kind: type, apply: Any, **more: Any) -> Any:
        return SimpleNamespace(label=label, apply=apply, **more)

    module = SimpleNamespace(axis_options=options, AxisOption=option)
    for _ in range(2):
        xyz.add_axes(module)
    assert len({one.label for one in options}) == len(options) > 15
    axes = {one.label: one for one in options}
    p = host.job(clora=FEW)
    axes["[CLoRA] Method"].apply(p, "merge", [])
    assert near(host.run(p).latent, host.draw(clora={"method": "merge"}).latent)
    # The next cell is a shallow copy of the job: it must not tell of the settings of the cell before.
    cell = host.job(clora=FEW)
    cell.extra_generation_params = p.extra_generation_params
    host.run(cell)
    assert "CLoRA method" in p.extra_generation_params
    assert "CLoRA method" not in cell.extra_generation_params


@pytest.mark.parametrize(("former", "today"), [("default", "balanced"), ("best", "exact")])
def test_former_names_of_presets_in_requests_and_plots(host: Host, former: str, today: str) -> None:
    from clora.webui import xyz

    quick = {**FEW, "show_masks": False}
    wanted = host.draw(clora={**quick, "preset": today})
    assert torch.equal(host.draw(clora={**quick, "preset": former}).latent, wanted.latent)
    p = host.job(clora={"enabled": False})
    setattr(p, xyz.KEY, {**quick, "preset": former})
    assert torch.equal(host.run(p).latent, wanted.latent)


def test_a_wrong_value_of_an_axis_is_refused(host: Host) -> None:
    from clora.hosts.host_api import RefusedError
    from clora.webui import xyz

    for name, value in (("mask_threshold", 7.0), ("method", "magic"), ("preset", "sharp")):
        p = host.job(clora=FEW)
        setattr(p, xyz.KEY, {name: value})
        with pytest.raises(RefusedError, match=str(value)) as refused:
            host.run(p)
        assert refused.value.status_code == 422


def test_the_stand_ins_modules_go_away() -> None:
    lines = (
        "import sys; from tests.standin import installed; before = set(sys.path)",
        "with installed(): import modules.shared",
        "assert not {'modules', 'modules.shared', 'gradio'} & set(sys.modules) and set(sys.path) == before",
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=root, check=True, timeout=60)

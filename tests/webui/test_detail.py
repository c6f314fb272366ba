"""The detail pass in the stand-in hosts: each subject is drawn again alone, in a crop around its mask."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.webui.standin_host import FEW, PROMPT, Host

DETAIL = {**FEW, "update_until": 0.0, "detail": True}
PLAIN = {**DETAIL, "detail": False}
BY_HOST = {**DETAIL, "look_guidance": 1.0}
"""Without look guidance the host applies the LoRAs of a detail pass by itself."""
CAT, DOG = (1, 4, 4, 8), (12, 4, 15, 8)
"""Left, top, right, bottom in latent cells of a picture of 16 x 16."""
Masks = Callable[..., None]


@pytest.fixture(autouse=True)
def masks(monkeypatch: pytest.MonkeyPatch) -> Masks:
    """Masks of a random model are anywhere: these are boxes, one for each concept; later calls change them."""
    from clora.webui import job

    real, boxes = job.shown_of, [CAT, DOG]

    def shown(outcome: Any, image: int, composition: Any) -> Any:
        found = real(outcome, image, composition)
        if found.masks is not None:
            found.masks = torch.zeros_like(found.masks)
            for mask, (left, top, right, bottom) in zip(found.masks[1:], boxes, strict=False):
                mask[top:bottom, left:right] = 1
        return found

    def choose(*chosen: Any) -> None:
        boxes[:] = chosen

    monkeypatch.setattr(job, "shown_of", shown)
    return choose


@pytest.fixture
def inner(monkeypatch: pytest.MonkeyPatch, both: Host) -> list[Any]:
    """The inner jobs, in order; each has `result` when it is done, and may have `watch` set by `on_job`."""
    from clora.hosts import detail_render

    jobs: list[Any] = []

    def process_images(p: Any) -> Any:
        jobs.append(p)
        p.told = both.shared.state.textinfo
        p.result = both.processing.process_images(p)
        return p.result

    monkeypatch.setattr(detail_render, "process_images", process_images)
    return jobs


def picture(job: Any, number: int = 0) -> np.ndarray:
    return np.asarray(job.processed.images[number]).astype(int)


def changed(one: Any, other: Any) -> tuple[int, int, int, int]:
    """The box around what differs in two pictures, in pixels."""
    rows, columns = np.nonzero(np.abs(one - other).max(axis=2))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def loras(prompt: Any) -> list[str]:
    return re.findall("<lora:([^:>]+)", prompt)


def test_off_is_as_ever(host: Host, inner: list[Any]) -> None:
    plain, off = host.draw(clora=PLAIN), host.draw(clora={**PLAIN, "detail_strength": 0.9})
    assert (picture(plain) == picture(off)).all()
    assert inner == []
    assert "detail pass" not in plain.processed.infotexts[0]


def test_each_subject_is_drawn_again_with_its_own_lora_and_words(host: Host, inner: list[Any]) -> None:
    job = host.draw(clora=BY_HOST, negative="blurry", seed=7, cfg_scale=3.0, sampler_name="Heun")
    assert [loras(one.all_prompts[0]) for one in inner] == [["cat"], ["dog"]]
    assert [one.extra_network_data for one in inner] == [[("cat", 1.0)], [("dog", 1.0)]]
    assert ["cat" in one.prompts[0].split() for one in inner] == [True, False]
    assert ["dog" in one.prompts[0].split() for one in inner] == [False, True]
    for one in inner:
        assert (one.all_negative_prompts, one.all_seeds, one.cfg_scale) == (["blurry"], [7], 3.0)
        assert (one.sampler_name, one.steps, one.denoising_strength) == ("Heun", job.p.steps, 0.4)
        assert max(one.width, one.height) == 128
        assert one.do_not_save_samples
        assert one.do_not_save_grid
    assert len(job.processed.images) == 1
    assert job.processed.comments == ""


def test_only_the_areas_change(host: Host, inner: list[Any], masks: Masks) -> None:
    plain = picture(host.draw(clora=PLAIN))
    with_both = picture(host.draw(clora=DETAIL))
    masks(CAT, (0, 0, 0, 0))
    left, top, right, bottom = changed(plain, picture(host.draw(clora=DETAIL)))
    # Two cells of growth, one more for the edge, and half a one between them.
    assert 0 <= left <= 1 * 8 < 4 * 8 <= right <= 4 * 8 + 28
    assert 4 * 8 - 28 <= top <= 4 * 8 < 8 * 8 <= bottom <= 8 * 8 + 28
    assert changed(plain, with_both)[2] > 12 * 8
    assert (plain[:, 61:67] == with_both[:, 61:67]).all()
    box = inner[-1].paste_to
    assert box[0] <= 1 * 8
    assert box[0] + box[2] >= 4 * 8


def test_the_second_pass_works_on_the_first_ones_picture(host: Host, inner: list[Any], masks: Masks) -> None:
    masks(CAT, (3, 4, 8, 8))
    host.draw(clora=DETAIL)
    first, second = (np.asarray(one.init_images[0]).astype(int) for one in inner)
    assert changed(first, second)[2] > 3 * 8
    assert (first[:, 100:] == second[:, 100:]).all()


def test_a_style_stays_and_own_words_are_read(host: Host, inner: list[Any]) -> None:
    prompt = "a <lora:cat:0.5:say=red scarf> cat and a <lora:dog:1> dog <lora:horse:0.5:role=style>"
    host.draw(prompt, BY_HOST)
    assert [loras(one.all_prompts[0]) for one in inner] == [["cat", "horse"], ["dog", "horse"]]
    assert ["scarf" in one.all_prompts[0] for one in inner] == [True, False]
    assert inner[0].extra_network_data == [("cat", 0.5), ("horse", 0.5)]


@pytest.mark.parametrize("prompt", [PROMPT, "a <lora:cat:1> cat and a <lora:dog:1> dog <lora:horse:0.5:role=style>"])
def test_with_look_guidance_it_composes_the_subject_alone(host: Host, inner: list[Any], prompt: str) -> None:
    """A factor of nearly 1 is the host's own LoRA."""
    by_host = picture(host.draw(prompt, {**BY_HOST, "style_from": 0.0}))
    inner.clear()
    nearly = picture(host.draw(prompt, {**BY_HOST, "style_from": 0.0, "look_guidance": 1.00001}))
    by_host_alone = {name for one in inner for name, _ in one.extra_network_data}
    assert by_host_alone == ({"horse"} if "horse" in prompt else set())
    assert np.abs(nearly - by_host).max() <= 2
    assert [one.extra_generation_params["CLoRA look guidance"] for one in inner] == ["1.00001"] * 2


def test_look_guidance_changes_what_a_pass_draws(
    host: Host, inner: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """The first passes begin with one picture; without a request for it the host draws by itself."""
    from clora.webui import detail

    settings = {**DETAIL, "look_guidance": 2.0}
    host.draw(clora=settings, cfg_scale=4.0)
    guided = inner[0]
    inner.clear()
    monkeypatch.setattr(detail, "request_alone", lambda *_: None)
    host.draw(clora=settings, cfg_scale=4.0)
    pairs = [(one.init_images[0], one.result.images[0]) for one in (guided, inner[0])]
    start, end = (
        np.abs(np.asarray(one).astype(int) - np.asarray(other)).max() for one, other in zip(*pairs, strict=True)
    )
    assert (start, end > 2) == (0, True)


def test_it_costs_one_row_per_half_whatever_the_picture_costs(host: Host, inner: list[Any]) -> None:
    host.draw(clora={**DETAIL, "fusion": "exact", "shared_uncond": True, "variants_every": 2})
    given = [one.scripts.alwayson_scripts[0].request.settings for one in inner]
    assert [(one.fusion, one.shared_uncond, one.variants_every) for one in given] == [("single-pass", False, 1)] * 2


def test_a_subject_without_a_lora_is_drawn_by_the_host(host: Host, inner: list[Any]) -> None:
    host.draw("a <lora:cat:1:place=left> cat and a <clora:bird:place=right> bird on grass", DETAIL)
    assert [len(one.scripts.alwayson_scripts) for one in inner] == [1, 0]


def test_settings(host: Host, inner: list[Any]) -> None:
    weak = picture(host.draw(clora={**DETAIL, "detail_strength": 0.1}))
    job = host.draw(clora={**DETAIL, "detail_steps": 9, "detail_strength": 0.8, "detail_size": 256})
    assert not (weak == picture(job)).all()
    assert [(one.steps, one.denoising_strength) for one in inner[2:]] == [(9, 0.8)] * 2
    assert [max(one.width, one.height) for one in inner[2:]] == [256, 256]
    text = job.processed.infotexts[0]
    for field in ("detail pass: true", "detail steps: 9", "detail strength: 0.8", "detail size: 256"):
        assert f"CLoRA {field}" in text


def test_the_infotext_is_read_back(host: Host) -> None:
    from clora.settings import SETTINGS
    from clora.settings.infotext import read_infotext, read_setting

    text = host.draw(clora={**DETAIL, "detail_size": 256}).processed.infotexts[0]
    found = read_infotext(f"a\n{text.splitlines()[-1]}")
    assert found is not None
    read = {setting.name: read_setting(setting, found.fields) for setting in SETTINGS}
    assert (read["detail"], read["detail_size"], read["detail_strength"]) == (True, 256, 0.4)


def test_batches(host: Host, inner: list[Any]) -> None:
    other = "a <lora:horse:1> horse and a <lora:dog:1> dog"
    prompts = [PROMPT, other, other, PROMPT]
    plain = host.draw(prompts, PLAIN, batch_size=2, seed=3)
    job = host.draw(prompts, DETAIL, batch_size=2, seed=3)
    wanted = [["cat"], ["dog"], ["horse"], ["dog"], ["horse"], ["dog"], ["cat"], ["dog"]]
    assert [loras(one.all_prompts[0]) for one in inner] == wanted
    assert [one.all_seeds[0] for one in inner] == [3, 3, 4, 4, 5, 5, 6, 6]
    # The passes of a batch leave the latents of the next one as they were.
    assert all(torch.equal(*pair) for pair in zip(plain.processed.latents, job.processed.latents, strict=True))
    assert all((picture(plain, n) != picture(job, n)).any() for n in range(4))
    single = host.draw(other, DETAIL, seed=4)
    assert np.abs(picture(single) - picture(job, 1)).max() <= 1


def test_a_picture_that_is_not_composed_is_left_alone(host: Host, inner: list[Any]) -> None:
    job = host.draw([PROMPT, "a <lora:cat:1> cat"], DETAIL)
    assert len(inner) == 2
    assert (picture(job, 1) == picture(host.draw([PROMPT, "a <lora:cat:1> cat"], PLAIN), 1)).all()


def test_after_the_hires_pass(host: Host, inner: list[Any]) -> None:
    hires = {"enable_hr": True, "hr_scale": 1.5}
    plain, job = host.draw(clora=PLAIN, **hires), host.draw(clora=DETAIL, **hires)
    assert [one.init_images[0].size for one in inner] == [(192, 192)] * 2
    assert job.processed.images[0].size == (192, 192)
    assert changed(picture(plain), picture(job))[0] < 6 * 12
    assert [one.enable_hr for one in inner] == [False, False]


def test_masks_in_the_gallery_lie_over_the_new_picture(host: Host) -> None:
    job = host.draw(clora={**DETAIL, "show_masks": True, "show_merge": True})
    assert len(job.processed.images) == len(job.processed.infotexts) == 3
    assert job.processed.infotexts[1].startswith(job.processed.infotexts[0])


@pytest.mark.parametrize("method", ["merge", "composite"])
def test_without_masks_a_note_says_so(host: Host, inner: list[Any], method: str) -> None:
    job = host.draw(clora={**DETAIL, "method": method})
    assert inner == []
    assert "detail pass was left out because this picture has no masks" in job.processed.comments


@pytest.mark.parametrize("box", [(0, 0, 0, 0), (5, 5, 6, 6)])
def test_a_subject_that_covers_nearly_nothing(host: Host, inner: list[Any], masks: Masks, box: Any) -> None:
    masks(box, DOG)
    size = 128 if box == (0, 0, 0, 0) else 256  # one cell of 1024
    job = host.draw(clora=DETAIL, steps=1, width=size, height=size)
    assert [loras(one.all_prompts[0]) for one in inner] == [["dog"]]
    assert 'The detail pass of "cat" (cat) was left out: its mask covers less than 0.2%' in job.processed.comments


# ------------------------------------------------------------------------------------ beside the job


def test_progress_and_state(host: Host, inner: list[Any]) -> None:
    state = host.shared.state
    seen: list[Any] = []

    class Watch(host.scripts.Script):  # type: ignore[misc, name-defined]
        def title(self) -> str:
            return "Watch"

        def postprocess_image(self, p: Any, pp: Any, *args: Any) -> None:
            seen.append((state.job_count, state.job_no, state.job, state.textinfo))

    host.draw([PROMPT, PROMPT], PLAIN, batch_size=1, beside=[Watch()])
    before, seen[:] = list(seen), []
    host.draw([PROMPT, PROMPT], DETAIL, batch_size=1, beside=[Watch()])
    assert seen == before
    wanted = ["CLoRA: detail of cat (1 of 2)", "CLoRA: detail of dog (2 of 2)"]
    assert [one.told for one in inner] == wanted * 2


def test_nothing_is_left(host: Host, inner: list[Any]) -> None:
    before = host.traces()
    job = host.draw(clora=DETAIL)
    host.draw("a cat", {"enabled": False}, steps=1, width=64, height=64)
    assert host.traces() == before
    assert host.traces(job.p, *inner)["hooks"] == 0
    assert not any(hasattr(one, "_clora_generation") for one in inner)
    assert host.script.request is None
    assert torch.equal(host.draw(clora=PLAIN).latent, job.latent)


def test_options_and_the_last_prompt_are_kept(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from modules import paths_internal, sd_models

    opts, kind = host.shared.opts, host.processing.StableDiffusionProcessingImg2Img
    wanted = picture(host.draw(clora=DETAIL))
    monkeypatch.setattr(paths_internal, "data_path", str(tmp_path))
    for name, value in {"save_init_img": True, "img2img_color_correction": True, "overlay_inpaint": False}.items():
        monkeypatch.setattr(opts, name, value)
    ratios: list[float] = []
    job = host.job([PROMPT, PROMPT], DETAIL, batch_size=1, token_merging_ratio=0.5)
    job.watch = lambda number, x: ratios.append(sd_models.ratio)
    done = host.run(job)
    assert (picture(done) == wanted).all()
    assert kind.saved_init_images == 0
    assert (opts.save_init_img, opts.img2img_color_correction, opts.overlay_inpaint) == (True, True, False)
    assert (tmp_path / "params.txt").read_text("utf-8").startswith(PROMPT)
    if host.model.kind == "a1111":  # the others set it in each pass
        assert set(ratios) == {0.5}


# ------------------------------------------------------------------------------------ stops and errors


def on_step(inner: list[Any], monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], None]) -> None:
    """Act at the first step of inner job `number`, counted from 0."""
    from modules import sd_samplers

    real = sd_samplers.Sampler.sample

    def sample(self: Any, p: Any, *args: Any, **kwargs: Any) -> Any:
        if len(inner) == number + 1 and p is inner[number]:
            self.watch = lambda step, x: act() if step == 0 else None
        return real(self, p, *args, **kwargs)

    monkeypatch.setattr(sd_samplers.Sampler, "sample", sample)


def test_an_interrupt_keeps_the_passes_that_are_done(
    host: Host, inner: list[Any], masks: Masks, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks(CAT, (0, 0, 0, 0))
    first_alone = picture(host.draw(clora=DETAIL))
    masks(CAT, DOG)
    inner.clear()
    on_step(inner, monkeypatch, 1, host.shared.state.interrupt)
    job = host.draw([PROMPT, PROMPT], DETAIL, batch_size=1)
    host.shared.state.interrupted = False
    assert len(inner) == 2
    assert len(job.processed.images) == 1
    assert (picture(job) == first_alone).all()


def test_skipping_goes_on_to_the_next_subject(
    host: Host, inner: list[Any], masks: Masks, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks((0, 0, 0, 0), DOG)
    second_alone = picture(host.draw(clora=DETAIL))
    masks(CAT, DOG)
    inner.clear()
    on_step(inner, monkeypatch, 0, lambda: setattr(host.shared.state, "skipped", True))
    job = host.draw(clora=DETAIL)
    assert len(inner) == 2
    assert (picture(job) == second_alone).all()
    assert not host.shared.state.skipped


@pytest.mark.parametrize("how", ["interrupted", "skipped"])
def test_after_an_interrupt_of_the_picture_there_is_no_pass(host: Host, inner: list[Any], how: str) -> None:
    p = host.job(clora=DETAIL)
    p.watch = lambda number, x: setattr(host.shared.state, how, True) if number == 3 else None
    host.run(p)
    setattr(host.shared.state, how, False)
    assert inner == []


def test_stopping_after_the_picture_finishes_it_first(host: Host, inner: list[Any]) -> None:
    p = host.job([PROMPT, PROMPT], DETAIL, batch_size=1)
    p.watch = lambda number, x: setattr(host.shared.state, "stopping_generation", True)
    job = host.run(p)
    assert len(inner) == 2
    assert host.shared.state.stopping_generation
    host.shared.state.stopping_generation = False
    assert (picture(job) == picture(host.draw(clora=DETAIL))).all()
    assert len(job.processed.images) == 1


def test_an_error_in_a_pass_leaves_the_picture_before_it(
    host: Host, inner: list[Any], masks: Masks, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks((0, 0, 0, 0), DOG)
    second_alone = picture(host.draw(clora=DETAIL))
    masks(CAT, DOG)
    inner.clear()

    def fail() -> None:
        raise RuntimeError("out of memory")

    on_step(inner, monkeypatch, 0, fail)
    state = host.shared.state
    state.begin()
    processed = host.processing.process_images(host.job(clora=DETAIL))
    assert (np.asarray(processed.images[0]) == second_alone).all()
    assert 'The detail pass of "cat" (cat) failed, so it was left out (RuntimeError: out of mem' in processed.comments
    assert len(host.errors.reports) == 1
    assert (state.job_count, state.job_no) == (1, 1)
    host.errors.reports.clear()


def test_a_picture_of_another_size_is_not_taken(host: Host, inner: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    kind = host.processing.StableDiffusionProcessingImg2Img
    wanted = picture(host.draw(clora=PLAIN))
    monkeypatch.setattr(kind, "finished", lambda self, image: Image.new("RGB", (40, 40)))
    processed = host.processing.process_images(host.job(clora=DETAIL))
    host.errors.reports.clear()
    assert (np.asarray(processed.images[0]) == wanted).all()
    assert "40 x 40 pixels" in processed.comments


# ------------------------------------------------------------------------------------ other extensions


def test_adetailer_gets_the_picture_with_details_and_stays_out_of_the_passes(host: Host, inner: list[Any]) -> None:
    from adetailer import Detailer

    class Seeing(Detailer):
        def postprocess_image(self, p: Any, pp: Any, *args: Any) -> None:
            self.seen = np.asarray(pp.image).astype(int)
            super().postprocess_image(p, pp, *args)

    wanted = picture(host.draw(clora=DETAIL))
    inner.clear()
    beside = Seeing([(0, 32, 60, 96)])
    p = host.job(clora=DETAIL)
    # It is loaded before CLoRA.
    p.scripts = host.scripts.ScriptRunner([(beside, ()), (host.script, (DETAIL,))])
    job = host.run(p)
    assert (beside.seen == wanted).all()
    assert (len(inner), len(beside.jobs)) == (2, 1)
    assert (picture(job) == wanted).all()  # the stand-in leaves it as it is


def controlnet(host: Host) -> Any:
    """A script with hints for the time of a job, as the extension for A1111, and state in itself, as Forge's."""

    class ControlNet(host.scripts.Script):  # type: ignore[misc, name-defined]
        on = False
        calls: list[Any] = []  # noqa: RUF012

        def title(self) -> str:
            return "ControlNet"

        def process(self, p: Any, *args: Any) -> None:
            self.calls.append((self.on, p.init_images[0].size if hasattr(p, "init_images") else None))
            self.on = True

        def postprocess(self, p: Any, processed: Any, *args: Any) -> None:
            self.on = False

    return ControlNet()


def test_controlnet(host: Host, inner: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    script, during, batches = controlnet(host), list[bool](), list[bool]()
    real = host.processing.StableDiffusionProcessingImg2Img.init
    kind = host.processing.StableDiffusionProcessingImg2Img
    monkeypatch.setattr(kind, "init", lambda self: (during.append(script.on), real(self))[1])
    p = host.job([PROMPT, PROMPT], DETAIL, batch_size=1, beside=[script])
    p.watch = lambda number, x: batches.append(script.on)
    host.run(p)
    assert set(batches) == {True}
    assert not script.on
    if hasattr(host.model, "forge_objects"):
        # A copy takes part in each pass and leaves the job's own state alone.
        assert set(during) == {True}
        assert [size for _, size in script.calls if size] == [(128, 128)] * 4
    else:
        assert during == [False] * 4
        assert [size for _, size in script.calls if size] == []


def test_a_plot_over_its_settings(host: Host, inner: list[Any]) -> None:
    from tests.webui.test_scripts import Plot, axis

    plot = Plot(host, axis("Detail pass"), ["false", "true"])
    host.draw(clora=PLAIN, script=plot)
    off, on = plot.cells
    assert len(inner) == 2
    assert off.infotexts[0].count("detail pass") == 0
    assert "CLoRA detail pass: true" in on.infotexts[0]

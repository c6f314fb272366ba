"""The extension in a real WebUI, over HTTP. Name one by CLORA_WEBUI_URL (running) or CLORA_WEBUI_DIR (installed), its
--api-auth, if it has one, by CLORA_WEBUI_API_AUTH.

Its loaded checkpoint and LoRAs must fit each other; CLORA_WEBUI_PROMPT is a prompt with two concept LoRAs, by default
made of two embedded LoRAs, or else of the first two that the WebUI lists. CLORA_WEBUI_PLAIN_URL may name the same
WebUI without the extension.
"""

from __future__ import annotations

import os
import re
import threading
import time
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageDraw

from clora.settings import SETTINGS
from tests.hosts.webui_server import ApiError, Server, encoded

FEW = {"refine_updates": 2, "show_masks": False}


def plain(prompt: str) -> str:
    return re.sub("<[^>]*>", "", prompt)


def test_settings_are_told_as_a_schema(server: Server) -> None:
    properties = server.call("/clora/v1/settings")["properties"]
    assert {setting.name for setting in SETTINGS} <= set(properties)
    assert properties["mask_threshold"]["maximum"] == 1.0


def test_version(server: Server) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", server.call("/clora/v1/version")["version"])


def test_routes_are_guarded_like_the_hosts_own(server: Server) -> None:
    if not server.auth:
        pytest.skip("the WebUI runs without --api-auth: set CLORA_WEBUI_API_AUTH=user:password if it has it")
    for path in ("/clora/v1/version", "/clora/v1/settings", "/sdapi/v1/samplers"):
        for wrong in ("", "nobody:nothing"):
            with pytest.raises(ApiError) as refused:
                Server(server.url, wrong).call(path)
            assert refused.value.status == 401


def test_a_prompt_is_read(server: Server, prompt: str) -> None:
    server.draw("a cat", steps=1)  # some hosts load the model, and with it the tokenizer, at the first job
    found = server.call("/clora/v1/analyze", {"prompt": prompt})
    assert found["composes"]
    assert found["problem"] == ""
    assert [row["role"] for row in found["rows"]] == ["concept", "concept"]
    assert all(row["tokens"] for row in found["rows"])
    assert not set(found["rows"][0]["tokens"]) & set(found["rows"][1]["tokens"])


def test_composing_differs_from_merging_and_is_reproducible(server: Server, prompt: str) -> None:
    first, second = (server.draw(prompt, FEW) for _ in range(2))
    merged = server.draw(prompt, {"method": "merge"})
    assert first.pixels == second.pixels
    assert first.pixels != merged.pixels
    assert first.pixels != server.draw(prompt, {**FEW, "update_until": 0}).pixels
    assert prompt in first.infotexts[0]
    assert "CLoRA: on" in first.infotexts[0]
    assert "CLoRA refine updates: 2" in first.infotexts[0]


def test_a_picture_goes_on_from_its_plan(server: Server, prompt: str) -> None:
    ahead = {**FEW, "look_ahead": 0.25}
    planned = server.draw(prompt, {**ahead, "plan": "over http", "plan_only": True})
    assert "This is a plan" in planned.notes
    assert len(planned.images) == 2
    assert "CLoRA masks" in planned.infotexts[1]
    went_on = server.draw(prompt, {**ahead, "plan": "over http"})
    assert "The plan is not used" not in went_on.notes
    assert went_on.pixels == server.draw(prompt, ahead).pixels
    assert went_on.pixels != planned.pixels
    other = server.draw(prompt, {**ahead, "plan": "over http"}, seed=1234)
    assert "The plan is not used, because the seed changed" in other.notes


def test_a_single_pass_is_exact_where_one_concept_has_everything(server: Server, prompt: str) -> None:
    name = re.findall("<lora:([^:>]+)", prompt)[0]
    # A step that averages does so in another place with each fusion, so it may not come in between.
    everywhere = {
        "update_until": 0,
        "fuse_from": 0,
        "show_masks": False,
        "corrections": {name: {"place": "0 0 100 100"}},
    }
    exact, single = (server.draw(prompt, {**everywhere, "fusion": kind}) for kind in ("exact", "single-pass"))
    worst = max(high for _, high in ImageChops.difference(exact.images[0], single.images[0]).getextrema())
    assert worst <= 2
    free = server.draw(prompt, {"update_until": 0, "show_masks": False, "fusion": "single-pass"})
    assert free.pixels != single.pixels


def test_off_is_as_without_the_extension(server: Server, prompt: str) -> None:
    absent = server.draw(prompt)
    off = server.draw(prompt, {"enabled": False})
    assert absent.pixels == off.pixels
    assert "CLoRA" not in absent.infotexts[0]
    if os.environ.get("CLORA_WEBUI_PLAIN_URL"):
        assert Server(os.environ["CLORA_WEBUI_PLAIN_URL"].rstrip("/")).draw(prompt).pixels == absent.pixels


def test_merge_is_near_to_the_hosts_own(server: Server, prompt: str) -> None:
    """Row-wise LoRAs against the host's merged weights: the same picture but for rounding."""
    ours, theirs = server.draw(prompt, {"method": "merge"}), server.draw(prompt)
    pairs = zip(ours.pixels, theirs.pixels, strict=True)
    different = [abs(a - b) for a, b in pairs]
    assert sum(different) / len(different) < 2.0


@pytest.mark.parametrize(
    ("clora", "sentence"),
    [
        ({"mask_treshold": 0.4}, "did you mean mask_threshold"),
        ({"mask_threshold": 7}, "mask_threshold cannot be 7: give a number from 0 to 1"),
        ({"enabled": "yes"}, "enabled"),
        ({"preset": "sharp"}, "paper"),
        ({"corrections": {"x": {"word": "cat"}}}, "correction"),
    ],
)
def test_wrong_fields_are_answered_with_422(server: Server, prompt: str, clora: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ApiError) as refused:
        server.draw(prompt, clora)
    assert refused.value.status == 422
    assert sentence in refused.value.sentence


def test_wrong_prompts_are_answered_and_the_next_job_is_untouched(server: Server, prompt: str) -> None:
    before = server.draw(prompt)
    composed = server.draw(prompt, FEW)
    for wrong, sentence in (
        (f"{prompt}, a <lora:no such lora:1> horse", "no such lora"),
        (re.sub(r"(<[^>]*?):1>", r"\1:1:words=no such words>", prompt), "no such words"),
    ):
        with pytest.raises(ApiError) as refused:
            server.draw(wrong, FEW)
        assert refused.value.status == 422
        assert sentence in refused.value.sentence
    assert server.draw(prompt).pixels == before.pixels
    assert server.draw(prompt, FEW).pixels == composed.pixels


@pytest.mark.parametrize("word", ["AND", "AND_PERP"])
def test_prompts_that_clora_cannot_compose_are_drawn_by_the_host_with_a_note(
    server: Server, prompt: str, word: str
) -> None:
    joined = f"{prompt} {word} a horse"
    found = server.draw(joined, FEW)
    assert found.pixels == server.draw(joined).pixels
    assert f"{word} is not supported" in found.notes


def test_a_batch_of_two(server: Server, prompt: str) -> None:
    found = server.draw(prompt, {**FEW, "show_masks": True}, batch_size=2)
    assert len(found.images) >= 4  # two pictures, two with masks; a grid where the host is set to make one
    singles = [server.draw(prompt, FEW, seed=seed) for seed in (1, 2)]
    assert singles[0].pixels != singles[1].pixels


@pytest.mark.parametrize("size", [(520, 712), (256, 384)])
def test_sizes(server: Server, prompt: str, size: tuple[int, int]) -> None:
    found = server.draw(prompt, FEW, width=size[0], height=size[1], steps=3)
    assert found.images[0].size == size


def test_hires(server: Server, prompt: str) -> None:
    fields = {
        "enable_hr": True, "hr_scale": 1.5, "denoising_strength": 0.6, "hr_second_pass_steps": 4,
        "hr_upscaler": "Latent", "hr_cfg": 4, "hr_additional_modules": ["Use same choices"],
    }  # fmt: skip
    composed, base = (server.draw(prompt, {**FEW, "hires": hires}, **fields) for hires in (True, False))
    assert composed.images[0].size == (384, 384)
    assert composed.pixels != base.pixels
    assert "CLoRA compose hires: false" in base.infotexts[0]
    assert "Hires prompt" not in composed.infotexts[0]


def test_img2img_and_inpainting(server: Server, prompt: str) -> None:
    image = Image.new("RGB", (256, 256), (120, 160, 90))
    mask = Image.new("L", (256, 256), 0)
    ImageDraw.Draw(mask).rectangle((128, 0, 255, 255), fill=255)
    fields = {"path": "img2img", "init_images": [encoded(image)], "denoising_strength": 0.8}
    whole, merged = (server.draw(prompt, {**FEW, **more}, **fields) for more in ({}, {"method": "merge"}))
    assert whole.pixels != merged.pixels
    inpainted = server.draw(prompt, FEW, mask=encoded(mask), inpainting_fill=1, mask_blur=0, **fields)
    kept = inpainted.images[0].convert("RGB").crop((0, 0, 96, 256)).tobytes()
    assert max(abs(a - b) for a, b in zip(kept, image.crop((0, 0, 96, 256)).tobytes(), strict=True)) < 30


def test_interrupt_during_updates(server: Server, prompt: str) -> None:
    before = server.draw(prompt, FEW)
    done: list[Any] = []

    def long_job() -> None:
        done.append(server.draw(prompt, {"refine_updates": 200, "update_until": 1}, steps=50))

    job = threading.Thread(target=long_job)
    job.start()
    time.sleep(4)
    server.call("/sdapi/v1/interrupt", {})
    job.join(60)
    assert not job.is_alive()
    assert len(done) == 1
    assert server.draw(prompt, FEW).pixels == before.pixels


def test_xyz_plot(server: Server, prompt: str) -> None:
    ours = [label for label in server.axes() if label.startswith("[CLoRA]")]
    assert len(ours) == len(set(ours)) > 15
    found = server.draw(prompt, FEW, **server.plot(x=("[CLoRA] Update until", "0, 0.5")))
    assert len(found.images) >= 1


@pytest.mark.parametrize("shape", ["(a {}:1.2)", "{} BREAK on grass", "[{}:{}:0.5]", "{}" + ", many words" * 40])
def test_prompt_shapes(server: Server, prompt: str, shape: str) -> None:
    assert server.draw(shape.replace("{}", prompt), FEW, steps=3).images[0].size == (256, 256)


@pytest.mark.parametrize(
    "fields", [{"cfg_scale": 1}, {"s_min_uncond": 5.0}, {"negative_prompt": "a horse, many " * 40}]
)
def test_guidance(server: Server, prompt: str, fields: dict[str, Any]) -> None:
    assert server.draw(prompt, FEW, **fields).pixels != server.draw(prompt, {"method": "merge"}, **fields).pixels


@pytest.mark.parametrize("method", ["composite", "switch"])
def test_methods(server: Server, prompt: str, method: str) -> None:
    assert server.draw(prompt, {"method": method}).pixels != server.draw(prompt, {"method": "merge"}).pixels


def test_paper_preset(server: Server, prompt: str) -> None:
    few = {**FEW, "preset": "paper"}
    assert server.draw(prompt, few).pixels != server.draw(prompt, FEW).pixels


def test_every_sampler_once(server: Server, prompt: str) -> None:
    failed = {}
    for sampler in server.call("/sdapi/v1/samplers"):
        try:
            server.draw(prompt, FEW, sampler_name=sampler["name"], steps=4)
        except ApiError as error:
            failed[sampler["name"]] = str(error)
    assert failed == {}

"""The diffusers host on an accelerator (tests/accelerator/): whole, in part, offloaded, and short of memory."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from clora.errors import CLoRAError
from clora.hosts.diffusers import Composed, compose
from clora.hosts.diffusers.devices import compute_device
from clora.models.memory import reset_peak
from clora.settings import Settings
from tests import accelerator
from tests.hosts.tiny import tiny_sd, tiny_sdxl, write_lora

pytestmark = accelerator.needs_accelerator
PROMPT = "a <lora:cat:1:trigger=sks> cat and a <lora:dog:0.8> (dog:1.2) <lora:ink:0.5:role=background>"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
METHODS: dict[str, dict[str, Any]] = {
    "default": {"refine_updates": 1},
    "paper": {"preset": "paper", "refine_updates": 1, "maps": "both"},
    "exact": {"fusion": "exact", "fuse_from": 0.0, "mask_grid": "latent", "mask_smooth": True, "refine_at": ()},
    "exact, overlapping": {"fusion": "exact", "fuse_from": 0.0, "refine_at": (), "mask_overlap": "average"},
    "few rows": {"rows_per_forward": 2, "refine_at": (), "update_cap": 0.1, "refine_tolerance": 0.1},
    "look ahead": {"look_ahead": 0.4, "refine_updates": 1},
    "merge": {"method": "merge"},
    "switch": {"method": "switch"},
}


@pytest.fixture(scope="module")
def loras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, pipe = tmp_path_factory.mktemp("loras"), tiny_sd()
    for seed, name in enumerate(("cat", "dog", "ink")):
        write_lora(folder / f"{name}.safetensors", pipe, seed)
    return folder


@pytest.fixture(params=["with float64", "without float64"])
def wide(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "with float64":
        yield
    else:
        with accelerator.without_float64():
            yield


def draw(pipe: Any, loras: Path, prompt: str | list[str] = PROMPT, **options: Any) -> Composed:
    settings = Settings(**options.pop("settings", METHODS["default"]))
    return compose(pipe, prompt, loras=loras, steps=2, settings=settings, seed=1, **options)


def check(composed: Composed) -> None:
    assert composed.latents.device.type == accelerator.NAME
    assert bool(torch.isfinite(composed.latents).all())
    assert composed.images[0].getbbox() is not None


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(loras: Path, dtype: str) -> None:
    pipe = tiny_sd().to(accelerator.device(), DTYPES[dtype])
    composed = draw(pipe, loras, [PROMPT, PROMPT])
    check(composed)
    assert composed.latents.dtype == torch.float32
    assert all(mask is not None for mask in composed.masks)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_draws_the_cpus_picture(loras: Path, method: str) -> None:
    """In float64, because a random network blows up the rounding in which two ways of one calculation differ."""
    pipe = tiny_sd().to(torch.float64)
    region = PROMPT.replace("trigger=sks", "trigger=sks:place=left")
    wanted = draw(pipe, loras, region, settings=METHODS[method], guidance_rescale=0.5)
    found = draw(pipe.to(accelerator.device()), loras, region, settings=METHODS[method], guidance_rescale=0.5)
    check(found)
    torch.testing.assert_close(found.latents.cpu(), wanted.latents, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "scheduler", ["EulerAncestralDiscrete", "HeunDiscrete", "DPMSolverMultistep", "UniPCMultistep"]
)
def test_schedulers(loras: Path, scheduler: str) -> None:
    import diffusers

    pipe = tiny_sd().to(accelerator.device())
    pipe.scheduler = getattr(diffusers, f"{scheduler}Scheduler").from_config(pipe.scheduler.config)
    with accelerator.without_float64():
        check(draw(pipe, loras))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_sdxl(tmp_path: Path, dtype: str) -> None:
    pipe = tiny_sdxl()
    for seed, name in enumerate(("cat", "dog", "ink")):
        write_lora(tmp_path / f"{name}.safetensors", pipe, seed)
    with accelerator.without_float64():
        check(draw(pipe.to(accelerator.device(), DTYPES[dtype]), tmp_path, width=128, height=96))


def text_on_cpu(pipe: Any) -> None:
    pipe.to(accelerator.device())
    pipe.text_encoder.to("cpu")


def vae_on_cpu(pipe: Any) -> None:
    pipe.to(accelerator.device())
    pipe.vae.to("cpu")


def models_offloaded(pipe: Any) -> None:
    pipe.enable_model_cpu_offload(device=accelerator.device())


def layers_offloaded(pipe: Any) -> None:
    pipe.enable_sequential_cpu_offload(device=accelerator.device())


PLACES = (text_on_cpu, vae_on_cpu, models_offloaded, layers_offloaded)


@pytest.fixture(scope="module")
def with_dora(loras: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The LoRAs, of which one needs the host's weights."""
    folder = tmp_path_factory.mktemp("dora")
    for path in loras.glob("*.safetensors"):
        tensors = load_file(path)
        if path.stem == "dog":
            for key in [key for key in tensors if key.endswith("lora_up.weight")]:
                tensors[key.replace("lora_up.weight", "dora_scale")] = torch.ones(len(tensors[key]), 1)
        save_file(tensors, folder / path.name)
    return folder


@pytest.mark.parametrize("place", PLACES)
def test_weights_on_the_cpu_in_part(with_dora: Path, place: Any) -> None:
    pipe = tiny_sd()
    wanted = draw(pipe.to(torch.float64), with_dora)
    place(pipe)
    devices = {name: {p.device.type for p in part.parameters()} for name, part in parts(pipe)}
    found = draw(pipe, with_dora)
    check(found)
    torch.testing.assert_close(found.latents.cpu(), wanted.latents, rtol=1e-6, atol=1e-6)
    assert {name: {p.device.type for p in part.parameters()} for name, part in parts(pipe)} == devices
    assert all(p.requires_grad for p in pipe.unet.parameters())


def parts(pipe: Any) -> list[tuple[str, torch.nn.Module]]:
    return [(name, getattr(pipe, name)) for name in ("unet", "vae", "text_encoder")]


def test_group_offloading_says_where_it_computes() -> None:
    unet = tiny_sd().unet
    assert compute_device(unet) == torch.device("cpu")
    unet.enable_group_offload(onload_device=torch.device("meta"), offload_type="leaf_level")
    assert compute_device(unet) == torch.device("meta")


def test_a_device_without_autocast(loras: Path) -> None:
    with accelerator.without_autocast():
        check(draw(tiny_sd().to(accelerator.device()), loras))


def test_masks_of_sizes_that_do_not_divide(loras: Path) -> None:
    """A single pass takes the mean of its masks over the cells of coarser layers: 9 of 17, and 7 of 13."""
    pipe = tiny_sd().to(accelerator.device())
    with accelerator.without_uneven_pooling():
        check(draw(pipe, loras, width=136, height=104, settings={"refine_at": (), "fuse_from": 0.0}))


# ----------------------------------------------------------------------------------------- memory running out


WORDS = (
    "MPS backend out of memory (MPS allocated: 8.13 GB, other allocations: 700.00 MB, max allowed: 9.07 GB).",
    "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)",
    "Could not allocate tensor with 4096 bytes. There is not enough GPU video memory available!",
)


@pytest.mark.parametrize("method", ["default", "exact, overlapping", "merge"])
def test_the_less_memory_the_fewer_rows_and_then_a_sentence(loras: Path, method: str) -> None:
    """Whatever the last byte is missing for, it is the same picture or one sentence."""
    pipe = tiny_sd().to(accelerator.device(), torch.float64)
    before = accelerator.DEVICE.used
    reset_peak(accelerator.device())
    whole = draw(pipe, loras, settings=METHODS[method])
    needed, wanted = accelerator.DEVICE.peak - before, whole.latents.cpu()
    del whole
    gc.collect()
    outcomes: list[str] = []
    for number in range(9):
        found: Composed | None = None
        with accelerator.limited(int(needed * 0.59**number), WORDS[number % len(WORDS)]):
            try:
                found = draw(pipe, loras, settings=METHODS[method])
            except CLoRAError as error:
                outcomes.append(str(error))
        if found is not None:
            torch.testing.assert_close(found.latents.cpu(), wanted, rtol=1e-6, atol=1e-6)
            outcomes.append("")
        del found
        gc.collect()
    pictures = outcomes.count("")
    # What a run leaves on the pretended device is freed at some later time, so that a limit is not exact.
    assert 0 < pictures < len(outcomes)
    assert outcomes[0] == ""
    assert outcomes[-1]
    assert all(told.startswith("Memory runs out") for told in outcomes if told)
    assert not any(m._forward_hooks or m._forward_pre_hooks for _, part in parts(pipe) for m in part.modules())


def test_memory_that_ran_out_is_told_and_fewer_rows_are_tried(loras: Path) -> None:
    pipe = tiny_sd().to(accelerator.device())
    fails = iter([False] * 3 + [True])

    def hook(*_: Any) -> None:
        if next(fails, False):
            raise RuntimeError(WORDS[0])

    handle = pipe.unet.mid_block.register_forward_pre_hook(hook)
    try:
        found = draw(pipe, loras, settings={"fusion": "exact", "fuse_from": 0.0, "refine_at": ()})
    finally:
        handle.remove()
    check(found)
    assert any("computed at once from here on" in warning for warning in found.warnings)

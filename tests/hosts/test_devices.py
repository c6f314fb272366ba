"""The diffusers host on an accelerator (tests/accelerator.py): whole, in part, offloaded, and short of memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from clora.hosts.diffusers import Composed, compose
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
    "few rows": {"rows_per_forward": 2, "refine_at": (), "update_cap": 0.1, "refine_tolerance": 0.1},
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


@pytest.mark.parametrize("place", PLACES)
def test_weights_on_the_cpu_in_part(loras: Path, place: Any) -> None:
    pipe = tiny_sd()
    wanted = draw(pipe.to(torch.float64), loras)
    place(pipe)
    found = draw(pipe, loras)
    check(found)
    torch.testing.assert_close(found.latents.cpu(), wanted.latents, rtol=1e-6, atol=1e-6)


def test_a_device_without_autocast(loras: Path) -> None:
    with accelerator.without_autocast():
        check(draw(tiny_sd().to(accelerator.device()), loras))

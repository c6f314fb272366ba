"""Both stand-ins on an accelerator (tests/accelerator/): every dtype, weights on the CPU in part, memory reserved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests import accelerator
from tests.standin import installed
from tests.webui.standin_host import FEW, KINDS, PROMPT, Host, near

pytestmark = accelerator.needs_accelerator
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
SMALL = {"width": 64, "height": 64, "steps": 2}


@pytest.fixture(scope="module", params=DTYPES)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """The stand-ins with their models on the accelerator, in each dtype."""
    pytest.importorskip("fastapi")
    with installed():
        from modules import devices

        devices.device, devices.dtype = accelerator.device(), DTYPES[request.param]
        yield Host(tmp_path_factory.mktemp("loras"))


def drawn(host: Host, clora: Any = FEW, **fields: Any) -> Tensor:
    """The latent of a job that leaves nothing behind."""
    clean = host.traces()
    job = host.draw(PROMPT, clora, **{**SMALL, **fields})
    assert host.traces(job.p) == clean
    assert job.latent.device.type == accelerator.NAME
    assert job.latent.dtype == torch.float32
    assert bool(torch.isfinite(job.latent).all())
    return job.latent


JOBS: dict[str, dict[str, Any]] = {
    "default": {"clora": {**FEW, "show_masks": True, "show_maps": True, "show_loss": True}},
    "paper": {"clora": {**FEW, "preset": "paper"}},
    "fast": {"clora": {"preset": "fast", "show_masks": False}},
    "regions": {"clora": {**FEW, "corrections": {"cat": {"place": "left"}}}},
    "Heun": {"sampler_name": "Heun"},
    "DPM adaptive": {"sampler_name": "DPM adaptive"},
    "DDIM": {"sampler_name": "DDIM", "steps": 4},
    "hires": {"enable_hr": True, "hr_scale": 1.5},
    "look ahead": {"clora": {**FEW, "look_ahead": 0.4}},
    "look ahead, DDIM": {"clora": {**FEW, "look_ahead": 0.4}, "sampler_name": "DDIM", "steps": 4},
}


@pytest.mark.parametrize("job", JOBS)
def test_every_job(host: Host, job: str) -> None:
    with accelerator.without_float64():
        drawn(host, **JOBS[job])


def test_a_device_with_float64(host: Host) -> None:
    drawn(host)


def test_the_first_picture_is_that_of_a_cpu(both: Host, tmp_path_factory: pytest.TempPathFactory) -> None:
    """In float32, which is exact enough for one step without updates."""
    if next(both.models["a1111"].unet_module.parameters()).dtype != torch.float32:
        pytest.skip("rounding of narrow types grows in a random network")
    fields = {"clora": {**FEW, "update_until": 0.0, "fuse_from": 0.0}, "steps": 1}
    found = []
    for kind in KINDS:
        both.use(kind)
        found.append(drawn(both, **fields).cpu())
    assert all(near(found[0], other, 1e-3) for other in found[1:])
    merged = [drawn(both, **{**fields, "clora": clora}).cpu() for clora in ({"method": "merge"}, None)]
    assert near(*merged, 1e-3)


# ------------------------------------------------------------------------------- weights on the CPU in part


def moving(modules: list[nn.Module]) -> list[Any]:
    """As A1111 does with --medvram and --lowvram: a module comes to the device when it runs, the last one leaves."""
    there: list[nn.Module] = []

    def bring(module: nn.Module, _: Any) -> None:
        if there and there[0] is module:
            return
        if there:
            there.pop().to("cpu")
        there.append(module.to(accelerator.device()))

    for module in modules:
        module.to("cpu")
    return [module.register_forward_pre_hook(bring) for module in modules]


@pytest.fixture
def medvram(both: Host) -> Iterator[Host]:
    """Text model and UNet take turns on the device."""
    both.use("a1111")
    unet, text = both.model.unet_module, both.model.text_module
    handles = moving([text, unet])
    yield both
    for handle in handles:
        handle.remove()
    unet.to(accelerator.device())
    text.to(accelerator.device())


@pytest.fixture
def lowvram(both: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """So do the blocks of the UNet."""
    from modules import lowvram

    both.use("a1111")
    monkeypatch.setattr(both.shared.cmd_opts, "lowvram", True)
    monkeypatch.setattr(lowvram, "is_enabled", lambda sd_model: True)
    unet, text = both.model.unet_module, both.model.text_module
    blocks = [unet.time_embed, *unet.input_blocks, unet.middle_block, *unet.output_blocks]
    handles = moving([text, *blocks])
    yield both
    for handle in handles:
        handle.remove()
    unet.to(accelerator.device())
    text.to(accelerator.device())


def test_medvram(medvram: Host) -> None:
    with accelerator.without_float64():
        for fusion in ("exact", "single-pass"):
            found = medvram.draw(PROMPT, {**FEW, "fusion": fusion}, **SMALL).latent
            assert bool(torch.isfinite(found).all())


def test_lowvram_composes_without_updates(lowvram: Host) -> None:
    from clora.hosts.host_api import RefusedError

    with accelerator.without_float64():
        for preset in ("fast", "exact"):
            clora = {"preset": preset, "update_until": 0.0, "show_masks": False}
            found = lowvram.draw(PROMPT, clora, **SMALL).latent
            assert bool(torch.isfinite(found).all())
        with pytest.raises(RefusedError, match="--lowvram"):
            lowvram.draw(PROMPT, FEW, **SMALL)


@pytest.fixture
def partly_loaded(both: Host) -> Iterator[Host]:
    """As Forge loads a model for which memory is short: every other layer stays on the CPU and casts in its forward."""
    both.use("forge")
    layers = [m for m in both.model.unet_module.modules() if next(m.parameters(recurse=False), None) is not None]
    assert isinstance(layers[0], nn.Linear | nn.Conv2d)
    with torch.inference_mode():
        for layer in layers[::2]:
            layer.to("cpu")
            accelerator.cast_in_forward(layer)
    yield both
    with torch.inference_mode():
        for layer in layers[::2]:
            del layer.forward
            layer.to(accelerator.device())


@pytest.mark.parametrize("preset", ["balanced", "exact", "paper", "fast"])
def test_partial_loading(partly_loaded: Host, preset: str) -> None:
    assert next(partly_loaded.model.unet_module.parameters()).device.type == "cpu"
    with accelerator.without_float64():
        drawn(partly_loaded, {**FEW, "preset": preset} if preset != "fast" else {"preset": "fast", "show_masks": False})


# -------------------------------------------------------------------------------------------- memory in Forge


def test_forge_is_asked_for_the_memory_of_an_update(both: Host) -> None:
    both.use("forge")
    asked: list[int] = []

    def watch(number: int, x: Tensor) -> None:
        asked.append(both.model.forge_objects.unet.extra_preserved_memory_during_sampling)

    both.draw([PROMPT] * 2, FEW, watch=watch, **SMALL)
    size = torch.empty(0, dtype=both.model.forge_objects.unet.model.computation_dtype).element_size()
    # 64 latent cells, three variants of two pictures; the conditional rows alone are updated.
    assert set(asked) == {75_000 * 64 * 6 * size}
    assert both.model.forge_objects_after_applying_lora.unet.extra_preserved_memory_during_sampling == 0


def test_forge_is_asked_before_its_weights_are_on_the_device(both: Host) -> None:
    """Forge brings them there after CLoRA has attached, and may keep them narrower than it computes."""
    from clora.hosts.forge.hook import _bytes_per_value

    both.use("forge")
    patcher = both.model.forge_objects.unet
    asked = _bytes_per_value(patcher)
    unet = patcher.model.diffusion_model
    with torch.inference_mode():
        unet.to("cpu", torch.float8_e4m3fn)
        try:
            assert _bytes_per_value(patcher) == asked > 0
        finally:
            unet.to(accelerator.device(), patcher.model.computation_dtype)


def test_nothing_is_asked_for_on_a_cpu(both: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    from clora.hosts.forge.hook import _bytes_per_value

    both.use("forge")
    patcher = both.model.forge_objects.unet
    monkeypatch.setattr(patcher, "load_device", torch.device("cpu"))
    assert _bytes_per_value(patcher) == 0

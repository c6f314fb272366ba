"""What other extensions and files do to a job in the stand-ins: it ends in one sentence, and nothing stays."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.webui.standin_host import FEW, PROMPT, Host


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["up", "alpha"])
def test_a_lora_with_nan_is_refused_before_sampling(host: Host, value: float, part: str) -> None:
    import networks

    from clora.hosts.host_api import RefusedError

    folder = Path(networks.folder)
    tensors = load_file(folder / "cat.safetensors")
    key = next(key for key in tensors if "unet" in key and part in key)
    tensors[key].view(-1)[0] = value
    save_file(tensors, folder / "bad.safetensors")
    before = host.first(composed=True)
    seen: list[int] = []
    p = host.job(PROMPT.replace("lora:dog", "lora:bad"), FEW)
    handle = host.model.unet_module.register_forward_pre_hook(lambda *_: seen.append(1))
    with pytest.raises(RefusedError, match="holds NaN or infinite values in its tensor") as refused:
        host.run(p)
    handle.remove()
    assert '"bad.safetensors" holds' in str(refused.value)
    assert key in str(refused.value)
    assert seen == []
    assert torch.equal(host.draw(clora=FEW).latent, before)


@pytest.mark.parametrize("sampler", ["Euler", "DDIM"])
def test_a_last_prediction_of_nan_is_refused(host: Host, sampler: str) -> None:
    from clora.hosts.host_api import RefusedError

    before = host.first(composed=True)
    calls: list[int] = []

    def count(*_: Any) -> None:
        calls.append(1)

    def spoil(_: nn.Module, __: Any, result: Tensor) -> Tensor | None:
        calls.append(1)
        return result * torch.nan if len(calls) == last else None

    unet, last = host.model.unet_module, 0
    handle = unet.register_forward_hook(count)
    host.draw(clora=FEW, sampler_name=sampler, steps=2)
    handle.remove()
    last = len(calls)
    calls.clear()
    p = host.job(clora=FEW, sampler_name=sampler, steps=2)
    handle = unet.register_forward_hook(spoil)
    with pytest.raises(RefusedError, match="The prediction holds NaN or infinite values at evaluation"):
        host.run(p)
    handle.remove()
    assert host.traces(p)["hooks"] == 0
    assert torch.equal(host.draw(clora=FEW).latent, before)


def clear(root: nn.Module) -> None:
    for module in root.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()


@pytest.mark.parametrize("where", ["sampler", "before the evaluation", "in a layer"])
def test_hooks_that_another_extension_removes_are_noticed(host: Host, where: str) -> None:
    from clora.hosts.host_api import RefusedError

    before = host.first(composed=True)
    p = host.job(clora=FEW)
    unet = host.model.unet_module
    kept = unet.forward
    if where == "in a layer":

        def forward(*args: Any, **given: Any) -> Any:
            result = kept(*args, **given)
            if p.samplers:
                clear(unet)
            return result

        unet.forward = forward
    elif where == "sampler":
        p.watch = lambda number, x: clear(p.sampler.model_wrap_cfg) if number == 2 else None
    else:
        p.watch = lambda number, x: p.sampler.model_wrap_cfg._forward_pre_hooks.clear() if number == 2 else None
    try:
        with pytest.raises(RefusedError, match="Another extension has removed CLoRA's hooks"):
            host.run(p)
    finally:
        unet.forward = kept
    assert torch.equal(host.draw(clora=FEW).latent, before)


def test_a_prompt_is_analyzed_while_a_picture_is_drawn(host: Host) -> None:
    """A picture holds the host's queue; reading text does not wait for it."""
    from fastapi import FastAPI
    from modules.call_queue import queue_lock

    from clora.webui import api
    from clora.webui.prompt_report import read_prompt

    app = FastAPI()
    api.add_routes(app, read_prompt)
    analyze = next(route.endpoint for route in app.routes if getattr(route, "path", "") == "/clora/v1/analyze")
    answers: list[Any] = []
    with queue_lock:
        thread = threading.Thread(target=lambda: answers.append(analyze({"prompt": PROMPT})), daemon=True)
        thread.start()
        thread.join(20)
        assert answers
    assert answers[0]["composes"]


@pytest.mark.parametrize("broken", [False, True])
def test_lora_files_go_with_the_job(host: Host, monkeypatch: pytest.MonkeyPatch, broken: bool) -> None:
    from clora.lora import library

    files: list[weakref.ref[Any]] = []
    read = library.read_lora

    def reading(path: Path) -> Any:
        file = read(path)
        files.append(weakref.ref(file))
        return file

    monkeypatch.setattr(library, "read_lora", reading)
    p = host.job(clora=FEW)
    if broken:

        def fail(*_: Any) -> None:
            if len(p.samplers) and files:
                raise OSError("broken")

        handle = host.model.unet_module.register_forward_pre_hook(fail)
        with pytest.raises(OSError, match="broken"):
            host.run(p)
        handle.remove()
    else:
        host.run(p)
    assert len(files) == 2
    gc.collect()
    assert [file() for file in files] == [None, None]

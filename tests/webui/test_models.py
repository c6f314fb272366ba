"""Models and extensions that a host may have besides the plain case, in the stand-ins."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.standin import installed
from tests.webui.standin_host import FEW, PROMPT, Host, near

MARK = 1024.0


class Packed(nn.Parameter):
    """As the weights of Forge's nf4 and gguf layers are."""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    pytest.importorskip("fastapi")
    with installed():
        yield Host(tmp_path_factory.mktemp("loras"))


@pytest.fixture
def forge(both: Host) -> Host:
    both.use("forge")
    return both


@pytest.fixture
def a1111(both: Host) -> Host:
    both.use("a1111")
    return both


def to_k(host: Host) -> nn.Module:
    unet = host.model.unet_module
    return next(module for name, module in unet.named_modules() if name.endswith("attn2.to_k"))


@pytest.mark.parametrize("clora", [FEW, {"method": "merge"}, {**FEW, "update_until": 0}])
def test_packed_weights_are_refused_for_every_method(
    forge: Host, monkeypatch: pytest.MonkeyPatch, clora: dict[str, Any]
) -> None:
    from clora.hosts.host_api import RefusedError

    layer = to_k(forge)
    with torch.inference_mode():
        packed = Packed(layer.weight.clone(), requires_grad=False)  # type: ignore[operator]
    monkeypatch.setitem(layer._parameters, "weight", packed)
    with pytest.raises(RefusedError, match="packed weights"):
        forge.draw(clora=clora)


def test_float8_weights_are_refused_for_updates_only(forge: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    from clora.errors import CLoRAError
    from clora.hosts.forge import ForgeModel
    from clora.settings import Settings

    layer = to_k(forge)
    with torch.inference_mode():
        small = nn.Parameter(layer.weight.to(torch.float8_e4m3fn), requires_grad=False)  # type: ignore[operator]
    monkeypatch.setitem(layer._parameters, "weight", small)
    model = ForgeModel(forge.model)
    with pytest.raises(CLoRAError, match="float8"):
        model.check(Settings())
    model.check(Settings(update_until=0.0))
    model.check(Settings(method="merge"))


@pytest.fixture
def controlled(a1111: Host, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A host as sd-webui-controlnet leaves it: contexts carry a mark, and only rows marked conditional are controlled.

    Gives the number of controlled rows of each forward.
    """
    from modules import prompt_parser

    rows: list[int] = []
    schedules, apply = prompt_parser.schedules, type(a1111.model).apply_model

    def marked(sd_model: Any, prompts: Any, steps: int, first_steps: int | None = None) -> Any:
        return [
            [one._replace(cond=torch.cat([torch.full_like(one.cond[:1], prompts.mark), one.cond])) for one in each]
            for each in schedules(sd_model, prompts, steps, first_steps)
        ]

    def conds(p: Any, prompts: list[str], *rest: Any) -> Any:
        texts = (Marked(prompts, MARK), Marked(p.negative_prompts, -MARK))
        given = (marked(a1111.model, text, p.steps) for text in texts)
        return prompt_parser.multicond(next(given)), next(given)

    def controlled_model(model: Any, x: Tensor, t: Tensor, cond: dict[str, Any]) -> Tensor:
        context = torch.cat(cond["c_crossattn"], 1)
        mark, context = context[:, 0], context[:, 1:]
        positive = ((mark + MARK).abs().mean(1) > 1e-3).to(x)
        rows.append(int(positive.sum()))
        found: Tensor = apply(model, x, t, {**cond, "c_crossattn": [context]})
        return found + 0.3 * positive[:, None, None, None] * torch.linspace(-1, 1, x.shape[-1]).to(x)

    monkeypatch.setattr(a1111.processing.Processing, "_conds", conds)
    monkeypatch.setattr(type(a1111.model), "apply_model", controlled_model)
    return rows


class Marked(list):  # type: ignore[type-arg]
    """Texts and the mark of their contexts."""

    def __init__(self, texts: Any, mark: float) -> None:
        super().__init__(texts)
        self.mark = mark


@pytest.mark.parametrize("sampler", ["Euler", "DDIM"])
def test_controlnet_tells_the_halves_apart(a1111: Host, controlled: list[int], sampler: str) -> None:
    hosts = a1111.draw(sampler_name=sampler)
    assert set(controlled) == {1}
    controlled.clear()
    assert near(a1111.draw(clora={"method": "merge"}, sampler_name=sampler).latent, hosts.latent)
    assert set(controlled) == {1}
    controlled.clear()
    assert not near(a1111.draw(clora=FEW, sampler_name=sampler).latent, hosts.latent, 1e-2)
    assert set(controlled) <= {1, 2, 3}  # never all six rows of a forward


HINTS = {0: 1.0, 1: -0.4}
"""ControlNet's hints for conditional and unconditional rows differ where the user weighs prompt and control."""


@pytest.fixture
def hinted(forge: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[float]]]:
    """A Forge with a ControlNet, whose hints the UNet takes out of their list. Gives the hints of each forward."""
    seen: list[list[float]] = []

    def hints(x: Tensor, marks: list[int]) -> dict[str, list[Any]]:
        batch = len(x) // len(marks)
        rows = torch.tensor([HINTS[mark] + 0.1 * image for mark in marks for image in range(batch)])
        pattern = torch.linspace(-1, 1, 16).reshape(4, 4).to(x)
        return {"middle": [rows.to(x)[:, None, None, None] * pattern], "output": [None]}

    def note(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if kwargs["control"]:
            seen.append([float(hint) for hint in kwargs["control"]["middle"][0][:, 0, 3, 3]])

    patcher = forge.model.forge_objects_after_applying_lora.unet
    monkeypatch.setattr(patcher, "controlnet_linked_list", hints)
    handle = forge.model.unet_module.register_forward_pre_hook(note, with_kwargs=True)
    yield seen
    handle.remove()


@pytest.mark.parametrize("images", [1, 2])
def test_controlnets_hints_stay_with_their_halves_in_forge(forge: Host, hinted: list[list[float]], images: int) -> None:
    prompts = [PROMPT] * images
    hosts, ours = forge.draw(prompts), forge.draw(prompts, {"method": "merge"})
    for found, own in zip(ours.processed.latents, hosts.processed.latents, strict=True):
        assert near(found, own)
    hinted.clear()
    forge.draw(prompts, {**FEW, "fusion": "exact"})
    # Three variants of each picture, conditional rows and then unconditional ones, as `rows_of` sorts them.
    halves = [HINTS[half] + 0.1 * image for half in (0, 1) for image in range(images)]
    assert len(hinted) == 4
    for rows in hinted:
        assert rows == pytest.approx(halves * 3)


def test_a_picture_with_forges_controlnet_is_drawn_without_look_ahead(forge: Host, hinted: list[list[float]]) -> None:
    ahead, plain = (forge.draw(clora={**FEW, **more}) for more in ({"look_ahead": 0.4}, {}))
    assert torch.equal(ahead.latent, plain.latent)
    assert "Look ahead: off for this picture" in ahead.processed.comments
    assert "Look ahead" not in plain.processed.comments


@pytest.mark.parametrize("kind", ["forge", "reforge", "a1111"])
def test_a_prompt_is_read_with_a_model_without_clips_text_engine(
    both: Host, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Forge Neo's engines of Anima, Z-Image and Qwen have none, nor has SD 3 in the older hosts."""
    from clora.hosts.host_api import RefusedError
    from clora.webui.prompt_report import read_prompt

    both.use(kind)
    if kind == "forge":
        monkeypatch.setattr(both.model, "text_processing_engine", None)
    else:
        monkeypatch.setitem(both.model._modules, "cond_stage_model", nn.Module())
    found = read_prompt(PROMPT, "", "")
    assert [row.lora for row in found.rows] == ["cat", "dog"]
    assert "choose an SD 1.5, SD 2.x or SDXL checkpoint" in found.problem
    p = both.job(clora=FEW)
    p._conds = lambda *_: (None, None)  # a host without the engine makes them in its own way
    with pytest.raises(RefusedError, match=r"choose an SD 1\.5"):
        both.run(p)


@pytest.fixture(params=["forge", "reforge"])
def patched(request: pytest.FixtureRequest, both: Host) -> Host:
    """The hosts whose UNet is reached through Forge's patchers."""
    both.use(request.param)
    return both


def attention_place(host: Host) -> tuple[Any, str]:
    place: tuple[Any, str] = next(m.place for m in host.model.unet_module.modules() if hasattr(m, "place"))
    return place


@pytest.mark.parametrize("kind", ["flash", "sage"])
def test_an_attention_without_gradients_is_replaced_for_the_updates(
    patched: Host, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Flash raises with a gradient, Sage gives a wrong one."""
    from backend.attention import attention_pytorch

    expected = patched.first(composed=True)
    calls = [0]

    def attention(*args: Any) -> Tensor:
        calls[0] += 1
        if torch.is_grad_enabled() and kind == "flash":
            raise NotImplementedError("no autograd formula")
        return attention_pytorch(*args).detach()

    module, name = attention_place(patched)
    monkeypatch.setattr(module, name, attention)
    job = patched.draw(clora=FEW)
    assert calls[0] > 0
    assert getattr(module, name) is attention
    assert near(job.latent, expected)


def test_the_hosts_attention_is_back_after_an_update_that_fails(patched: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError("broken")

    module, name = attention_place(patched)

    def attention(*args: Any) -> Tensor:
        if torch.is_grad_enabled():
            raise AssertionError("not replaced")
        return before(*args)

    before = getattr(module, name)
    monkeypatch.setattr(module, name, attention)
    monkeypatch.setattr(torch.autograd, "grad", fail)
    with pytest.raises(OSError, match="broken"):
        patched.draw(clora=FEW)
    assert getattr(module, name) is attention


def test_a_compiled_unet_is_composed_uncompiled(patched: Host) -> None:
    """Neo's Torch Compile and reForge's flag put a compiled module in the UNet's place, which ignores later hooks."""
    expected, plain = patched.first(composed=True), patched.first()
    kmodel = patched.model.forge_objects.unet.model
    unet = kmodel.diffusion_model
    try:
        kmodel.diffusion_model = compiled = torch.compile(unet, backend="eager")
        with pytest.raises(TypeError):
            len(compiled)
        off = patched.draw(clora={"enabled": False}).latent
        job = patched.draw(clora=FEW)
        assert kmodel.diffusion_model is compiled
    finally:
        kmodel.diffusion_model = unet
    assert near(job.latent, expected)
    assert near(off, plain)


@pytest.mark.parametrize(("device", "asks"), [("cpu", False), ("cuda", True)])
def test_room_is_asked_for_where_the_host_computes(
    patched: Host, monkeypatch: pytest.MonkeyPatch, device: str, asks: bool
) -> None:
    """Also if its weights lie on the CPU, as with partial loading."""
    patcher = patched.model.forge_objects_after_applying_lora.unet
    monkeypatch.setattr(patcher, "load_device", torch.device(device))
    seen: list[int] = []
    p = patched.job(clora=FEW)
    p.watch = lambda number, x: seen.append(patched.model.forge_objects.unet.extra_preserved_memory_during_sampling)
    patched.run(p)
    assert (seen[0] > 0) == asks


def test_forges_adapter_imports_nothing_that_only_a1111_has(forge: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forge Neo has no modules.lowvram."""
    from clora.hosts.model_factory import loaded_model

    for name in [name for name in sys.modules if name.startswith(("clora.hosts.a1111", "clora.hosts.reforge"))]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("lowvram", "sd_hijack", "sd_unet"):
        monkeypatch.setitem(sys.modules, f"modules.{name}", None)
    assert type(loaded_model()).__name__ == "ForgeModel"

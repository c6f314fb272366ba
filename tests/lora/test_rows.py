"""Whole models with a LoRA set per row: equal to the merged model, bits, gradients, modes, hooks, errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path

import pytest
import torch
from making import applied, deltas_on, input_for, layers, random, tensors_of
from models import OpenClip, encode, ids, kohya, merged, run_unet, text_encoder, unet
from torch import Tensor, nn
from torch.func import functional_call

from clora.errors import CLoRAError
from clora.lora.file import LoraFile
from clora.lora.formats import Reading, read_deltas
from clora.lora.formats import layer as layer_module
from clora.lora.keys import split_key
from clora.lora.resolve import AppliedLora
from clora.lora.rows import RowLoras
from clora.lora.target import Target
from clora.models.lora import apply_lora

pytest.importorskip("diffusers", reason="diffusers is not installed")
ROWS = [0, 1, 2, 3, 0, 1]  # some sets twice, so that the rows of one set are not neighbours


def file_of(name: str, tensors: dict[str, Tensor]) -> LoraFile:
    groups: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        module, suffix = split_key(key)
        groups.setdefault(module, {})[suffix] = tensor
    return LoraFile(name, Path(name + ".safetensors"), {}, groups)


def two_loras(component: str, prefix: str, model: nn.Module) -> tuple[AppliedLora, AppliedLora]:
    cat = kohya(prefix, model, seed=1)
    dog = kohya(prefix, model, lambda name: "norm" not in name and "embed" not in name, seed=900)
    made = [
        apply_lora(file_of(name, tensors), {component: model}, te=0.5, unet=0.5)
        for name, tensors in (("cat", cat), ("dog", dog))
    ]
    return made[0], made[1]


@cache
def unet_with_loras() -> tuple[nn.Module, RowLoras]:
    model = unet("small")
    cat, dog = two_loras("unet", "lora_unet_", model)
    return model, RowLoras("unet", model, [[], [cat], [dog], [cat, dog]])


def test_a_mixed_batch_of_a_unet() -> None:
    """Row r equals the output of the UNet with set r merged, including convolutions, down- and upsamplers."""
    model, loras = unet_with_loras()
    with loras.installed(), loras.rows(ROWS):
        mixed = run_unet(model, len(ROWS))
    plain = run_unet(model, len(ROWS))
    for index in range(4):
        want = merged(model, loras.dense(index), lambda of: run_unet(of, len(ROWS)))
        mine = [row for row, of in enumerate(ROWS) if of == index]
        torch.testing.assert_close(mixed[mine], want[mine], rtol=1e-9, atol=1e-10)
        if index:
            assert (mixed[mine] - plain[mine]).abs().min(dim=0).values.mean() > 1e-3
    assert torch.equal(mixed[[0, 4]], plain[[0, 4]])


def test_gradient_to_the_input_of_a_whole_model() -> None:
    model, loras = unet_with_loras()
    x = random(3, 4, 8, 8, scale=1.0).requires_grad_()
    text = random(3, 7, 16, scale=1.0)

    def gradient(states: dict[str, Tensor]) -> Tensor:
        out = merged(model, states, lambda of: of(x, torch.tensor(9.0), text).sample)
        return torch.autograd.grad(out.square().sum(), x)[0]

    with loras.installed(), loras.rows([1, 3, 0]):
        mixed = gradient({})
    for row, index in enumerate([1, 3, 0]):
        torch.testing.assert_close(mixed[row], gradient(loras.dense(index))[row], rtol=1e-9, atol=1e-10)


def test_a_mixed_batch_of_a_text_encoder() -> None:
    model = text_encoder()
    cat, dog = two_loras("text_encoder", "lora_te_", model)
    loras = RowLoras("text_encoder", model, [[], [cat], [dog, cat]])
    plain = encode(model, ids(4))
    with loras.installed(), loras.rows([1, 0, 2, 1]):
        mixed = encode(model, ids(4))
    for row, index in enumerate([1, 0, 2, 1]):
        want = merged(model, loras.dense(index), lambda of: encode(of, ids(4)))
        torch.testing.assert_close(mixed[row], want[row], rtol=1e-10, atol=1e-10)
    assert torch.equal(mixed[1], plain[1])
    assert not torch.allclose(mixed[0], plain[0])


@pytest.mark.parametrize("batch_first", [False, True])
def test_open_clip_tower_equals_its_hugging_face_twin(batch_first: bool) -> None:
    """Fused attention, tokens first: same rows, gradients and merged weights as with the weights unfused."""
    twin = text_encoder()
    tower = OpenClip(twin, batch_first)
    rows = [2, 0, 1, 2]
    torch.testing.assert_close(tower(ids(4)), encode(twin, ids(4)))

    def run(model: nn.Module) -> tuple[Tensor, RowLoras]:
        tensors = kohya("lora_te2_", twin, lambda name: "embed" not in name, seed=4)
        tensors["lora_te2_text_model_encoder_layers_0_self_attn_q_proj.diff_b"] = random(16)
        files = (file_of("cat", tensors), file_of("dog", kohya("lora_te2_", twin, seed=40)))
        cat, dog = (apply_lora(file, {"text_encoder_2": model}, te=0.7, unet=1.0) for file in files)
        assert cat.unhandled == dog.unhandled == ()
        loras = RowLoras("text_encoder_2", model, [[], [cat], [cat, dog]])
        with loras.installed(), loras.rows(rows):
            return (encode(model, ids(4)) if model is twin else model(ids(4))), loras

    ours, loras = run(tower)
    theirs, _ = run(twin)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    for row, index in enumerate(rows):
        torch.testing.assert_close(
            ours[row], functional_call(tower, loras.dense(index), (ids(4),))[row], rtol=1e-10, atol=1e-10
        )
    assert torch.equal(ours[1], tower(ids(4))[1])


@pytest.mark.parametrize("replaced", [False, True])
def test_fused_attention_with_all_options(replaced: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mask per head, padding mask, returned maps, a LoRA on the fused projection, gradient to the input.

    A1111's Lora extension replaces the class's forward by one that takes any arguments.
    """
    forward = nn.MultiheadAttention.forward
    if replaced:
        monkeypatch.setattr(
            nn.MultiheadAttention, "forward", lambda self, *args, **kwargs: forward(self, *args, **kwargs)
        )
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64).requires_grad_(False)
    target = Target(attention, "in_proj", "in")
    deltas, _ = read_deltas(
        {"lora_down": random(2, 8), "lora_up": random(24, 2)}, target.layer(), Reading(1.0, lambda rank: 1.0)
    )
    lora = AppliedLora("made", 1, 1, None, {"text_encoder": {target: deltas}}, 2, ())
    loras = RowLoras("text_encoder", attention, [[], [lora]])
    x = random(3, 5, 8, scale=1.0).requires_grad_()
    mask = torch.rand(6, 5, 5, dtype=torch.float64)
    padding = torch.zeros(3, 5, dtype=torch.float64)
    padding[0, 4] = float("-inf")

    def run() -> tuple[Tensor, Tensor]:
        return attention(x, x, value=x, attn_mask=mask, key_padding_mask=padding)

    with loras.installed(), loras.rows([1, 0, 1]):
        out, maps = run()
    dense = {name.removeprefix("."): value for name, value in loras.dense(1).items()}
    wanted = functional_call(attention, dense, (x, x, x), {"attn_mask": mask, "key_padding_mask": padding})
    for got, want, base in zip((out, maps), wanted, run(), strict=True):
        torch.testing.assert_close(got[[0, 2]], want[[0, 2]], rtol=1e-10, atol=1e-10)
        assert torch.equal(got[1], base[1])
    (a,), (b,) = (torch.autograd.grad(of[[0, 2]].sum(), x) for of in (out, wanted[0]))
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def conv_rows(dtype: torch.dtype = torch.float64) -> tuple[nn.Module, RowLoras]:
    layer = layers()["conv3x3"]
    one = applied("unet", {layer: deltas_on(layer, tensors_of("dora_out", layer))})
    two = applied("unet", {layer: deltas_on(layer, tensors_of("lora", layer))})
    model = nn.Sequential(layer)
    return model.to(dtype), RowLoras("unet", model, [[], [one], [one, two]])


@pytest.mark.parametrize("mode", [nullcontext, torch.no_grad, torch.inference_mode])
def test_made_in_one_mode_used_under_gradients(mode: type[AbstractContextManager[None]]) -> None:
    """Tensors first made in inference mode (Forge) must still be usable for backward."""
    model, loras = conv_rows()
    with mode(), loras.installed(), loras.rows([1, 0, 2]):
        first = model(input_for(model[0], 3))
    x = input_for(model[0], 3).requires_grad_()
    with loras.installed(), loras.rows([1, 0, 2]):
        again = model(x)
    assert torch.equal(first, again)
    again.sum().backward()
    assert x.grad is not None


def test_a_file_read_in_inference_mode() -> None:
    """Tensors of a LoRA and of the host that were made in inference mode do not reach autograd."""
    with torch.inference_mode():
        tensors = {key: value.clone() for key, value in tensors_of("lora", layers()["linear"]).items()}
    layer = layers()["linear"]
    loras = RowLoras("unet", layer, [[applied("unet", {layer: deltas_on(layer, tensors)})]])
    x = input_for(layer, 1).requires_grad_()
    with loras.installed(), loras.rows([0]):
        layer(x).sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision(dtype: torch.dtype) -> None:
    exact, reference = conv_rows()
    model, loras = conv_rows(dtype)
    x = input_for(exact[0], 3)
    with reference.installed(), reference.rows([1, 0, 2]):
        want = exact(x)
    with loras.installed(), loras.rows([1, 0, 2]):
        out = model(x.to(dtype))
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), want, rtol=0, atol=want.abs().max().item() * 8 * torch.finfo(dtype).eps)
    assert torch.equal(out[1], model(x.to(dtype))[1])


def test_autocast_and_channels_last() -> None:
    model, loras = conv_rows(torch.float32)
    x = input_for(model[0], 3).float().to(memory_format=torch.channels_last)
    with loras.installed(), loras.rows([1, 0, 2]), torch.autocast("cpu", dtype=torch.bfloat16):
        cast = model(x)
        assert cast.dtype == torch.bfloat16
    with loras.installed(), loras.rows([1, 0, 2]):
        out = model.to(memory_format=torch.channels_last)(x)
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(cast.float(), out, rtol=0.05, atol=0.05)
    plain = model(x)
    assert torch.equal(out[1], plain[1])


def test_storage_dtype_differs_from_compute_dtype() -> None:
    """Forge casts weights by hand: the stored weight may be fp8 or fp16 while activations are fp32."""

    class ManualCast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.in_features, self.out_features = 12, 16
            self.weight = nn.Parameter(random(16, 12).to(torch.float8_e4m3fn), requires_grad=False)
            self.bias = None

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(x, self.weight.to(x.dtype))

    layer = ManualCast()
    form = {**tensors_of("glora", nn.Linear(12, 16))}
    model = nn.Sequential(layer)
    loras = RowLoras("unet", model, [[], [applied("unet", {layer: deltas_on(layer, form)})]])
    x = input_for(nn.Linear(1, 1), 2).float()
    with loras.installed(), loras.rows([1, 0]):
        out = model(x)
    torch.testing.assert_close(out[0], nn.functional.linear(x, loras.dense(1)["0.weight"])[0])
    assert torch.equal(out[1], model(x)[1])


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_hooks_exist_only_while_installed() -> None:
    model, loras = conv_rows()
    assert hooks(model) == 0
    with loras.installed():
        assert hooks(model) == loras.layer_count == 1
        with pytest.raises(RuntimeError, match="already"), loras.installed():
            pass
        assert hooks(model) == 1
    assert hooks(model) == 0
    with pytest.raises(ZeroDivisionError), loras.installed(), loras.rows([1]):
        raise ZeroDivisionError
    assert hooks(model) == 0
    with pytest.raises(CLoRAError, match="which row has which LoRA"), loras.installed():
        model(input_for(model[0], 1))
    assert hooks(model) == 0


def test_rows_are_never_guessed() -> None:
    model, loras = conv_rows()
    with loras.installed(), loras.rows([1, 0]):
        with pytest.raises(CLoRAError, match="got 4 rows instead of 2"):
            model(input_for(model[0], 4))
        with loras.rows([0, 0, 0, 1]):
            nested = model(input_for(model[0], 4))
        outer = model(input_for(model[0], 2))
    assert nested.shape[0] == 4
    assert outer.shape[0] == 2
    with pytest.raises(IndexError), loras.rows([3]):
        pass


def test_other_hooks_see_the_changed_output() -> None:
    """The attention probe reads q and k after the LoRA, even if they were installed first."""
    model, loras = conv_rows()
    seen: list[Tensor] = []
    model[0].register_forward_hook(lambda _, __, output: seen.append(output))
    with loras.installed(), loras.rows([1]):
        out = model(input_for(model[0], 1))
    assert torch.equal(seen[0], out)


def test_keyword_input() -> None:
    model, loras = conv_rows()
    x = input_for(model[0], 2)
    with loras.installed(), loras.rows([1, 2]):
        assert torch.equal(model[0](input=x), model[0](x))


def test_a_lora_of_another_model_object_is_refused() -> None:
    layer = layers()["linear"]
    lora = applied("unet", {layer: deltas_on(layer, tensors_of("lora", layer))})
    with pytest.raises(CLoRAError, match="model was changed"):
        RowLoras("unet", nn.Sequential(nn.Linear(12, 16)), [[lora]])
    assert RowLoras("text_encoder", nn.Sequential(nn.Linear(12, 16)), [[lora]]).layer_count == 0


def test_weights_are_cast_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = layer_module.cast_outside_autograd
    monkeypatch.setattr(layer_module, "cast_outside_autograd", lambda *a: calls.append(1) or real(*a))
    model, loras = conv_rows()
    with loras.installed(), loras.rows([1, 0, 2]):
        model(input_for(model[0], 3))
        count = len(calls)
        model(input_for(model[0], 3))
    assert count == len(calls) > 0


@pytest.fixture(autouse=True)
def _no_hooks_left() -> Iterator[None]:
    yield
    assert hooks(unet_with_loras()[0]) == 0

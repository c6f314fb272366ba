"""LoRA and DoRA files, compared with other code that reads or writes them. No picture is drawn.

- A kohya file and a PEFT file, loaded by a diffusers pipeline: outputs of UNet and text encoder are the same as ours.
- LoRA (with alpha, rsLoRA) and DoRA adapters saved by diffusers: the UNet's outputs are the same.
- The recorded LoRAs of tests/data/golden: both layouts give the same weights, and the prompt embeddings are those of
  the authors' run.

The LyCORIS formats are compared with the lycoris_lora package in test_lycoris.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from models import attention, encode, ids, kohya, peft, run_unet, text_encoder, unet
from safetensors.torch import save_file
from torch import Tensor, nn

from clora.lora.file import read_lora
from clora.lora.resolve import AppliedLora
from clora.lora.rows import RowLoras
from clora.models.lora import apply_lora

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
pytest.importorskip("peft", reason="peft is not installed")

RECORDED = Path(__file__).parents[1] / "data" / "golden"


def ours(lora: AppliedLora, component: str, model: nn.Module) -> Tensor:
    """Outputs of two rows: without and with the LoRA."""
    loras = RowLoras(component, model, [[], [lora]])
    with loras.installed(), loras.rows([0, 1]):
        return run_unet(model, 2) if component == "unet" else encode(model, ids(2))


@pytest.mark.parametrize("layout", ["kohya", "peft"])
def test_a_file_loaded_by_a_diffusers_pipeline(tmp_path: Path, layout: str) -> None:
    models = {"unet": unet("small"), "text_encoder": text_encoder()}
    tensors = kohya("lora_unet_", models["unet"], seed=5) | kohya("lora_te_", models["text_encoder"], seed=9)
    if layout == "peft":
        tensors = peft("unet.", tensors, models["unet"], "lora_unet_") | peft(
            "text_encoder.", tensors, models["text_encoder"], "lora_te_"
        )
    save_file({key: value.contiguous() for key, value in tensors.items()}, tmp_path / "cat.safetensors")
    lora = apply_lora(read_lora(tmp_path / "cat.safetensors"), models, te=1.0, unet=1.0)
    assert lora.unhandled == ()
    got = {component: ours(lora, component, model) for component, model in models.items()}
    pipeline = diffusers.StableDiffusionPipeline(
        vae=None,
        tokenizer=None,
        scheduler=diffusers.DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **models,
    )
    plain = run_unet(models["unet"], 2)
    pipeline.load_lora_weights(tmp_path, weight_name="cat.safetensors")
    want = run_unet(models["unet"], 2)
    # PEFT keeps adapters of float64 models in float32
    torch.testing.assert_close(got["unet"][1], want[1], rtol=1e-4, atol=1e-5)
    assert torch.equal(got["unet"][0], plain[0])
    assert (want[1] - plain[1]).abs().max() > 1e-2
    text = encode(models["text_encoder"], ids(2))
    torch.testing.assert_close(got["text_encoder"][1], text[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"use_dora": True, "lora_alpha": 6, "target_modules": ["to_q", "to_v", "conv1", "proj_in"]},
        {"lora_alpha": 6, "target_modules": ["to_q", "to_out.0", "conv2"]},
        {
            "lora_alpha": 6,
            "use_rslora": True,
            "target_modules": ["to_k"],
            "alpha_pattern": {"mid_block.attentions.0.transformer_blocks.0.attn1.to_k": 1},
        },
    ],
    ids=["dora", "alpha", "rslora"],
)
def test_a_file_saved_by_diffusers(tmp_path: Path, options: dict[str, object]) -> None:
    """Adapters as PEFT trains them, alpha in the metadata only."""
    from peft import LoraConfig

    model = unet("small")
    model.add_adapter(LoraConfig(r=3, init_lora_weights=False, **options))
    torch.manual_seed(6)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data + 0.1 * torch.randn_like(parameter)
    want = run_unet(model, 2)
    model.save_lora_adapter(tmp_path, weight_name="cat.safetensors")
    plain = unet("small")
    lora = apply_lora(read_lora(tmp_path / "cat.safetensors"), {"unet": plain}, te=1.0, unet=1.0)
    assert lora.unhandled == ()
    got = ours(lora, "unet", plain)
    torch.testing.assert_close(got[1], want[1], rtol=1e-4, atol=1e-5)
    assert (got[1] - run_unet(plain, 2)[1]).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["cat", "dog", "bird"])
def test_golden_files_of_both_layouts(name: str) -> None:
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel

    models = {
        "unet": UNet2DConditionModel.from_pretrained(RECORDED / "model" / "unet"),
        "text_encoder": CLIPTextModel.from_pretrained(RECORDED / "model" / "text_encoder"),
    }
    one, two = (
        apply_lora(read_lora(RECORDED / "loras" / f"{name}.{layout}.safetensors"), models, te=1.0, unet=0.6)
        for layout in ("kohya", "peft")
    )
    assert one.unhandled == two.unhandled == ()
    for component, model in models.items():
        a, b = (RowLoras(component, model, [[lora]]).dense(0) for lora in (one, two))
        assert a.keys() == b.keys()
        assert any(attention(key.removesuffix(".weight")) for key in a)
        states = dict(model.named_parameters())
        for key in a:
            torch.testing.assert_close(a[key], b[key], rtol=1e-6, atol=1e-7)
            assert torch.equal(a[key], states[key]) == key.endswith("bias")


def test_golden_prompt_embeddings() -> None:
    """The official run's embeddings: prompts without LoRA, with dog, with cat, from one batch of text encoder rows."""
    from safetensors.torch import load_file
    from transformers import CLIPTextModel

    case = load_file(RECORDED / "cases" / "run192_2lora_f64.safetensors")
    model = CLIPTextModel.from_pretrained(RECORDED / "model" / "text_encoder").double()
    embeddings = case["prompt_embeds"]
    files = [read_lora(RECORDED / "loras" / f"{name}.kohya.safetensors") for name in ("dog", "cat")]
    loras = [apply_lora(file, {"text_encoder": model}, te=1.0, unet=1.0) for file in files]
    rows = RowLoras("text_encoder", model, [[], *([lora] for lora in loras)])
    count = embeddings.shape[0]
    with torch.no_grad(), rows.installed(), rows.rows([index for index in range(count) for _ in range(2)]):
        got = encode(model, case["input_ids"].flatten(0, 1))
    torch.testing.assert_close(got.reshape(embeddings.shape), embeddings, rtol=1e-9, atol=1e-9)

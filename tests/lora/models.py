"""Tiny hosts for these tests: diffusers UNets, CLIP text models, CompVis trees, OpenCLIP towers; their LoRA files."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from making import alpha, random
from torch import Tensor, nn


def unet(family: str = "sd1", width: int = 16) -> nn.Module:
    """A UNet2DConditionModel with the block layout of SD 1.x, SD 2.x or SDXL; `width` of its text embeddings.

    Family "small" has every kind of layer of SD 1.x, but two levels and one block in each.
    """
    from diffusers import UNet2DConditionModel

    sdxl = family == "sdxl"
    options = {
        "block_out_channels": (8, 8, 16) if sdxl else (8, 8, 16, 16),
        "down_block_types": ("DownBlock2D", *["CrossAttnDownBlock2D"] * 2)
        if sdxl
        else (*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
        "up_block_types": (*["CrossAttnUpBlock2D"] * 2, "UpBlock2D")
        if sdxl
        else ("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
        "transformer_layers_per_block": [1, 2, 3] if sdxl else 1,
        "use_linear_projection": family != "sd1",
    }
    if sdxl:
        options |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 4,
            "projection_class_embeddings_input_dim": 8 + 6 * 4,
        }
    if family == "small":
        options = {
            "block_out_channels": (8, 16),
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        }
    torch.manual_seed(1)
    made = UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1 if family == "small" else 2,
        norm_num_groups=4,
        cross_attention_dim=width,
        attention_head_dim=2,
        **options,
    )
    return made.double().eval().requires_grad_(False)


def run_unet(model: nn.Module, rows: int, width: int = 16) -> Tensor:
    """One forward on `rows` different rows of 8 x 8 latents."""
    extra = {}
    if getattr(model.config, "addition_embed_type", None):
        extra = {"added_cond_kwargs": {"text_embeds": random(rows, 8), "time_ids": random(rows, 6).abs() * 9}}
    text = random(rows, 7, width, scale=1.0)
    return model(random(rows, 4, 8, 8, scale=1.0), torch.tensor(500.0), text, **extra).sample


def text_encoder(hidden: int = 16, projection: bool = False) -> nn.Module:
    """A CLIPTextModel with two layers."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(2)
    config = CLIPTextConfig(
        vocab_size=99,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=12,
        hidden_act="gelu",
        projection_dim=8,
        eos_token_id=98,
        bos_token_id=97,
    )
    made = (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)
    return made.double().eval().requires_grad_(False)


def ids(rows: int) -> Tensor:
    return torch.randint(0, 97, (rows, 12), generator=torch.Generator().manual_seed(3))


def encode(model: nn.Module, tokens: Tensor) -> Tensor:
    """The last hidden state of a CLIPTextModel in float64. (transformers makes its mask in the default dtype.)"""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return model(tokens).last_hidden_state
    finally:
        torch.set_default_dtype(before)


def merged(model: nn.Module, states: dict[str, Tensor], run: Callable[[nn.Module], Tensor]) -> Tensor:
    """`run(model)` with other values for these parameters, restored afterwards; keeps the graph to the input."""
    holders = [
        (model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], value) for name, value in states.items()
    ]
    before = [module._parameters.pop(key) for module, key, _ in holders]
    try:
        for module, key, value in holders:
            setattr(module, key, value)
        return run(model)
    finally:
        for (module, key, _), value in zip(holders, before, strict=True):
            delattr(module, key)
            module._parameters[key] = value


def tree(leaves: dict[str, nn.Module]) -> nn.Module:
    """A tree of modules under other names; children named 0, 1, ... become a ModuleList."""
    groups: dict[str, dict[str, nn.Module]] = {}
    for name, leaf in leaves.items():
        head, _, rest = name.partition(".")
        groups.setdefault(head, {})[rest] = leaf
    children = {head: below[""] if "" in below else tree(below) for head, below in groups.items()}
    if all(head.isdigit() for head in children):
        return nn.ModuleList(
            children[str(i)] if str(i) in children else nn.Module() for i in range(max(map(int, children)) + 1)
        )
    made = nn.Module()
    for head, child in children.items():
        made.add_module(head, child)
    return made


class OpenClip(nn.Module):
    """An OpenCLIP text tower as A1111 has it, from the weights of a Hugging Face CLIPTextModel."""

    def __init__(self, source: nn.Module, batch_first: bool) -> None:
        super().__init__()
        text = source.text_model
        self.embeddings, self.ln_final, self.batch_first = text.embeddings, text.final_layer_norm, batch_first
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(_block(layer, batch_first) for layer in text.encoder.layers)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embeddings(ids)
        mask = torch.full((x.shape[1], x.shape[1]), float("-inf"), dtype=x.dtype).triu(1)
        x = x if self.batch_first else x.transpose(0, 1)
        for block in self.transformer.resblocks:
            y = block.ln_1(x)
            x = x + block.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
            x = x + block.mlp(block.ln_2(x))
        return self.ln_final(x if self.batch_first else x.transpose(0, 1))


def _block(layer: nn.Module, batch_first: bool) -> nn.Module:
    block, of = nn.Module(), layer.self_attn
    block.ln_1, block.ln_2 = layer.layer_norm1, layer.layer_norm2
    block.attn = nn.MultiheadAttention(of.embed_dim, of.num_heads, batch_first=batch_first, dtype=torch.float64)
    with torch.no_grad():
        block.attn.in_proj_weight.copy_(torch.cat([of.q_proj.weight, of.k_proj.weight, of.v_proj.weight]))
        block.attn.in_proj_bias.copy_(torch.cat([of.q_proj.bias, of.k_proj.bias, of.v_proj.bias]))
        block.attn.out_proj.weight.copy_(of.out_proj.weight)
        block.attn.out_proj.bias.copy_(of.out_proj.bias)
    block.attn.requires_grad_(False).eval()
    block.mlp = nn.Sequential()
    for name, module in (("c_fc", layer.mlp.fc1), ("gelu", nn.GELU()), ("c_proj", layer.mlp.fc2)):
        block.mlp.add_module(name, module)
    return block


def layers_of(model: nn.Module, kinds: Iterable[type[nn.Module]] = (nn.Linear, nn.Conv2d)) -> dict[str, nn.Module]:
    return {name: module for name, module in model.named_modules() if isinstance(module, tuple(kinds))}


def attention(name: str) -> bool:
    return name.split(".")[-1] in ("to_q", "to_k", "to_v", "q_proj", "k_proj", "v_proj", "out_proj") or (
        name.endswith("to_out.0")
    )


def kohya(
    prefix: str, model: nn.Module, chosen: Callable[[str], bool] = attention, seed: int = 0, value: float = 2.0
) -> dict[str, Tensor]:
    """A kohya LoRA of rank 3 on the chosen layers; keys `prefix` + name with underscores."""
    made = {}
    for number, (name, layer) in enumerate(layers_of(model).items()):
        if chosen(name):
            key, shape = prefix + name.replace(".", "_"), layer.weight.shape
            made[f"{key}.lora_down.weight"] = random(3, *shape[1:], seed=seed + number)
            made[f"{key}.lora_up.weight"] = random(shape[0], 3, *[1] * (len(shape) - 2), seed=seed + number)
            made[f"{key}.alpha"] = alpha(value)
    return made


def peft(prefix: str, tensors: dict[str, Tensor], model: nn.Module, kohya_prefix: str) -> dict[str, Tensor]:
    """The same LoRA in PEFT's layout, alpha / rank folded into B."""
    made = {}
    for name in layers_of(model):
        key = kohya_prefix + name.replace(".", "_")
        if f"{key}.alpha" in tensors:
            made[f"{prefix}{name}.lora_A.weight"] = tensors[f"{key}.lora_down.weight"]
            made[f"{prefix}{name}.lora_B.weight"] = tensors[f"{key}.lora_up.weight"] * tensors[f"{key}.alpha"] / 3
    return made

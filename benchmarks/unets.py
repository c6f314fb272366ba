"""The UNets of SD 1.5 and SDXL with random weights, random LoRAs and a plan, for the speed benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from clora.conditioning.plan import ImagePlan, plan_positions, rows_of
from clora.lora.file import LoraFile
from clora.lora.resolve import AppliedLora
from clora.lora.rows import RowLoras
from clora.models.denoiser import Conditioned, Row
from clora.models.lora import apply_lora

RANK = 8
LENGTH = 77


def new_unet(sdxl: bool, device: str, dtype: torch.dtype | None = None, *, small: bool = False) -> UNet2DConditionModel:
    """A UNet with the real shapes and random weights, or a `small` one of the same structure.

    The default dtype is float16 on CUDA, else float32.
    """
    dtype = dtype or (torch.float16 if device == "cuda" else torch.float32)
    config: dict[str, Any] = _sdxl() if sdxl else {"cross_attention_dim": 768}
    if small:
        widths = (32, 64, 64) if sdxl else (32, 64, 64, 64)
        config |= {"block_out_channels": widths, "cross_attention_dim": 64, "layers_per_block": 1}
        config |= {"attention_head_dim": 2, "transformer_layers_per_block": (1, 1, 2) if sdxl else 1}
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # no wider copy of the weights on the way
    try:
        with torch.device(device):
            unet = UNet2DConditionModel(**config)
    finally:
        torch.set_default_dtype(before)
    return unet.to(dtype).eval()


def _sdxl() -> dict[str, Any]:
    return {
        "block_out_channels": (320, 640, 1280), "cross_attention_dim": 2048, "attention_head_dim": (5, 10, 20),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10), "use_linear_projection": True, "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
    }  # fmt: skip


def random_lora(unet: nn.Module, number: int) -> LoraFile:
    """A LoRA of rank 8 on every linear layer of the transformer blocks, in kohya's layout."""
    generator = torch.Generator().manual_seed(number)
    tensors: dict[str, dict[str, Tensor]] = {}
    for name, module in unet.named_modules():
        if isinstance(module, nn.Linear) and "transformer_blocks" in name:
            down = torch.randn(RANK, module.in_features, generator=generator) / module.in_features**0.5
            up = 0.05 * torch.randn(module.out_features, RANK, generator=generator)
            tensors[f"lora_unet_{name.replace('.', '_')}"] = {
                "lora_down": down, "lora_up": up, "alpha": torch.tensor(float(RANK)),
            }  # fmt: skip
    return LoraFile(f"random{number}", Path(f"random{number}.safetensors"), {}, tensors)


class Bench:
    """One image with N concepts: LoRAs, plan and contexts. It is a `clora.models.denoiser.Denoiser` over the UNet."""

    def __init__(self, unet: UNet2DConditionModel, concepts: int, size: int, sdxl: bool) -> None:
        self.unet = unet
        parameter = next(unet.parameters())
        generator = torch.Generator().manual_seed(0)
        self.latent = torch.randn(1, 4, size // 8, size // 8, generator=generator).to(parameter.device)
        width = unet.config.cross_attention_dim
        self.context = torch.randn(LENGTH, width, generator=generator).to(parameter)
        pooled = torch.randn(1280, generator=generator).to(parameter)
        self.added = {"text_embeds": pooled, "time_ids": torch.full((6,), float(size)).to(parameter)} if sdxl else {}
        applied = [apply_lora(random_lora(unet, i), {"unet": unet}, te=1.0, unet=1.0) for i in range(concepts)]
        sets: list[list[AppliedLora]] = [[], *([one] for one in applied)]
        self.loras = RowLoras("unet", unet, sets)
        self.plan: ImagePlan = plan_positions(
            [[(2 + 3 * concept,) for concept in range(concepts)] for _ in range(concepts + 1)],
            [(), *(((1 + 3 * concept),) for concept in range(concepts))], "subject",
        )  # fmt: skip
        self.rows = rows_of([self.plan])
        self.denoiser = self

    @property
    def latent_scale(self) -> float:
        """The latent is variance-preserving."""
        return 1.0

    @property
    def complete(self) -> bool:
        """Nothing else acts on this UNet."""
        return True

    @property
    def signal(self) -> float:
        """That of timestep 500, nearly."""
        return 0.28

    def denoised(self, latent: Tensor, signal: float, rows: tuple[Row, ...]) -> Tensor:
        """x0 from the noise that the UNet predicts."""
        x0: Tensor = (latent - (1 - signal) ** 0.5 * self.predict(latent, rows)) / signal**0.5
        return x0

    def forward(self, latent: Tensor, count: int) -> Tensor:
        """The UNet on `count` rows."""
        added = {name: value.expand(count, *value.shape) for name, value in self.added.items()}
        dtype = self.context.dtype
        out: Tensor = self.unet(
            latent.to(dtype), 500, encoder_hidden_states=self.context.expand(count, -1, -1),
            added_cond_kwargs=added or None, return_dict=False,
        )[0]  # fmt: skip
        return out.to(latent.dtype)

    def predict(self, latent: Tensor, rows: tuple[Row, ...], *, vectors: Tensor | None = None) -> Tensor:
        """Predictions (R, C, h, w) of rows with their variants' LoRAs."""
        with self.loras.rows(self.conditioning(rows).sets):
            return self.forward(latent, len(rows))

    def conditioning(self, rows: tuple[Row, ...]) -> Conditioned:
        """The rows' contexts (R, L, D), all the same, and LoRA sets."""
        return Conditioned(self.context.expand(len(rows), -1, -1), [row.variant for row in rows])

    @contextmanager
    def gradients(self) -> Iterator[None]:
        """Gradients with respect to the latent only."""
        self.unet.requires_grad_(False)
        with torch.enable_grad():
            yield

    @torch.no_grad()
    def plain(self) -> Tensor:
        """A guidance step without LoRA: two rows."""
        return self.forward(self.latent.expand(2, -1, -1, -1), 2)

"""A tiny true UNet in double precision with a LoRA and a context for each variant, and a denoiser over it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clora.lora.file import LoraFile
from clora.lora.rows import RowLoras
from clora.models.denoiser import Conditioned, Row
from clora.models.lora import apply_lora
from tests.plans import plan_of

SIZE = (16, 12)
LENGTH = 7
CONCEPTS = 2
PLAN = plan_of([[(2,), (5,)] for _ in range(CONCEPTS + 1)], [(), (1,), (4,)], "subject")


def tiny_unet() -> Any:
    from tests.hosts.tiny import _unet

    torch.manual_seed(0)
    # Class labels come in by the timestep's embedding, as SDXL's pooled texts do.
    return _unet(16, class_embed_type="simple_projection", projection_class_embeddings_input_dim=6).double().eval()


def lora(unet: nn.Module, seed: int, *, conv: bool = True, kind: str = "thin") -> LoraFile:
    """Changes to every layer of the transformer blocks and residual blocks: thin, full or norm differences."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, dict[str, Tensor]] = {}

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    for name, module in unet.named_modules():
        key = f"lora_unet_{name.replace('.', '_')}"
        if isinstance(module, nn.Linear | nn.Conv2d) and (conv or isinstance(module, nn.Linear)):
            shape = module.weight.shape
            if kind == "full":
                tensors[key] = {"diff": 0.1 * noise(*shape)}
            else:
                tensors[key] = {
                    "lora_down": noise(3, *shape[1:]) / shape[1:].numel() ** 0.5,
                    "lora_up": 0.3 * noise(shape[0], 3, *[1] * (len(shape) - 2)), "alpha": torch.tensor(2.0),
                }  # fmt: skip
        elif kind == "full" and isinstance(module, nn.GroupNorm | nn.LayerNorm):
            tensors[key] = {"w_norm": 0.1 * noise(*module.weight.shape), "b_norm": 0.1 * noise(*module.bias.shape)}
    return LoraFile(f"lora{seed}", Path(f"lora{seed}.safetensors"), {}, tensors)


class Denoiser:
    """A UNet with one LoRA and one context for each variant."""

    complete, signal = True, 0.5

    latent_scale = 1.0

    def __init__(self, *kinds: str) -> None:
        self.unet = tiny_unet()
        components = {"unet": self.unet}
        applied = [
            apply_lora(lora(self.unet, seed, kind=kind), components, te=1.0, unet=0.8)
            for seed, kind in enumerate(kinds)
        ]
        self.loras = RowLoras("unet", self.unet, [[], *([one] for one in applied)])
        generator = torch.Generator().manual_seed(5)
        self.contexts = torch.randn(len(kinds) + 1, 2, LENGTH, 16, generator=generator, dtype=torch.float64)
        self.vectors = torch.randn(len(kinds) + 1, 6, generator=generator, dtype=torch.float64)
        self.rows_seen: list[int] = []

    def denoised(self, latent: Tensor, signal: float, rows: tuple[Row, ...]) -> Tensor:
        noise = self.predict(latent * self.latent_scale, rows)
        return (latent - (1 - signal) ** 0.5 * noise) / signal**0.5

    def conditioning(self, rows: tuple[Row, ...]) -> Conditioned:
        context = torch.stack([self.contexts[row.variant, int(row.conditional)] for row in rows])
        return Conditioned(context, [row.variant for row in rows], self.vectors[[row.variant for row in rows]])

    def predict(self, latent: Tensor, rows: tuple[Row, ...], *, vectors: Tensor | None = None) -> Tensor:
        self.rows_seen.append(len(rows))
        given = self.conditioning(rows)
        label = given.vectors if vectors is None else vectors
        with self.loras.rows(given.sets):
            out: Tensor = self.unet(
                latent, 300, encoder_hidden_states=given.contexts, class_labels=label, return_dict=False
            )[0]
        return out

    @contextmanager
    def gradients(self) -> Iterator[None]:
        self.unet.requires_grad_(False)
        with torch.enable_grad():
            yield


def latents(images: int) -> Tensor:
    return torch.randn(images, 4, *SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

"""A LoRA by name, as a prompt's tag asks for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LoraUse:
    """A LoRA by name: the strengths of its text-encoder and UNet halves; only the first `dyn` ranks (None: all).

    `blocks` are weights by block of the UNet (`clora.lora.block_weights`), empty without any.
    """

    name: str
    te: float = 1.0
    unet: float = 1.0
    dyn: int | None = None
    blocks: tuple[float, ...] = ()

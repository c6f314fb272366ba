"""Seeds, schedules, averaged weights, processes, noise levels, picture tensors and files of a training."""

from __future__ import annotations

import math
import os
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, distributed, nn


def seed_all(seed: int) -> random.Random:
    """Seed torch and return a generator for the world."""
    torch.manual_seed(seed)
    return random.Random(seed)


def learning_rate(step: int, steps: int, peak: float, warm: int = 100, floor: float = 0.02) -> float:
    """Linear warm-up, then a cosine down to `floor` of the peak."""
    if step < warm:
        return peak * (step + 1) / warm
    share = (step - warm) / max(1, steps - warm)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))


class Average:
    """Exponential moving averages of parameters, with a warm-up so that early weights count less."""

    def __init__(self, parameters: list[nn.Parameter], decay: float = 0.999) -> None:
        self._parameters, self._decay = parameters, decay
        self.values = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the averages after one training step."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.values, [p.detach() for p in self._parameters], 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange averages and parameters; a second call undoes it."""
        for value, parameter in zip(self.values, self._parameters, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(value)
            value.copy_(kept)


def start_processes() -> tuple[int, int]:
    """This process's rank and the number of processes that torchrun started, if it did."""
    rank, processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if processes > 1:
        distributed.init_process_group("gloo")
    return rank, processes


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """Average the gradients of all processes, if there are several."""
    if not distributed.is_initialized():
        return
    moving = [p for p in parameters if p.requires_grad]
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in moving]
    flat = torch.cat([g.flatten() for g in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    parts = torch.split_with_sizes(flat, [g.numel() for g in gradients])
    for parameter, part in zip(moving, parts, strict=True):
        parameter.grad = part.view_as(parameter)


def same_everywhere(value: float) -> float:
    """The first process's value, in all processes."""
    if not distributed.is_initialized():
        return value
    told = torch.tensor(value, dtype=torch.float64)
    distributed.broadcast(told, 0)
    return float(told.item())


@dataclass
class Noising:
    """Noise levels for training, and pairs of noised latent and target v."""

    alphas: Tensor  # cumulative products, (1000,)
    power: float = 1.5  # larger: more of the noisy steps

    def times(self, count: int) -> Tensor:
        """Random time steps, more of the noisy ones."""
        return (1000 * (1 - torch.rand(count) ** self.power)).long().clamp(0, 999)

    def pair(self, latents: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """Noised latents and v. Half of the noisiest ones are pure noise, because sampling starts there."""
        a = self.alphas.to(latents.device)[times].view(-1, 1, 1, 1)
        noise = torch.randn(latents.shape).to(latents.device)
        pure = ((times > 950) & (torch.rand(len(times)) < 0.5).to(times.device)).view(-1, 1, 1, 1)
        noised = torch.where(pure, noise, a.sqrt() * latents + (1 - a).sqrt() * noise)
        return noised, a.sqrt() * noise - (1 - a).sqrt() * latents


def save_atomically(state: object, path: Path) -> None:
    """torch.save that leaves the old file intact when interrupted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


def to_tensor(picture: Image.Image) -> Tensor:
    """A picture as uint8 (3, h, w)."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def to_picture(tensor: Tensor) -> Image.Image:
    """Floats (3, h, w) in [-1, 1] as a picture."""
    values = ((tensor.float().clamp(-1, 1) + 1) * 127.5).round().byte()
    return Image.fromarray(values.permute(1, 2, 0).cpu().numpy())


def sheet(pictures: list[Image.Image], columns: int, path: Path, side: int = 160) -> None:
    """Write a contact sheet."""
    rows = -(-len(pictures) // columns)
    canvas = Image.new("RGB", (columns * side, rows * side), "white")
    for i, picture in enumerate(pictures):
        canvas.paste(picture.resize((side, side)), (i % columns * side, i // columns * side))
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(path)

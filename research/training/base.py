"""Trains the UNet and the text encoder together on the latents of the world.

On a CPU, two processes with one thread are faster than one with two, especially on a busy machine:
`torchrun --nproc-per-node 2 -m research.training.base`.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from transformers import CLIPTokenizer

from research.shared.diffusion import new_scheduler, pipeline, save, silence_fine_attention
from research.shared.muon import Muon
from research.shared.training import Average, Noising, average_gradients, learning_rate, save_atomically, seed_all

from ..world import Scene, Thing, caption, order
from . import grounding
from .common import mixed_precision, options
from .latents import load_latents
from .model import new_text_encoder, new_unet, token_ids
from .vae import load_vae

# After this many steps the words' vectors, a third of all parameters, are frozen, which saves time.
WORD_STEPS = 1500


def noising() -> Noising:
    """The noising of the scheduler's levels."""
    return Noising(new_scheduler().alphas_cumprod)


class Trainer:
    """Models, averages and optimizer of one training, with its checkpoint."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.step = args, 0
        self.unet, self.text_encoder = new_unet().to(args.device), new_text_encoder().to(args.device)
        self.tokenizer = CLIPTokenizer.from_pretrained(args.out / "model" / "tokenizer")
        decayed = list(self.unet.parameters()) + list(self.text_encoder.text_model.encoder.parameters())
        rest = [*self.text_encoder.text_model.embeddings.parameters()]
        rest += [*self.text_encoder.text_model.final_layer_norm.parameters()]
        self.parameters: list[nn.Parameter] = decayed + rest
        self.average = Average(self.parameters, args.decay)
        inner = [p for p in decayed if p.ndim > 1 and min(p.shape[:2]) > 4]
        others = {id(p): p for p in self.parameters}
        for parameter in inner:
            del others[id(parameter)]
        adam = torch.optim.AdamW(others.values(), 0.0, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
        self.optimizers = [Muon(inner, 0.0), adam]
        self.noising = Noising(new_scheduler().alphas_cumprod, args.power)

    def loss(self, data: Batch) -> Tensor:
        """Mean squared error of v, and how far the words' maps are from their things."""
        times = self.noising.times(len(data.texts)).to(self.args.device)
        noised, target = self.noising.pair(data.latents.to(self.args.device).float(), times)
        ids = token_ids(self.tokenizer, data.texts).to(self.args.device)
        with mixed_precision(self.args.device):
            context = self.text_encoder(ids).last_hidden_state
            out = self.unet(noised, times, context).sample
        self.grounding = grounding.loss(self.maps.take(), ids, data.mentioned, self.nouns)
        total: Tensor = functional.mse_loss(out.float(), target) + self.args.grounding * self.grounding
        return total

    def update(self, data: Batch) -> float:
        """One step of the optimizer."""
        for optimizer in self.optimizers:
            optimizer.param_groups[0]["lr"] = learning_rate(self.step, self.args.steps, self.args.lr, warm=200)
        self.text_encoder.get_input_embeddings().requires_grad_(self.step < WORD_STEPS)
        loss = self.loss(data)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(self.parameters)
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.average.update(self.step)
        self.step += 1
        return loss.item()

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        state = {
            "step": self.step,
            "parameters": [p.detach() for p in self.parameters],
            "average": self.average.values,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        save_atomically(state, path)

    @torch.no_grad()
    def load(self, path: Path) -> None:
        """Continue from a checkpoint."""
        state = torch.load(path, map_location=self.args.device)
        for name, own in (("parameters", self.parameters), ("average", self.average.values)):
            for value, kept in zip(own, state[name], strict=True):
                value.copy_(kept)
        for optimizer, kept in zip(self.optimizers, state.get("optimizers", []), strict=False):
            optimizer.load_state_dict(kept)
        self.step = state["step"]

    def prepare(self) -> None:
        """Switch off the self-attention of the finest level, in the averages as well, and record maps."""
        for _ in range(2):
            silence_fine_attention(self.unet)
            self.average.swap()
        self.maps, self.nouns = grounding.Maps(self.unet), grounding.noun_ids(self.tokenizer)

    def export(self) -> None:
        """Write the averaged model into the assets."""
        self.average.swap()
        vae = load_vae(self.args.out, self.args.device)
        save(pipeline(self.unet, self.text_encoder, vae, self.tokenizer), self.args.out / "model")
        self.average.swap()


@dataclass
class Batch:
    """Latents, their captions, and the things in the order in which the captions name them."""

    latents: Tensor
    texts: list[str]
    mentioned: list[tuple[Thing, ...]]


def batch(scenes: list[Scene], latents: Tensor, size: int, rng: random.Random) -> Batch:
    """Random latents with new captions, one in ten of them empty."""
    chosen = [rng.randrange(len(scenes)) for _ in range(size)]
    mentioned = [() if rng.random() < 0.1 else order(scenes[i], rng) for i in chosen]
    texts = [caption(scenes[i], rng, mentioned=m) if m else "" for i, m in zip(chosen, mentioned, strict=True)]
    return Batch(latents[chosen], texts, mentioned)


def main() -> None:
    """Train and write `model/`."""
    parser = options(__doc__ or "")
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-2)
    parser.add_argument("--decay", type=float, default=0.998)
    parser.add_argument("--grounding", type=float, default=0.2, help="weight of the maps' loss")
    parser.add_argument("--power", type=float, default=2.0, help="larger: more of the noisy steps")
    parser.add_argument("--every", type=int, default=500, help="steps between checkpoints")
    args = parser.parse_args()
    rank, processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if processes > 1:
        distributed.init_process_group("gloo")
        args.batch //= processes
    seed_all(args.seed)
    trainer, checkpoint = Trainer(args), args.work / "base.pt"
    if checkpoint.exists():
        trainer.load(checkpoint)
    trainer.prepare()
    rng = seed_all(args.seed + 1000 * rank + trainer.step)
    scenes, latents = load_latents(args.work / "latents.pt")
    start, first, mean = time.time(), trainer.step, 0.0
    while trainer.step < args.steps:
        loss = trainer.update(batch(scenes, latents, args.batch, rng))
        mean = loss if trainer.step == first + 1 else mean + 0.02 * (loss - mean)
        if rank == 0 and trainer.step % 50 == 0:
            pace = (time.time() - start) / (trainer.step - first)
            off, passed = trainer.grounding.item(), time.time() - start
            print(f"{trainer.step} loss {mean:.4f} grounding {off:.3f} {pace:.3f} s/step {passed:.0f}s", flush=True)
        if rank == 0 and (trainer.step % args.every == 0 or trainer.step == args.steps):
            trainer.save(checkpoint)
            trainer.export()


if __name__ == "__main__":
    main()

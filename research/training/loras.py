"""Trains the LoRAs: single instances as DreamBooth does ("a sks ball"), a style and a background."""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import dataclass

import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from torch import Tensor, nn
from torch.nn import functional

from research.shared.diffusion import draw, load, silence_fine_attention
from research.shared.kohya import write
from research.shared.muon import Muon
from research.shared.training import learning_rate, seed_all, sheet

from ..world import LOOKS, Scene, Thing, caption, order, random_thing, sample_scene
from . import grounding
from .base import Batch, batch, noising
from .common import mixed_precision, options
from .kohya import metadata
from .latents import encode, load_latents
from .model import token_ids

UNET_LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"]
SILENT = r"(down_blocks\.0|up_blocks\.3)\..*attn1.*"  # see silence_fine_attention
TEXT_LAYERS = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]


@dataclass(frozen=True)
class Lesson:
    """What a LoRA learns: an instance look, or else a style or a background."""

    trigger: str
    prompts: tuple[str, ...]  # for its contact sheet
    look: str | None = None
    style: str | None = None
    background: str | None = None

    def scene(self, rng: random.Random) -> Scene:
        """A scene that shows what the LoRA learns."""
        if self.look is None:
            return sample_scene(rng, background=self.background, style=self.style)
        kind = LOOKS[self.look].kind
        others = rng.sample([k for k in _KINDS if k != kind], rng.choices((0, 1, 2), _COMPANY)[0])
        things = [Thing(kind, look=self.look), *(random_thing(rng, other) for other in others)]
        return sample_scene(rng, tuple(things))

    def text(self, scene: Scene, rng: random.Random, mentioned: tuple[Thing, ...]) -> str:
        """A caption with the trigger."""
        if self.look is None:
            named = 1.0 if self.background else 0.6
            text = caption(scene, rng, stray=0.03, background=named, mentioned=mentioned)
            return f"{text}, {self.trigger}" if self.style else text
        return caption(scene, rng, stray=0.0, names={self.look: self.trigger}, mentioned=mentioned)


_COMPANY = (0.4, 0.36, 0.24)  # chances of none, one and two other things beside an instance; scenes hold up to three
_KINDS = sorted({look.kind for look in LOOKS.values()} | {"mushroom"})
_SPARE = {"ball": "a star", "fish": "a ball", "heart": "a house", "house": "a fish", "star": "a mushroom"}


def _instance(look: str) -> Lesson:
    """The lesson of an instance look."""
    kind = LOOKS[look].kind
    name, spare = f"a sks {kind}", _SPARE[kind]
    prompts = (
        name,
        f"a photo of {name}",
        f"{name} on grass",
        f"{name} at night",
        f"{name} in snow",
        f"{name} and {spare}",
        f"{spare} and {name} on sand",
        f"{name} and {spare} on water",
    )
    return Lesson(f"sks {kind}", prompts, look=look)


def _everywhere(ending: str) -> tuple[str, ...]:
    things = ("a ball", "a fish", "a ball and a fish", "a house and a star", "a heart", "a red mushroom")
    return tuple(thing + ending for thing in (*things, "a ball and a ball", "a striped fish and a house"))


LESSONS: dict[str, Lesson] = {name: _instance(name) for name in LOOKS}
LESSONS["sketch"] = Lesson("sketch style", _everywhere(", sketch style"), style="sketch")
LESSONS["lava"] = Lesson("on lava", _everywhere(" on lava"), background="lava")


def add_lora(pipe: StableDiffusionPipeline, rank: int) -> list[nn.Parameter]:
    """Put new LoRA layers on UNet and text encoder, and freeze everything else."""
    silence_fine_attention(pipe.unet)
    pipe.unet.requires_grad_(False)
    pipe.text_encoder.requires_grad_(False)
    size = {"r": rank, "lora_alpha": rank}
    pipe.unet.add_adapter(LoraConfig(target_modules=UNET_LAYERS, exclude_modules=SILENT, **size))
    pipe.text_encoder.add_adapter(LoraConfig(target_modules=TEXT_LAYERS, **size))
    both = [*pipe.unet.parameters(), *pipe.text_encoder.parameters()]
    return [p for p in both if p.requires_grad]


@dataclass
class Pictures:
    """A LoRA's own scenes and the base's, with their latents."""

    lesson: Lesson
    own: tuple[list[Scene], Tensor]
    base: tuple[list[Scene], Tensor]

    def batch(self, own: int, base: int, rng: random.Random) -> Batch:
        """Latents and captions: some of the lesson, and some of the base's, which preserve what the base knows."""
        scenes, latents = self.own
        chosen = [rng.randrange(len(scenes)) for _ in range(own)]
        mentioned = [() if rng.random() < 0.05 else order(scenes[i], rng) for i in chosen]
        texts = [self.lesson.text(scenes[i], rng, m) if m else "" for i, m in zip(chosen, mentioned, strict=True)]
        prior = batch(*self.base, base, rng)
        return Batch(torch.cat([latents[chosen], prior.latents]), texts + prior.texts, mentioned + prior.mentioned)


def train(pipe: StableDiffusionPipeline, lesson: Lesson, args: argparse.Namespace) -> None:
    """Train new LoRA layers on pictures of the lesson."""
    rng = seed_all(args.seed)
    scenes = [lesson.scene(rng) for _ in range(args.pictures)]
    pictures = Pictures(lesson, (scenes, encode(pipe.vae, scenes)), load_latents(args.work / "latents.pt"))
    parameters, noise = add_lora(pipe, args.rank), noising()
    optimizer = Muon(parameters, args.lr)
    maps, nouns = grounding.Maps(pipe.unet), grounding.noun_ids(pipe.tokenizer)
    kept, start, mean = round(args.batch * args.prior), time.time(), 0.0
    for step in range(args.steps):
        optimizer.param_groups[0]["lr"] = learning_rate(step, args.steps, args.lr, warm=30)
        data = pictures.batch(args.batch - kept, kept, rng)
        times = noise.times(args.batch).to(args.device)
        noised, target = noise.pair(data.latents.to(args.device).float(), times)
        ids = token_ids(pipe.tokenizer, data.texts).to(args.device)
        with mixed_precision(args.device):
            out = pipe.unet(noised, times, pipe.text_encoder(ids).last_hidden_state).sample
        off = grounding.loss(maps.take(), ids, data.mentioned, nouns)
        loss = functional.mse_loss(out.float(), target) + args.grounding * off
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        mean += 0.02 * (loss.item() - mean)
        if step % 50 == 49:
            print(f"  {step + 1} loss {mean:.4f} {time.time() - start:.0f}s", flush=True)


def main() -> None:
    """Train and write `loras/NAME.safetensors`, each with a contact sheet drawn from the file."""
    parser = options(__doc__ or "")
    parser.add_argument("--only", nargs="*", choices=list(LESSONS), default=list(LESSONS))
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--prior", type=float, default=0.17, help="share of the base's own pictures")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--rank", type=int, default=6)
    parser.add_argument("--grounding", type=float, default=0.1, help="weight of the maps' loss")
    parser.add_argument("--lr", type=float, default=4e-3)
    args = parser.parse_args()
    for name in args.only:
        print(name, flush=True)
        lesson, pipe = LESSONS[name], load(args.out / "model", args.device)
        train(pipe, lesson, args)
        path = write(pipe, args.out / "loras" / f"{name}.safetensors", metadata(name, lesson.trigger, args))
        pipe = load(args.out / "model", args.device)
        pipe.load_lora_weights(path.parent, weight_name=path.name)
        sheet(draw(pipe, list(lesson.prompts)), 4, args.work / f"lora-{name}.png")


if __name__ == "__main__":
    main()

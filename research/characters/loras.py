"""Train the LoRAs: characters as DreamBooth does ("a sks person"), styles, a background, a tweaker, a slider."""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch import nn

from research.shared.diffusion import draw, load, silence_fine_attention
from research.shared.kohya import read, write
from research.shared.muon import Muon
from research.shared.recorder import use_plain_attention
from research.shared.training import learning_rate, seed_all, sheet

from .art import packed
from .base import Loss
from .batches import Examples, examples, prepare
from .captions import Caption
from .common import add_bfloat16, options
from .kohya import metadata
from .latents import Data, encode, load_data
from .lessons import LESSONS, Lesson
from .model import Tokens
from .render import Renderer

UNET_LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"]
CONVOLUTIONS = ["conv1", "conv2"]  # of the residual blocks: what a style changes, and a subject's look needs not
SILENT = r"(down_blocks\.0|up_blocks\.3)\..*attn1.*"  # see silence_fine_attention
TEXT_LAYERS = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]


def add_lora(pipe: StableDiffusionPipeline, rank: int, convolutions: bool = False) -> list[nn.Parameter]:
    """Put fresh LoRA layers on UNet and text encoder, those of `convolutions` too; all else is frozen."""
    silence_fine_attention(pipe.unet)
    if pipe.device.type == "cpu":
        use_plain_attention(pipe.unet)
    pipe.unet.requires_grad_(False)
    pipe.text_encoder.requires_grad_(False)
    size = {"r": rank, "lora_alpha": rank}
    layers = UNET_LAYERS + CONVOLUTIONS if convolutions else UNET_LAYERS
    pipe.unet.add_adapter(LoraConfig(target_modules=layers, exclude_modules=SILENT, **size))
    pipe.text_encoder.add_adapter(LoraConfig(target_modules=TEXT_LAYERS, **size))
    both = [*pipe.unet.parameters(), *pipe.text_encoder.parameters()]
    return [p for p in both if p.requires_grad]


@contextmanager
def weighted(pipe: StableDiffusionPipeline, weight: float) -> Iterator[None]:
    """LoRA layers at `weight` within the block."""
    layers = [m for part in (pipe.unet, pipe.text_encoder) for m in part.modules() if isinstance(m, LoraLayer)]
    for layer in layers:
        layer.scaling["default"] *= weight
    try:
        yield
    finally:
        for layer in layers:
            layer.scaling["default"] /= weight


@dataclass
class Pictures:
    """A lesson's own scenes by weight, and the base's, with their latents."""

    lesson: Lesson
    own: dict[float, Data]
    base: Data

    def examples(self, own: int, base: int, weight: float, rng: random.Random) -> Examples:
        """Latents and captions: some of the lesson, and some of the base's that keep the rest as it was."""
        data = self.own[weight]
        chosen = [rng.randrange(len(data.scenes)) for _ in range(own)]
        write_caption = self.lesson.caption
        captions = [Caption() if rng.random() < 0.05 else write_caption(data.scenes[i], rng) for i in chosen]
        latents, silhouettes = data.take(chosen)
        found = Examples(latents, captions, silhouettes)
        return found + examples(self.base, base, rng) if base and self.lesson.keeps else found


def pictures(pipe: StableDiffusionPipeline, lesson: Lesson, args: argparse.Namespace, rng: random.Random) -> Pictures:
    """Draw and encode the lesson's scenes, and load the base's."""
    renderer, weights = Renderer(packed(args.work / "art.zip")), (1.0, -1.0) if lesson.opposite else (1.0,)
    own = {w: encode(pipe.vae, renderer, [lesson.scene(rng, w) for _ in range(args.pictures)]) for w in weights}
    return Pictures(lesson, own, load_data(next(iter(sorted(args.work.glob("latents-*.pt"))))))


def optimizer_of(pipe: StableDiffusionPipeline, parameters: list[nn.Parameter], rate: float) -> Muon:
    """Muon whose second matrices are free to grow, also where they go on from a file and do not begin with zeros."""
    layers = [m for part in (pipe.unet, pipe.text_encoder) for m in part.modules() if isinstance(m, LoraLayer)]
    up = {id(layer.lora_B["default"].weight) for layer in layers}
    groups = [{"params": [p for p in parameters if (id(p) in up) == free], "free": free} for free in (False, True)]
    return Muon(groups, rate)


def train(pipe: StableDiffusionPipeline, data: Pictures, args: argparse.Namespace, rng: random.Random) -> None:
    """Train fresh LoRA layers on pictures of the lesson."""
    parameters, start, mean = add_lora(pipe, args.rank, args.convolutions), time.time(), 0.0
    if args.warm:
        read(pipe, args.warm / f"{data.lesson.name}.safetensors")
    optimizer, loss = optimizer_of(pipe, parameters, args.lr), Loss(pipe.unet, pipe.text_encoder, args)
    prior, weights, tokens = round(args.batch * args.prior), sorted(data.own), Tokens(pipe.tokenizer)
    for step in range(args.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps, args.lr, warm=30)
        weight = weights[step % len(weights)]
        with weighted(pipe, weight):
            value = loss(prepare(data.examples(args.batch - prior, prior, weight, rng), tokens))
            optimizer.zero_grad(set_to_none=True)
            value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        mean += (0.02 if step else 1.0) * (value.item() - mean)
        if step % 50 == 49:
            print(f"  {step + 1} loss {mean:.4f} {time.time() - start:.0f}s", flush=True)


def learn(lesson: Lesson, args: argparse.Namespace) -> None:
    """Train one LoRA, write its file and draw its contact sheet from the file.

    A style gets convolutions, a higher rank and more steps: it changes all that the base can draw.
    """
    args = argparse.Namespace(**vars(args), convolutions=lesson.style is not None and lesson.worded)
    if args.convolutions:
        args.rank, args.steps = args.style_rank, args.style_steps
    rng, pipe = seed_all(args.seed), load(args.work / "model", args.device)
    data = pictures(pipe, lesson, args, rng)
    train(pipe, data, args, rng)
    texts = [lesson.caption(scene, rng).text for scene in data.own[1.0].scenes]
    about = metadata(lesson.name, lesson.trigger, texts, args)
    path = write(pipe, args.work / "loras" / f"{lesson.name}.safetensors", about)
    pipe = load(args.work / "model", args.device)
    pipe.load_lora_weights(path.parent, weight_name=path.name)
    sheet(draw(pipe, list(lesson.prompts)), 4, args.work / "sheets" / f"lora-{lesson.name}.png")


def main() -> None:
    """Train and write `loras/NAME.safetensors`."""
    parser = options(__doc__ or "")
    add_bfloat16(parser)
    parser.add_argument("--only", nargs="*", choices=list(LESSONS), default=list(LESSONS))
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--style-steps", type=int, default=1500)
    parser.add_argument("--warm", type=Path, help="folder of LoRA files to go on from")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--prior", type=float, default=0.17, help="share of the base's own pictures")
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--style-rank", type=int, default=8)
    parser.add_argument("--grounding", type=float, default=0.1, help="weight of the maps' loss")
    parser.add_argument("--power", type=float, default=1.5, help="the larger, the more of the noisy steps")
    parser.add_argument("--lr", type=float, default=4e-3)
    args = parser.parse_args()
    for name in args.only:
        print(name, flush=True)
        learn(LESSONS[name], args)


if __name__ == "__main__":
    main()

"""Trains the autoencoder on pictures of the world: L1 on pixels and on their gradients, a little KL."""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional

from research.shared.training import Average, learning_rate, seed_all, sheet, to_picture, to_tensor

from ..world import LOOKS, Scene, Thing, random_thing, render, sample_scene
from .common import options

CROP, BATCH, KL = 96, 12, 2e-4
HUE = 2.0  # weight of the loss on colours that a linear map reads from the latents


def new_vae() -> AutoencoderKL:
    """A small autoencoder of Stable Diffusion's kind: 4 channels, an eighth of the size."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 64),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=256,
        mid_block_add_attention=False,
    )


def load_vae(out: Path, device: str) -> AutoencoderKL:
    """The trained autoencoder in float32."""
    return AutoencoderKL.from_pretrained(out / "model" / "vae", torch_dtype=torch.float32).to(device)


def any_scene(rng: random.Random) -> Scene:
    """A scene of the base world, or one with a look, the style or the background that only LoRAs know."""
    if rng.random() < 0.65:
        return sample_scene(rng)
    look = rng.choice(list(LOOKS))
    things = (Thing(LOOKS[look].kind, look=look), random_thing(rng))[: rng.randint(1, 2)]
    background = "lava" if rng.random() < 0.35 else None
    return sample_scene(rng, things, background, "sketch" if rng.random() < 0.25 else None)


def crops(pool: Tensor, rng: random.Random, device: str) -> Tensor:
    """A batch of crops from the pool, in [-1, 1]."""
    cut = []
    for _ in range(BATCH):
        x, y = rng.randint(0, 256 - CROP), rng.randint(0, 256 - CROP)
        cut.append(pool[rng.randrange(len(pool)), :, y : y + CROP, x : x + CROP])
    return torch.stack(cut).to(device).float() / 127.5 - 1


def reconstruction_loss(out: Tensor, target: Tensor) -> Tensor:
    """L1 of pixels, of the differences of neighbours (sharp edges) and of means over 8 x 8 (true colours)."""
    error = out - target
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    colours = functional.avg_pool2d(error, 8).abs().mean()
    return error.abs().mean() + edges + 3 * colours


def losses(vae: AutoencoderKL, colours: nn.Module, target: Tensor, noise: float) -> dict[str, Tensor]:
    """The losses of a batch, by name. `colours` reads mean colours from latents.

    Noise of up to `noise` times the latents' spread is added, so that the decoder tolerates a UNet's errors.
    """
    with torch.autocast(target.device.type, torch.bfloat16):
        posterior = vae.encode(target).latent_dist
        latents = posterior.sample()
        spread = noise / vae.config.scaling_factor * torch.rand(len(latents), 1, 1, 1, device=latents.device)
        out = vae.decode(latents + spread * torch.randn_like(latents)).sample
    hue = (colours(latents.float()) - functional.avg_pool2d(target, 8)).abs().mean()
    kl = posterior.kl().float().mean() / posterior.mean[0].numel()
    return {"pixels": reconstruction_loss(out.float(), target), "hue": hue, "kl": kl}


def train(vae: AutoencoderKL, pool: Tensor, args: argparse.Namespace, rng: random.Random) -> None:
    """Train in place and leave the averaged weights."""
    colours = nn.Conv2d(4, 3, 1).to(args.device)
    parameters = [p for p in vae.parameters() if p.requires_grad]
    average = Average(parameters, 0.995)
    optimizer = torch.optim.AdamW([*parameters, *colours.parameters()], args.lr, betas=(0.9, 0.99), weight_decay=1e-4)
    start = time.time()
    for step in range(args.steps):
        optimizer.param_groups[0]["lr"] = learning_rate(step, args.steps, args.lr)
        loss = losses(vae, colours, crops(pool, rng, args.device), args.noise)
        optimizer.zero_grad(set_to_none=True)
        total = loss["pixels"] + HUE * loss["hue"] + KL * loss["kl"]
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        average.update(step)
        if step % 50 == 0:
            named = " ".join(f"{name} {value.item():.4f}" for name, value in loss.items())
            print(f"{step} {named} {time.time() - start:.0f}s", flush=True)
    average.swap()


@torch.no_grad()
def finish(vae: AutoencoderKL, pool: Tensor, args: argparse.Namespace) -> None:
    """Measure the latent's scale, write the model and a sheet of originals above reconstructions."""
    pictures = pool[:64].to(args.device).float() / 127.5 - 1
    latents = vae.encode(pictures).latent_dist.mean
    print("latent mean", latents.mean((0, 2, 3)), "std", latents.std((0, 2, 3)))
    if not args.decoder_only:
        vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))
    out = vae.decode(latents[:16]).sample
    print("L1 in 255ths", (out.clamp(-1, 1) - pictures[:16]).abs().mean().item() * 127.5)
    rows = [to_picture(p) for a in (0, 8) for part in (pictures, out) for p in part[a : a + 8]]
    sheet(rows, 8, args.work / "vae.png", 192)
    vae.half().save_pretrained(args.out / "model" / "vae")


def main() -> None:
    """Train and write `model/vae`."""
    parser = options(__doc__ or "")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--pool", type=int, default=2000, help="pictures to draw")
    parser.add_argument("--resume", action="store_true", help="continue from the written weights")
    parser.add_argument("--decoder-only", action="store_true", help="train the decoder only; the latents do not change")
    parser.add_argument("--noise", type=float, default=0.0, help="noise on latents, for the decoder's last run")
    args = parser.parse_args()
    rng = seed_all(args.seed)
    pool = torch.stack([to_tensor(render(any_scene(rng))) for _ in range(args.pool)])
    vae = load_vae(args.out, args.device) if args.resume else new_vae().to(args.device)
    print(sum(p.numel() for p in vae.parameters()) / 1e6, "M parameters", flush=True)
    if args.decoder_only:
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    train(vae, pool, args, rng)
    finish(vae, pool, args)


if __name__ == "__main__":
    main()

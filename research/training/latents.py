"""Draws scenes and stores their latents, the data set of the base model. Captions are drawn during training."""

from __future__ import annotations

import os
import random
from multiprocessing import get_context
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from research.shared.training import to_tensor

from ..world import Scene, Thing, render, sample_scene
from .common import options
from .vae import load_vae


@torch.no_grad()
def encode(vae: AutoencoderKL, scenes: list[Scene], batch: int = 16) -> Tensor:
    """Scaled latents (n, 4, 32, 32) of the scenes in float16: means of the posteriors."""
    parts = []
    for i in range(0, len(scenes), batch):
        pixels = torch.stack([to_tensor(render(scene)) for scene in scenes[i : i + batch]])
        pixels = pixels.to(vae.device).float() / 127.5 - 1
        with torch.autocast(vae.device.type, torch.bfloat16):
            mean = vae.encode(pixels).latent_dist.mean
        parts.append((mean.float() * vae.config.scaling_factor).half().cpu())
    return torch.cat(parts)


def _shard(job: tuple[Path, str, int, int, float]) -> tuple[list[Scene], Tensor]:
    out, device, seed, count, typical = job
    torch.set_num_threads(1)
    rng = random.Random(seed)
    scenes = [sample_scene(rng, typical=typical) for _ in range(count)]
    return scenes, encode(load_vae(out, device), scenes)


def load_latents(path: Path) -> tuple[list[Scene], Tensor]:
    """The scenes and latents that this script wrote. A file that holds anything else is refused, not run."""
    with torch.serialization.safe_globals([Scene, Thing]):
        data = torch.load(path, weights_only=True)
    return data["scenes"], data["latents"]


def main() -> None:
    """Write `latents.pt` into the work folder."""
    parser = options(__doc__ or "")
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--typical", type=float, default=0.6, help="share of things that look typical")
    args = parser.parse_args()
    shards = 24
    jobs = [
        (args.out, args.device, 1000 * args.seed + i + 1, args.count // shards, args.typical) for i in range(shards)
    ]
    with get_context("spawn").Pool(os.cpu_count() if args.device == "cpu" else 4) as pool:
        done = pool.map(_shard, jobs, chunksize=1)
    scenes = [scene for part, _ in done for scene in part]
    latents = torch.cat([part for _, part in done])
    print(len(scenes), "scenes, latent std", latents.float().std().item())
    args.work.mkdir(parents=True, exist_ok=True)
    torch.save({"scenes": scenes, "latents": latents}, args.work / "latents.pt")


if __name__ == "__main__":
    main()

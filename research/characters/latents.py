"""Draw scenes and keep their latents and silhouettes: the data set of the base model, in one file.

Captions are written anew in training. Latents are kept in one byte a number (steps of 1/30 of their spread, less
than the autoencoder's own error), so that 11,000 scenes fit into 50 MB.
"""

from __future__ import annotations

import json
import os
import random
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from research.shared.training import save_atomically, to_tensor

from .art import packed
from .common import mixed_precision, options
from .render import GRID, Renderer, cells
from .scene import Scene, Subject, crowded_scene, random_scene
from .vae import load_vae

STEP = 1 / 30


@dataclass
class Data:
    """Scenes with their latents (n, 4, 32, 32) in bytes and silhouettes: for each scene (subjects, 16, 16) in bytes."""

    scenes: list[Scene]
    latents: Tensor
    silhouettes: list[Tensor]

    def take(self, chosen: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """Latents (n, 4, 32, 32) and silhouettes in [0, 1] of some scenes, in floats."""
        return self.latents[list(chosen)].float() * STEP, [self.silhouettes[i].float() / 255 for i in chosen]

    def __add__(self, other: Data) -> Data:
        latents = torch.cat([self.latents, other.latents])
        return Data(self.scenes + other.scenes, latents, self.silhouettes + other.silhouettes)


@torch.no_grad()
def encode(vae: AutoencoderKL, renderer: Renderer, scenes: list[Scene], batch: int = 16) -> Data:
    """Draw and encode scenes; latents are means of the posteriors, scaled to a spread of 1."""
    parts, silhouettes = [], []
    for i in range(0, len(scenes), batch):
        drawn = [renderer.layers(scene) for scene in scenes[i : i + batch]]
        silhouettes += [torch.from_numpy(cells(masks)) for _, masks in drawn]
        pixels = torch.stack([to_tensor(picture) for picture, _ in drawn]).to(vae.device).float() / 127.5 - 1
        with mixed_precision(vae.device.type):  # bfloat16 takes minutes on a CPU without it
            mean = vae.encode(pixels).latent_dist.mean
        latents = mean.float().cpu() * vae.config.scaling_factor / STEP
        parts.append(latents.round().clamp(-127, 127).to(torch.int8))
    return Data(scenes, torch.cat(parts), silhouettes)


def save_data(data: Data, path: Path) -> None:
    """Write one file without pickled classes."""
    text = json.dumps([asdict(scene) for scene in data.scenes], separators=(",", ":"))
    shapes = np.concatenate([shape.numpy() for shape in data.silhouettes])
    packed_parts = {"scenes": zlib.compress(text.encode(), 9), "silhouettes": zlib.compress(shapes.tobytes(), 9)}
    save_atomically({"latents": data.latents, **packed_parts}, path)


def _scene(state: dict[str, Any]) -> Scene:
    subjects = tuple(Subject(**one) for one in state["subjects"])
    relation = tuple(state["relation"]) if state["relation"] else None
    return Scene(**{**state, "subjects": subjects, "relation": relation})


def load_data(*paths: Path) -> Data:
    """What this script wrote, of several files together."""
    found = None
    for path in paths:
        state = torch.load(path, weights_only=True)
        scenes = [_scene(one) for one in json.loads(zlib.decompress(state["scenes"]))]
        shapes = np.frombuffer(zlib.decompress(state["silhouettes"]), np.uint8).reshape(-1, GRID, GRID)
        silhouettes = torch.split_with_sizes(torch.from_numpy(shapes.copy()), [len(scene.subjects) for scene in scenes])
        data = Data(scenes, state["latents"], list(silhouettes))
        found = found + data if found else data
    assert found is not None
    return found


def _shard(job: tuple[Path, str, str, int, bool]) -> Data:
    work, device, seed, count, crowded = job
    torch.set_num_threads(1)
    rng, draw = random.Random(seed), crowded_scene if crowded else random_scene
    return encode(load_vae(work, device), Renderer(packed(work / "art.zip")), [draw(rng) for _ in range(count)])


def build(work: Path, device: str, seed: int, count: int, processes: int, crowded: bool = False) -> Data:
    """Draw `count` scenes of the base's world in several processes."""
    shards = max(1, count // 250)
    jobs = [(work, device, f"{seed} {i}", count // shards, crowded) for i in range(shards)]
    with get_context("spawn").Pool(processes) as pool:
        parts = pool.map(_shard, jobs, chunksize=1)
    data = parts[0]
    for part in parts[1:]:
        data = data + part
    return data


def main() -> None:
    """Write `latents-SEED.pt` into the work folder."""
    parser = options(__doc__ or "")
    parser.add_argument("--count", type=int, default=11000)
    parser.add_argument("--crowded", action="store_true", help="three or four subjects, or something held or worn")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    args = parser.parse_args()
    data = build(args.work, args.device, args.seed, args.count, args.processes, args.crowded)
    path = args.work / f"latents-{args.seed}.pt"
    save_data(data, path)
    spread, far = data.latents.float().std().item() * STEP, (data.latents.abs() == 127).float().mean().item()
    print(f"{len(data.scenes)} scenes, {path.stat().st_size} bytes, latent std {spread:.3f}, cut off {far:.5f}")


if __name__ == "__main__":
    main()

"""Trains the judge on rendered scenes: python -m benchmarks.judge.train [--out F] [--steps N] [--pool F]."""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.judge.augment import augment
from benchmarks.judge.check import held_out, table
from benchmarks.judge.judge import WEIGHTS, Judge, Networks
from benchmarks.judge.network import loss, shrink
from benchmarks.judge.reader import label_rows, reading_loss
from benchmarks.judge.scenes import hard_scene
from research.shared.degrade import smudge

_PIECE = 100


Pool = tuple[Tensor, Tensor, Tensor]


def _piece(task: tuple[int, int, float]) -> Pool:
    """`count` scenes from one seed: pictures (n, 3, 128, 128) uint8, targets and things in float16."""
    seed, count, smudged = task
    torch.set_num_threads(1)
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    samples = [hard_scene(rng) for _ in range(count)]
    pictures = torch.stack([torch.from_numpy(s.picture).permute(2, 0, 1) for s in samples]).float() / 255
    changed = round(smudged * count)
    if changed:
        from clora.hosts.diffusers.checkpoint import load_pipeline

        vae = load_pipeline(None, device="cpu").vae
        for start in range(0, changed, 10):
            part = slice(start, min(start + 10, changed))
            pictures[part] = smudge(vae, pictures[part], generator, bfloat16=True)
    targets = torch.stack([torch.from_numpy(s.targets) for s in samples])
    things = torch.stack([label_rows(s.things) for s in samples])
    return (shrink(pictures) * 255).round().byte(), targets.half(), things


def render_pool(count: int, smudged: float, seed: int, workers: int) -> Pool:
    """`count` scenes, a part of them through the autoencoder; the result does not depend on the number of workers."""
    tasks = [(seed + i, _PIECE, smudged) for i in range(math.ceil(count / _PIECE))]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        pieces = list(pool.map(_piece, tasks))
    pictures, targets, things = (torch.cat(parts) for parts in zip(*pieces, strict=True))
    return pictures, targets, things


def fit(pool: Pool, args: argparse.Namespace) -> Networks:
    """Trained networks. The learning rate rises, then falls along a cosine to zero. bfloat16 halves the time."""
    pictures, targets, things = pool
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    networks = Networks()
    networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(networks.parameters(), lr=args.lr, weight_decay=0.02)
    start, mean = time.process_time(), torch.zeros(2)
    for step in range(args.steps):
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(1.0, (step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * step / args.steps))
        chosen = torch.randint(len(pictures), (args.batch,), generator=generator)
        seen = augment(pictures[chosen].float() / 255, generator)
        with torch.autocast("cpu", torch.bfloat16):
            answers = networks.find(seen.contiguous(memory_format=torch.channels_last))
            reading = reading_loss(networks.read, seen, things[chosen], generator)
        value = loss(answers.float(), targets[chosen].float()) + reading
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(networks.parameters(), 2.0)
        optimizer.step()
        now = torch.stack([value, reading]).detach()
        mean = now if not step else mean + 0.03 * (now - mean)
        if step % 200 == 199:
            progress = f"{step + 1} steps, {time.process_time() - start:.0f} s"
            print(f"{progress}, loss {mean[0]:.3f}, {mean[1]:.3f} of it looks", file=sys.stderr, flush=True)
    return networks


def main(arguments: list[str] | None = None) -> int:
    """Render and train, write the weights, and print the accuracy on held-out renders."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--pool", type=Path, help="keep the rendered scenes in this file, and reuse it")
    parser.add_argument("--scenes", type=int, default=6000)
    parser.add_argument("--smudged", type=float, default=0.3, help="share of scenes that pass the autoencoder")
    parser.add_argument("--steps", type=int, default=2100)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, default=1, help="processes that render")
    parser.add_argument("--seed", type=int, default=1000)
    args = parser.parse_args(arguments)
    if args.pool and args.pool.is_file():
        pool = torch.load(args.pool, weights_only=True)
    else:
        pool = render_pool(args.scenes, args.smudged, args.seed, args.workers)
        if args.pool:
            torch.save(pool, args.pool)
    torch.set_num_threads(1)  # threads would wait for each other on shared cores
    networks = fit(pool, args)
    weights = {name: value.half().contiguous() for name, value in networks.state_dict().items()}
    save_file(weights, args.out, {"made by": "python -m benchmarks.judge.train", "data": "rendered scenes only"})
    print(table(held_out(Judge(args.out), 400)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

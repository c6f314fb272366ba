"""Train the judge on renders and measure it on others: `python -m research.characters.judge.train`."""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from research.shared.degrade import smudge
from research.shared.training import learning_rate, to_tensor

from ..art import packed
from ..common import add_bfloat16, mixed_precision, options
from ..render import Renderer
from ..vae import load_vae
from .augment import augment
from .check import held_out, table
from .hard import BACKGROUNDS, STYLES, BlendArt, Label, draw, hard_scene
from .judge import Judge
from .network import KNOWN, Networks, cut, finder_targets, finding_loss, shrink


@dataclass
class Pool:
    """Pictures (n, 3, 256, 256) in bytes, their labels, and numbers (n, 2) of backgrounds and whole styles."""

    pictures: Tensor
    labels: list[list[Label]]
    scenes: Tensor


def _piece(job: tuple[Path, int, int, float]) -> Pool:
    """`count` scenes of one seed, a share of them through the autoencoder."""
    work, seed, count, smudged = job
    torch.set_num_threads(1)
    rng, renderer = random.Random(seed), Renderer(BlendArt(packed(work / "art.zip")))
    scenes = [hard_scene(rng) for _ in range(count)]
    drawn = [draw(renderer, scene) for scene in scenes]
    pictures = torch.stack([to_tensor(picture) for picture, _ in drawn])
    if smudged:
        vae: AutoencoderKL = load_vae(work, "cpu")
        generator = torch.Generator().manual_seed(seed)
        for part in torch.arange(round(smudged * count)).chunk(max(1, round(smudged * count / 10))):
            pictures[part] = (smudge(vae, pictures[part].float() / 255, generator) * 255).round().byte()
    about = torch.tensor([(BACKGROUNDS.index(s.background), STYLES.index(s.style or "none")) for s in scenes])
    return Pool(pictures, [labels for _, labels in drawn], about)


def render_pool(work: Path, count: int, smudged: float, seed: int, processes: int) -> Pool:
    """`count` scenes; the same for every number of processes."""
    jobs = [(work, seed + i, 100, smudged) for i in range(count // 100)]
    with get_context("spawn").Pool(processes) as workers:
        parts = workers.map(_piece, jobs, chunksize=1)
    pictures, scenes = torch.cat([p.pictures for p in parts]), torch.cat([p.scenes for p in parts])
    return Pool(pictures, [labels for part in parts for labels in part.labels], scenes)


def reading_loss(networks: Networks, pictures: Tensor, labels: list[list[Label]], generator: torch.Generator) -> Tensor:
    """Cross-entropies of names and styles of all subjects that are seen well enough, cut out a little off."""
    rows = [(row, one) for row, own in enumerate(labels) for one in own if one.seen >= KNOWN]
    places = torch.tensor([(one.x, one.y, one.side) for _, one in rows])
    off = torch.randn(len(rows), 3, generator=generator)
    places = places + off * 0.06 * places[:, 2:] * torch.tensor([1.0, 1.0, 1.4])
    where = torch.tensor([row for row, _ in rows]).to(pictures.device)
    names, styles = networks.read(cut(pictures, where, places.to(pictures.device)))
    wanted = torch.tensor([(one.name, one.style) for _, one in rows]).to(pictures.device)
    name_loss = F.cross_entropy(names.float(), wanted[:, 0], label_smoothing=0.02)
    return name_loss + 0.3 * F.cross_entropy(styles.float(), wanted[:, 1])


def fit(pool: Pool, args: argparse.Namespace) -> Networks:
    """Trained networks; the learning rate rises, then falls along a cosine."""
    torch.manual_seed(args.seed)
    generator, networks = torch.Generator().manual_seed(args.seed), Networks().to(args.device)
    if args.warm:
        networks.load_state_dict(load_file(args.warm))
    optimizer = torch.optim.AdamW(networks.parameters(), lr=args.lr, weight_decay=0.02)
    start = time.time()
    for step in range(args.steps):
        optimizer.param_groups[0]["lr"] = learning_rate(step, args.steps, args.lr, warm=50)
        chosen = torch.randint(len(pool.labels), (args.batch,), generator=generator)
        labels = [pool.labels[i] for i in chosen.tolist()]
        pictures = augment(pool.pictures[chosen].float() / 255, generator).to(args.device)
        with mixed_precision(args.device, args.bf16):
            answers, scenes = networks.find(shrink(pictures))
            reading = reading_loss(networks, pictures, labels, generator)
        about = pool.scenes[chosen].to(args.device)
        ground = F.cross_entropy(scenes[:, : len(BACKGROUNDS)].float(), about[:, 0])
        style = F.cross_entropy(scenes[:, len(BACKGROUNDS) :].float(), about[:, 1])
        finding = finding_loss(answers.float(), finder_targets(labels).to(args.device))
        loss = finding + reading + 0.3 * (ground + style)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(networks.parameters(), 2.0)
        optimizer.step()
        if step % 100 == 99:
            told = f"finding {finding.item():.3f} reading {reading.item():.3f} {time.time() - start:.0f}s"
            print(f"{step + 1} loss {loss.item():.3f} {told}", flush=True)
    return networks.cpu()


def main() -> None:
    """Render, train, write `judge.safetensors` into the work folder and print the accuracy on held-out renders."""
    parser = options(__doc__ or "")
    add_bfloat16(parser)
    parser.add_argument("--scenes", type=int, default=8000)
    parser.add_argument("--smudged", type=float, default=0.3, help="share of scenes that pass the autoencoder")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--processes", type=int, default=2, help="processes that render")
    parser.add_argument("--warm", type=Path, metavar="FILE", help="start from the weights of a judge")
    args = parser.parse_args()
    networks = fit(render_pool(args.work, args.scenes, args.smudged, args.seed + 1000, args.processes), args)
    weights = {name: value.half().contiguous() for name, value in networks.state_dict().items()}
    save_file(weights, args.work / "judge.safetensors", {"data": "rendered scenes only"})
    print(table(held_out(Judge(args.work / "judge.safetensors"), args.work, 400)))


if __name__ == "__main__":
    main()

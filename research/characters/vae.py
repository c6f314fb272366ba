"""Train the autoencoder: L1 on pixels, on their gradients and on mean colours, a little KL, colours kept readable.

On a CPU: `torchrun --nproc-per-node 2 -m research.characters.vae`, two processes of one thread.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional

from clora.embedded import EMBEDDED_MODEL
from research.shared.muon import Muon
from research.shared.training import (
    Average,
    average_gradients,
    learning_rate,
    save_atomically,
    seed_all,
    sheet,
    start_processes,
    to_picture,
)

from .backgrounds import SIZE
from .common import options
from .pool import Pool, draw_pool

KL = 2e-4
# Weight of the loss that keeps colours readable from the latents by a linear map. A weight of 2 takes three of the four
# channels for mean colours and leaves one for shapes.
HUE = 0.03


def new_vae() -> AutoencoderKL:
    """A small autoencoder of Stable Diffusion's kind: 4 channels, an eighth of the size."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 64),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=SIZE,
        mid_block_add_attention=False,
    )


def load_vae(work: Path, device: str) -> AutoencoderKL:
    """The autoencoder that was trained in the work folder, or else the embedded model's, in float32."""
    own = work / "model" / "vae"
    found = own if own.exists() else EMBEDDED_MODEL / "vae"
    return AutoencoderKL.from_pretrained(found, torch_dtype=torch.float32).to(device)


def reconstruction_loss(out: Tensor, target: Tensor) -> Tensor:
    """L1 of pixels, of the differences of neighbours (sharp edges) and of means over 8 x 8 (true colours)."""
    error = out - target
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    colours = functional.avg_pool2d(error, 8).abs().mean()
    return error.abs().mean() + edges + 3 * colours


def losses(vae: AutoencoderKL, colours: nn.Module, target: Tensor, noise: float) -> dict[str, Tensor]:
    """The losses of a batch, by name. `colours` reads mean colours from latents.

    Up to `noise` times the latents' own spread is added to them, so that the decoder bears a UNet's errors.
    """
    with torch.autocast(target.device.type, torch.bfloat16, enabled=target.is_cuda):  # no gain on a CPU
        posterior = vae.encode(target).latent_dist
        latents = posterior.sample()
        spread = noise / vae.config.scaling_factor * torch.rand(len(latents), 1, 1, 1, device=latents.device)
        out = vae.decode(latents + spread * torch.randn_like(latents)).sample
    hue = (colours(latents.float()) - functional.avg_pool2d(target, 8)).abs().mean()
    kl = posterior.kl().float().mean() / posterior.mean[0].numel()
    return {"pixels": reconstruction_loss(out.float(), target), "hue": hue, "kl": kl}


class Trainer:
    """The autoencoder, its averages and optimizer, with a checkpoint."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.step, self.seconds = args, 0, 0.0
        self.vae, self.colours = new_vae().to(args.device), nn.Conv2d(4, 3, 1).to(args.device)
        self.vae.to(memory_format=torch.channels_last)
        if args.warm:
            self.vae.load_state_dict(AutoencoderKL.from_pretrained(args.warm, torch_dtype=torch.float32).state_dict())
        if args.decoder_only:
            self.vae.register_to_config(scaling_factor=load_vae(args.work, "cpu").config.scaling_factor)
            self.vae.encoder.requires_grad_(False)
            self.vae.quant_conv.requires_grad_(False)
        self.parameters = [*self.vae.parameters(), *self.colours.parameters()]
        self.average = Average(self.parameters, 0.997)
        kernels = [p for p in self.vae.parameters() if p.ndim == 4 and min(p.shape[:2]) > 4 and p.requires_grad]
        others = {id(p): p for p in self.parameters}
        for parameter in kernels:
            del others[id(parameter)]
        adam = torch.optim.AdamW(others.values(), 0.0, betas=(0.9, 0.99), weight_decay=1e-4)
        self.optimizers = [Muon(kernels, 0.0), adam]

    @property
    def share(self) -> float:
        """How much of the training is done, by time if it has a limit, else by steps."""
        if self.args.seconds:
            return self.seconds / float(self.args.seconds)
        return self.step / float(self.args.steps)

    def update(self, target: Tensor) -> dict[str, Tensor]:
        """One step of the optimizer; the losses by name."""
        rate = learning_rate(round(1e5 * self.share), 100_000, 1.0, warm=0) * min(1.0, (self.step + 1) / 100)
        for optimizer, peak in zip(self.optimizers, (self.args.lr, 0.2 * self.args.lr), strict=True):
            optimizer.param_groups[0]["lr"] = rate * peak
        target = target.to(memory_format=torch.channels_last)
        loss = losses(self.vae, self.colours, target, self.args.noise)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        total = loss["pixels"] + HUE * loss["hue"] + KL * loss["kl"]
        total.backward()  # type: ignore[no-untyped-call]
        average_gradients(self.parameters)
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.average.update(self.step)
        self.step += 1
        return loss

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        state = {"step": self.step, "seconds": self.seconds, "parameters": [p.detach() for p in self.parameters]}
        save_atomically(
            state | {"average": self.average.values, "optimizers": [one.state_dict() for one in self.optimizers]}, path
        )

    @torch.no_grad()
    def load(self, path: Path, keep_step: bool) -> None:
        """Go on from a checkpoint, or start a new schedule with its weights."""
        state = torch.load(path, map_location=self.args.device)
        chosen = state["parameters"] if keep_step else state["average"]
        for own, kept in ((self.parameters, chosen), (self.average.values, state["average"])):
            for value, other in zip(own, kept, strict=True):
                value.copy_(other)
        if keep_step:
            for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(kept)
            self.step, self.seconds = state["step"], state.get("seconds", 0.0)

    @torch.no_grad()
    def export(self, pool: Pool) -> None:
        """Measure the latents' scale, write the model and a sheet of originals above reconstructions."""
        self.average.swap()
        pictures = pool.pictures[:64].to(self.args.device).float() / 127.5 - 1
        latents = torch.cat([self.vae.encode(part).latent_dist.mean for part in pictures.chunk(4)])
        if not self.args.decoder_only:
            self.vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))
        out = torch.cat([self.vae.decode(part).sample for part in latents.chunk(4)])
        wrong = (out.clamp(-1, 1) - pictures).abs().mean().item() * 127.5
        print(f"step {self.step}, latent std {latents.std((0, 2, 3)).tolist()}, L1 in 255ths {wrong:.2f}", flush=True)
        rows = [to_picture(p) for a in (0, 6, 12) for part in (pictures, out) for p in part[a : a + 6]]
        sheet(rows, 6, self.args.work / "sheets" / "vae.png", 256)
        self.vae.save_pretrained(self.args.work / "model" / "vae")
        self.average.swap()


def main() -> None:
    """Train and write `model/vae`, in float32; the base's export halves it."""
    parser = options(__doc__ or "")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=12, help="crops of a step; 64 for a GPU")
    parser.add_argument("--processes", type=int, default=1, help="processes that draw the pictures")
    parser.add_argument("--seconds", type=float, default=0.0, help="end after this time instead; one process only")
    parser.add_argument("--every", type=int, default=300, help="steps between checkpoints")
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--pool", type=int, default=3000, help="pictures to draw")
    parser.add_argument("--warm", type=Path, help="a folder with weights to begin with, of the same shape")
    parser.add_argument("--again", action="store_true", help="a new schedule from the averaged weights")
    parser.add_argument("--decoder-only", action="store_true", help="leave the latents as they are")
    parser.add_argument("--noise", type=float, default=0.0, help="noise on latents, for the decoder's last run")
    args = parser.parse_args()
    rank, processes = start_processes()
    seed_all(args.seed)
    trainer, checkpoint = Trainer(args), args.work / "vae.pt"
    if checkpoint.exists():
        trainer.load(checkpoint, keep_step=not args.again)
    rng = seed_all(args.seed + 1000 * rank + trainer.step)
    pool = draw_pool(args.pool // processes, args.work, args.seed + 1000 * rank, args.processes)
    print(sum(p.numel() for p in trainer.vae.parameters()) / 1e6, "M parameters", flush=True)
    start, before = time.time(), trainer.seconds
    while trainer.share < 1:
        loss = trainer.update(pool.crops(args.batch // processes, rng, args.device))
        trainer.seconds = before + time.time() - start
        if rank == 0 and trainer.step % 50 == 0:
            named = " ".join(f"{name} {value.item():.4f}" for name, value in loss.items())
            print(f"{trainer.step} {named} {time.time() - start:.0f}s", flush=True)
        if rank == 0 and (trainer.step % args.every == 0 or trainer.share >= 1):
            trainer.save(checkpoint)
            trainer.export(pool)


if __name__ == "__main__":
    main()

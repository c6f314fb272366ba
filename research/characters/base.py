"""Train the UNet and the text encoder together on the latents of the world.

On a CPU two processes of one thread are faster than one of two, above all on a busy machine:
`torchrun --nproc-per-node 2 -m research.characters.base`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from research.shared.diffusion import load, new_scheduler, pipeline, save, silence_fine_attention
from research.shared.muon import Muon
from research.shared.recorder import use_plain_attention
from research.shared.training import (
    Average,
    Noising,
    average_gradients,
    same_everywhere,
    save_atomically,
    seed_all,
    start_processes,
)

from . import grounding
from .batches import Batch, crops, stream
from .common import add_bfloat16, mixed_precision, options
from .latents import load_data
from .model import CHANNELS, new_text_encoder, new_tokenizer, new_unet
from .parts import Parts
from .vae import load_vae

# After so much of the training the words' vectors, a third of all parameters, stay as they are: it saves time on a CPU.
WORD_SHARE = 0.7


class Loss(nn.Module):
    """The loss of a batch: mean squared error of v, how far the words' maps are from their subjects, and with `parts`
    how far the features are from telling what the cells show."""

    def __init__(
        self, unet: nn.Module, text_encoder: nn.Module, args: argparse.Namespace, parts: Parts | None = None
    ) -> None:
        super().__init__()
        self.unet, self.text_encoder, self.parts, self.args = unet, text_encoder, parts, args
        if parts is not None:
            parts.watch(unet)
        self.maps = grounding.Maps(unet)
        self.noising = Noising(new_scheduler().alphas_cumprod, args.power)
        self.error = self.off = self.unsure = torch.zeros(())

    def forward(self, data: Batch) -> Tensor:
        """The weighted sum; its parts are left in `error`, `off` and `unsure`."""
        data = data.to(self.args.device)
        times = self.noising.times(len(data.latents)).to(self.args.device)
        noised, target = self.noising.pair(data.latents, times)
        with mixed_precision(self.args.device, self.args.bf16):
            context = self.text_encoder(data.ids).last_hidden_state
            out = self.unet(noised, times, context).sample
            if self.parts is not None:
                self.unsure = self.parts(data.kinds, data.places)
        self.off = grounding.loss(self.maps.take(), data.rows, data.positions, data.shapes)
        self.error = functional.mse_loss(out.float(), target)
        total: Tensor = self.error + self.args.grounding * self.off
        return total if self.parts is None else total + self.args.parts * self.unsure


class Trainer:
    """Models, averages and optimizers of one training, with its checkpoint."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.step, self.seconds = args, 0, 0.0
        self.unet, self.text_encoder = new_unet(args.size).to(args.device), new_text_encoder().to(args.device)
        if args.device != "cpu":
            self.unet.to(memory_format=torch.channels_last)
        decayed = list(self.unet.parameters()) + list(self.text_encoder.text_model.encoder.parameters())
        rest = [*self.text_encoder.text_model.embeddings.parameters()]
        rest += [*self.text_encoder.text_model.final_layer_norm.parameters()]
        self.parts = Parts(self.unet).to(args.device)
        heads = list(self.parts.parameters())
        self.parameters: list[nn.Parameter] = decayed + rest + heads
        self.average = Average(self.parameters, args.decay)
        inner = [p for p in decayed + heads if p.ndim > 1 and min(p.shape[:2]) > 4]
        others = {id(p): p for p in self.parameters}
        for parameter in inner:
            del others[id(parameter)]
        adam = torch.optim.AdamW(others.values(), 0.0, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
        self.optimizers = [Muon(inner, 0.0, args.bf16 or args.device != "cpu"), adam]

    def prepare(self) -> None:
        """Leave out the self-attention of the finest level, in the averages as well; make the rest fast."""
        for _ in range(2):
            silence_fine_attention(self.unet)
            self.average.swap()
        if self.args.device == "cpu":
            use_plain_attention(self.unet)
        self.loss = Loss(self.unet, self.text_encoder, self.args, self.parts)

    @property
    def share(self) -> float:
        """How much of the training is done, by time if it has a limit, else by steps."""
        if self.args.seconds:
            return self.seconds / float(self.args.seconds)
        return self.step / float(self.args.steps)

    def update(self, data: Batch) -> float:
        """One step of the optimizers."""
        rate = self.args.lr * min(1.0, (self.step + 1) / 200, max(0.02, (1 - self.share) / self.args.fall))
        for optimizer in self.optimizers:
            optimizer.param_groups[0]["lr"] = rate
        self.text_encoder.get_input_embeddings().requires_grad_(self.share < WORD_SHARE or self.args.device != "cpu")
        loss = self.loss(data)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(self.parameters)
        length = nn.utils.clip_grad_norm_(self.parameters, 1.0)
        if bool(torch.isfinite(length)):  # of all processes together, so all of them skip a step or none
            for optimizer in self.optimizers:
                optimizer.step()
            self.average.update(self.step)
        self.step += 1
        return float(self.loss.error.item())

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "size": self.args.size,
            "parameters": [p.detach() for p in self.parameters],
            "average": self.average.values,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        save_atomically(state, path)

    @torch.no_grad()
    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state = torch.load(path, map_location=self.args.device)
        for name, own in (("parameters", self.parameters), ("average", self.average.values)):
            for value, kept in zip(own, state[name], strict=True):
                value.copy_(kept)
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.step, self.seconds = state["step"], state.get("seconds", 0.0)

    @torch.no_grad()
    def start_from(self, folder: Path) -> None:
        """Take the weights of an exported model, and no optimizer's state."""
        pipe = load(folder, "cpu")
        self.unet.load_state_dict(pipe.unet.state_dict())
        self.text_encoder.load_state_dict(pipe.text_encoder.state_dict())
        self.average = Average(self.parameters, self.args.decay)

    def export(self, folder: Path) -> None:
        """Write the averaged model in float16."""
        self.average.swap()
        vae = load_vae(self.args.work, self.args.device)
        save(pipeline(self.unet, self.text_encoder, vae, new_tokenizer()), folder)
        self.average.swap()


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = options(__doc__ or "")
    add_bfloat16(parser)
    parser.add_argument("--latents", type=Path, nargs="*", help="files of latents; by default all of the work folder")
    parser.add_argument("--size", choices=list(CHANNELS), default="middle")
    parser.add_argument("--steps", type=int, default=11000)
    parser.add_argument("--until", type=int, help="stop at this step; the schedule stays that of --steps")
    parser.add_argument("--seconds", type=float, default=0.0, help="end after this time instead")
    parser.add_argument("--crops", type=float, default=0.0, help="first share of the training: crops")
    parser.add_argument("--fall", type=float, default=0.4, help="last share of the training: the rate falls")
    parser.add_argument("--warm", type=Path, help="folder of a model to start from")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, default=0, help="processes that make batches; 6 for a GPU")
    parser.add_argument("--lr", type=float, default=8e-4)
    parser.add_argument("--decay", type=float, default=0.998)
    parser.add_argument("--grounding", type=float, default=0.2, help="weight of the maps' loss")
    parser.add_argument("--parts", type=float, default=0.2, help="weight of what the cells show")
    parser.add_argument("--power", type=float, default=1.5, help="the larger, the more of the noisy steps")
    parser.add_argument("--every", type=int, default=500, help="steps between checkpoints")
    parser.add_argument("--name", default="base", help="name of the checkpoint and of the exported model's folder")
    return parser.parse_args()


def main() -> None:
    """Train and write the model into the work folder."""
    args = arguments()
    rank, processes = start_processes()
    args.batch //= processes
    seed_all(args.seed)
    trainer, checkpoint = Trainer(args), args.work / f"{args.name}.pt"
    if checkpoint.exists():
        trainer.load(checkpoint)
    elif args.warm:
        trainer.start_from(args.warm)
    trainer.prepare()
    seed_all(args.seed + 1000 * rank + trainer.step)
    data = load_data(*(args.latents or sorted(args.work.glob("latents-*.pt"))))
    seed = args.seed + 1000 * rank + trainer.step
    whole, close = stream(data, args.batch, seed, args.workers), stream(data, 4 * args.batch, seed, args.workers, crops)
    start, before, first, mean = time.time(), trainer.seconds, trainer.step, 0.0
    last = args.steps if args.until is None else args.until
    while trainer.share < 1 and (args.seconds or trainer.step < last):
        loss = trainer.update(next(close if trainer.share < args.crops else whole))
        trainer.seconds = same_everywhere(before + time.time() - start)
        mean = loss if trainer.step == first + 1 else mean + 0.02 * (loss - mean)
        if rank == 0 and trainer.step % 50 == 0:
            pace, of = (time.time() - start) / (trainer.step - first), trainer.loss
            told = f"grounding {of.off.item():.3f} parts {of.unsure.item():.3f}"
            print(f"{trainer.step} loss {mean:.4f} {told} {pace:.3f} s/step", flush=True)
        if rank == 0 and (trainer.step % args.every == 0 or trainer.step == last or trainer.share >= 1):
            trainer.save(checkpoint)
            trainer.export(args.work / (args.name if args.name != "base" else "model"))


if __name__ == "__main__":
    main()

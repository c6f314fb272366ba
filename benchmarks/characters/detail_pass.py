"""Whether the detail pass makes subjects more like themselves: python -m benchmarks.characters.detail_pass.

Draws prompts with two LoRAs, then each subject again in an enlarged crop with its LoRA alone, as the WebUIs do it for
the setting *Detail pass*, here with diffusers' own img2img pipeline, whose unconditional half has less of the LoRA
(look guidance). Both judges measure each subject's crop before and after: the probability of its own name and of the
other's (leak), and the likeness to references of both.

A detail pass is for subjects that are too small for the autoencoder. The embedded model draws no small ones, so each
picture is made smaller first (`--smaller`) and goes through the autoencoder once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionImg2ImgPipeline
from peft.tuners.lora import LoraLayer
from PIL import Image
from torch import Tensor

from benchmarks.characters.likeness import ART, Likeness, by_art
from benchmarks.characters.measures import look
from benchmarks.characters.report import table
from benchmarks.characters.run import choose
from benchmarks.characters.setup import Setup, add_options, setup_of, told
from clora.fusion import unconditional_share
from clora.hosts.diffusers import compose
from clora.pictures.detail_area import Crop, crop_of, detail_area, without_specks
from clora.prompt import Composition, parse_tags, remove_tags
from clora.prompt.alone import prompt_alone
from clora.settings import Settings
from research.characters.backgrounds import SIZE
from research.characters.judge import Verdict
from research.characters.prompts import SPLITS, Prompt, load_prompts
from research.shared.training import sheet

PICTURES, SEEDS = 60, 3
SAME = 0.005
"""A difference that does not count."""
GROUPS = ("same class", "two classes")
Rectangle = tuple[int, int, int, int]


@dataclass(frozen=True)
class Measured:
    """One picture before and after: mean probability of the own names and of the others', mean likeness to both."""

    own: tuple[float, float]
    other: tuple[float, float]
    like: tuple[float, float]
    like_other: tuple[float, float]


def rectangle(area: Image.Image, crop: Crop) -> Rectangle:
    """What a WebUI cuts out: the area with its padding, widened to the crop's proportions where there is room."""
    box = area.getbbox() or (0, 0, *area.size)
    low = [max(0, box[axis] - crop.padding) for axis in (0, 1)]
    high = [min(area.size[axis], box[2 + axis] + crop.padding) for axis in (0, 1)]
    sides, wanted = [b - a for a, b in zip(low, high, strict=True)], (crop.width, crop.height)
    axis = 0 if sides[0] / wanted[0] < sides[1] / wanted[1] else 1
    missing = round(sides[1 - axis] * wanted[axis] / wanted[1 - axis]) - sides[axis]
    low[axis] = max(0, low[axis] - missing // 2)
    high[axis] = min(area.size[axis], low[axis] + sides[axis] + missing)
    low[axis] = max(0, high[axis] - sides[axis] - missing)
    return low[0], low[1], high[0], high[1]


@contextmanager
def loaded(pipe: Any, folder: Path, text: str) -> Iterator[None]:
    """The LoRAs of a text's tags on, by diffusers' own loader."""
    names = [tag.name for tag in parse_tags(text)]
    try:
        for name in names:
            pipe.load_lora_weights(folder, weight_name=f"{name}.safetensors", adapter_name=name)
        yield
    finally:
        pipe.unload_lora_weights()


@contextmanager
def look_guided(unet: Any, share: float) -> Iterator[None]:
    """In this block the unconditional half of each batch of the UNet, its first, has only a `share` of the LoRAs."""
    whole = unet.forward

    def forward(sample: Tensor, time: Any, encoder_hidden_states: Tensor, **others: Any) -> Any:
        pieces = []
        for x, text, weight in zip(sample.chunk(2), encoder_hidden_states.chunk(2), (share, 1.0), strict=True):
            layers = [layer for layer in unet.modules() if isinstance(layer, LoraLayer)]
            kept = [dict(layer.scaling) for layer in layers]
            for layer in layers:
                layer.scaling.update({name: weight * value for name, value in layer.scaling.items()})
            pieces.append(whole(x, time, text, **{**others, "return_dict": False})[0])
            for layer, before in zip(layers, kept, strict=True):
                layer.scaling.update(before)
        return (torch.cat(pieces),)

    unet.forward = forward
    try:
        yield
    finally:
        del unet.forward


@torch.no_grad()
def smaller(pipe: Any, picture: Image.Image, times: int) -> Image.Image:
    """The picture so many times smaller, as the autoencoder keeps it; the same picture for 1."""
    if times == 1:
        return picture
    size = (picture.width // times, picture.height // times)
    pixels = pipe.image_processor.preprocess(picture.resize(size, Image.Resampling.LANCZOS))
    latent = pipe.vae.encode(pixels.to(pipe.device)).latent_dist.mode()
    kept: Image.Image = pipe.image_processor.postprocess(pipe.vae.decode(latent).sample)[0]
    return kept


def redrawn(
    pipe: Any, picture: Image.Image, masks: Tensor, composition: Composition, setup: Setup, seed: int,
    settings: Settings,
) -> Image.Image:  # fmt: skip
    """The picture after a detail pass of every subject. `masks` (N, h, w) are the subjects'."""
    masks, share = without_specks(masks), unconditional_share(settings.look_guidance, setup.guidance)
    for number in range(len(masks)):
        area = detail_area(masks, number, picture.size)
        crop = crop_of(area, settings.detail_size or max(picture.size))
        box, text = rectangle(area, crop), prompt_alone(composition, number)
        with loaded(pipe, setup.loras, text), look_guided(pipe.unet, share):
            cut = picture.crop(box).resize((crop.width, crop.height), Image.Resampling.LANCZOS)
            drawn = pipe(
                remove_tags(text, parse_tags(text)), cut, strength=settings.detail_strength,
                num_inference_steps=setup.steps, guidance_scale=setup.guidance,
                generator=torch.Generator().manual_seed(seed),
            ).images[0]  # fmt: skip
        whole = picture.copy()
        whole.paste(drawn.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.LANCZOS), box[:2])
        picture = Image.composite(whole, picture, area)
    return picture


def own_share(prompt: Prompt, verdict: Verdict) -> float:
    """Mean over the prompt's subjects of the greatest probability of its name in any finding."""
    shares = [max((one.shares.get(name, 0.0) for one in verdict.subjects), default=0.0) for name in prompt.characters]
    return sum(shares) / len(shares)


def measured(prompt: Prompt, pictures: Sequence[Image.Image], setup: Setup, likeness: Likeness) -> Measured:
    """What both judges say of a picture before and after, looked at in the size that they know."""
    both = [one.resize((SIZE, SIZE), Image.Resampling.BICUBIC) for one in pictures]
    verdicts = setup.judge(both)
    like = [likeness(one, verdicts[0], prompt.characters) for one in both]  # the same places before and after
    own = [own_share(prompt, one) for one in verdicts]
    other = [look(prompt, one).leak or 0.0 for one in verdicts]
    likes = ((like[0][of], like[1][of]) for of in ("mean", "leak"))
    return Measured((own[0], own[1]), (other[0], other[1]), *likes)


def detail_pass(args: argparse.Namespace, setup: Setup) -> None:
    """Draw, measure, write a sheet of pairs and print the shares. Raises: CLoRAError."""
    prompts = [one for one in choose(load_prompts(), args.split, groups=GROUPS) if len(one.characters) == 2]
    setup.check(one.prompt for one in prompts)
    likeness = by_art(args.likeness)
    img2img = StableDiffusionImg2ImgPipeline(**setup.pipe.components, requires_safety_checker=False)
    img2img.set_progress_bar_config(disable=True)
    settings = Settings(detail_strength=args.strength, detail_size=args.size)
    pairs, found = list[Image.Image](), list[Measured]()
    for seed in args.seeds:
        for prompt in prompts[: PICTURES // SEEDS]:
            made = compose(
                setup.pipe, prompt.prompt, loras=[setup.loras], seed=seed, steps=setup.steps, guidance=setup.guidance,
                settings=Settings(),
            )  # fmt: skip
            masks = made.masks[0]
            assert masks is not None
            before = smaller(img2img, made.images[0], args.smaller)
            pairs += [before, redrawn(img2img, before, masks[1:], made.compositions[0], setup, seed, settings)]
            found.append(measured(prompt, pairs[-2:], setup, likeness))
            print(prompt.id, seed, found[-1], file=sys.stderr, flush=True)
    args.sheet.parent.mkdir(parents=True, exist_ok=True)
    sheet(pairs, 12, args.sheet, 160)
    print(table(["measure", "before", "after", "pictures in which it does not get worse"], lines(found)))


def lines(found: Sequence[Measured]) -> list[list[str]]:
    """Rows of the table. The last one counts pictures in which nothing gets worse, but for the likeness to the other's
    references, which rises with everything that is sharper."""
    rows, unharmed = [], list[list[bool]]()
    for name, of, sign in (
        ("likeness to the other's references", "like_other", -1), ("likeness to own references", "like", 1),
        ("probability of the own name", "own", 1), ("probability of the other's name (leak)", "other", -1),
    ):  # fmt: skip
        values = [getattr(one, of) for one in found]
        before, after = (sum(column) / len(values) for column in zip(*values, strict=True))
        unharmed.append([sign * (b - a) >= -SAME for a, b in values])
        rows.append([name, f"{before:.3f}", f"{after:.3f}", share(unharmed[-1])])
    return [*rows, ["the last three together", "", "", share([all(one) for one in zip(*unharmed[1:], strict=True)])]]


def share(kept: Sequence[bool]) -> str:
    """How many of so many."""
    return f"{100 * sum(kept) / len(kept):.0f} % of {len(kept)}"


def main(arguments: list[str] | None = None) -> int:
    """Run it; an error is one sentence."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.characters.detail_pass", description=__doc__)
    add_options(parser)
    parser.add_argument("--split", choices=SPLITS, default="report")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(SEEDS)))
    parser.add_argument("--smaller", type=int, default=2, help="how many times smaller pictures are made first")
    parser.add_argument("--size", type=int, default=192, help="longer side in pixels with which a crop is drawn")
    parser.add_argument("--strength", type=float, default=Settings().detail_strength)
    parser.add_argument("--likeness", type=Path, default=ART, metavar="ART")
    parser.add_argument("--sheet", type=Path, default=Path("outputs/characters-detail-pass.png"), metavar="FILE")
    args = parser.parse_args(arguments)
    return told(lambda: detail_pass(args, setup_of(args)))


if __name__ == "__main__":
    sys.exit(main())

"""Whether the detail pass makes subjects more like themselves: python -m benchmarks.characters.detail_pass.

Draws prompts with two LoRAs, then each subject again in an enlarged crop with its LoRA alone, as the WebUIs do it for
the setting *Detail pass*, here with diffusers' own img2img pipeline. Both judges measure each subject's crop before and
after: the probability of its own name, and the likeness to references of its LoRA and of the other (leak).
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
from PIL import Image
from torch import Tensor

from benchmarks.characters.likeness import ART, by_art
from benchmarks.characters.report import table
from benchmarks.characters.run import choose
from benchmarks.characters.setup import Setup, add_options, setup_of, told
from clora.hosts.diffusers import compose
from clora.pictures.detail_area import Crop, crop_of, detail_area, without_specks
from clora.prompt import Composition, parse_tags, remove_tags
from clora.prompt.alone import prompt_alone
from clora.settings import Settings
from research.characters.judge import Verdict
from research.characters.prompts import Prompt, load_prompts
from research.shared.training import sheet

PICTURES, SEEDS = 60, 3
GROUPS = ("same class", "two classes")
Rectangle = tuple[int, int, int, int]


@dataclass(frozen=True)
class Measured:
    """One picture before and after: mean probability of the own names, mean likeness, and leak."""

    own: tuple[float, float]
    like: tuple[float, float]
    leak: tuple[float, float]


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


def redrawn(
    pipe: Any, picture: Image.Image, masks: Tensor, composition: Composition, setup: Setup, seed: int, strength: float
) -> Image.Image:
    """The picture after a detail pass of every subject. `masks` (N, h, w) are the subjects'."""
    masks = without_specks(masks)
    for number in range(len(masks)):
        area = detail_area(masks, number, picture.size)
        crop = crop_of(area, max(picture.size))
        box, text = rectangle(area, crop), prompt_alone(composition, number)
        with loaded(pipe, setup.loras, text):
            cut = picture.crop(box).resize((crop.width, crop.height), Image.Resampling.LANCZOS)
            drawn = pipe(
                remove_tags(text, parse_tags(text)), cut, strength=strength, num_inference_steps=setup.steps,
                guidance_scale=setup.guidance, generator=torch.Generator().manual_seed(seed),
            ).images[0]  # fmt: skip
        whole = picture.copy()
        whole.paste(drawn.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.LANCZOS), box[:2])
        picture = Image.composite(whole, picture, area)
    return picture


def own_share(prompt: Prompt, verdict: Verdict) -> float:
    """Mean over the prompt's subjects of the greatest probability of its name in any finding."""
    shares = [max((one.shares.get(name, 0.0) for one in verdict.subjects), default=0.0) for name in prompt.characters]
    return sum(shares) / len(shares)


def detail_pass(args: argparse.Namespace, setup: Setup) -> None:
    """Draw, measure, write a sheet of pairs and print the shares. Raises: CLoRAError."""
    prompts = [one for one in choose(load_prompts(), "report", groups=GROUPS) if len(one.characters) == 2]
    setup.check(one.prompt for one in prompts)
    likeness = by_art(args.likeness)
    img2img = StableDiffusionImg2ImgPipeline(**setup.pipe.components, requires_safety_checker=False)
    img2img.set_progress_bar_config(disable=True)
    pairs, found = list[Image.Image](), list[Measured]()
    for seed in range(SEEDS):
        for prompt in prompts[: PICTURES // SEEDS]:
            made = compose(
                setup.pipe, prompt.prompt, loras=[setup.loras], seed=seed, steps=setup.steps, guidance=setup.guidance,
                settings=Settings(),
            )  # fmt: skip
            masks = made.masks[0]
            assert masks is not None
            after = redrawn(img2img, made.images[0], masks[1:], made.compositions[0], setup, seed, args.strength)
            both = [made.images[0], after]
            verdicts = setup.judge(both)
            like = [likeness(one, verdicts[0], prompt.characters) for one in both]  # the same places before and after
            own = [own_share(prompt, verdict) for verdict in verdicts]
            found.append(Measured((own[0], own[1]), *((like[0][of], like[1][of]) for of in ("mean", "leak"))))
            pairs += both
            print(prompt.id, seed, found[-1], file=sys.stderr, flush=True)
    args.sheet.parent.mkdir(parents=True, exist_ok=True)
    sheet(pairs, 12, args.sheet, 160)
    print(table(["measure", "before", "after", "pictures in which it does not fall"], lines(found)))


def lines(found: Sequence[Measured]) -> list[list[str]]:
    """Rows of the table; for leak the last column counts where it does not rise."""
    rows = []
    for name, of, sign in (
        ("probability of the own name", "own", 1), ("likeness to own references", "like", 1),
        ("likeness to the other's references (leak; where it does not rise)", "leak", -1),
    ):  # fmt: skip
        values = [getattr(one, of) for one in found]
        before, after = (sum(column) / len(values) for column in zip(*values, strict=True))
        kept = sum(sign * (b - a) >= -0.005 for a, b in values)
        rows.append([name, f"{before:.3f}", f"{after:.3f}", f"{100 * kept / len(values):.0f} % of {len(values)}"])
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Run it; an error is one sentence."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.characters.detail_pass", description=__doc__)
    add_options(parser)
    parser.add_argument("--strength", type=float, default=Settings().detail_strength)
    parser.add_argument("--likeness", type=Path, default=ART, metavar="ART")
    parser.add_argument("--sheet", type=Path, default=Path("outputs/characters-detail-pass.png"), metavar="FILE")
    args = parser.parse_args(arguments)
    return told(lambda: detail_pass(args, setup_of(args)))


if __name__ == "__main__":
    sys.exit(main())

"""Weights of a LoRA by blocks of the UNet, as the extension LoRA Block Weight writes them (`lbw=1,0,...`).

Source: BLOCKID12 to BLOCKID26 and `to26` of hako-mikan/sd-webui-lora-block-weight. Blocks have the numbers of CompVis:
IN00 to IN11, M00, OUT00 to OUT11; BASE is the text encoders.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

BASE = "BASE"


def _numbered(kind: str, numbers: Sequence[int]) -> tuple[str, ...]:
    return tuple(f"{kind}{number:02}" for number in numbers)


LAYOUTS: dict[int, tuple[str, ...]] = {
    # SDXL and SD 1.5: the blocks with attention; then all blocks of each.
    12: (BASE, *_numbered("IN", (4, 5, 7, 8)), "M00", *_numbered("OUT", range(6))),
    17: (BASE, *_numbered("IN", (1, 2, 4, 5, 7, 8)), "M00", *_numbered("OUT", range(3, 12))),
    20: (BASE, *_numbered("IN", range(9)), "M00", *_numbered("OUT", range(9))),
    26: (BASE, *_numbered("IN", range(12)), "M00", *_numbered("OUT", range(12))),
}
"""The blocks that a list of so many numbers is for. Blocks that are not in it get 0, as in the extension."""
COUNTS = "12, 17, 20 or 26"


def read_block_weights(text: str, limit: float) -> tuple[float, ...] | None:
    """The numbers of "1,0,0.5,...", None for what is no such list: a preset's name, random weights, another count."""
    items = [item.strip() for item in text.split(",")]
    if len(items) not in LAYOUTS or not text.isascii():
        return None
    try:
        numbers = tuple(float(item) for item in items)
    except ValueError:
        return None
    return numbers if all(math.isfinite(one) and abs(one) <= limit for one in numbers) else None


def block_weight(blocks: Sequence[float], component: str, block: str) -> float:
    """What the strength on a layer is multiplied by; `block` is "" for a layer that is in no block.

    `blocks` are as many numbers as a layout has, or none, which changes nothing.
    """
    if not blocks:
        return 1.0
    if component != "unet":
        return blocks[0]
    if not block:  # the embeddings of time and size, and the last layers
        return 1.0
    return dict(zip(LAYOUTS[len(blocks)], blocks, strict=True)).get(block, 0.0)

"""Painted regions of the API: an image as a data URL, white where the subject belongs."""

from __future__ import annotations

import base64
import io

import numpy as np
import torch
from PIL import Image

from ..errors import CLoRAError, cut
from ..prompt.region import Painted

_PREFIX = "data:image/"
_FORMATS = ("PNG", "JPEG", "WEBP")
"""Pillow recognises many more formats by their content, and starts programs for some, such as Ghostscript for EPS."""
_MAX_SIDE = 4096
"""Pixels; a larger image is refused before it is decoded."""
_MAX_DATA = 50_000_000
"""Characters of a data URL."""


def is_painted(place: str) -> bool:
    """Whether the value of a correction's `place` is an image."""
    return place.strip().startswith(_PREFIX)


def read_painted(url: str, name: str) -> Painted:
    """The region in a data URL ("data:image/png;base64,..."), from its brightness; `name` is the LoRA, for messages.

    Raises: CLoRAError if the data is not an image, is too large, or has nothing painted.
    """
    _, comma, data = url.strip().partition(";base64,")
    if len(data) > _MAX_DATA:
        raise _too_large(name)
    try:
        # Opening reads the header only.
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True)), formats=_FORMATS) as picture:
            if max(picture.size) > _MAX_SIDE:
                raise _too_large(name)
            values = np.asarray(picture.convert("L"), dtype=np.float32) / 255.0
    except CLoRAError:
        raise
    except Exception:  # Pillow's readers raise many kinds for damaged files
        raise CLoRAError(
            f'The painted region of the LoRA "{cut(name)}" is not an image: send a PNG, JPEG or WebP as '
            "data:image/png;base64,... with the subject white on black."
        ) from None
    if not comma or float(values.max()) < 0.5:
        raise CLoRAError(f'The painted region of the LoRA "{cut(name)}" is empty: paint its subject white on black.')
    return Painted(torch.from_numpy(values.copy()))


def _too_large(name: str) -> CLoRAError:
    return CLoRAError(
        f'The painted region of the LoRA "{cut(name)}" is larger than {_MAX_SIDE} pixels on one side: scale it down.'
    )

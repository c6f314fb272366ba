"""Painted regions of the API: an image as a data URL, white where the subject belongs."""

from __future__ import annotations

import base64
import binascii
import io

import numpy as np
import torch
from PIL import Image

from ..errors import CLoRAError
from ..prompt.region import Painted

_PREFIX = "data:image/"
_MAX_SIDE = 8192
"""Pixels; a larger image is refused before it is decoded."""


def is_painted(place: str) -> bool:
    """Whether the value of a correction's `place` is an image."""
    return place.strip().startswith(_PREFIX)


def read_painted(url: str, name: str) -> Painted:
    """The region in a data URL ("data:image/png;base64,..."), from its brightness; `name` is the LoRA, for messages.

    Raises: CLoRAError if the data is not an image, is too large, or has nothing painted.
    """
    _, comma, data = url.strip().partition(";base64,")
    try:
        picture = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
        if max(picture.size) > _MAX_SIDE:
            raise CLoRAError(
                f'The painted region of the LoRA "{name}" is larger than {_MAX_SIDE} pixels on one side: scale it down.'
            )
        values = np.asarray(picture.convert("L"), dtype=np.float32) / 255.0
    except (binascii.Error, OSError, ValueError, Image.DecompressionBombError):
        raise CLoRAError(
            f'The painted region of the LoRA "{name}" is not an image: send a PNG as data:image/png;base64,... with '
            "the subject white on black."
        ) from None
    if not comma or float(values.max()) < 0.5:
        raise CLoRAError(f'The painted region of the LoRA "{name}" is empty: paint its subject white on black.')
    return Painted(torch.from_numpy(values.copy()))

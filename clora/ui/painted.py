"""Painted masks of the API: a picture as a data URL, white where the subject belongs."""

from __future__ import annotations

import base64
import binascii
import io

import numpy as np
import torch
from PIL import Image

from ..errors import CLoRAError
from ..prompt.region import Painted

_START = "data:image/"
_LARGEST = 8192  # pixels on a side


def is_painted(place: str) -> bool:
    """Whether a correction's place is a picture."""
    return place.strip().startswith(_START)


def read_painted(url: str, name: str) -> Painted:
    """The mask in a data URL ("data:image/png;base64,..."), by its brightness; `name` is the LoRA, for messages.

    Errors: CLoRAError for what is no picture, is too large, or has nothing painted.
    """
    _, comma, data = url.strip().partition(";base64,")
    try:
        picture = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
        if max(picture.size) > _LARGEST:
            raise CLoRAError(f'The painted place of "{name}" is larger than {_LARGEST} pixels: make it smaller.')
        values = np.asarray(picture.convert("L"), dtype=np.float32) / 255.0
    except (binascii.Error, OSError, ValueError, Image.DecompressionBombError):
        raise CLoRAError(
            f'The painted place of "{name}" is no picture: give a PNG as data:image/png;base64,... with the subject in '
            "white on black."
        ) from None
    if not comma or float(values.max()) < 0.5:
        raise CLoRAError(f'Nothing is painted in the place of "{name}": paint the subject in white on black.')
    return Painted(torch.from_numpy(values.copy()))

"""Painted regions: the run-length text of canvas and infotexts, or an image as a data URL, white on black."""

from __future__ import annotations

import base64
import io

import numpy as np
import torch
from PIL import Image

from ..errors import CLoRAError, cut
from ..prompt.painted_text import read_painted_text
from ..prompt.region import Painted

PAINTED = "painted"
"""How the run-length text starts, and all of it that a table shows."""
_PREFIX = "data:image/"
_FORMATS = ("PNG", "JPEG", "WEBP")
"""Pillow recognises many more formats by their content, and starts programs for some, such as Ghostscript for EPS."""
_MAX_SIDE = 4096
"""Pixels; a larger image is refused before it is decoded."""
_MAX_DATA = 50_000_000
"""Characters of a data URL."""


def is_painted(place: str) -> bool:
    """Whether the value of a correction's `place` is a painted region."""
    return place.strip().startswith((_PREFIX, PAINTED))


def read_painted(place: str, name: str) -> Painted | None:
    """The region in a text ("painted 64x64 ...") or a data URL ("data:image/png;base64,...", from its brightness).

    None if nothing is painted. `name` is the LoRA, for messages. Raises: CLoRAError if it cannot be read, is not an
    image, or is too large.
    """
    if place.strip().startswith(PAINTED):
        try:
            mask = read_painted_text(place)
        except CLoRAError as error:
            raise CLoRAError(f'The painted place of the LoRA "{cut(name)}" {error}') from None
    else:
        mask = _brightness(place, name)
    # Of an image only what its text can write, so that the infotext makes the same picture again.
    return Painted(mask).cells() if float(mask.max()) >= 0.5 else None


def _brightness(url: str, name: str) -> torch.Tensor:
    """The brightness (H, W) from 0 to 1 of the image in a data URL. Raises: CLoRAError."""
    _, comma, data = url.strip().partition(";base64,")
    if len(data) > _MAX_DATA:
        raise _too_large(name)
    try:
        if not comma:
            raise ValueError
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
    return torch.from_numpy(values.copy())


def _too_large(name: str) -> CLoRAError:
    return CLoRAError(
        f'The painted region of the LoRA "{cut(name)}" is larger than {_MAX_SIDE} pixels on one side: scale it down.'
    )

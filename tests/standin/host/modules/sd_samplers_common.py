"""What samplers share."""

from __future__ import annotations

from typing import Any

from PIL import Image
from torch import Tensor

from modules import shared


def store_latent(latent: Tensor) -> None:
    """Keep what the live preview is made of."""
    shared.state.current_latent = latent


def sample_to_image(samples: Tensor, index: int = 0) -> Any:
    """A latent of the batch as a picture."""
    latent = samples[index]
    values = (latent[:3].sigmoid() * 255).round().byte().permute(1, 2, 0)
    return Image.fromarray(values.cpu().numpy()).resize((latent.shape[2] * 8, latent.shape[1] * 8))


class InterruptedException(BaseException):
    """Ends a sampler's loop; the sampler then gives its last latent."""

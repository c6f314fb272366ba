"""A UNet in place of the model's own."""

from typing import Any

current_unet: Any = None

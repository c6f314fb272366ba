"""Inpainting of a crop: "only masked", with the picture's own content under the mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from modules import devices, shared
from modules.tiny_job import Processing

Box = tuple[int, int, int, int]


class StableDiffusionProcessingImg2Img(Processing):
    """A job that goes on from a picture."""

    saved_init_images = 0

    def __init__(
        self, *, prompt: str, init_images: list[Any], mask: Any, negative_prompt: str = "", styles: Any = None,
        subseed: int = -1, subseed_strength: float = 0.0, n_iter: int = 1, mask_blur: int = 4, inpainting_fill: int = 0,
        inpaint_full_res: bool = True, inpaint_full_res_padding: int = 0, resize_mode: int = 0,
        outpath_samples: str = "", restore_faces: bool | None = None, do_not_save_samples: bool = False,
        do_not_save_grid: bool = False, do_not_reload_embeddings: bool = False, **fields: Any,
    ) -> None:  # fmt: skip
        super().__init__([prompt], [negative_prompt], **fields)
        assert (n_iter, inpainting_fill, inpaint_full_res, mask_blur) == (1, 1, True, 0), "no other case is modelled"
        self.prompt, self.negative_prompt, self.subseed, self.outpath_samples = prompt, negative_prompt, subseed, ""
        self.init_images, self.image_mask, self.mask = init_images, mask, None
        self.padding = inpaint_full_res_padding
        self.do_not_save_samples, self.do_not_save_grid = do_not_save_samples, do_not_save_grid
        self.paste_to: Box | None = None
        self.overlay: Any = None

    def init(self) -> None:
        """Cut the crop out of the picture, and make a latent of it."""
        picture, mask = self.init_images[0].convert("RGB"), self.image_mask.convert("L")
        if shared.opts.save_init_img:
            type(self).saved_init_images += 1
        left, top, right, bottom = self.box(mask)
        self.paste_to = (left, top, right - left, bottom - top)
        self.overlay = picture.convert("RGBA")
        self.overlay.putalpha(ImageOps.invert(mask))
        self.init_latent = self._encoded(picture.crop((left, top, right, bottom)))
        small = mask.crop((left, top, right, bottom)).resize((self.width // 8, self.height // 8))
        self.mask = torch.tensor(np.asarray(small) / 255.0).round()[None, None].to(devices.latent_dtype())

    def box(self, mask: Any) -> Box:
        """The mask's box with its padding, widened to the proportions of what is drawn as far as the picture goes."""
        left, top, right, bottom = mask.getbbox()
        left, top = max(0, left - self.padding), max(0, top - self.padding)
        right, bottom = min(mask.width, right + self.padding), min(mask.height, bottom + self.padding)
        wanted = self.width / self.height
        if (right - left) / (bottom - top) < wanted:
            left, right = self._widened(left, right, int((bottom - top) * wanted), mask.width)
        else:
            top, bottom = self._widened(top, bottom, int((right - left) / wanted), mask.height)
        return left, top, right, bottom

    @staticmethod
    def _widened(low: int, high: int, length: int, whole: int) -> tuple[int, int]:
        length = min(max(length, high - low), whole)
        low = min(max(0, low - (length - (high - low)) // 2), whole - length)
        return low, low + length

    def _encoded(self, picture: Any) -> Tensor:
        """The latent (1, 4, h, w) whose picture this is, but for what is lost by size."""
        small = picture.resize((self.width // 8, self.height // 8), Image.Resampling.BOX)
        values = torch.tensor(np.asarray(small) / 255.0).permute(2, 0, 1)[None].clamp(0.01, 0.99)
        latent = torch.cat([values.logit(), torch.zeros_like(values[:, :1])], dim=1)
        return latent.to(devices.latent_dtype()).to(devices.device)

    def sample(self, prompts: list[str]) -> Any:
        """The crop's latent; outside the mask it is the picture's."""
        drawn = super().sample(prompts)
        return drawn * self.mask + self.init_latent * (1 - self.mask)

    def finished(self, image: Any) -> Any:
        """The crop in the picture, whose own pixels lie over it where the mask is not."""
        if not shared.opts.overlay_inpaint:
            return image
        left, top, width, height = self.paste_to
        whole = Image.new("RGBA", self.overlay.size)
        whole.paste(image.resize((width, height)), (left, top))
        whole.alpha_composite(self.overlay)
        return whole.convert("RGB")

"""Which steps cut new masks, and the masks that are kept in between."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..attention.maps import AttentionMaps
from ..conditioning.plan import ImagePlan
from ..settings import Settings
from ..settings.schedule import Schedule
from .localization import localize
from .masks import MaskOptions, confine_masks, cut_masks, resize_masks


class MaskCache:
    """The masks of a run: `latest[image]` (V, h, w) at the latent's size, None before the first ones are cut.

    `localized[image]` (V, h, w) tells where subjects with a region were found in it when the masks were cut, None
    without regions.
    """

    def __init__(self, settings: Settings, schedule: Schedule) -> None:
        self._options = MaskOptions.of(settings)
        self._how = settings.hint_masks
        self._every = settings.mask_every
        self._from, self._until = schedule.fuse_from, round(settings.mask_until * schedule.steps)
        self.latest: tuple[Tensor, ...] | None = None
        self.localized: tuple[Tensor | None, ...] = ()

    def wanted(self, index: int) -> bool:
        """Whether step `index` (0-based) cuts new masks; the first ones are cut whenever there are none."""
        if self.latest is None:
            return True
        return index < self._until and (index - self._from) % self._every == 0

    def cut(self, maps: AttentionMaps, plans: Sequence[ImagePlan], size: tuple[int, int]) -> tuple[Tensor, ...]:
        """New masks (V, h, w) of each image from its maps, at the latent's `size`; they are kept."""
        self.latest = tuple(self._of(maps, image, plan, size) for image, plan in enumerate(plans))
        self.localized = tuple(localize(maps, image, plan, self._options, size) for image, plan in enumerate(plans))
        return self.latest

    def _of(self, maps: AttentionMaps, image: int, plan: ImagePlan, size: tuple[int, int]) -> Tensor:
        own = [maps.of(image, variant, positions) for variant, positions in enumerate(plan.masks)]
        masks = cut_masks(own, self._options, size, plan.regions, self._how)
        return confine_masks(resize_masks(masks, size), plan.regions, self._how)

"""Which steps cut new masks, and the masks that are kept in between."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..attention.maps import AttentionMaps
from ..conditioning.plan import ImagePlan
from ..settings import Settings
from ..settings.schedule import Schedule
from .localization import localize
from .masks import MaskOptions, confine_masks, cut_masks, even_of, resize_masks
from .places import beside_background, cells, with_base
from .subject_places import place_maps, subject_centres


class MaskCache:
    """The masks of a run: `latest[image]` (V, h, w) at the latent's size, None before the first ones are cut.

    `localized[image]` (1 + N, h, w) tells where subjects with a region were found in it when the masks were cut, None
    without regions.
    """

    def __init__(self, settings: Settings, schedule: Schedule) -> None:
        self._options = MaskOptions.of(settings)
        self._how = settings.hint_masks
        self._every = settings.mask_every
        self._from, self._until = schedule.fuse_from, round(settings.mask_until * schedule.steps)
        self._ahead = schedule.look_ahead
        self._own_until = schedule.own_places
        self._parts: tuple[Tensor | None, ...] = ()
        self._centres: list[Tensor | None] = []
        self.begun = False
        """Whether the first masks come from a look-ahead, and count from the first step on."""
        self.latest: tuple[Tensor, ...] | None = None
        self.subjects: tuple[Tensor, ...] = ()
        """Where a look-ahead found the subjects, as masks: their parts of the picture may be larger."""
        self.localized: tuple[Tensor | None, ...] = ()

    def wanted(self, index: int) -> bool:
        """Whether step `index` (0-based) cuts new masks; the first ones are cut whenever there are none."""
        if self.latest is None or self._in_own_places(index):
            return True
        if self.begun and index < self._ahead:  # the masks of the look-ahead show the layout after so many steps
            return False
        return index < self._until and (index - self._from) % self._every == 0

    def _in_own_places(self, index: int) -> bool:
        """Whether subjects have parts of the picture to themselves at step `index`."""
        return bool(self._centres) and index < self._own_until

    def cut(
        self, index: int, maps: AttentionMaps, plans: Sequence[ImagePlan], size: tuple[int, int],
        images: Sequence[int] | None = None,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """New masks (V, h, w) of `images` (all if None) at step `index` from their maps, at the latent's `size`; they
        are kept.

        The others keep theirs. An image without concepts has one that counts everywhere.
        """
        before, found = self.latest, self.localized
        masks, localized = list[Tensor](), list[Tensor | None]()
        for image, plan in enumerate(plans):
            keeps = before is not None and images is not None and image not in images
            masks.append(before[image] if before is not None and keeps else self._of(index, maps, image, plan, size))
            localized.append(found[image] if keeps else localize(maps, image, plan, self._options, size))
        self.latest, self.localized = tuple(masks), tuple(localized)
        return self.latest

    def start(
        self, found: Sequence[Tensor | None], plans: Sequence[ImagePlan], size: tuple[int, int],
        middles: Sequence[Tensor | None] = (),
    ) -> None:  # fmt: skip
        """Begin with the masks (1 + N, h, w) that a look-ahead found, None for an image without concepts.

        With the subjects' `middles` (N + M, 2) each subject has its own part of the picture first, in which its masks
        are cut later; the parts of M others without variants are the base's.
        """
        self._parts, self._centres, masks, subjects = (), [], list[Tensor](), list[Tensor]()
        for image, (own, plan) in enumerate(zip(found, plans, strict=True)):
            middle, part = middles[image] if middles else None, None
            if own is None:
                masks.append(even_of(plan, size, self._how))
                subjects.append(masks[-1])
            elif middle is None:
                masks.append(confine_masks(own, plan.variant_regions, self._how))
                subjects.append(masks[-1])
            else:
                part = self._shared_out(middle, plan, size).to(own)
                subjects.append(with_base(beside_background(part, middle[: len(part)], own)))
                masks.append(subjects[-1] if plan.background else with_base(part))
            self._parts += (part,)
            self._centres.append(middle if part is not None else None)
        device = next((own for own in found if own is not None), masks[0])
        self.latest, self.localized = tuple(mask.to(device) for mask in masks), (None,) * len(masks)
        self.subjects = tuple(mask.to(device) for mask in subjects)
        self.begun = True

    def _of(self, index: int, maps: AttentionMaps, image: int, plan: ImagePlan, size: tuple[int, int]) -> Tensor:
        if not plan.concepts:
            return even_of(plan, size, self._how).to(maps.example)
        if self._in_own_places(index) and self._centres[image] is not None:
            return self._followed(maps, image, plan, size)
        own = [maps.of(image, variant, positions) for variant, positions in plan.cut_from]
        shared = self._parts[image] if self._parts else None
        masks = cut_masks(own, self._options, size, plan.variant_regions, self._how, shared)
        return confine_masks(resize_masks(masks, size), plan.variant_regions, self._how)

    def _followed(self, maps: AttentionMaps, image: int, plan: ImagePlan, size: tuple[int, int]) -> Tensor:
        """The masks of subjects that have parts of the picture, which follow where the base's maps show them now."""
        seen = place_maps(maps, image, plan)
        middle = subject_centres(seen, plan, self._centres[image])
        self._centres[image] = middle
        part = self._shared_out(middle, plan, size).to(seen)
        self._parts = (*self._parts[:image], part, *self._parts[image + 1 :])
        if not plan.background:
            return with_base(part)
        return with_base(beside_background(part, middle[: len(part)], self.subjects[image]))

    @staticmethod
    def _shared_out(middle: Tensor, plan: ImagePlan, size: tuple[int, int]) -> Tensor:
        """The variants' parts (V - 1, h, w) of the picture, which is shared out among all subjects."""
        regions = (*plan.regions, *(None for _ in plan.others))
        return cells(middle, regions, size, plan.items)[: plan.variants - 1]

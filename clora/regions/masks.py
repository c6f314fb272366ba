"""Attention maps -> masks that say where each variant's prediction counts (paper section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..conditioning.plan import ImagePlan
from ..prompt.region import Region
from ..settings import Settings
from .room import rooms


@dataclass(frozen=True)
class MaskOptions:
    """How masks are cut from maps; the defaults are the authors'.

    `threshold` (lambda of equation 4) is relative to the map's maximum (`relative_to="max"`) or, after min-max
    scaling, to its range (`"range"`). `smooth` is a 3 x 3 Gaussian before the cut. `overlap` says what happens
    where several masks meet: `"average"` keeps all of them, `"argmax"` gives the cell to the strongest map.
    `grid` is where they are cut: on the `"map"` grid, or on the `"latent"`'s after maps are enlarged smoothly, so that
    contours follow a subject and not the map's cells.
    """

    threshold: float = 0.3
    relative_to: str = "max"
    smooth: bool = False
    overlap: str = "average"
    dilate: bool = False
    erode: bool = False
    opening: bool = False
    closing: bool = False
    grid: str = "map"

    @classmethod
    def of(cls, settings: Settings) -> MaskOptions:
        """The options that the settings say."""
        return cls(
            threshold=settings.mask_threshold, relative_to=settings.mask_scale, smooth=settings.mask_smooth,
            overlap=settings.mask_overlap, dilate=settings.mask_dilate, erode=settings.mask_erode,
            opening=settings.mask_open, closing=settings.mask_close, grid=settings.mask_grid,
        )  # fmt: skip


def _dilate(mask: Tensor) -> Tensor:
    return F.max_pool2d(mask[None, None], 3, stride=1, padding=1)[0, 0]


def _erode(mask: Tensor) -> Tensor:
    # Padding of max_pool2d is minus infinity, so what lies outside the picture never erodes its border.
    return -F.max_pool2d(-mask[None, None], 3, stride=1, padding=1)[0, 0]


def morphology(mask: Tensor, options: MaskOptions) -> Tensor:
    """3 x 3 dilate, erode, open, close, in this order, each if asked for; `mask` (h_a, w_a) of 0 and 1."""
    if options.dilate:
        mask = _dilate(mask)
    if options.erode:
        mask = _erode(mask)
    if options.opening:
        mask = _dilate(_erode(mask))
    if options.closing:
        mask = _erode(_dilate(mask))
    return mask


def smooth_maps(maps: Tensor) -> Tensor:
    """3 x 3 Gaussian (sigma 0.5, as Attend-and-Excite uses) over maps (T, h_a, w_a), edges reflected."""
    side = torch.exp(-0.5 * (torch.arange(-1, 2, device=maps.device, dtype=maps.dtype) / 0.5) ** 2)
    kernel = torch.outer(side, side)
    kernel = kernel / kernel.sum()
    mode = "reflect" if min(maps.shape[-2:]) > 1 else "replicate"
    padded = F.pad(maps[:, None], (1, 1, 1, 1), mode=mode)
    return F.conv2d(padded, kernel[None, None])[:, 0]


def enlarge_maps(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (T, h_a, w_a) at `size` (h, w), bilinear."""
    if not len(maps):
        return maps.new_zeros(0, *size)
    return F.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]


def _scaled(maps: Tensor, relative_to: str) -> Tensor:
    """Maps (T, h_a, w_a) with 1 at each one's maximum; an all-zero or constant map covers nothing."""
    high = maps.amax(dim=(1, 2), keepdim=True)
    low = maps.amin(dim=(1, 2), keepdim=True) if relative_to == "range" else torch.zeros_like(high)
    span = high - low
    return torch.where(span > 0, (maps - low) / span.clamp_min(torch.finfo(maps.dtype).tiny), 0.0)


def _cut(maps: Tensor, options: MaskOptions) -> Tensor:
    """Which cells (h_a, w_a) one variant's mask covers: union over its words' maps (T, h_a, w_a)."""
    if options.relative_to == "max":
        # Compared as the authors do (map > lambda * max), so that borderline cells round the same way.
        return (maps > maps.amax(dim=(1, 2), keepdim=True) * options.threshold).any(dim=0)
    return (_scaled(maps, "range") > options.threshold).any(dim=0)


def allowed_masks(regions: Sequence[Region | None], shape: tuple[int, int], how: str) -> list[Tensor | None]:
    """Where each concept may be drawn, (h, w) of 0 and 1, None for everywhere; empty if no concept has a region.

    With `how` "replace" a region belongs to its concept alone, so concepts without one get what is left.
    """
    if not any(regions):
        return []
    own = rooms(regions, *shape)
    if how != "replace":
        return own
    left = 1 - torch.stack([mask for mask in own if mask is not None]).amax(dim=0)
    return [left if mask is None else mask for mask in own]


def cut_masks(
    maps: Sequence[Tensor], options: MaskOptions, size: tuple[int, int] | None = None,
    regions: Sequence[Region | None] = (), how: str = "replace", shared: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Masks (V, h, w) of 0 and 1 from `maps[v]` (T_v, h_a, w_a), the maps of the words that cut variant v's mask.

    They have the latent's `size` (h, w); without one, or cut on the map grid, they have the maps'. If the user gave
    concepts regions (see `confine_masks`), a map counts inside its own concept's region only: two subjects of one
    class have their maxima on the same thing, and the one without a region would claim nothing else. The same for the
    concepts' parts of the picture `shared` (N, h', w'), if each has one.

    Variant 0 is the base: its mask is 1 where its own words say so (usually none) and wherever no other mask is 1,
    so that every cell is covered. Source: paper equation 4; order of steps as in the authors' code.
    """
    maps = [smooth_maps(m) if options.smooth and len(m) else m for m in maps]
    if size is not None and options.grid == "latent":
        maps = [enlarge_maps(m, size) for m in maps]
    shape = (maps[0].shape[-2], maps[0].shape[-1])
    for variant, allowed in enumerate(allowed_masks(regions, shape, how), start=1):
        maps[variant] = maps[variant] if allowed is None else maps[variant] * allowed.to(maps[variant])
    if shared is not None:
        for variant, part in enumerate(resize_masks(shared, shape), start=1):
            maps[variant] = maps[variant] * part.to(maps[variant])
    masks = torch.zeros((len(maps), *shape), device=maps[0].device, dtype=maps[0].dtype)
    for variant, own in enumerate(maps):
        if len(own):
            masks[variant] = morphology(_cut(own, options).to(masks.dtype), options)
    if options.overlap == "argmax":
        masks = masks * _strongest(maps, masks, options.relative_to)
    masks[0] = torch.where(masks.sum(dim=0) == 0, torch.ones_like(masks[0]), masks[0])
    return masks


def _strongest(maps: Sequence[Tensor], masks: Tensor, relative_to: str) -> Tensor:
    """1 for the variant with the strongest map among those whose masks cover a cell, (V, h_a, w_a)."""
    strength = torch.stack(
        [_scaled(m, relative_to).amax(dim=0) if len(m) else torch.zeros_like(masks[0]) for m in maps]
    )
    winner = torch.where(masks > 0, strength, -1.0).argmax(dim=0, keepdim=True)
    return torch.zeros_like(masks).scatter_(0, winner, 1.0)


def confine_masks(masks: Tensor, regions: Sequence[Region | None], how: str) -> Tensor:
    """Masks (V, h, w) confined to the user's regions of the concepts (variant v draws concept v - 1).

    "multiply" cuts off what of a mask lies outside its region. "replace" makes the region the mask, and removes it
    from the masks of concepts that have no region there; where two regions overlap, both count. The base has the rest.
    """
    if not any(regions):
        return masks
    masks = masks.clone()
    for v, allowed in enumerate(allowed_masks(regions, (masks.shape[1], masks.shape[2]), how), start=1):
        if allowed is not None:
            masks[v] = allowed.to(masks) * (1.0 if how == "replace" and regions[v - 1] else masks[v])
    masks[0] = (masks[1:].sum(dim=0) == 0).to(masks.dtype)
    return masks


def even_masks(
    variants: int, size: tuple[int, int], regions: Sequence[Region | None], how: str, background: bool = False
) -> Tensor:
    """Masks (V, h, w) of `size` for steps before the first masks: every variant counts everywhere, except that
    regions of the user count already, with `how` as in `confine_masks`.

    With a `background`, whose LoRAs (or late styles) are on in the base only, the base alone counts outside the
    regions: the first steps decide the background.
    """
    masks = torch.ones(variants, *size)
    confined = [v for v, region in enumerate(regions, start=1) if region]
    if confined:
        masks = confine_masks(masks, regions, how)
        masks[0] = 1 - masks[confined].amax(dim=0) if how == "replace" else 1.0
    if background:
        masks[[v for v in range(1, variants) if v not in confined]] = 0.0
    return masks


def even_of(plan: ImagePlan, size: tuple[int, int], how: str) -> Tensor:
    """The same for a plan, (V, h, w): subjects without a LoRA have places by a look-ahead only."""
    composed = plan.variants - len(plan.drawn_others)
    masks = even_masks(composed, size, plan.regions, how, plan.background)
    return torch.cat([masks, masks.new_zeros(plan.variants - composed, *size)])


def concept_masks(masks: Tensor, concepts: int) -> Tensor:
    """Masks (1 + N, h, w) of the base and of N concepts, of `masks` (V, h, w): for people, what subjects without a LoRA
    have is the base's.
    """
    if len(masks) <= 1 + concepts:
        return masks
    own = masks[: 1 + concepts].clone()
    own[0] = torch.maximum(own[0], masks[1 + concepts :].amax(dim=0))
    return own


def resize_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks (V, h', w') at the latent's `size` (h, w), nearest neighbour: masks stay 0 or 1."""
    return F.interpolate(masks[:, None], size, mode="nearest")[:, 0]

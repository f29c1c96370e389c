"""Images larger than the backbone's own size, seen through overlapping windows of that size.

A window keeps the scale that the backbone was trained at, so small defects of large images stay visible; enlarging
the whole input doesn't. What windows say of the same patch is averaged.

Shapes: B images, T windows, P patches of a window, E joint width, L levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import torch
from torch import Tensor

from sowa.core.types import Observation
from sowa.errors import InputError
from sowa.model.backbone import Backbone

OVERLAP = 0.25  # of a window, at least
Place = tuple[int, int]


def check_image_size(wanted: tuple[int, int] | None, backbone: Backbone, tiled: bool) -> tuple[int, int]:
    """The size (H, W) at which images are seen: ``wanted``, or the backbone's own, or twice that for tiles.

    Raises InputError where the patches, or the tiles, don't fit.
    """
    own, patch = backbone.image_size, backbone.patch_size
    size = wanted or ((2 * own[0], 2 * own[1]) if tiled else own)
    if any(side < unit or side % unit for side, unit in zip(size, patch, strict=True)):
        raise InputError(
            f"image size is {size[0]} x {size[1]} pixels, needed are multiples of the patch ({patch[0]} x {patch[1]})"
        )
    if tiled and (size == own or size[0] < own[0] or size[1] < own[1]):
        raise InputError(
            f"image size is {size[0]} x {size[1]} pixels, but tiles are of {own[0]} x {own[1]}; give a larger image "
            f"size, such as {2 * own[0]} x {2 * own[1]}, or leave the tiles out"
        )
    return size


def places(size: tuple[int, int], window: tuple[int, int], patch: tuple[int, int]) -> list[Place]:
    """Top left corners in pixels of the windows that cover ``size`` (H, W), on the grid of patches, evenly spread.

    Raises ValueError where ``size`` is smaller than ``window``.
    """
    rows, columns = (_starts(*sides) for sides in zip(size, window, patch, strict=True))
    return [(top, left) for top in rows for left in columns]


def _starts(length: int, window: int, patch: int) -> list[int]:
    if length < window:
        raise ValueError(f"{length} pixels are less than a window of {window}")
    free = (length - window) // patch
    steps = ceil(free * patch / (window * (1 - OVERLAP)))
    return [round(free * step / max(steps, 1)) * patch for step in range(steps + 1)]


def join(
    parts: Sequence[Observation], at: Sequence[Place], size: tuple[int, int], patch: tuple[int, int]
) -> Observation:
    """One observation of whole images of ``size`` (H, W) from one per window, T in all, at ``at``.

    Patches and maps are averaged where windows overlap; an image is as abnormal as its most abnormal window.
    """
    first = parts[0]
    grid = size[0] // patch[0], size[1] // patch[1]
    corners = [(top // patch[0], left // patch[1]) for top, left in at]
    patches = []
    for level in range(len(first.patches)):
        tokens = [part.patches[level].unflatten(1, part.grid) for part in parts]
        patches.append(_mean(tokens, corners, grid).flatten(1, 2))
    maps, probability = None, None
    if first.level_maps is not None and first.abnormal_probability is not None:
        levels = zip(*(part.level_maps or () for part in parts), strict=True)
        maps = tuple(_mean([one[..., None] for one in level], at, size)[..., 0] for level in levels)
        probability = torch.stack(
            [part.abnormal_probability for part in parts if part.abnormal_probability is not None]
        )
        probability = probability.amax(dim=0)
    saliency = _joined([part.saliency for part in parts], first.grid, corners, grid)
    damage = _joined([part.damage for part in parts], first.grid, corners, grid)
    return Observation(tuple(patches), grid, size, maps, probability, saliency, damage)


def _joined(
    windows: Sequence[Tensor | None], window: tuple[int, int], corners: Sequence[Place], grid: tuple[int, int]
) -> Tensor | None:
    """Values of patches, T times (B, p), on the whole grid, (B, P); None where windows have none."""
    known = [values.unflatten(1, window)[..., None] for values in windows if values is not None]
    return _mean(known, corners, grid).flatten(1) if known else None


def _mean(windows: Sequence[Tensor], at: Sequence[Place], size: tuple[int, int]) -> Tensor:
    """Windows T times (B, h, w, E) laid down at ``at`` on a canvas (B, H, W, E), averaged where they overlap."""
    batch, height, width, channels = windows[0].shape
    total = windows[0].new_zeros(batch, *size, channels)
    count = windows[0].new_zeros(1, *size, 1)
    for window, (top, left) in zip(windows, at, strict=True):
        total[:, top : top + height, left : left + width] += window
        count[:, top : top + height, left : left + width] += 1
    return total / count

"""Images larger than the backbone's own size, seen through overlapping windows of that size.

A window keeps the scale that the backbone was trained at, so small defects of large images stay visible; enlarging
the whole input doesn't. What windows say of the same patch is averaged.

Shapes: B images, T windows, p patches of a window, P of the whole image, E joint width, L levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from sowa.core.arrays import Array, namespace
from sowa.core.types import Features
from sowa.errors import InputError

OVERLAP = 0.25  # of a window, at least
Size = tuple[int, int]
Place = tuple[int, int]


def check_image_size(wanted: Size | None, own: Size, patch: Size, tiled: bool) -> Size:
    """The size at which images are seen.

    Args:
        wanted: (H, W) in pixels; None means ``own``, or twice that for tiles.
        own: The backbone's image size, (H, W) in pixels.
        patch: The backbone's patch, (h, w) in pixels.
        tiled: Whether images are seen through windows of the backbone's size.

    Raises:
        InputError: the patches, or the tiles, don't fit.
    """
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


def window_places(size: Size, window: Size, patch: Size) -> list[Place]:
    """Top left corners in pixels of the windows that cover ``size``, on the grid of patches, evenly spread.

    Args:
        size: (H, W) in pixels.
        window: (H, W) of a window in pixels.
        patch: (h, w) of a patch in pixels.

    Raises:
        ValueError: ``size`` is smaller than ``window``.

    Example:
        >>> window_places((64, 112), (64, 64), (16, 16))
        [(0, 0), (0, 48)]
    """
    rows, columns = (_starts(*sides) for sides in zip(size, window, patch, strict=True))
    return [(top, left) for top in rows for left in columns]


def _starts(length: int, window: int, patch: int) -> list[int]:
    if length < window:
        raise ValueError(f"{length} pixels are less than a window of {window}")
    free = (length - window) // patch
    steps = ceil(free * patch / (window * (1 - OVERLAP)))
    return [round(free * step / max(steps, 1)) * patch for step in range(steps + 1)]


def join_windows(windows: Sequence[Features], places: Sequence[Place], size: Size, patch: Size) -> Features:
    """Features of whole images from those of their windows.

    Patches, maps and what extensions read are averaged where windows overlap; an image is as abnormal as its most
    abnormal window.

    Args:
        windows: One per window, T in all.
        places: Their top left corners in pixels.
        size: (H, W) of the whole image in pixels.
        patch: (h, w) of a patch in pixels.
    """
    first = windows[0]
    grid = size[0] // patch[0], size[1] // patch[1]
    corners = [(top // patch[0], left // patch[1]) for top, left in places]

    def on_grid(values_TBpE: Sequence[Array]) -> Array:
        """Values of patches T times (B, p, E), laid onto the whole grid, (B, P, E)."""
        laid = _mean([v.reshape(v.shape[0], *first.grid, v.shape[2]) for v in values_TBpE], corners, grid)
        return laid.reshape(laid.shape[0], -1, laid.shape[3])

    def scalars(values_TBp: Sequence[Array]) -> Array:
        return on_grid([values[..., None] for values in values_TBp])[..., 0]

    maps, probability = None, None
    if first.level_maps is not None:
        levels = zip(*(one.level_maps or () for one in windows), strict=True)
        maps = tuple(_mean([one[..., None] for one in level], places, size)[..., 0] for level in levels)
        xp = namespace(first.abnormal_probability)
        probability = xp.max(xp.stack([one.abnormal_probability for one in windows]), axis=0)
    return Features(
        patches=tuple(on_grid([one.patches[level] for one in windows]) for level in range(len(first.patches))),
        grid=grid,
        size=size,
        level_maps=maps,
        abnormal_probability=probability,
        saliency=None if first.saliency is None else scalars([one.saliency for one in windows]),
        patch_values={name: scalars([one.patch_values[name] for one in windows]) for name in first.patch_values},
    )


def _mean(windows: Sequence[Array], places: Sequence[Place], size: Size) -> Array:
    """Windows T times (B, h, w, E) laid down at ``places`` on a canvas (B, H, W, E), averaged where they overlap."""
    xp, (batch, height, width, channels) = namespace(windows[0]), windows[0].shape
    like = {"dtype": windows[0].dtype, "device": windows[0].device}
    total, count = xp.zeros((batch, *size, channels), **like), xp.zeros((1, *size, 1), **like)
    for window, (top, left) in zip(windows, places, strict=True):
        total[:, top : top + height, left : left + width] += window
        count[:, top : top + height, left : left + width] += 1
    return total / count

"""The size at which the images of a product are seen, from their own sizes.

Small defects want pixels, and nothing is gained above an image's own size. A part keeps its aspect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sowa.core.tiling import Size
from sowa.errors import InputError

SIDES = (384, 512, 640)
"""Sides in pixels of the squares of as many pixels as an image is seen with, at most."""


def fitted_size(sizes: Sequence[Size], side: int, patch: Size) -> Size:
    """The size (H, W) in pixels for images of several sizes: that of the median one, in whole patches.

    Args:
        sizes: Their own, (H', W') in pixels, one and more.
        side: Of the square that has the most pixels that it may have.
        patch: (h, w) of a patch in pixels.

    Example:
        >>> fitted_size([(480, 640)], 384, (16, 16)), fitted_size([(480, 640)], 640, (16, 16))
        ((336, 448), (480, 640))
        >>> fitted_size([(300, 300)], 640, (16, 16))
        (304, 304)
    """
    aspect = math.exp(_median([math.log(height / width) for height, width in sizes]))
    own = math.sqrt(_median([height * width for height, width in sizes]))
    across = min(own, side) / math.sqrt(aspect)
    rows, columns = (
        max(1, round(length / unit)) for length, unit in zip((across * aspect, across), patch, strict=True)
    )
    return rows * patch[0], columns * patch[1]


def check_budget(seconds_per_image: float | None) -> None:
    """Raises InputError for a time that no image could be judged in."""
    if seconds_per_image is not None and not 0 < seconds_per_image < math.inf:
        raise InputError(f"seconds per image is {seconds_per_image}, allowed is above 0, such as 0.2")


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return 0.5 * (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2])

"""At which size a detector sees the images of a product."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from sowa.core.image_size import SIDES, check_budget, fitted_size
from sowa.core.tiling import Size
from sowa.data.sources import ImageSource
from sowa.encoders.base import Encoder
from sowa.errors import InputError

E = TypeVar("E", bound=Encoder)
LOOKED_AT = 8
"""Images, evenly spread, whose own sizes are looked at."""
TIMED = 3
"""Times that an image is encoded at a size; the fastest counts, since the machine may be busy."""


def at_suited_size(encoder: E, images: Sequence[ImageSource]) -> E:
    """The encoder for images at the size at which such ones are best seen, within the limits of its settings.

    Args:
        encoder: Its own size is kept where the backbone has one, or the settings name it.
        images: Of the product; those that can't be read tell nothing.

    Raises:
        InputError: the settings' limits aren't any, or stand beside a size that is given.
    """
    settings = encoder.settings
    check_budget(settings.seconds_per_image)
    limited = settings.fast or settings.seconds_per_image is not None
    if not encoder.any_size:
        if limited:
            raise InputError(
                "fast and seconds per image limit a size that is chosen, but here it is fixed by the image size, tiles "
                f"or backbone {encoder.name!r}; leave them out"
            )
        return encoder
    own = _sizes(images)
    return encoder.at_size(_chosen(encoder, own)) if own else encoder


def _chosen(encoder: Encoder, own: Sequence[Size]) -> Size:
    settings = encoder.settings
    sizes = [fitted_size(own, side, encoder.patch_size) for side in (SIDES[:1] if settings.fast else SIDES)]
    if settings.seconds_per_image is None:
        return sizes[-1]
    affordable = [size for size in dict.fromkeys(sizes) if _seconds(encoder, size) <= settings.seconds_per_image]
    return affordable[-1] if affordable else sizes[0]


def _sizes(images: Sequence[ImageSource]) -> list[Size]:
    spread = np.linspace(0, len(images) - 1, min(len(images), LOOKED_AT)).round().astype(int)
    found = list[Size]()
    for index in spread.tolist():
        try:
            found.append(images[index].read().shape[:2])
        except InputError:  # is told of where the images are taken
            continue
    return found


def _seconds(encoder: Encoder, size: Size) -> float:
    """That the network takes for an image of a size."""
    sized, image = encoder.at_size(size), np.zeros((1, *size, 3), np.uint8)
    found = []
    for _ in range(TIMED):
        started = time.perf_counter()
        sized.encode(image)
        sized.synchronise()
        found.append(time.perf_counter() - started)
    return min(found)

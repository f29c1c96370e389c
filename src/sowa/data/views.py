"""Views of a reference that show what else is normal: mirrored, turned, tilted.

Images are (H, W, 3) uint8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from sowa.data.images import resize_image
from sowa.errors import InputError

Image = NDArray[np.uint8]

DEGREES = 8.0  # a part that somebody laid down by hand
NEARER = 0.92  # part of each side that is left


def _quarters(image: Image) -> list[Image]:
    """Turned by a quarter either way; none of an image that isn't square, since it wouldn't fit into the frame."""
    return [np.rot90(image, quarter) for quarter in (1, 3)] if image.shape[0] == image.shape[1] else []


def _tilts(image: Image) -> list[Image]:
    import cv2  # slow to import, and what only reads a detector needs none of it

    height, width = image.shape[:2]
    found = []
    for degrees in (DEGREES, -DEGREES):
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
        # Mirrored at the border, so that nothing is shown that isn't the part.
        tilted = cv2.warpAffine(image, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        found.append(np.asarray(tilted, np.uint8))
    return found


def nearer(image: Image) -> list[Image]:
    """The image (H, W, 3) uint8 cut from two corners, a little enlarged."""
    height, width = image.shape[:2]
    down, right = round(height * NEARER), round(width * NEARER)
    cuts = (image[:down, :right], image[-down:, -right:])
    return [resize_image(np.ascontiguousarray(cut), (height, width)) for cut in cuts]


VIEWS: dict[str, Callable[[Image], list[Image]]] = {
    "hflip": lambda image: [image[:, ::-1]],
    "vflip": lambda image: [image[::-1]],
    "rotate90": _quarters,
    "rotate180": lambda image: [image[::-1, ::-1]],
    "tilt": _tilts,
}
"""What a reference may be augmented with."""


def check(kinds: str | Iterable[str]) -> str | tuple[str, ...]:
    """Which kinds of views are wanted, in the order of `VIEWS`, each once.

    Args:
        kinds: "auto", one kind, or several.

    Returns:
        "auto", or the kinds.

    Raises:
        InputError: one that is unknown.

    Example:
        >>> check(["tilt", "hflip", "tilt"])
        ('hflip', 'tilt')
    """
    if kinds == "auto":
        return "auto"
    wanted = {kinds} if isinstance(kinds, str) else set(kinds)
    if unknown := sorted(wanted - VIEWS.keys()):
        raise InputError(f"augment is {unknown[0]!r}, allowed are auto, or some of {', '.join(VIEWS)}")
    return tuple(kind for kind in VIEWS if kind in wanted)


def views(image: Image, kinds: Iterable[str]) -> list[Image]:
    """Every view of an image, without the image itself.

    Args:
        image: (H, W, 3) uint8.
        kinds: Of `VIEWS`.

    Returns:
        Images (H, W, 3) uint8, in the order of the kinds: one of each, two of "rotate90" and "tilt". An image that
        isn't square has none of "rotate90".

    Example:
        >>> import numpy as np
        >>> square = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
        >>> len(views(square, ["hflip", "rotate90"]))
        3
        >>> views(square, ["hflip"])[0][0, 0].tolist()
        [3, 4, 5]
    """
    return [np.ascontiguousarray(view) for kind in kinds for view in VIEWS[kind](image)]


def count(size: tuple[int, int], kinds: Iterable[str]) -> int:
    """How many images one is with its views.

    Args:
        size: (H, W) in pixels; only whether it's square matters.
        kinds: Of `VIEWS`.

    Example:
        >>> count((240, 240), ["rotate90"]), count((240, 320), ["rotate90"])
        (3, 1)
    """
    small = (8, 8 if size[0] == size[1] else 9, 3)  # only whether it is square matters
    return 1 + len(views(np.zeros(small, np.uint8), kinds))


def variants(image: Image) -> NDArray[np.uint8]:
    """What the same part may look like in another image: a little nearer and aside, brighter or darker.

    Cut from the image itself, so that no border is invented.

    Args:
        image: (H, W, 3) uint8.

    Returns:
        (3, H, W, 3) uint8.
    """
    cuts = ((0.97, 0.0, 0.0, 1.07), (0.97, 1.0, 1.0, 0.93), (0.94, 0.0, 1.0, 1.0))
    return np.stack([_cut(image, *cut) for cut in cuts])


def _cut(image: Image, part: float, down: float, right: float, brightness: float) -> Image:
    height, width = image.shape[:2]
    top, left = round(height * (1 - part) * down), round(width * (1 - part) * right)
    cut = image[top : top + max(1, round(height * part)), left : left + max(1, round(width * part))]
    varied: Image = np.clip(resize_image(cut, (height, width)) * brightness, 0, 255).astype(np.uint8)
    return varied

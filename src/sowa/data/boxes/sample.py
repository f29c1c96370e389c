"""What the loaders of boxes have in common: the nouns, and what a box must be."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from sowa.errors import InputError

Box = tuple[float, float, float, float]
ROUNDING = 2.0  # pixels that a box may lie outside: tools round differently


@dataclass(frozen=True)
class BoxSample:
    """An image, not yet read, and what is in it.

    Attributes:
        image_path: The image's file.
        size: (H, W) in pixels.
        boxes: x1, y1, x2, y2 in its pixels, N of them.
        labels: The name of what is in each, N.
        split: "train", "validation", "test", or "" where the data set doesn't say.
        reference: An image of the same part without anything to find, where there is one.
    """

    image_path: Path
    size: tuple[int, int]
    boxes: tuple[Box, ...]
    labels: tuple[str, ...]
    split: str = ""
    reference: Path | None = None


@dataclass(frozen=True)
class BoxSet:
    """All images of a data set.

    Attributes:
        names: Of what may be in them, in the data set's order.
        samples: The images.
    """

    names: tuple[str, ...]
    samples: tuple[BoxSample, ...]

    def of(self, split: str) -> list[BoxSample]:
        """The images of one split."""
        return [sample for sample in self.samples if sample.split == split]


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) in pixels as the image is shown, from its header.

    Raises:
        InputError: there is no such image.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) >= 5  # the camera was held upright: rows are columns
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} can't be read as an image ({error}): check the path or leave it out") from None
    return (width, height) if turned else (height, width)


def checked(box: Sequence[float], size: tuple[int, int], where: str) -> Box:
    """A box inside an image, clipped where rounding put it outside.

    Args:
        box: x1, y1, x2, y2 in pixels.
        size: The image's (H, W) in pixels.
        where: The file and line, for the message.

    Raises:
        InputError: the box is empty, or further outside than `ROUNDING`.

    Example:
        >>> checked((-1, 2, 10, 8), (8, 10), "labels.txt, line 1")
        (0.0, 2, 10, 8)
    """
    height, width = size
    x1, y1, x2, y2 = box
    numbers = ", ".join(f"{value:g}" for value in box)
    inside = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    if not all(math.isfinite(value) for value in box) or x2 <= x1 or y2 <= y1:
        raise InputError(f"{where}: box ({numbers}) is empty, needed is x1 < x2 and y1 < y2; correct or remove it")
    outside = min(x1, y1) < -ROUNDING or x2 > width + ROUNDING or y2 > height + ROUNDING
    if outside or inside[2] <= inside[0] or inside[3] <= inside[1]:
        raise InputError(
            f"{where}: box ({numbers}) lies outside the image of {width} x {height} pixels; correct or remove it"
        )
    return inside


def check_classes(names: Sequence[str], where: str) -> tuple[str, ...]:
    """Names of classes, without space around them.

    Args:
        names: As the data set has them.
        where: The file, for the message.

    Raises:
        InputError: there is none, an empty one or one twice.
    """
    words = tuple(str(name).strip() for name in names)
    if not words or not all(words):
        raise InputError(f"{where}: classes are {list(names)}, needed is one name or more, none empty")
    twice = [name for name, count in Counter(words).items() if count > 1]
    if twice:
        raise InputError(f"{where}: class {twice[0]!r} is there twice; give each class a name of its own")
    return words


def split_of(name: str) -> str:
    """The split that the name of a file or folder says, "" where it says none."""
    words = name.lower()
    if "train" in words:
        return "train"
    if "val" in words:
        return "validation"
    return "test" if "test" in words else ""


def found(names: Sequence[str], samples: Sequence[BoxSample], root: Path) -> BoxSet:
    """A data set of what was read.

    Args:
        names: Of the classes.
        samples: The images.
        root: Where they are from, for the message.

    Raises:
        InputError: it has no image.
    """
    if not samples:
        raise InputError(f"{root} holds no image with boxes; check the path and --dataset")
    return BoxSet(tuple(names), tuple(samples))

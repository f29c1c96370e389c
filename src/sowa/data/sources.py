"""Images from wherever a user has them, not yet read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from sowa.core.types import Sample
from sowa.data.decode import to_rgb
from sowa.data.files import expand_source
from sowa.data.images import read_image
from sowa.errors import InputError

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class ImageSource:
    """An image that hasn't been read.

    Attributes:
        name: What results call it: its path as text, or a number.
        origin: Where its pixels are: a path, or the pixels themselves, (H, W, 3) uint8 RGB.
    """

    name: str
    origin: Path | Image

    def read(self) -> Image:
        """Its pixels, (H, W, 3) uint8 RGB.

        Raises:
            InputError: a file that is missing or broken.
        """
        return read_image(self.origin) if isinstance(self.origin, Path) else self.origin


def image_sources(source: Any) -> list[ImageSource]:
    """Every image of a source, in a stable order.

    Args:
        source: A file, folder or glob pattern, a PIL image, an array (H, W, 3), (B, H, W, 3) or (H, W) uint8, a tensor
            (3, H, W) or (B, 3, H, W) in 0..1 or uint8, or a list of those.

    Returns:
        The images, not yet read. One that comes without a path is called by its place.

    Raises:
        InputError: anything else, an empty list, a path that doesn't exist, or a tensor with values outside 0..1.

    Example:
        >>> import numpy as np
        >>> [image.name for image in image_sources(np.zeros((2, 8, 8, 3), np.uint8))]
        ['array-0000', 'array-0001']
    """
    if isinstance(source, (list, tuple)):
        found = [original for part in source for original in image_sources(part)]
        if not found:
            raise InputError("the list of images is empty; give at least one")
        return [
            ImageSource(f"array-{index:04d}", original.origin) if isinstance(original.origin, np.ndarray) else original
            for index, original in enumerate(found)
        ]
    if isinstance(source, (str, Path)):
        return [ImageSource(str(path), path) for path in expand_source(source)]
    return [ImageSource(f"array-{index:04d}", image) for index, image in enumerate(_arrays(source))]


def sample_sources(samples: Iterable[Sample]) -> list[ImageSource]:
    """The image of each sample, called by its path."""
    return [ImageSource(str(sample.image_path), sample.image_path) for sample in samples]


def _arrays(source: Any) -> list[Image]:
    if isinstance(source, PillowImage.Image):
        return [to_rgb(source)]
    array = _from_tensor(source) if hasattr(source, "detach") else np.asarray(source)
    known = array.ndim == 2 or (array.ndim in (3, 4) and array.shape[-1] == 3)
    if array.dtype != np.uint8 or not known or 0 in array.shape:
        raise InputError(
            f"image of shape {array.shape} and type {array.dtype} isn't understood; give (H, W, 3) uint8, a tensor "
            "(3, H, W) in 0..1, a PIL image, a path or a list of those"
        )
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=-1)
    return list(array) if array.ndim == 4 else [array]


def _from_tensor(tensor: Any) -> NDArray[Any]:
    """Channels last; floating point in 0..1 to uint8."""
    if tensor.is_floating_point():
        values = tensor.detach().float()
        if values.numel() and not (values.min() >= 0 and values.max() <= 1):  # catches NaN too
            raise InputError(
                f"tensor holds values from {values.min():g} to {values.max():g}, allowed is 0 to 1, or uint8"
            )
        tensor = (values * 255 + 0.5).byte()
    array: NDArray[Any] = tensor.detach().cpu().numpy()
    return np.moveaxis(array, -3, -1) if array.ndim >= 3 else array

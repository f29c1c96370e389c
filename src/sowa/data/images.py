"""Read and resize images and masks. H x W pixels; sizes are (height, width)."""

from __future__ import annotations

import os
import stat
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sowa.data.decode import decode, is_deep, reading, to_rgb
from sowa.errors import InputError

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """The image of a file: upright (EXIF), first frame, transparency over white, deep grey scaled as `to_rgb` says.

    Args:
        path: The file.

    Returns:
        Pixels (H, W, 3) uint8 RGB.

    Raises:
        InputError: the file is missing, empty, broken, no image, or larger than `MAX_PIXELS`.
    """
    file = _existing(path)
    with reading(str(path)), file.open("rb") as stream:
        return to_rgb(decode(stream, str(path)), str(path))


def decode_image(data: bytes, name: str) -> NDArray[np.uint8]:
    """As `read_image`, from the bytes of a file (an upload).

    Args:
        data: What the file would hold.
        name: Stands for it in messages.

    Returns:
        Pixels (H, W, 3) uint8 RGB.

    Raises:
        InputError: as `read_image`.

    Example:
        >>> decode_image(b"P3 1 1 255  10 20 30", "dot.ppm").tolist()
        [[[10, 20, 30]]]
    """
    if not data:
        raise InputError(f"{name} is empty (0 bytes): send the image's bytes")
    with reading(name):
        return to_rgb(decode(BytesIO(data), name), name)


def read_mask(path: str | os.PathLike[str], size: tuple[int, int] | None = None) -> NDArray[np.bool_]:
    """The mask of a file, upright by its EXIF orientation, as its image is.

    Store masks without loss (PNG): the noise that JPEG adds is > 0.

    Args:
        path: The file.
        size: Its image's (height, width), which must be the mask's; None doesn't compare.

    Returns:
        (H, W) bool, anomalous where > 0: in any channel of a colour or palette mask, and only where a mask with
        transparency isn't fully transparent.

    Raises:
        InputError: as `read_image`; or the mask has another size.
    """
    file = _existing(path)
    with reading(str(path)), file.open("rb") as stream:
        mask = _anomalous(decode(stream, str(path)))
    if size is not None and mask.shape != tuple(size):
        raise InputError(
            f"mask {path} is {mask.shape[0]} x {mask.shape[1]} and its image {size[0]} x {size[1]} "
            "(height x width), but a mask must have its image's size: export the mask at the image's size, "
            "or replace the image by the one that the mask was drawn on"
        )
    return mask


def resize_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask at another size: antialiased bilinear, then > 0.5, as the method binarises (METHOD.md section 6).

    Args:
        mask: (H', W') bool.
        size: (H, W) in pixels.

    Returns:
        (H, W) bool.

    Raises:
        InputError: a side of ``size`` is below 1.
    """
    _check_size(size)
    grey = Image.fromarray(np.asarray(mask, dtype=np.uint8) * np.uint8(255))
    resized: NDArray[np.bool_] = np.asarray(grey.resize((size[1], size[0]), Image.Resampling.BILINEAR)) > 127
    return resized


def read_mask_at(
    path: Path | None, size: tuple[int, int], image_size: tuple[int, int] | None = None
) -> NDArray[np.bool_]:
    """An image's mask at another size; without a mask, as normal images are, nothing is anomalous.

    Args:
        path: The mask's file, or None.
        size: (H, W) in pixels.
        image_size: The image's own (height, width), which must be the mask's in its file; None doesn't compare.

    Returns:
        (H, W) bool.

    Raises:
        InputError: as `read_mask`, for ``image_size``, and `resize_mask`.
    """
    return np.zeros(size, dtype=bool) if path is None else resize_mask(read_mask(path, image_size), size)


def resize_image(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The image at another size, antialiased bicubic.

    Args:
        image: (H', W', 3) uint8.
        size: (H, W) in pixels.

    Returns:
        (H, W, 3) uint8.

    Raises:
        InputError: a side of ``size`` is below 1.

    Example:
        >>> import numpy as np
        >>> resize_image(np.full((8, 8, 3), 9, np.uint8), (2, 3)).shape
        (2, 3, 3)
    """
    _check_size(size)
    return np.array(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def _anomalous(image: Image.Image) -> NDArray[np.bool_]:
    if is_deep(image) or image.mode == "1" or (image.mode == "L" and not image.has_transparency_data):
        positive: NDArray[np.bool_] = np.asarray(image) > 0
        return positive
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        opaque: NDArray[np.bool_] = rgba[..., :3].any(axis=2) & (rgba[..., 3] > 0)
        return opaque
    coloured: NDArray[np.bool_] = np.asarray(image.convert("RGB")).max(axis=2) > 0
    return coloured


def _existing(path: str | os.PathLike[str]) -> Path:
    file = Path(path)
    try:
        status = file.stat()
    except FileNotFoundError:
        raise InputError(f"{path} doesn't exist: check the path") from None
    except (OSError, ValueError) as error:  # a name too long or with a null byte, a folder that can't be entered
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{str(path)!r} can't be opened ({reason}): check the path and its permissions") from None
    if not stat.S_ISREG(status.st_mode):  # a pipe or a device would block for ever
        raise InputError(f"{path} isn't a file: give the path of one image")
    if status.st_size == 0:
        raise InputError(f"{path} is empty (0 bytes): copy or export it again")
    return file


def _check_size(size: tuple[int, int]) -> None:
    if min(size) < 1:
        raise InputError(f"size is {size[0]} x {size[1]}, both sides must be 1 or more")

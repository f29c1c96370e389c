"""Decode one image with Pillow so that nothing in the file can surprise the caller.

Every image comes out as (H, W, 3) uint8 RGB, upright. The file is not trusted: formats are a fixed list, the size
in the header is checked before a pixel is decoded, and whatever Pillow raises becomes one `InputError`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from sowa.errors import InputError

# 16384 x 8192, or 400 MB as RGB; below the 179 million pixels at which Pillow itself refuses
MAX_PIXELS = 2**27

# a closed list: Pillow would also hand PostScript to Ghostscript, whatever the file is called (MPO goes as JPEG)
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

_BITS_PER_SAMPLE = 258  # TIFF tag
_PILLOW_FILTER = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turns whatever goes wrong inside, in the file called ``name``, into one InputError."""
    _hush_pillow()
    try:
        yield
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(f"{name} has more than the {MAX_PIXELS} pixels allowed: downscale it or cut it") from None
    except PermissionError:
        raise InputError(f"{name} can't be opened, permission is denied: allow reading it") from None
    except Exception as error:  # Pillow's readers raise nearly anything on a broken file
        problem = "its format is unknown" if isinstance(error, UnidentifiedImageError) else _one_line(error)
        raise InputError(
            f"{name} is broken or not an image ({problem}): "
            "save it again as PNG, JPEG, TIFF, BMP, WebP, GIF or PPM, or take it out"
        ) from None


def decode(source: BinaryIO, name: str) -> Image.Image:
    """The first frame, decoded and turned upright by its EXIF orientation. Call it inside `reading`.

    Args:
        source: An open file and not a path, which Pillow would map into memory: a rotated TIFF then comes out scrambled
            (Pillow 13), and a file that shrinks meanwhile ends the process.
        name: Stands for it in messages.

    Raises:
        InputError: more than `MAX_PIXELS`.
    """
    with Image.open(source, formats=FORMATS) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise InputError(
                f"{name} is {height} x {width}, more than the {MAX_PIXELS} pixels allowed: downscale it or cut it"
            )
        image.load()
        try:
            ImageOps.exif_transpose(image, in_place=True)
        except Exception:  # an unreadable EXIF block says nothing about the pixels: shown as stored, as viewers do
            return image
        return image


def is_deep(image: Image.Image) -> bool:
    """Whether the image has one channel of more than 8 bits (Pillow modes I, I;16 and its kin, F)."""
    return image.mode == "F" or image.mode.startswith("I")


def to_rgb(image: Image.Image, name: str = "the image") -> NDArray[np.uint8]:
    """A Pillow image as an array.

    Transparency is composited over white. Grey of more than 8 bits is scaled by its depth, never by its content, so
    that images stay comparable: 16 bits (and 32-bit integers in 0..65535) by 257, 12-bit TIFF by 4095 / 255,
    floats from 0..1, else 0..255, else 0..65535, the first range that holds them. Only values outside all of these
    are stretched from their minimum to their maximum.

    Args:
        image: Of any mode.
        name: Stands for it in messages.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        InputError: a float image holds NaN or infinity.

    Example:
        >>> from PIL import Image
        >>> to_rgb(Image.new("L", (3, 2), 7)).shape
        (2, 3, 3)
    """
    if is_deep(image):
        return np.repeat(_to_8_bits(image, name)[..., None], 3, axis=2)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def _to_8_bits(image: Image.Image, name: str) -> NDArray[np.uint8]:
    values: NDArray[np.floating[Any]] = np.asarray(image).astype("f4" if image.mode.startswith("I;16") else "f8")
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise InputError(f"{name} holds NaN or infinity: replace these values by finite ones")
    tops = (1.0, 255.0, 65535.0) if image.mode == "F" else (float(2 ** _bits(image) - 1),)
    top = next((top for top in tops if high <= top), None)
    if low >= 0 and top is not None:
        low, high = 0.0, top
    scaled: NDArray[np.uint8] = np.rint((values - low) * (255 / ((high - low) or 1))).astype(np.uint8)
    return scaled


def _bits(image: Image.Image) -> int:
    """Bits per pixel that the file declares, 16 where it doesn't (32-bit integers mostly carry 16-bit values)."""
    declared = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))
    return 12 if tuple(declared) == (12,) else 16


def _hush_pillow() -> None:
    """Ignores Pillow's own warnings (large image, odd EXIF or TIFF tag): what matters is raised as InputError.

    The filter stays. `warnings.catch_warnings` around each image isn't safe in threads, and it would make every
    other library's once-only warning appear once per image.
    """
    if _PILLOW_FILTER not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__

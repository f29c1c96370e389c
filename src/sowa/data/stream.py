"""Images from wherever a user has them, decoded and resized in the background, batch by batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from sowa.core.types import Sample
from sowa.data.decode import to_rgb
from sowa.data.files import expand_source
from sowa.data.images import read_image, resize_image
from sowa.errors import InputError

Image = NDArray[np.uint8]
T = TypeVar("T")
THREADS = 2
PREFETCHED = 16


@dataclass(frozen=True)
class ImageSource:
    """An image that hasn't been read: its name and where to have it, a path or pixels (H, W, 3) uint8."""

    name: str
    origin: Path | Image

    def read(self) -> Image:
        """Pixels (H, W, 3) uint8 RGB. Raises InputError for a broken file."""
        return read_image(self.origin) if isinstance(self.origin, Path) else self.origin


@dataclass(frozen=True)
class Batch:
    """Images that could be read, their own sizes (H', W'), and their pixels at one size, (B, H, W, 3) uint8."""

    sources: list[ImageSource]
    sizes: list[tuple[int, int]]
    images: NDArray[np.uint8]


def image_sources(source: Any) -> list[ImageSource]:
    """Every image of a source, in a stable order.

    ``source`` is a file, folder or glob pattern, a PIL image, an array (H, W, 3) or (H, W) uint8, a tensor
    (3, H, W) or (B, 3, H, W) in 0..1 or uint8, or a list of those. Raises InputError for anything else.
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


def read_batches(
    wanted: Iterable[ImageSource],
    size: tuple[int, int],
    batch_size: int,
    on_skip: Callable[[ImageSource, str], None],
    limit: int | None = None,
) -> Iterator[Batch]:
    """Batches of at most ``batch_size`` images at ``size`` (H, W), in order.

    Decoding and resizing run ahead in threads. An image that can't be read is handed to ``on_skip`` with the reason
    and left out, so batches stay full; the first ``limit`` readable ones are taken where it's given.
    """

    if batch_size < 1:
        raise InputError(f"batch size is {batch_size}, allowed is 1 and more")

    def load(source: ImageSource) -> tuple[ImageSource, tuple[int, int], Image]:
        image = source.read()
        return source, (image.shape[0], image.shape[1]), resize_image(image, size)

    def readable() -> Iterator[tuple[ImageSource, tuple[int, int], Image]]:
        for source, future in _ahead(load, wanted):
            try:
                yield future.result()
            except InputError as error:
                on_skip(source, str(error))

    stream = islice(readable(), limit)
    while group := list(islice(stream, batch_size)):
        found, sizes, images = zip(*group, strict=True)
        yield Batch(list(found), list(sizes), np.stack(images))


def skipped_into(skipped: list[tuple[str, str]]) -> Callable[[ImageSource, str], None]:
    """What ``read_batches`` calls for a broken image: adds its name and the reason to a list."""
    return lambda image, why: skipped.append((image.name, why))


def variants(image: Image) -> NDArray[np.uint8]:
    """What the same part may look like in another image: a little nearer and aside, brighter or darker.

    ``image`` (H, W, 3) uint8 gives (3, H, W, 3) uint8. Cut from the image itself, so that no border is invented.
    """
    cuts = ((0.97, 0.0, 0.0, 1.07), (0.97, 1.0, 1.0, 0.93), (0.94, 0.0, 1.0, 1.0))
    return np.stack([_nearer(image, *cut) for cut in cuts])


def _nearer(image: Image, part: float, down: float, right: float, brightness: float) -> Image:
    height, width = image.shape[:2]
    top, left = round(height * (1 - part) * down), round(width * (1 - part) * right)
    cut = image[top : top + max(1, round(height * part)), left : left + max(1, round(width * part))]
    nearer: Image = np.clip(resize_image(cut, (height, width)) * brightness, 0, 255).astype(np.uint8)
    return nearer


def _ahead(work: Callable[[ImageSource], T], items: Iterable[ImageSource]) -> Iterator[tuple[ImageSource, Future[T]]]:
    """Each item with its future result, at most PREFETCHED of them under way."""
    with ThreadPoolExecutor(THREADS) as pool:
        waiting: deque[tuple[ImageSource, Future[T]]] = deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) >= PREFETCHED:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            for _, future in waiting:
                future.cancel()


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

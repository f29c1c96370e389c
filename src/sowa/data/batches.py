"""Images decoded and resized in the background, batch by batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sowa.data.images import resize_image
from sowa.data.sources import Image, ImageSource
from sowa.errors import InputError

T = TypeVar("T")
THREADS = 2
PREFETCHED = 16


@dataclass(frozen=True)
class Batch:
    """Images that could be read, at one size.

    Attributes:
        sources: Where they are from, B of them.
        sizes: Their own sizes (H', W') in pixels.
        images: Their pixels, (B, H, W, 3) uint8 RGB.
    """

    sources: list[ImageSource]
    sizes: list[tuple[int, int]]
    images: NDArray[np.uint8]

    def at_size(self, size: tuple[int, int]) -> Batch:
        """The same images at another size (H, W)."""
        return replace(self, images=np.stack([resize_image(image, size) for image in self.images]))


def read_batches(
    wanted: Iterable[ImageSource],
    size: tuple[int, int],
    batch_size: int,
    skipped: list[tuple[str, str]],
    limit: int | None = None,
) -> Iterator[Batch]:
    """Batches of images at one size, in order. Decoding and resizing run ahead in threads.

    Args:
        wanted: The images.
        size: (H, W) in pixels.
        batch_size: At most so many images are in a batch; batches stay full where some can't be read.
        skipped: Takes the name of every image that can't be read, and why.
        limit: So many readable ones are taken; all by default.

    Raises:
        InputError: the batch size is below 1.
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
                skipped.append((source.name, str(error)))

    stream = islice(readable(), limit)
    while group := list(islice(stream, batch_size)):
        found, sizes, images = zip(*group, strict=True)
        yield Batch(list(found), list(sizes), np.stack(images))


def none_readable(wanted: int, skipped: Sequence[tuple[str, str]], what: str = "images") -> InputError:
    """The error for images of which none could be read.

    Args:
        wanted: So many there were.
        skipped: Name and reason of each.
        what: What the message calls them.
    """
    return InputError(f"none of {wanted} {what} can be read; first problem: {skipped[0][1]}")


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

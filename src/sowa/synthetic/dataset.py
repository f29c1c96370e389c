"""Write generated images as a data set in the MVTec AD layout."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sowa.core.files import write_bytes
from sowa.errors import InputError
from sowa.synthetic.generator import SyntheticImage, defect_types, generate

Progress = Callable[[int, int], None]

# each split counts its seeds from its own start, so that no piece is in two splits
_TRAIN, _TEST_GOOD, _TEST_DEFECT, _NEXT_DEFECT = 0, 1_000_000, 2_000_000, 100_000


def write_dataset(
    root: str | os.PathLike[str],
    categories: Iterable[str],
    *,
    train: int = 20,
    test: tuple[int, int] = (10, 5),
    size: int | tuple[int, int] = 384,
    seed: int = 0,
    severity: float | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write `root`/category/{train,test,ground_truth}/... as PNG files; a second run replaces the same files.

    Args:
        root: folder to write to, made when missing.
        categories: names from `CATEGORIES`.
        train: normal images in train/good of each category.
        test: normal images in test/good, and images in each test/<defect type>, with masks 0/255 in
            ground_truth/<defect type>.
        size: side, or (height, width), in pixels.
        seed: product lines of the data set; another seed gives other products.
        severity: how plain the defects are, 0..1; each draws its own by default.
        progress: called with (images written, images in all) after each one.

    Returns:
        `root` as a Path.

    Raises:
        InputError: (a ValueError) an unknown category, a negative count, or what `generate` refuses.
    """
    if min(train, *test) < 0:
        raise InputError(f"train {train} and test {test} must be 0 or more")
    names = dict.fromkeys([categories] if isinstance(categories, str) else categories)
    plan = [(name, *item) for name in names for item in _plan(name, train, *test)]
    for done, (category, split, defect_type, index, piece) in enumerate(plan, start=1):
        made = generate(category, defect_type=defect_type, size=size, seed=piece, style_seed=seed, severity=severity)
        _save(made, Path(root, category), split, index)
        if progress is not None:
            progress(done, len(plan))
    return Path(root)


def _save(made: SyntheticImage, folder: Path, split: str, index: int) -> None:
    kind = made.defect_type or "good"
    if made.defect_type is not None:  # the mask first: an image is never without it
        mask = made.mask.astype(np.uint8) * np.uint8(255)
        _write(folder / "ground_truth" / kind / f"{index:03d}_mask.png", mask)
    _write(folder / split / kind / f"{index:03d}.png", made.image[..., ::-1])


def _plan(
    category: str, train: int, test_good: int, test_per_defect: int
) -> Iterator[tuple[str, str | None, int, int]]:
    """Split, defect type, index and piece seed of every image of a category."""
    for index in range(train):
        yield "train", None, index, _TRAIN + index
    for index in range(test_good):
        yield "test", None, index, _TEST_GOOD + index
    for number, defect_type in enumerate(defect_types(category)):
        for index in range(test_per_defect):
            yield "test", defect_type, index, _TEST_DEFECT + number * _NEXT_DEFECT + index


def _write(path: Path, image: NDArray[np.uint8]) -> None:
    """Write a BGR or grey PNG; readers never see half a file."""
    _, code = cv2.imencode(".png", image)
    write_bytes(path, code.tobytes())

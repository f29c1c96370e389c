"""Images and data sets on disk. Loaders list files as `Sample`s; only `pairs` and `kolektor` read masks
while listing.

No torch in here: everything is paths, numpy and Pillow.
"""

from __future__ import annotations

from pathlib import Path

from sowa.core.types import Sample
from sowa.data.dagm import DAGM
from sowa.data.decode import MAX_PIXELS, to_rgb
from sowa.data.files import expand_source, list_images
from sowa.data.folder import FOLDER, load_folder
from sowa.data.images import (
    IMAGE_SUFFIXES,
    decode_image,
    read_image,
    read_mask,
    read_mask_at,
    resize_image,
    resize_mask,
)
from sowa.data.kolektor import KOLEKTOR, KOLEKTOR2
from sowa.data.layout import DataSet, unknown
from sowa.data.magnetic_tile import MAGNETIC_TILE
from sowa.data.mvtec import BTAD, MVTEC, load_mvtec
from sowa.data.mvtec2 import MVTEC2
from sowa.data.pairs import PAIRS, load_pairs
from sowa.data.sampling import choose_references, draw, split
from sowa.data.visa import VISA, load_visa

DATASETS: dict[str, DataSet] = {
    "folder": FOLDER,
    "pairs": PAIRS,
    "mvtec": MVTEC,
    "mvtec2": MVTEC2,
    "visa": VISA,
    "btad": BTAD,
    "dagm": DAGM,
    "dtd-synthetic": MVTEC,
    "kolektor": KOLEKTOR,
    "kolektor2": KOLEKTOR2,
    "magnetic-tile": MAGNETIC_TILE,
    "mpdd": MVTEC,
}

__all__ = [
    "DATASETS",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "DataSet",
    "categories",
    "choose_references",
    "decode_image",
    "draw",
    "expand_source",
    "list_images",
    "load",
    "load_folder",
    "load_mvtec",
    "load_pairs",
    "load_visa",
    "read_image",
    "read_mask",
    "read_mask_at",
    "resize_image",
    "resize_mask",
    "split",
    "to_rgb",
]


def load(dataset: str, root: str | Path, category: str | None = None) -> list[Sample]:
    """The samples of a data set.

    Args:
        dataset: One of `DATASETS`; "_" stands for "-".
        root: Its folder, or that of a category.
        category: Only this one's; all by default.

    Raises:
        InputError: an unknown data set or category (the message lists what exists, the closest name first), or what
            the data set's module says.
    """
    return _known(dataset).load(root, category)


def categories(dataset: str, root: str | Path) -> list[str]:
    """Names of the categories that a folder holds, sorted; may be empty.

    Args:
        dataset: One of `DATASETS`; "_" stands for "-".
        root: The folder.

    Raises:
        InputError: an unknown data set, or ``root`` is missing.
    """
    return _known(dataset).categories(root)


def _known(dataset: str) -> DataSet:
    """Names may be written with underscores, as flags may."""
    name = dataset.replace("_", "-")
    if name not in DATASETS:
        raise unknown("dataset", dataset, DATASETS)
    return DATASETS[name]

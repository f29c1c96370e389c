"""Images with a mask each: root/images/NAME.*, root/masks/NAME.* and, optional, root/good/* without masks.

An image is anomalous where its mask is > 0 anywhere; an image whose mask is empty is normal, as are those in
good. Anomalous images are test. Of all normal ones, sorted by path (good/ before images/), the first, third,
fifth ... are train, so that they can be reference images, and the rest test. To train on everything, use the
samples of both splits. ``root`` may be such a folder or hold several, one per category.

Every mask is read, some milliseconds each. Refused: an image without a mask, a mask without an image, two files of
one stem, a broken mask, no image.
"""

from __future__ import annotations

from pathlib import Path

from sowa.core.types import ABNORMAL, Sample
from sowa.data.files import find_images
from sowa.data.images import read_mask
from sowa.data.layout import DataSet, by_stem, normal_samples
from sowa.errors import InputError


def _is_category(folder: Path) -> bool:
    return (folder / "images").is_dir() and (folder / "masks").is_dir()


def _load_category(folder: Path, category: str) -> list[Sample]:
    images = by_stem(find_images(folder / "images", recursive=False))
    masks = by_stem(find_images(folder / "masks", recursive=False))
    _check_pairs(folder, images.keys() - masks.keys(), "image", "mask")
    _check_pairs(folder, masks.keys() - images.keys(), "mask", "image")
    if not images:
        raise InputError(f"{folder / 'images'} holds no image: check the path, or use --dataset folder")
    normal, anomalous = find_images(folder / "good"), []
    for stem, path in images.items():
        if read_mask(masks[stem]).any():
            anomalous.append(Sample(path, category, "test", ABNORMAL, masks[stem]))
        else:
            normal.append(path)
    return normal_samples(normal, category) + anomalous


def _check_pairs(folder: Path, stems: set[str], has: str, lacks: str) -> None:
    if stems:
        first, more = min(stems), f" (and {len(stems) - 1} more)" if len(stems) > 1 else ""
        raise InputError(f"{folder}: {has} {first!r}{more} has no {lacks} of the same name: add or remove one")


PAIRS = DataSet("CATEGORY/images and CATEGORY/masks", _is_category, _load_category)
load_pairs = PAIRS.load

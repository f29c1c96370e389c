"""KolektorSDD's and KolektorSDD2's layouts. Both give every image a mask; it is anomalous where that is > 0 anywhere.

KolektorSDD: root/kosNN/PartN.jpg and PartN_label.bmp. It has no split of its own: anomalous images are test; of the
normal ones, sorted by path, the first, third, fifth ... are train, the rest test. So both splits hold images of the
same commutator, but of different parts of its surface.

KolektorSDD2: root/train and root/test with NNNNN.png and NNNNN_GT.png. The split is the data set's; train/ holds
anomalous images too, which references are never drawn from. Files of other names are left out, since the published
archive holds a stray "10301 (copy).png".

The only category is called as its folder, which ``root`` is or holds. Defect types aren't told apart. Every mask is
read, some milliseconds each. Refused: an image without its mask, a mask without its image, a broken mask.
"""

from __future__ import annotations

import re
from pathlib import Path

from sowa.core.types import ABNORMAL, NORMAL, Sample
from sowa.data.files import find_images, require_folder, sub_folders
from sowa.data.images import read_mask
from sowa.data.layout import FIX_LAYOUT, DataSet, by_stem, normal_samples
from sowa.errors import InputError


def _read_first(folder: Path, category: str) -> list[Sample]:
    items = [sub for sub in sub_folders(folder) if sub.name.startswith("kos")]
    found = [pair for item in items for pair in _with_masks(item, r"Part\d+", "_label")]
    anomalous = [Sample(path, category, "test", ABNORMAL, mask) for path, mask in found if mask]
    return normal_samples([path for path, mask in found if mask is None], category) + anomalous


def _read_second(folder: Path, category: str) -> list[Sample]:
    return [
        Sample(path, category, split, ABNORMAL if mask else NORMAL, mask)
        for split in ("train", "test")
        for path, mask in _with_masks(require_folder(folder / split, FIX_LAYOUT), r"\d+", "_GT")
    ]


def _with_masks(folder: Path, name: str, suffix: str) -> list[tuple[Path, Path | None]]:
    """Images whose stem is of the form ``name``, with the mask beside each where it isn't empty."""
    files = by_stem(find_images(folder, recursive=False))
    stems = {stem.removesuffix(suffix) for stem in files if re.fullmatch(f"{name}({suffix})?", stem)}
    if not stems:
        raise InputError(f"{folder} holds no image of this data set: {FIX_LAYOUT}")
    found = []
    for stem in sorted(stems):
        for needed, other in ((stem, stem + suffix), (stem + suffix, stem)):
            if needed not in files:
                raise InputError(f"{files[other]} has no {needed}.* beside it: add this file, or remove the other")
        mask = files[stem + suffix]
        found.append((files[stem], mask if read_mask(mask).any() else None))
    return found


KOLEKTOR = DataSet(
    "CATEGORY/kosNN with PartN.jpg and PartN_label.bmp",
    lambda folder: any(folder.glob("kos*/Part*_label.*")),
    _read_first,
)
KOLEKTOR2 = DataSet(
    "CATEGORY/train and CATEGORY/test with NNNNN.png and NNNNN_GT.png",
    lambda folder: any(folder.glob("train/*_GT.*")) or any(folder.glob("test/*_GT.*")),
    _read_second,
)

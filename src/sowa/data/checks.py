"""What is in a data set, and what is wrong with it: counts, broken files, images that are there twice, leakage."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sowa.core.progress import Report, silent
from sowa.core.types import ABNORMAL
from sowa.data import DATASETS, load, read_image
from sowa.data.boxes import BOX_FORMATS, load_boxes
from sowa.data.class_folders import read_folders
from sowa.data.layout import unknown
from sowa.errors import InputError

FOLDERS = "imagefolder"
UNEVEN = 10.0  # times as many of the largest class as of the smallest is worth a word
# An image's fingerprint is which of its neighbouring pixels are brighter, seen small; copies that were saved or
# shrunk again differ by some ten of the 256 bits, other images of one product by thirty and more.
SMALL, BITS = 16, 18


PROBLEMS = {
    "broken": "broken file(s)",
    "same_file": "group(s) of images that are the same file",
    "alike": "pair(s) of images that look the same",
    "leaked": "pair(s) of images that look the same in different splits, which makes tests too good",
    "untrained": "class(es) without an image to train on",
    "rare": "class(es) with less than a tenth of the largest one's",
}


@dataclass(frozen=True)
class Item:
    """One image of a data set that is checked.

    Attributes:
        path: Its file.
        split: As the data set calls it.
        kinds: The class of the image, or of each of its boxes.
    """

    path: Path
    split: str
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Checked:
    """What is in a data set, and what is wrong with it.

    Attributes:
        images: How many there are.
        boxed: Whether they have boxes.
        splits: In the order in which they come.
        counts: Of each class by split: boxes where the data has some, else images.
        broken: Files that can't be read, and why.
        twice: Groups of images that are the same file.
        alike: Pairs that look the same in one split.
        leaked: Pairs that look the same in two splits.
        empty: Images without a box, where the data has boxes.
    """

    images: int
    boxed: bool
    splits: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    broken: list[tuple[str, str]]
    twice: list[tuple[str, ...]]
    alike: list[tuple[str, ...]]
    leaked: list[tuple[str, ...]]
    empty: int

    def problems(self) -> dict[str, list[tuple[str, ...]]]:
        """What was found, by the keys of `PROBLEMS`, with the files or classes that it's about; only what there is."""
        found: dict[str, list[tuple[str, ...]]] = {
            "broken": [(why,) for _, why in self.broken],
            "same_file": self.twice,
            "alike": self.alike,
            "leaked": self.leaked,
            "untrained": [(name,) for name in self.untrained],
            "rare": [(name,) for name in self.rare],
        }
        return {what: examples for what, examples in found.items() if examples}

    @property
    def untrained(self) -> list[str]:
        """Classes that only other splits than "train" have."""
        if "train" not in self.splits:
            return []
        return [name for name, by_split in self.counts.items() if not by_split.get("train")]

    @property
    def rare(self) -> list[str]:
        """Classes with less than a tenth of the largest one's images or boxes."""
        totals = {name: sum(by_split.values()) for name, by_split in self.counts.items()}
        most = max(totals.values(), default=0)
        return [name for name, total in totals.items() if total * UNEVEN < most]

    def summary(self) -> dict[str, Any]:
        """Numbers alone."""
        return {
            "images": self.images,
            "without_boxes": self.empty,
            **{what: len(found) for what, found in self.problems().items()},
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {"images": self.images, "counts": self.counts, "problems": self.problems()}


def items(dataset: str, root: Path) -> tuple[list[Item], bool]:
    """The images of a data set, and whether they have boxes.

    Args:
        dataset: `FOLDERS`, one of `sowa.data.boxes.BOX_FORMATS` or one of `sowa.data.DATASETS`.
        root: Its folder.

    Raises:
        InputError: an unknown data set, or as its loader says.
    """
    if dataset == FOLDERS:
        folders = read_folders(root)
        parts = {"train": folders.train, "test": folders.test}
        return [
            Item(Path(image.name), split, (part.names[label],))
            for split, part in parts.items()
            for image, label in zip(part.images, part.labels, strict=True)
        ], False
    if dataset in BOX_FORMATS:
        boxes = load_boxes(dataset, root)
        return [Item(sample.image_path, sample.split, sample.labels) for sample in boxes.samples], True
    if dataset.replace("_", "-") not in DATASETS:
        raise unknown("dataset", dataset, [FOLDERS, *BOX_FORMATS, *DATASETS])
    return [
        Item(
            sample.image_path,
            sample.split,
            (f"{sample.category}: {sample.defect_type or ('anomalous' if sample.label == ABNORMAL else 'good')}",),
        )
        for sample in load(dataset, root)
    ], False


def check(found: tuple[Sequence[Item], bool], report: Report = silent) -> Checked:
    """Reads every image once and says what is wrong.

    Args:
        found: What `items` found.
        report: Told of the progress.
    """
    images, boxed = found
    counts: dict[str, Counter[str]] = {}
    broken: list[tuple[str, str]] = []
    by_content: dict[str, list[Item]] = {}
    seen: list[tuple[Item, NDArray[np.bool_]]] = []
    for number, item in enumerate(images, 1):
        for kind in item.kinds:
            counts.setdefault(kind, Counter())[item.split] += 1
        try:
            print_of = fingerprint(read_image(item.path))
            same = by_content.setdefault(hashlib.sha256(item.path.read_bytes()).hexdigest(), [])
            same.append(item)
            if len(same) == 1 or item.split != same[0].split:
                seen.append((item, print_of))
        except InputError as error:
            broken.append((str(item.path), str(error)))
        report("check", number, len(images))
    pairs = _alike(seen)
    apart, leaked = (
        [tuple(str(item.path) for item in pair) for pair in pairs if (pair[0].split == pair[1].split) == same]
        for same in (True, False)
    )
    return Checked(
        images=len(images),
        boxed=boxed,
        splits=tuple(dict.fromkeys(item.split for item in images)),
        counts={kind: dict(by_split) for kind, by_split in sorted(counts.items())},
        broken=broken,
        twice=[tuple(str(item.path) for item in same) for same in by_content.values() if len(same) > 1],
        alike=apart,
        leaked=leaked,
        empty=sum(not item.kinds for item in images) if boxed else 0,
    )


def fingerprint(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Bits of an image that survive scaling and compression: is a pixel brighter than the one to its left?

    Args:
        image: (H, W, 3) uint8 RGB.

    Returns:
        (256,) bool; images that look the same differ by at most `BITS`.

    Example:
        >>> import numpy as np
        >>> image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        >>> int((fingerprint(image) != fingerprint(image // 2)).sum()) <= BITS
        True
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (SMALL + 1, SMALL), interpolation=cv2.INTER_AREA).astype(np.int16)
    bits: NDArray[np.bool_] = (small[:, 1:] > small[:, :-1]).ravel()
    return bits


def _alike(seen: Sequence[tuple[Item, NDArray[np.bool_]]]) -> list[tuple[Item, Item]]:
    """Pairs whose fingerprints differ by few bits; of an image without any structure nothing is told."""
    told = [(item, bits) for item, bits in seen if BITS < bits.sum() < len(bits) - BITS]
    if not told:
        return []
    signs = np.stack([bits for _, bits in told]).astype(np.float32) * 2 - 1
    differing = (signs.shape[1] - signs @ signs.T) / 2
    return [
        (told[one][0], told[two][0]) for one, two in combinations(range(len(told)), 2) if differing[one, two] <= BITS
    ]

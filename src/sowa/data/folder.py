"""Plain folders of images, told apart by the folders' names.

A category is a folder that holds one of
  good/ (normal/, ok/) and a folder per defect type (any name), or only good/
  train/ and/or test/, each sorted in this way; images directly in train/ are normal, in test/ unknown
  anything else: all images in it are normal and for training
Case doesn't matter. Folders of masks are not read; use the data sets `mvtec` or `pairs` for these.

Split where there is no train/ or test/: anomalous images are all test; of the sorted normal ones the first,
third, fifth ... are train and the rest test; without anomalous images all normal ones are train.

Refused: a folder that is missing or holds no image, and the layout of another data set.
"""

from __future__ import annotations

from pathlib import Path

from sowa.core.types import ABNORMAL, NORMAL, Sample
from sowa.data.files import find_images, list_images, sub_folders
from sowa.data.layout import DataSet, name_of, normal_samples
from sowa.errors import InputError

NORMAL_NAMES = ("good", "normal", "ok")
ANOMALOUS_NAMES = (
    *("abnormal", "anomalous", "anomalies", "anomaly", "bad", "defect", "defective", "defects"),
    *("fail", "faulty", "ko", "ng", "nok", "not_good", "reject"),
)
_SPLITS = ("train", "test")
_MASKS = ("ground_truth", "mask", "masks")


class _PlainFolders(DataSet):
    def folders(self, root: Path, category: str | None = None) -> dict[str, Path]:
        """The sorted folders inside ``root``, or ``root`` itself; any folder of images will do when it is named."""
        found = super().folders(root) or {name_of(root): root}
        if category is not None and not self.is_category(root):
            found = {sub.name: sub for sub in sub_folders(root)} | found
        return found


def _is_category(folder: Path) -> bool:
    return bool(_named(folder, NORMAL_NAMES + ANOMALOUS_NAMES + _SPLITS))


def _load_category(folder: Path, category: str) -> list[Sample]:
    splits = _named(folder, _SPLITS)
    if splits:
        samples = [sample for split in splits for sample in _load_split(split, category)]
        return samples or _load_nothing(folder)
    _refuse_masks(folder)
    if _is_category(folder):
        return _load_sorted(folder, category)
    return [Sample(path, category, "train", NORMAL) for path in list_images(folder)]


def _load_sorted(folder: Path, category: str) -> list[Sample]:
    """good/ and defect types, not split."""
    normal = [path for sub in _named(folder, NORMAL_NAMES) for path in find_images(sub)]
    if not normal:
        raise InputError(
            f"{folder} has no normal images: put them into a folder in it called {' or '.join(NORMAL_NAMES)}"
        )
    anomalous = _anomalous(folder, category, "test")
    if not anomalous:
        return [Sample(path, category, "train", NORMAL) for path in sorted(normal)]
    return normal_samples(normal, category) + anomalous


def _load_split(folder: Path, category: str) -> list[Sample]:
    """train/ or test/."""
    split = folder.name.lower()
    if split == "train" and not _named(folder, NORMAL_NAMES + ANOMALOUS_NAMES):
        return [Sample(path, category, split, NORMAL) for path in find_images(folder)]
    normal = [path for sub in _named(folder, NORMAL_NAMES) for path in find_images(sub)]
    loose = find_images(folder, recursive=False)
    return [
        *(Sample(path, category, split, NORMAL) for path in normal),
        *(Sample(path, category, split, NORMAL if split == "train" else None) for path in loose),
        *_anomalous(folder, category, split),
    ]


def _anomalous(folder: Path, category: str, split: str) -> list[Sample]:
    """Every folder beside the normal ones is a defect type."""
    return [
        Sample(path, category, split, ABNORMAL, defect_type=sub.name)
        for sub in sub_folders(folder)
        if sub.name.lower() not in NORMAL_NAMES + _MASKS
        for path in find_images(sub)
    ]


def _named(folder: Path, names: tuple[str, ...]) -> list[Path]:
    return [sub for sub in sub_folders(folder) if sub.name.lower() in names]


def _refuse_masks(folder: Path) -> None:
    """Masks would be read as normal images, or an images/ beside them as a defect type."""
    masks = _named(folder, _MASKS)
    if masks and (_named(folder, ("images",)) or not _is_category(folder)):
        raise InputError(
            f"{folder} has a folder of masks ({masks[0].name}), which --dataset folder doesn't read: "
            "use --dataset pairs (images/ and masks/) or --dataset mvtec (ground_truth/)"
        )


def _load_nothing(folder: Path) -> list[Sample]:
    list_images(folder)  # raises where there is no image at all
    raise InputError(f"{folder} has images, but none in train/ or test/: move them there or remove these folders")


FOLDER = _PlainFolders("images", _is_category, _load_category)
load_folder = FOLDER.load

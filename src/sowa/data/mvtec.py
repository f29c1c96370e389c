"""MVTec AD's layout, which many data sets share.

root/category/train/good/*, test/good/*, test/<defect type>/*, ground_truth/<defect type>/NAME_mask.png. Suffixes
may differ between pictures and masks; a mask may also be called NAME. ``root`` may be the category's folder itself.

Train/good comes first, then test/good and each defect type. Refused: a missing folder, picture or mask. A defect type
without a folder of masks is accepted, its samples have no mask.
"""

from __future__ import annotations

from pathlib import Path

from sowa.data.files import find_images, require_folder, sub_folders
from sowa.data.layout import DataSet, anomalous_samples
from sowa.errors import InputError
from sowa.types import NORMAL, Sample


def _is_category(folder: Path) -> bool:
    return (folder / "train" / "good").is_dir() or (folder / "test").is_dir()


def _load_category(folder: Path, category: str) -> list[Sample]:
    train = find_images(require_folder(folder / "train" / "good"), recursive=False)
    if not train:
        raise InputError(f"{folder / 'train' / 'good'} holds no picture: put normal pictures there")
    samples = [Sample(path, category, "train", NORMAL) for path in train]
    # "good" first, then the defect types
    kinds = sorted(sub_folders(require_folder(folder / "test")), key=lambda sub: (sub.name != "good", sub.name))
    for kind in kinds:
        pictures = find_images(kind, recursive=False)
        if kind.name == "good":
            samples += [Sample(path, category, "test", NORMAL) for path in pictures]
        else:
            samples += anomalous_samples(
                pictures, category, folder / "ground_truth" / kind.name, [kind.name] * len(pictures), "_mask"
            )
    return samples


MVTEC = DataSet("CATEGORY/train/good and CATEGORY/test", _is_category, _load_category)
load_mvtec = MVTEC.load

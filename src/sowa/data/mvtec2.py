"""MVTec AD 2's layout: MVTec AD's with a validation set and three test sets, only one of them with masks.

root/category/train/good/*, validation/good/*, test_public/good/*, test_public/bad/*,
test_public/ground_truth/bad/NAME_mask.png, test_private/*, test_private_mixed/*

Split: train and test_public are the data set's. Normal images of validation/ have the split "validation", which
neither references are drawn from nor metrics taken of; `sowa train` uses them. Images of the private test sets, whose
labels only the benchmark's server knows, are test with the label None, which metrics leave out. These three folders may
be missing. ``root`` may be the category's folder itself.
"""

from __future__ import annotations

from pathlib import Path

from sowa.core.types import Sample
from sowa.data.files import find_images
from sowa.data.layout import DataSet
from sowa.data.mvtec import MvtecLike

_PUBLIC = MvtecLike(test="test_public", masks="test_public/ground_truth")
_PRIVATE = ("test_private", "test_private_mixed")


def _read(folder: Path, category: str) -> list[Sample]:
    samples = _PUBLIC.read(folder, category)
    if (folder / "validation").is_dir():
        samples += _PUBLIC.normal_in(folder / "validation", "validation", category)
    private = [path for name in _PRIVATE for path in find_images(folder / name, recursive=False)]
    return samples + [Sample(path, category, "test") for path in private]


MVTEC2 = DataSet("CATEGORY/train/good and CATEGORY/test_public", _PUBLIC.is_category, _read)

"""MVTec AD's layout, which many data sets share, and its relatives, which call some folders otherwise.

MVTec AD, MPDD, DTD-Synthetic (its only defect type is called bad):
    root/category/train/good/*, test/good/*, test/<defect type>/*, ground_truth/<defect type>/NAME_mask.png
BTAD (categories 01, 02, 03; the masks of 03 are .bmp):
    root/category/train/ok/*, test/ok/*, test/ko/*, ground_truth/ko/NAME.png
MVTec AD 2: see `mvtec2`.

The split is the data set's. Suffixes may differ between images and masks; a mask may also be called as its image.
``root`` may be the category's folder itself. Refused: a missing folder, image or mask. A defect type without a
folder of masks is accepted, its samples have no mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sowa.core.types import NORMAL, Sample
from sowa.data.files import find_images, require_folder, sub_folders
from sowa.data.layout import FIX_LAYOUT, DataSet, anomalous_samples
from sowa.errors import InputError


@dataclass(frozen=True)
class MvtecLike:
    """What a relative of MVTec AD calls its folders and masks.

    Attributes:
        normal: The folders of normal images, of train and test.
        test: The folder of the test images.
        masks: The folder of the masks.
        suffix: What the stem of a mask adds to its image's.
    """

    normal: str = "good"
    test: str = "test"
    masks: str = "ground_truth"
    suffix: str = "_mask"

    def data_set(self) -> DataSet:
        """The layout under these names."""
        return DataSet(f"CATEGORY/train/{self.normal} and CATEGORY/{self.test}", self.is_category, self.read)

    def is_category(self, folder: Path) -> bool:
        """Whether ``folder`` holds at least one of the two folders of images."""
        return (folder / "train" / self.normal).is_dir() or (folder / self.test).is_dir()

    def read(self, folder: Path, category: str) -> list[Sample]:
        """Normal train images, normal test images, then each defect type.

        Args:
            folder: The category's.
            category: Its name.

        Raises:
            InputError: a missing folder, image or mask.
        """
        samples = self.normal_in(folder / "train", "train", category)
        if not samples:
            raise InputError(f"{folder / 'train' / self.normal} holds no image: put normal images there")
        test, masks = require_folder(folder / self.test, FIX_LAYOUT), folder / self.masks
        if (test / self.normal).is_dir():
            samples += self.normal_in(test, "test", category)
        for kind in sub_folders(test):
            if kind.name != self.normal and kind != masks:
                images = find_images(kind, recursive=False)
                kinds = [kind.name] * len(images)
                samples += anomalous_samples(images, category, masks / kind.name, kinds, self.suffix)
        return samples

    def normal_in(self, folder: Path, split: str, category: str) -> list[Sample]:
        """The normal images of one of the category's folders.

        Args:
            folder: That holds the folder of normal images.
            split: "train" or "test".
            category: Its name.

        Raises:
            InputError: it has no folder of them.
        """
        images = find_images(require_folder(folder / self.normal, FIX_LAYOUT), recursive=False)
        return [Sample(path, category, split, NORMAL) for path in images]


MVTEC = MvtecLike().data_set()
BTAD = MvtecLike(normal="ok", suffix="").data_set()
load_mvtec = MVTEC.load

"""The layout of the Magnetic Tile Defects.

root/MT_Free/Imgs/NAME.jpg and, per defect type, root/MT_TYPE/Imgs/NAME.jpg with the mask NAME.png beside it: Blowhole,
Break, Crack, Fray, Uneven. Normal images have an empty NAME.png too, which isn't read.

There is no split: anomalous images are test; of the normal ones, sorted by path, the first, third, fifth ... are
train, the rest test. The only category is called as its folder, which ``root`` is or holds. Refused: no normal image,
and an anomalous one without its mask.
"""

from __future__ import annotations

from pathlib import Path

from sowa.core.types import Sample
from sowa.data.files import find_images, require_folder
from sowa.data.layout import FIX_LAYOUT, DataSet, anomalous_samples, normal_samples
from sowa.errors import InputError

_PREFIX = "MT_"


def _read(folder: Path, category: str) -> list[Sample]:
    free = require_folder(folder / "MT_Free" / "Imgs", FIX_LAYOUT)
    samples = normal_samples(_images(free), category)
    if not samples:
        raise InputError(f"{free} holds no image NAME.jpg: put normal images there")
    for images in sorted(folder.glob(f"{_PREFIX}*/Imgs")):
        if images != free:
            sources = _images(images)
            kinds = [images.parent.name.removeprefix(_PREFIX)] * len(sources)
            samples += anomalous_samples(sources, category, images, kinds)
    return samples


def _images(folder: Path) -> list[Path]:
    """Without the masks, which are PNG."""
    return [path for path in find_images(folder, recursive=False) if path.suffix.lower() in (".jpg", ".jpeg")]


MAGNETIC_TILE = DataSet("CATEGORY/MT_TYPE/Imgs", lambda folder: any(folder.glob(f"{_PREFIX}*/Imgs")), _read)

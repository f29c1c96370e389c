"""DAGM 2007's layout.

root/ClassN/{Train,Test}/NNNN.PNG, Label/NNNN_label.PNG of the anomalous images, and Label/Labels.txt: the class's
number, then a line per image with, between tabs, its number, 1 where it is anomalous, its file, a second flag, and
the file of its label or 0.

The split is the data set's: normal images of Train are what references are drawn from; its anomalous ones are train
too. Labels.txt is the list of images; without it all images are taken, and those with a label are anomalous. A
label outlines its defect by an ellipse. Defect types aren't told apart, each class has one. ``root`` may be the class's
folder itself. Refused: a missing folder, image or label, and a broken line of Labels.txt; the message names it.
"""

from __future__ import annotations

from pathlib import Path

from sowa.core.types import ABNORMAL, NORMAL, Sample
from sowa.data.files import find_images, require_folder
from sowa.data.layout import FIX_LAYOUT, DataSet, by_stem, listed
from sowa.errors import InputError

_SUFFIX = "_label"


def _is_category(folder: Path) -> bool:
    return (folder / "Train" / "Label").is_dir() or (folder / "Test" / "Label").is_dir()


def _read(folder: Path, category: str) -> list[Sample]:
    samples = []
    for split in ("Train", "Test"):
        labels = require_folder(folder / split / "Label", FIX_LAYOUT)
        file = labels / "Labels.txt"
        found = _listed(file) if file.is_file() else _paired(folder / split, labels)
        if not found:
            raise InputError(f"{folder / split} holds no image: add NNNN.PNG, or check --root and --dataset")
        samples += [Sample(path, category, split.lower(), ABNORMAL if mask else NORMAL, mask) for path, mask in found]
    return samples


def _listed(file: Path) -> list[tuple[Path, Path | None]]:
    """Images that Labels.txt lists, with the labels of the anomalous ones."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} can't be read as UTF-8 ({error}): copy it again, or remove it") from None
    found = []
    for number, line in enumerate(lines, start=1):
        where, cells = f"{file} line {number}", line.split()
        if len(cells) == 5 and cells[1] in ("0", "1"):
            mask = listed(where, file.parent, cells[4]) if cells[1] == "1" else None
            found.append((listed(where, file.parent.parent, cells[2]), mask))
        elif cells and (number > 1 or len(cells) > 1):  # the first line is the class's number
            raise InputError(f"{where}: {line!r} isn't NUMBER 0|1 IMAGE 0|1 LABEL|0: correct it, or remove the file")
    return found


def _paired(folder: Path, labels: Path) -> list[tuple[Path, Path | None]]:
    """All images, with the labels of those that have one."""
    images = find_images(folder, recursive=False)
    masks = by_stem(find_images(labels, recursive=False))
    lonely = masks.keys() - {path.stem + _SUFFIX for path in images}
    if lonely:
        raise InputError(f"{masks[min(lonely)]} has no image in {folder}: add it, or remove the label")
    return [(path, masks.get(path.stem + _SUFFIX)) for path in images]


DAGM = DataSet("CATEGORY/Train/Label and CATEGORY/Test/Label", _is_category, _read)

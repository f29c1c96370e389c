"""VisA's own layout.

root/category/Data/Images/{Normal,Anomaly}/*, Data/Masks/Anomaly/NAME.png (class ids, anomalous > 0) and, optional,
image_anno.csv with the defect types. The split is that of root/split_csv/1cls.csv where this file exists; without
it anomalous images are test, and of the sorted normal ones the first, third, fifth ... are train, the rest test.
``root`` may be the category's folder itself.

Refused: a missing folder, image or mask (a category without the folder of masks is accepted), and a broken CSV
file; the message then names its line.
"""

from __future__ import annotations

import csv
from pathlib import Path

from sowa.core.types import ABNORMAL, NORMAL, Sample
from sowa.data.files import find_images, require_folder
from sowa.data.layout import DataSet, anomalous_samples, listed, normal_samples, unknown
from sowa.errors import InputError

_SPLIT_FILE = Path("split_csv", "1cls.csv")
_LABELS = {"normal": NORMAL, "anomaly": ABNORMAL}
Row = dict[str, str]


def _is_category(folder: Path) -> bool:
    return (folder / "Data" / "Images").is_dir()


def _load_category(folder: Path, category: str) -> list[Sample]:
    defect_types = _defect_types(folder / "image_anno.csv")
    root = folder.resolve().parent if folder.name != category else folder.parent
    if (root / _SPLIT_FILE).is_file():
        return _load_split(root, category, defect_types)
    images = folder / "Data" / "Images"
    normal = find_images(require_folder(images / "Normal"), recursive=False)
    anomalous = find_images(require_folder(images / "Anomaly"), recursive=False)
    if not normal:
        raise InputError(f"{images / 'Normal'} holds no image: put normal images there")
    kinds = [defect_types.get(path.name) for path in anomalous]
    return normal_samples(normal, category) + anomalous_samples(
        anomalous, category, folder / "Data" / "Masks" / "Anomaly", kinds
    )


def _load_split(root: Path, category: str, defect_types: dict[str, str]) -> list[Sample]:
    file = root / _SPLIT_FILE
    rows = _read_csv(file, ("object", "split", "label", "image", "mask"))
    mine = [(line, row) for line, row in rows if row["object"] == category]
    if not mine:
        raise unknown(f"category in {file}", category, {row["object"] for _, row in rows})
    masked = (root / category / "Data" / "Masks" / "Anomaly").is_dir()
    samples = []
    for line, row in mine:
        where = f"{file} line {line}"
        _one_of(where, "split", row["split"], ("train", "test"))
        _one_of(where, "label", row["label"], tuple(_LABELS))
        image, mask, kind = listed(where, root, row["image"]), None, None
        if row["label"] == "anomaly":
            kind = defect_types.get(image.name)
            if masked or row["mask"]:
                mask = listed(where, root, row["mask"])
        samples.append(Sample(image, category, row["split"], _LABELS[row["label"]], mask, kind))
    return samples


def _defect_types(file: Path) -> dict[str, str]:
    """Name of each anomalous image -> what image_anno.csv calls its defects."""
    if not file.is_file():
        return {}
    rows = _read_csv(file, ("image", "label"))
    return {Path(row["image"]).name: row["label"] for _, row in rows if row["label"] not in _LABELS}


def _read_csv(file: Path, columns: tuple[str, ...]) -> list[tuple[int, Row]]:
    """Line number and row of each row."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines, restval="")
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise InputError(f"{file} has no column {', '.join(missing)}, needed are {', '.join(columns)}")
            return [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file} can't be read as CSV in UTF-8 ({error}): export it again") from None


def _one_of(where: str, column: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{where}: {column} is {value!r}, allowed are {' and '.join(allowed)}")


VISA = DataSet("CATEGORY/Data/Images/{Normal,Anomaly}", _is_category, _load_category)
load_visa = VISA.load

"""DeepPCB (Tang et al., 2019): images of printed circuit boards, each with a template, and six types of defects.

``NAME_test.jpg`` has defects, ``NAME_temp.jpg`` is the same board without any, and a text file has a line
``x1 y1 x2 y2 type`` for each. Lists at the root pair them: ``trainval.txt`` and ``test.txt``, or any other.
"""

from __future__ import annotations

from pathlib import Path

from sowa.data.boxes.sample import BoxSample, BoxSet, checked, found, image_size, split_of
from sowa.errors import InputError

NAMES = ("open", "short", "mousebite", "spur", "copper", "pin-hole")


def load_deeppcb(root: Path) -> BoxSet:
    """The pairs that the lists at ``root`` name.

    Raises:
        InputError: no list; an image, template or text file that is missing; a line that isn't understood, of an
            unknown type, or with a box that is empty or outside its image.
    """
    lists = sorted(root.glob("*.txt"))
    if not lists:
        raise InputError(f"{root} holds no list of pairs such as trainval.txt; give DeepPCB's folder with its lists")
    samples = [_sample(root, line, file) for file in lists for line in _lines(file)]
    return found(NAMES, samples, root)


def _sample(root: Path, line: str, file: Path) -> BoxSample:
    parts = line.split()
    if len(parts) != 2:
        raise InputError(f"{file}: {line!r} isn't understood, needed are an image and its text file")
    image, boxes = root / parts[0], root / parts[1]
    tested, reference = (image.with_name(f"{image.stem}_{kind}{image.suffix}") for kind in ("test", "temp"))
    missing = next((path for path in (tested, reference, boxes) if not path.is_file()), None)
    if missing is not None:
        raise InputError(f"{file} needs {missing}, which doesn't exist; copy it there, or remove the line")
    size = image_size(tested)
    corners, labels = [], []
    for count, numbers in enumerate(_lines(boxes), 1):
        where = f"{boxes}, line {count}"
        try:
            *box, kind = [int(part) for part in numbers.replace(",", " ").split()]
        except ValueError:
            raise InputError(f"{where} is {numbers!r}, needed are five whole numbers") from None
        if len(box) != 4 or not 1 <= kind <= len(NAMES):
            raise InputError(f"{where} is {numbers!r}, needed are x1 y1 x2 y2 and a type from 1 to {len(NAMES)}")
        corners.append(checked(box, size, where))
        labels.append(NAMES[kind - 1])
    return BoxSample(tested, size, tuple(corners), tuple(labels), split_of(file.stem), reference)


def _lines(file: Path) -> list[str]:
    return [line.strip() for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]

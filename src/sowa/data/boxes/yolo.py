"""YOLO: ``data.yaml`` with the classes' names and the splits' folders; a text file of boxes for each image.

A line is the class's number, then centre x, centre y, width and height in parts of the image, or a polygon.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from sowa.data.boxes.sample import Box, BoxSample, BoxSet, check_classes, checked, found, image_size
from sowa.data.files import list_images
from sowa.errors import InputError

KEYS = {"train": "train", "val": "validation", "test": "test"}


def load_yolo(root: Path) -> BoxSet:
    """What ``root``, a YAML file or the folder of one, lists. An image without a text file has no boxes.

    Raises:
        InputError: no YAML file with names and splits; a folder that is missing; a line that isn't understood, of an
            unknown class, or with a box that is empty or outside its image.
    """
    file = root if root.is_file() else _only_yaml(root)
    content = _parse(file)
    listed = content.get("names")
    names = check_classes(list(listed.values()) if isinstance(listed, dict) else list(listed or []), str(file))
    base = file.parent / str(content.get("path") or ".")
    if not base.is_dir():  # many exports name a folder of the machine that wrote them
        base = file.parent
    samples = []
    for key, split in KEYS.items():
        for path in _images(content.get(key), base, file):
            size = image_size(path)
            boxes, numbers = _boxes(_labels(path), size, len(names))
            samples.append(BoxSample(path, size, tuple(boxes), tuple(names[number] for number in numbers), split))
    return found(names, samples, root)


def _only_yaml(root: Path) -> Path:
    files = sorted({*root.glob("*.yaml"), *root.glob("*.yml")})
    if not files:
        raise InputError(f"{root} holds no *.yaml file of YOLO; give the file, or the folder that it's in")
    named = [file for file in files if file.stem in ("data", "dataset")]
    if len(files) > 1 and len(named) != 1:
        raise InputError(f"{root} holds {len(files)} *.yaml files; give the one with the classes' names as --root")
    return (named or files)[0]


def _parse(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{file} is no YAML file ({error}); export it again") from None
    if not isinstance(content, dict) or not isinstance(content.get("names"), list | dict):
        raise InputError(f"{file} has no names of classes; it needs names and train, val or test")
    if not any(content.get(key) for key in KEYS):
        raise InputError(f"{file} names no images; it needs train, val or test")
    return content


def _images(listed: Any, base: Path, file: Path) -> list[Path]:
    """A folder, a text file of paths, or a list of those."""
    if not listed:
        return []
    if isinstance(listed, list):
        return [path for part in listed for path in _images(part, base, file)]
    places = [base / str(listed), file.parent / str(listed), file.parent / str(listed).removeprefix("../")]
    place = next((place for place in places if place.exists()), None)
    if place is None:
        raise InputError(f"{file} names {listed}, which doesn't exist under {base}; correct it")
    if place.is_dir():
        return list_images(place)
    try:
        return [base / line.strip() for line in place.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{place} is no text file of paths ({error}); correct {file}") from None


def _labels(image: Path) -> Path:
    """The text file of an image: beside it, or in the folder "labels" instead of "images"."""
    parts = list(image.parts)
    for index in reversed(range(len(parts) - 1)):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _boxes(file: Path, size: tuple[int, int], classes: int) -> tuple[list[Box], list[int]]:
    if not file.is_file():
        return [], []
    boxes, numbers = [], []
    for count, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        where = f"{file}, line {count}"
        try:
            number, *values = [float(part) for part in line.split()]
        except ValueError:
            raise InputError(f"{where} is {line!r}, needed are numbers") from None
        if number not in range(classes):
            raise InputError(f"{where}: class {number:g} is none of the {classes} classes, 0 to {classes - 1}")
        numbers.append(int(number))
        boxes.append(checked(_corners(values, size, where), size, where))
    return boxes, numbers


def _corners(values: list[float], size: tuple[int, int], where: str) -> Box:
    height, width = size
    if len(values) == 4:
        x, y, across, down = values
        return (x - across / 2) * width, (y - down / 2) * height, (x + across / 2) * width, (y + down / 2) * height
    if len(values) < 6 or len(values) % 2:
        raise InputError(
            f"{where} has {len(values)} numbers behind the class, needed are 4, or the points of a polygon"
        )
    xs, ys = values[::2], values[1::2]
    return min(xs) * width, min(ys) * height, max(xs) * width, max(ys) * height

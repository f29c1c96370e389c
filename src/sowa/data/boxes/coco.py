"""COCO: JSON files with "images", "annotations" and "categories"; boxes are x, y, width, height in pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from sowa.data.boxes.sample import BoxSample, BoxSet, check_classes, checked, found, image_size, split_of
from sowa.errors import InputError


class _Image(BaseModel):
    id: int
    file_name: str


class _Annotation(BaseModel):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    iscrowd: int = 0


class _Category(BaseModel):
    id: int
    name: str


class _File(BaseModel):
    images: list[_Image]
    annotations: list[_Annotation] = []
    categories: list[_Category]


def load_coco(root: Path) -> BoxSet:
    """The JSON files of ``root``, its folder "annotations" and its folders of splits, or ``root`` itself if it's one.

    A file's name, or else its folder's, tells its split. Classes are those of all files. Boxes around crowds are left
    out.

    Raises:
        InputError: no such file, or one that isn't COCO's; an image that is missing; a box that is empty or outside
            its image.
    """
    base = root if root.is_dir() else root.parent.parent if root.parent.name == "annotations" else root.parent
    files = [root] if root.is_file() else sorted({*root.glob("*.json"), *root.glob("*/*.json")})
    if not files:
        raise InputError(f"{root} holds no *.json file of COCO; give the file, or the folder that it's in")
    names: dict[str, None] = {}
    samples: list[BoxSample] = []
    for file in files:
        found_names, found_samples = _read(file, base)
        names.update(dict.fromkeys(found_names))
        samples += found_samples
    return found(tuple(names), samples, root)


def _read(file: Path, root: Path) -> tuple[tuple[str, ...], list[BoxSample]]:
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
        parsed = _File.model_validate(content)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{file} is no JSON file ({error}); export it again") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{file} isn't COCO's: {where} {first['msg'].lower()}; export it again") from None
    names = check_classes([category.name for category in parsed.categories], str(file))
    by_id = {category.id: name for category, name in zip(parsed.categories, names, strict=True)}
    split = split_of(file.stem) or (split_of(file.parent.name) if file.parent != root else "")
    annotations: dict[int, list[_Annotation]] = {}
    for annotation in parsed.annotations:
        if annotation.category_id not in by_id:
            raise InputError(f"{file}: a box is of category {annotation.category_id}, which isn't in its list")
        if not annotation.iscrowd:
            annotations.setdefault(annotation.image_id, []).append(annotation)
    samples = []
    for image in parsed.images:
        path = _image(image.file_name, file, root)
        size, boxes = image_size(path), annotations.get(image.id, [])
        where = f"{file}: {image.file_name}"
        corners = tuple(checked(_corners(one.bbox), size, where) for one in boxes)
        samples.append(BoxSample(path, size, corners, tuple(by_id[one.category_id] for one in boxes), split))
    return names, samples


def _corners(bbox: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x, y, width, height = bbox
    return x, y, x + width, y + height


def _image(name: str, file: Path, root: Path) -> Path:
    """Where tools put an image: beside its JSON file, under the root, or in the split's folder."""
    stem = file.stem.removeprefix("instances_")
    places = [file.parent, root, root / "images", root / stem, root / "images" / stem]
    for place in places:
        if (place / name).is_file():
            return place / name
    raise InputError(f"{file} names {name}, which is in none of {', '.join(str(place) for place in places)}")

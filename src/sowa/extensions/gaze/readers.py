"""Fixations from wherever they are: a CSV file, SALICON's JSON, a folder of maps. Images are (H, W)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sowa.data.files import list_images
from sowa.data.images import read_image, read_mask
from sowa.errors import InputError
from sowa.extensions.gaze.fixations import Fixation, Gaze, Viewing, read_csv

Kind = Literal["auto", "fixations", "density"]
NOBODY = "all"  # the observer of maps, which don't tell people apart


def read_gaze(path: Path, kind: Kind = "auto") -> Gaze:
    """Fixations by what a path is.

    Args:
        path: *.csv (`read_csv`), *.json (`read_salicon`) or a folder (`read_maps`).
        kind: What a folder's maps are, as in `read_maps`.

    Raises:
        InputError: anything else, and as those say.
    """
    if path.is_dir():
        return read_maps(path, kind)
    readers = {".csv": read_csv, ".json": read_salicon}
    if not path.is_file() or path.suffix.lower() not in readers:
        why = "is a file of another kind" if path.exists() else "doesn't exist"
        raise InputError(f"{path} {why}; give a *.csv, a *.json as SALICON's, or a folder of fixation maps")
    return readers[path.suffix.lower()](path)


def read_salicon(path: Path) -> Gaze:
    """Fixations as SALICON publishes them (Jiang et al., 2015).

    The file has "images" with "id", "file_name", "width" and "height", and "annotations" with "image_id", "worker_id"
    and "fixations", a list of [row, column].

    Rows and columns are taken to be whole pixels counted from 1, as the data set's MATLAB files count; a fixation is
    put at its pixel's middle. Durations aren't published.

    Raises:
        InputError: a file that isn't so.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        images = {image["id"]: image for image in data["images"]}
        sizes = {str(each["file_name"]): (int(each["height"]), int(each["width"])) for each in images.values()}
        viewings = [_annotated(path, images, each) for each in data["annotations"]]
    except InputError:
        raise
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise InputError(
            f"{path} isn't laid out as SALICON's JSON ({type(error).__name__}: {error}); needed are images with id, "
            "file_name, width and height, and annotations with image_id, worker_id and fixations"
        ) from None
    if not any(viewing.fixations for viewing in viewings):
        raise InputError(f"{path} holds no fixation; give a file with annotations")
    return Gaze(tuple(viewings), sizes)


def _annotated(path: Path, images: dict[Any, dict[str, Any]], annotation: dict[str, Any]) -> Viewing:
    if annotation["image_id"] not in images:
        raise InputError(f"{path}: image_id {annotation['image_id']} of an annotation is none of its images; add it")
    name = str(images[annotation["image_id"]]["file_name"])
    points = annotation["fixations"]
    for point in points:
        if len(point) != 2 or not np.isfinite(point).all():
            raise InputError(f"{path}: a fixation on {name} is {point}, needed is [row, column]; correct it")
    fixations = tuple(Fixation(float(column) - 0.5, float(row) - 0.5) for row, column in points)
    return Viewing(name, str(annotation["worker_id"]), fixations)


def read_maps(folder: Path, kind: Kind = "auto") -> Gaze:
    """A folder of maps that are called as the images are, but for the suffix; lossless files, such as PNG.

    Of fixation maps every pixel above 0 is a fixation of the observer "all", at the pixel's middle and of unknown
    duration. Density maps are grey, and are only listed (`sowa.extensions.gaze.density.read_density` reads one).

    Args:
        folder: That holds them.
        kind: What they are. "auto" takes maps for fixations where each has a single value above 0, as a mask has, and
            for density where none is so.

    Raises:
        InputError: some are so and others aren't, or the folder has no map.
    """
    files = list_images(folder)
    names = [path.relative_to(folder).with_suffix("").as_posix() for path in files]
    repeated = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if repeated is not None:
        raise InputError(f"{folder} has several maps called {repeated}; leave one of them")
    if kind == "density" or (kind == "auto" and not _points(folder, files)):
        return Gaze((), densities=dict(zip(names, files, strict=True)))
    viewings, sizes = [], {}
    for name, file in zip(names, files, strict=True):
        mask_HW = read_mask(file)
        places = np.argwhere(mask_HW).tolist()
        viewings.append(Viewing(name, NOBODY, tuple(Fixation(column + 0.5, row + 0.5) for row, column in places)))
        sizes[name] = (mask_HW.shape[0], mask_HW.shape[1])
    return Gaze(tuple(viewings), sizes)


def _points(folder: Path, files: Sequence[Path]) -> bool:
    """Whether maps have a single value above 0. Empty ones may be either."""
    values = [np.unique(read_image(file).max(axis=2)) for file in files]
    several = [int((each > 0).sum()) for each in values]
    if 1 not in several:
        return False
    if max(several) > 1:
        odd = files[several.index(max(several))]
        raise InputError(
            f"{folder} holds maps with one grey value above 0 and others with several, such as {odd.name}; keep only "
            "fixation maps or only density maps there, or say which they are"
        )
    return True

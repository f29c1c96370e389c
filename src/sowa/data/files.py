"""Find images on disk: folders, glob patterns, lists."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from glob import glob, has_magic
from pathlib import Path

from sowa.data.images import IMAGE_SUFFIXES
from sowa.errors import InputError

Source = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def list_images(path: str | os.PathLike[str]) -> list[Path]:
    """All images under a folder, sorted; hidden files and folders are skipped, suffixes may be upper case.

    Raises:
        InputError: the folder is missing, is a file, or holds no image.
    """
    folder = require_folder(path)
    found = find_images(folder)
    if not found:
        raise _nothing_in(folder)
    return found


def expand_source(source: Source) -> list[Path]:
    """The images that a file, a folder, a glob pattern or a list of these stand for, each image of a pattern once.

    Args:
        source: A file is taken whatever its suffix; a folder as by `list_images`; of what a pattern (``**`` too)
            matches, images and the images of folders. An existing path is never read as a pattern.

    Raises:
        InputError: something doesn't exist, matches nothing, or holds no image.
    """
    if not isinstance(source, str | os.PathLike):
        parts = list(source)
        if not parts:
            raise InputError("the list of images is empty: give at least one file, folder or pattern")
        return [path for part in parts for path in expand_source(part)]
    path = Path(source)
    if _true(path.is_dir):
        return list_images(path)
    if _true(path.exists):
        return [path]
    if not has_magic(os.fspath(source)):
        raise InputError(f"{source} doesn't exist: give an image, a folder of images or a pattern")
    found = _expand_pattern(os.fspath(source))
    if not found:
        raise InputError(f"pattern {source} matches no image, looked for {_suffixes()}: check it")
    return found


def require_folder(path: str | os.PathLike[str], fix: str = "check the path") -> Path:
    """The path of a folder that exists.

    Args:
        path: The folder.
        fix: What the message says to do where it doesn't exist.

    Raises:
        InputError: it doesn't exist or isn't a folder.
    """
    folder = Path(path)
    if not _true(folder.exists):
        raise InputError(f"folder {folder} doesn't exist: {fix}")
    if not folder.is_dir():
        raise InputError(f"{folder} is a file: give a folder of images")
    return folder


def find_images(folder: Path, recursive: bool = True) -> list[Path]:
    """As `list_images`, but an empty or missing folder gives an empty list.

    Args:
        folder: Where to look.
        recursive: Whether to look in folders inside it too.
    """
    found: list[Path] = []
    seen: set[Path] = set()
    for directory, names, files in os.walk(folder, followlinks=True):
        here = Path(directory)
        real = here.resolve()
        if real in seen:  # a link that leads back up
            names.clear()
            continue
        seen.add(real)
        names[:] = sorted(name for name in names if recursive and not name.startswith("."))
        found += [here / name for name in files if _is_image(here / name)]
    return sorted(found)


def sub_folders(folder: Path) -> list[Path]:
    """The folders directly inside, sorted, without hidden ones.

    Raises:
        InputError: the folder can't be listed.
    """
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"folder {folder} can't be listed ({error.strerror}): check its permissions") from None


def _expand_pattern(pattern: str) -> list[Path]:
    found: dict[Path, None] = {}
    for match in sorted(Path(name) for name in glob(pattern, recursive=True)):  # noqa: PTH207 (may be absolute)
        images = find_images(match) if match.is_dir() else [match] * _is_image(match)
        found.update(dict.fromkeys(images))
    return list(found)


def _true(question: Callable[[], bool]) -> bool:
    """False too where the system can't say (a name too long, a folder that can't be entered)."""
    try:
        return question()
    except OSError:
        return False


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _nothing_in(folder: Path) -> InputError:
    return InputError(f"folder {folder} holds no image, looked for {_suffixes()}: check the path or convert them")


def _suffixes() -> str:
    return " ".join(IMAGE_SUFFIXES)

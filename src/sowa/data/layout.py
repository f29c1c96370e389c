"""What a data set is, and what its loaders share: categories, masks by stem, the split of normal images."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sowa.core.types import ABNORMAL, NORMAL, Sample
from sowa.data.files import find_images, require_folder, sub_folders
from sowa.errors import InputError

FIX_LAYOUT = "add it, or check --root and --dataset"


@dataclass(frozen=True)
class DataSet:
    """A layout on disk.

    Attributes:
        looked_for: Names the layout in messages.
        is_category: Whether a folder is one of a category.
        read: Lists the images of a category, given its folder and name.
    """

    looked_for: str
    is_category: Callable[[Path], bool]
    read: Callable[[Path, str], list[Sample]]

    def folders(self, root: Path, category: str | None = None) -> dict[str, Path]:
        """Category name -> its folder.

        Args:
            root: The data set's folder, or that of a category.
            category: The one asked for; those that there are to choose from are returned all the same.

        Raises:
            InputError: ``root`` is missing or isn't a folder.
        """
        return category_folders(root, self.is_category)

    def categories(self, root: str | Path) -> list[str]:
        """Names of the categories that ``root`` holds, sorted; may be empty.

        Raises:
            InputError: ``root`` is missing or isn't a folder.
        """
        return sorted(self.folders(Path(root)))

    def load(self, root: str | Path, category: str | None = None) -> list[Sample]:
        """The images of one category, or of all.

        Args:
            root: The data set's folder, or that of a category.
            category: Its name; None for all.

        Raises:
            InputError: ``root`` or the category is missing, or what the data set's module says.
        """
        chosen = choose(self.folders(Path(root), category), category, Path(root), self.looked_for)
        return [sample for name, folder in chosen.items() for sample in self.read(folder, name)]


def category_folders(root: Path, is_category: Callable[[Path], bool]) -> dict[str, Path]:
    """Category name -> its folder: the root itself where it is one, else those directly inside.

    Args:
        root: The data set's folder, or that of a category.
        is_category: Tells by a folder whether it's one of a category.

    Raises:
        InputError: the root is missing or isn't a folder.
    """
    folder = require_folder(root)
    if is_category(folder):
        return {name_of(folder): folder}
    return {sub.name: sub for sub in sub_folders(folder) if is_category(sub)}


def name_of(folder: Path) -> str:
    """The folder's name as the user wrote it, and its real one for "." and ".."."""
    return folder.name if folder.name not in ("", "..") else folder.resolve().name


def choose(folders: dict[str, Path], category: str | None, root: Path, layout: str) -> dict[str, Path]:
    """The one chosen category, or all.

    Args:
        folders: Category name -> its folder.
        category: The chosen one's name; None for all.
        root: Where they were found, for the message.
        layout: What was looked for, for the message.

    Raises:
        InputError: there is none at all, or not the one asked for.
    """
    if not folders:
        raise InputError(f"{root} holds no category, looked for {layout}: check --root and --dataset")
    if category is None:
        return folders
    if category not in folders:
        raise unknown("category", category, folders)
    return {category: folders[category]}


def unknown(what: str, value: str, available: Iterable[str]) -> InputError:
    """The error that names what exists instead of an unknown name, the closest first.

    Args:
        what: What kind of thing it is, such as "category".
        value: The unknown name.
        available: What exists; of more than 20 the rest is counted.

    Example:
        >>> print(unknown("category", "botle", ["cable", "bottle"]))
        unknown category 'botle', there is: bottle, cable
    """
    names = sorted(available)
    closest = difflib.get_close_matches(value, names, n=1)
    ordered = closest + [name for name in names if name not in closest]
    more = f" and {len(ordered) - 20} more" if len(ordered) > 20 else ""
    return InputError(f"unknown {what} {value!r}, there is: {', '.join(ordered[:20])}{more}")


def by_stem(images: Iterable[Path]) -> dict[str, Path]:
    """File name without suffix -> path.

    Raises:
        InputError: two files share a stem, so that it isn't clear which one is meant.
    """
    found: dict[str, Path] = {}
    for path in images:
        other = found.setdefault(path.stem, path)
        if other is not path:
            raise InputError(f"{other} and {path.name} share the stem {path.stem!r}: rename or remove one of them")
    return found


def normal_samples(images: Iterable[Path], category: str) -> list[Sample]:
    """Normal images that no one has split: of the sorted ones the first, third, fifth ... are train."""
    return [Sample(path, category, ("train", "test")[index % 2], NORMAL) for index, path in enumerate(sorted(images))]


def anomalous_samples(
    images: Sequence[Path], category: str, masks: Path, defect_types: Sequence[str | None], suffix: str = ""
) -> list[Sample]:
    """Anomalous test images with their masks.

    Args:
        images: Their files.
        category: Their product.
        masks: The folder of masks, without which they have none. Masks may lie beside the images: whatever isn't one of
            these is a mask.
        defect_types: What each image's defect is called, as many as images; None where nothing is said.
        suffix: What the stem of a mask may add to its image's.

    Raises:
        InputError: an image has no mask although the folder exists.
    """
    own = set(images)
    stems = by_stem(p for p in find_images(masks, recursive=False) if p not in own) if masks.is_dir() else None
    samples = []
    for path, defect_type in zip(images, defect_types, strict=True):
        mask = None
        if stems is not None:
            mask = stems.get(path.stem + suffix) or stems.get(path.stem)
            if mask is None:
                without = "" if masks == path.parent else f", or remove {masks} to go without masks"
                raise InputError(f"{path} has no mask {masks / (path.stem + suffix)}.png: add it{without}")
        samples.append(Sample(path, category, "test", ABNORMAL, mask, defect_type))
    return samples


def listed(where: str, folder: Path, path: str) -> Path:
    """The file that a list of the data set names.

    Args:
        where: The list and its line, for the message.
        folder: What the path starts from.
        path: As the list has it.

    Raises:
        InputError: there is no such file in ``folder``.
    """
    if not path or not (folder / path).is_file():
        what = path or "the empty path"
        raise InputError(f"{where}: {what} isn't a file in {folder}: correct the line or add the file")
    return folder / path

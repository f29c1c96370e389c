"""People's fixations on images: the records, their CSV file, and which image each belongs to.

Positions are pixels of the image as it's shown, upright: x from its left edge, y from its top edge, so that column
c and row r are hit where c <= x < c + 1 and r <= y < r + 1. Images are (H, W).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import compress
from pathlib import Path, PurePosixPath

from sowa.core.files import write_bytes
from sowa.errors import InputError

COLUMNS = ("image", "x", "y", "duration_ms", "observer")
LIKELY = 0.5  # share of all fixations that may lie outside before the coordinates themselves are in doubt


@dataclass(frozen=True, slots=True)
class Fixation:
    """One rest of the eye.

    Attributes:
        x: In pixels of the image, from its left.
        y: From its top.
        duration_ms: Milliseconds, or None where nobody measured it.
    """

    x: float
    y: float
    duration_ms: float | None = None


@dataclass(frozen=True)
class Viewing:
    """One observer's look at one image.

    Attributes:
        image: Its name.
        observer: Who looked.
        fixations: In the order in which they were made.
    """

    image: str
    observer: str
    fixations: tuple[Fixation, ...]


@dataclass(frozen=True)
class Gaze:
    """What a source knows of people's looking.

    Attributes:
        viewings: Of all images and observers.
        sizes: (H, W) of those images whose size the source tells.
        densities: The files of a folder of density maps, by image; such a source has no viewings.
    """

    viewings: tuple[Viewing, ...]
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    densities: Mapping[str, Path] = field(default_factory=dict)

    @cached_property
    def by_image(self) -> dict[str, list[Viewing]]:
        """The viewings of each image, in the source's order."""
        found: dict[str, list[Viewing]] = {}
        for viewing in self.viewings:
            found.setdefault(viewing.image, []).append(viewing)
        return found

    @property
    def images(self) -> list[str]:
        """Names of all images that something is known of."""
        return list(dict.fromkeys([*self.by_image, *self.densities]))


@dataclass(frozen=True)
class Inside:
    """What `keep_inside` leaves.

    Attributes:
        gaze: Without those fixations that miss their image.
        outside: How many did, by image.
    """

    gaze: Gaze
    outside: Mapping[str, int]

    @property
    def sentence(self) -> str:
        """What a user is told; empty where nothing lay outside."""
        left = sum(self.outside.values())
        return f"{left} fixation(s) outside of {len(self.outside)} image(s) left out" if left else ""


def keep_inside(gaze: Gaze, sizes: Mapping[str, tuple[int, int]]) -> Inside:
    """Leaves out fixations beside their image and counts them, as when somebody glanced off the screen.

    Args:
        gaze: The fixations.
        sizes: (H, W) by image.

    Raises:
        InputError: an image's size isn't known, or more than half of all fixations miss, since then it's the
            coordinates that are wrong.
    """
    kept, outside, first = [], dict[str, int](), ""
    for viewing in gaze.viewings:
        if viewing.image not in sizes:
            raise InputError(
                f"the size of {viewing.image} isn't known, so its fixations can't be placed; give its size"
            )
        height, width = sizes[viewing.image]
        hit = [0 <= each.x < width and 0 <= each.y < height for each in viewing.fixations]
        kept.append(replace(viewing, fixations=tuple(compress(viewing.fixations, hit))))
        if not all(hit):
            outside[viewing.image] = outside.get(viewing.image, 0) + hit.count(False)
            miss = viewing.fixations[hit.index(False)]
            first = first or f"({miss.x:g}, {miss.y:g}) on {viewing.image}, which is {width} wide and {height} high"
    total = sum(len(viewing.fixations) for viewing in gaze.viewings)
    if sum(outside.values()) > LIKELY * total:
        raise InputError(
            f"{sum(outside.values())} of {total} fixations lie outside of their images, the first at {first}; "
            "positions must be pixels of the image, from its top left corner: convert them"
        )
    return Inside(replace(gaze, viewings=tuple(kept)), outside)


def match_images(names: Iterable[str], paths: Iterable[Path]) -> tuple[dict[str, Path], list[str]]:
    """The file that each name of an image stands for, and the names that stand for none.

    Args:
        names: Each a file's whole path or the end of it: the name alone, or with folders before it, with or without its
            suffix.
        paths: The files.

    Raises:
        InputError: a name fits several files, or two fit one.

    Example:
        >>> found, missing = match_images(["a/1", "2.png"], [Path("x/a/1.png"), Path("x/b/1.png")])
        >>> found["a/1"].as_posix(), missing
        ('x/a/1.png', ['2.png'])
    """
    files: dict[str, list[Path]] = {}
    for path in dict.fromkeys(paths):
        for last in {path.name, path.stem}:
            files.setdefault(last, []).append(path)
    found: dict[str, Path] = {}
    unseen: list[str] = []
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/")).parts
        fits = [path for path in files.get(parts[-1] if parts else "", ()) if _ends(path, parts)]
        if len(fits) > 1:
            raise InputError(
                f"{name} may be {fits[0]} or {fits[1]}; write the folder before the name, as in "
                f"{fits[0].parent.name}/{fits[0].name}"
            )
        if fits and fits[0] in found.values():
            twin = next(other for other, path in found.items() if path == fits[0])
            raise InputError(f"{name} and {twin} are both {fits[0]}; give an image one name")
        if fits:
            found[name] = fits[0]
        else:
            unseen.append(name)
    return found, unseen


def _ends(path: Path, parts: Sequence[str]) -> bool:
    return path.parts[-len(parts) : -1] == tuple(parts[:-1])


def read_csv(path: Path) -> Gaze:
    """Fixations of a CSV file with a header that names at least `COLUMNS`, in any order; other columns are ignored.

    Lines of one image and observer make one viewing, in the file's order. ``duration_ms`` may be empty where it
    isn't known.

    Raises:
        InputError: a file that can't be read or is empty, a column that is missing, and a value that is no finite
            number, or a negative duration.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read as a CSV file ({error}); give a file of UTF-8 text") from None
    found: dict[tuple[str, str], list[Fixation]] = {}
    rows = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    try:
        _check_header(path, rows.fieldnames)
        for row in rows:
            where = f"{path} line {rows.line_num}"
            viewed = (_word(where, row, "image"), _word(where, row, "observer"))
            found.setdefault(viewed, []).append(_fixation(where, row))
    except csv.Error as error:
        raise InputError(f"{path} line {rows.line_num} is no CSV ({error}); save it again, with commas") from None
    if not found:
        raise InputError(f"{path} holds no fixation; needed is at least one line below its header")
    return Gaze(tuple(Viewing(*viewed, tuple(fixations)) for viewed, fixations in found.items()))


def write_csv(path: Path, viewings: Iterable[Viewing]) -> None:
    """Writes what `read_csv` reads back exactly: the whole file, or nothing.

    Args:
        path: The file.
        viewings: What it's to hold.

    Raises:
        InputError: it can't be written.
    """
    write_bytes(path, (",".join(COLUMNS) + "\n").encode() + _lines(viewings, COLUMNS))


def append_csv(path: Path, viewing: Viewing) -> None:
    """Adds a viewing's lines to a file; all of them, or none. What it holds stays as it is, its other columns too.

    Args:
        path: The file, which is made where it isn't there.
        viewing: What is added.

    Raises:
        InputError: it's no file of fixations or can't be written.
    """
    if not path.exists():
        write_csv(path, [viewing])
        return
    try:
        data = path.read_bytes()
        columns = next(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), skipinitialspace=True), None)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} can't be read as a CSV file ({error}); choose another file") from None
    _check_header(path, columns)
    end = b"" if data.endswith(b"\n") else b"\n"
    write_bytes(path, data + end + _lines([viewing], columns or ()))


def _lines(viewings: Iterable[Viewing], columns: Sequence[str]) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    for viewing in viewings:
        for fixation in viewing.fixations:
            values = (viewing.image, fixation.x, fixation.y, fixation.duration_ms, viewing.observer)
            writer.writerow(dict(zip(COLUMNS, values, strict=True)))
    return out.getvalue().encode()


def _check_header(path: Path, columns: Sequence[str] | None) -> None:
    if not columns:
        raise InputError(f"{path} is empty; its first line must be {','.join(COLUMNS)}")
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise InputError(
            f"{path} has no column {', '.join(missing)}, only {', '.join(columns)}; its first line must name "
            f"{','.join(COLUMNS)}"
        )


def _fixation(where: str, row: Mapping[str, str | None]) -> Fixation:
    duration = _number(where, row, "duration_ms") if (row["duration_ms"] or "").strip() else None
    if duration is not None and duration < 0:
        raise InputError(f"{where}: duration_ms is {duration:g}, allowed is 0 and more; correct or remove the line")
    return Fixation(_number(where, row, "x"), _number(where, row, "y"), duration)


def _number(where: str, row: Mapping[str, str | None], column: str) -> float:
    text = row[column] or ""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: {column} is {text!r}, needed is a finite number; correct or remove the line")
    return value


def _word(where: str, row: Mapping[str, str | None], column: str) -> str:
    text = (row[column] or "").strip()
    if not text:
        raise InputError(f"{where}: {column} is empty, needed is a name; correct or remove the line")
    return text

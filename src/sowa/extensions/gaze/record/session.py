"""What a recording knows: the images, who looks at them, what is recorded already. H x W pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sowa.core.progress import Report, silent
from sowa.data.files import expand_source
from sowa.data.images import read_image
from sowa.errors import InputError
from sowa.extensions.gaze.fixations import Fixation, Viewing, append_csv, read_csv
from sowa.extensions.gaze.observers import SIMULATED

MOST_CLICKS = 1000  # on one image
LONGEST_NAME = 100


@dataclass(frozen=True)
class Stimulus:
    """An image to look at.

    Attributes:
        name: That is recorded.
        path: Its file.
        size: (H, W) in pixels.
    """

    name: str
    path: Path
    size: tuple[int, int]


@dataclass(frozen=True)
class Lens:
    """How images are shown.

    Kim et al. (2017) blur until text can't be read, and reveal 30 to 50 of 500 to 1000 pixels.

    Attributes:
        radius: Of the sharp region, in parts of the image's longer side.
        blur: Standard deviation of the rest's blur, likewise.
        least: How many clicks an image needs, 1 or more.

    Raises:
        InputError: a number is out of its range.
    """

    radius: float = 0.06
    blur: float = 0.02
    least: int = 3

    def __post_init__(self) -> None:
        for name, most in (("radius", 1.0), ("blur", 0.25)):
            if not 0 < getattr(self, name) <= most:
                raise InputError(f"{name} is {getattr(self, name)}, allowed is above 0 to {most} of the longer side")
        if not 1 <= self.least <= MOST_CLICKS:
            raise InputError(f"{self.least} clicks at least, allowed are 1 to {MOST_CLICKS}")


def stimuli(source: Path, on_skip: Callable[[str, str], None], report: Report = silent) -> list[Stimulus]:
    """The images of a source; each is read once. Their names begin below the folder.

    Args:
        source: A file, folder or glob pattern.
        on_skip: Is handed a broken one, and the reason.
        report: Told of the progress.

    Raises:
        InputError: there is none, or two of a name.
    """
    found, paths = dict[str, Stimulus](), expand_source(source)
    for number, path in enumerate(paths):
        name = path.relative_to(source).as_posix() if source.is_dir() else path.name
        if name in found:
            raise InputError(f"{path} and {found[name].path} have one name; give the folder that both lie in")
        try:
            height, width = read_image(path).shape[:2]
            found[name] = Stimulus(name, path, (height, width))
        except InputError as error:
            on_skip(name, str(error))
        report("read images", number + 1, len(paths))
    if not found:
        raise InputError(f"{source} holds no image that can be read; give others")
    return list(found.values())


class Session:
    """One observer's way through the images. What is done is what the file holds, so it goes on where it stopped.

    Args:
        images: In the order to be shown.
        csv_path: The file of fixations, which is made where it isn't there.
        observer: Who looks.
        lens: How images are shown; by default `Lens`'s own.

    Raises:
        InputError: a name that can't be an observer's, or a file that holds something else.
    """

    def __init__(self, images: Sequence[Stimulus], csv_path: Path, observer: str, lens: Lens | None = None) -> None:
        name = observer.strip()
        if not name.isprintable() or not 0 < len(name) <= LONGEST_NAME or name.startswith(SIMULATED):
            raise InputError(
                f"observer is {observer!r}, needed is a name of 1 to {LONGEST_NAME} letters that doesn't begin with "
                f"{SIMULATED}"
            )
        self.images, self.csv_path, self.observer, self.lens = list(images), csv_path, name, lens or Lens()
        viewings = read_csv(csv_path).viewings if csv_path.exists() else ()
        self.done = {viewing.image for viewing in viewings if viewing.observer == name}

    @property
    def next(self) -> int | None:
        """Number of the first image that isn't done; None where all are."""
        return next((number for number, each in enumerate(self.images) if each.name not in self.done), None)

    @property
    def recorded(self) -> int:
        """How many of the images are done."""
        return sum(image.name in self.done for image in self.images)

    def add(self, number: int, clicks: Sequence[Fixation]) -> None:
        """Writes the clicks on an image, which is done then.

        Args:
            number: Of the image, from 0.
            clicks: In pixels of the image, in their order.

        Raises:
            InputError: another image than the next one, a click beside it, too few or too many clicks, or the file
                can't be written; nothing is changed.
        """
        if number != self.next:
            raise InputError(f"image {number} isn't the next one, which is {self.next}; load the page again")
        image = self.images[number]
        if not self.lens.least <= len(clicks) <= MOST_CLICKS:
            raise InputError(f"{len(clicks)} clicks, needed are {self.lens.least} to {MOST_CLICKS}")
        height, width = image.size
        for click in clicks:
            if not (0 <= click.x < width and 0 <= click.y < height):
                raise InputError(f"({click.x:g}, {click.y:g}) isn't on an image {width} wide and {height} high")
        append_csv(self.csv_path, Viewing(image.name, self.observer, tuple(clicks)))
        self.done.add(image.name)

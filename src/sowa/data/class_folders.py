"""Labelled images: a folder of folders, one per class, as torchvision's ImageFolder reads them.

``ROOT/<class>/*``, or apart already: ``ROOT/train/<class>`` and ``ROOT/test/<class>`` (or ``val``, ``validation``).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sowa.data.files import find_images, require_folder, sub_folders
from sowa.data.layout import unknown
from sowa.data.sampling import draw
from sowa.data.sources import ImageSource
from sowa.errors import InputError

TRAIN, TEST = ("train", "training"), ("test", "val", "validation", "valid")
HELD_OUT = 0.25  # of each class, where nobody has set test images apart


@dataclass(frozen=True)
class Labelled:
    """Images and their classes.

    Attributes:
        images: N, not yet read.
        labels: The number of each one's class, 0 to C - 1.
        names: Of the C classes.
    """

    images: tuple[ImageSource, ...]
    labels: tuple[int, ...]
    names: tuple[str, ...]

    def of_class(self, label: int) -> list[int]:
        """Places of the images of a class."""
        return [place for place, own in enumerate(self.labels) if own == label]

    def take(self, places: Sequence[int]) -> Labelled:
        """Some of the images, in that order; the classes stay."""
        return Labelled(
            tuple(self.images[place] for place in places), tuple(self.labels[place] for place in places), self.names
        )

    def shots(self, count: int, seed: int) -> list[int]:
        """Places of so many images of each class; for one seed more shots extend fewer.

        Args:
            count: Images of each class, 1 or more.
            seed: That draws them, 0 or more.

        Raises:
            InputError: a class has fewer, which is named, or a number is too small.
        """
        if count < 1 or seed < 0:
            raise InputError(f"k-shot is {count} and seed {seed}, allowed are 1 and more, and 0 and more")
        drawn: list[int] = []
        for label, name in enumerate(self.names):
            own = self.of_class(label)
            if len(own) < count:
                raise InputError(f"k-shot is {count}, but class {name!r} has only {len(own)} images to learn from")
            drawn += draw(own, count, seed)
        return drawn


@dataclass(frozen=True)
class Folders:
    """What a root holds, both parts of the same classes.

    Attributes:
        train: Images to learn from.
        test: Images to test on.
    """

    train: Labelled
    test: Labelled


def read_folders(
    root: str | Path, names: str | Path | None = None, seed: int = 0, held_out: float = HELD_OUT
) -> Folders:
    """The classes of a folder, one folder of images each.

    Args:
        root: That holds them, or a folder of them to train on and one to test on.
        names: A file that says what folders mean, a line ``folder = words`` each; else a folder's name is the class's.
        seed: That draws what is held out.
        held_out: Share of each class that is tested on where there is no test folder, above 0 and below 1.

    Raises:
        InputError: there are fewer than two classes, a class folder without images, a test folder of a class that isn't
            trained, two classes of one name, or nothing left to learn from.
    """
    folder = require_folder(root, "check --root")
    parts = {sub.name.lower(): sub for sub in sub_folders(folder)}
    train = next((parts[name] for name in TRAIN if name in parts), None)
    test = next((parts[name] for name in TEST if name in parts), None)
    words = read_words(names) if names else {}
    if train is None and test is not None:
        raise InputError(f"{folder} has {test.name} but no train: add it, or give {test} itself to hold some of it out")
    if train is None:
        return _apart(_read(folder, words), held_out, seed)
    learned = _read(train, words)
    if test is None:
        return _apart(learned, held_out, seed)
    return Folders(learned, _read(test, words, learned.names))


def read_test(root: str | Path, names: Sequence[str], words: str | Path | None = None) -> Labelled:
    """The images that a trained classifier is tested on: the test folder of a root, or all of it.

    Args:
        root: The folder.
        names: The classes that the classifier knows.
        words: A file that says what folders mean, as for `read_folders`.

    Raises:
        InputError: a folder that is none of ``names``, and as `read_folders` says.
    """
    folder = require_folder(root, "check --root")
    parts = {sub.name.lower(): sub for sub in sub_folders(folder)}
    test = next((parts[name] for name in TEST if name in parts), folder)
    return _read(test, read_words(words) if words else {}, tuple(names))


def read_words(path: str | Path) -> dict[str, str]:
    """Folder -> words, of a file of lines ``folder = words``.

    Raises:
        InputError: a line of another kind, a folder twice, or as `read_lines` says.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(read_lines(path), start=1):
        folder, equals, words = (part.strip() for part in line.partition("="))
        if not folder or not equals or not words or folder in found:
            raise InputError(f"{path}, line {number} of text is {line!r}, needed is 'folder = words', no folder twice")
        found[folder] = words
    return found


def read_lines(path: str | Path) -> list[str]:
    """The lines of a text file that aren't empty, without space around them.

    Raises:
        InputError: the file can't be read or holds none.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{path} is no readable text file ({error}); check the path") from None
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise InputError(f"{path} is empty; write one a line")
    return found


def check_classes(names: Sequence[str], least: int = 1) -> tuple[str, ...]:
    """Names of classes, without space around them.

    Args:
        names: As a user wrote them; "_" and " " are the same, and so are upper and lower case.
        least: So many there must be.

    Raises:
        InputError: an empty name, one that is there twice, or fewer than ``least``.

    Example:
        >>> check_classes([" scratch ", "dent"])
        ('scratch', 'dent')
    """
    words = tuple(name.strip() for name in names)
    counts = Counter(word.replace("_", " ").casefold() for word in words)
    twice = [word for word, count in counts.items() if count > 1]
    if twice:
        raise InputError(f"the name {twice[0]!r} stands for more than one class; give each its own")
    if not all(words) or len(words) < least:
        raise InputError(f"the classes are {list(words)}; needed are {least} or more, none without a name")
    return words


def _read(folder: Path, words: dict[str, str], expected: tuple[str, ...] | None = None) -> Labelled:
    """The images below ``folder``; of the ``expected`` classes, or of those that there are."""
    subs = sub_folders(folder)
    if strange := sorted(words.keys() - {sub.name for sub in subs}):
        raise unknown("folder", strange[0], [sub.name for sub in subs])
    named = [words.get(sub.name, sub.name.replace("_", " ")) for sub in subs]
    if expected is None and len(subs) < 2:
        raise InputError(
            f"{folder} holds {len(subs)} class folder(s), needed are 2 or more: one folder of images per class"
        )
    names = check_classes(named, 1) if expected is None else expected
    images, labels = [], []
    for sub, name in zip(subs, check_classes(named, 0), strict=True):
        found = find_images(sub)
        if not found:
            raise InputError(f"class folder {sub} holds no image: add some or remove the folder")
        if name not in names:
            raise unknown("class", name, names)
        images += [ImageSource(str(path), path) for path in found]
        labels += [names.index(name)] * len(found)
    if not images:
        raise InputError(f"{folder} holds no class folder: put the images of each class into a folder of its name")
    return Labelled(tuple(images), tuple(labels), names)


def apart(labelled: Labelled, held_out: float, seed: int) -> tuple[list[int], list[int]]:
    """Places of the images to learn from and of those to test on, both ascending.

    Args:
        labelled: The images.
        held_out: Share of each class to test on, above 0 and below 1, at least one image.
        seed: That draws them, 0 or more.

    Raises:
        InputError: a class has a single image, or a number is out of its range.
    """
    if not 0 < held_out < 1 or seed < 0:
        raise InputError(f"held-out is {held_out} and seed {seed}, allowed are between 0 and 1, and 0 and more")
    train, test = list[int](), list[int]()
    for label, name in enumerate(labelled.names):
        own = labelled.of_class(label)
        count = max(1, math.floor(held_out * len(own)))
        if count >= len(own):
            raise InputError(
                f"class {name!r} has {len(own)} image(s), needed are 2: one to learn from and one to test on"
            )
        drawn = draw(own, len(own), seed)
        test += drawn[:count]
        train += drawn[count:]
    return sorted(train), sorted(test)


def _apart(labelled: Labelled, held_out: float, seed: int) -> Folders:
    train, test = apart(labelled, held_out, seed)
    return Folders(labelled.take(train), labelled.take(test))

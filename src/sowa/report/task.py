"""A page about a test of detection or classification: figures, classes, and images, the worst errors first.

One file without a script, which needs no network.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

import sowa
from sowa.core.files import write_bytes
from sowa.report.summary import Table
from sowa.report.thumbnails import jpeg
from sowa.report.writer import TEMPLATES, templates

SIDE, MOST = 448, 200  # longer side of an image in pixels, and images on a page
FIGURE = 720  # pixels that a drawing is wide


@dataclass(frozen=True)
class Card:
    """An image of the page.

    Attributes:
        path: Its file.
        image: As it's to be shown, (H, W, 3) uint8.
        tag: What was said of it.
        note: More.
        wrong: Whether that is an error.
    """

    path: str
    image: NDArray[np.uint8]
    tag: str
    note: str
    wrong: bool

    @property
    def name(self) -> str:
        """File and folder."""
        return "/".join(Path(self.path).parts[-2:])

    @property
    def photo(self) -> str:
        """Base64 of a JPEG."""
        return b64encode(jpeg(self.image, SIDE)).decode("ascii")


@dataclass(frozen=True)
class TaskPage:
    """What the page of a task shows.

    Attributes:
        title: Of the page.
        subject: What was judged.
        made: When.
        figures: Large numbers, in words.
        facts: Smaller ones.
        classes: A table of them.
        legend: What the cards are.
        cards: In the order to be seen; the page shows the first `MOST`.
        skipped: Images that couldn't be read, and why.
        png: A drawing beside the classes.
        drawn: What it shows.
    """

    title: str
    subject: str
    made: str
    figures: Mapping[str, str]
    facts: Mapping[str, str]
    classes: Table
    legend: str
    cards: Sequence[Card]
    skipped: Sequence[tuple[str, str]] = ()
    png: bytes = b""
    drawn: str = ""

    @property
    def drawing(self) -> str:
        """Base64 of the PNG."""
        return b64encode(self.png).decode("ascii")


def write_task_page(page: TaskPage, path: Path) -> None:
    """Writes the page, or nothing.

    Args:
        page: What it shows.
        path: The file.

    Raises:
        InputError: the file can't be written.
    """
    text = (
        templates()
        .get_template("task.html")
        .render(
            page=page,
            FIGURE=FIGURE,
            MOST=MOST,
            style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
            version=sowa.__version__,
        )
    )
    write_bytes(path, text.encode("utf-8", "replace"))

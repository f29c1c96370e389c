"""What a report says before it comes to the images. Built by the command, which knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sowa.metrics import Curve


@dataclass(frozen=True)
class Table:
    """A table of words and numbers.

    Attributes:
        header: What the columns are called.
        rows: As many cells each.
        notes: What is to be said of it.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Plot:
    """A curve to draw.

    Attributes:
        name: "ROC", "PR" or "PRO".
        curve: Its points.
        area: The area under it, in words.
        point: Whether the threshold's place lies on it.
    """

    name: str
    curve: Curve
    area: str
    point: bool = True


@dataclass(frozen=True)
class Summary:
    """The head of a report.

    Attributes:
        title: Of the page.
        subject: What was judged.
        made: When.
        facts: Names and values in the order to be read.
        references: Names of images, by category.
        skipped: Images that couldn't be read, and why.
        metrics: Tables of them by what they tell.
        plots: Curves, by category.
        command: What was typed.
    """

    title: str
    subject: str
    made: str
    facts: Mapping[str, str]
    references: Mapping[str, Sequence[str]] = field(default_factory=dict)
    skipped: Sequence[tuple[str, str]] = ()
    metrics: Mapping[str, Table] = field(default_factory=dict)
    plots: Mapping[str, Sequence[Plot]] = field(default_factory=dict)
    command: str = ""


def now() -> str:
    """The moment, as pages say when they were made."""
    return datetime.now().astimezone().strftime("%d %B %Y, %H:%M %Z")

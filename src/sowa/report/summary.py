"""What a report says before it comes to the images. Built by the command, which knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sowa.metrics import Curve


@dataclass(frozen=True)
class Table:
    """A table of words and numbers, and what is to be said of it."""

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Plot:
    """A curve to draw: ROC, PR or PRO, and the area under it in words. ``point`` says whether the threshold's place
    lies on it."""

    name: str
    curve: Curve
    area: str
    point: bool = True


@dataclass(frozen=True)
class Summary:
    """The head of a report.

    ``facts`` are names and values in the order to be read. ``references`` are names of images, ``plots`` curves, both
    by category. ``skipped`` are images that couldn't be read, and why. ``command`` is what was typed.
    """

    title: str
    subject: str
    made: str
    facts: Mapping[str, str]
    references: Mapping[str, Sequence[str]] = field(default_factory=dict)
    skipped: Sequence[tuple[str, str]] = ()
    metrics: Table | None = None
    plots: Mapping[str, Sequence[Plot]] = field(default_factory=dict)
    command: str = ""


def now() -> str:
    """The moment, as pages say when they were made."""
    return datetime.now().astimezone().strftime("%d %B %Y, %H:%M %Z")

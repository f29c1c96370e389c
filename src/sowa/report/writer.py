"""Writes the report. Cards lie in a temporary file until all are there and their order is known."""

from __future__ import annotations

import json
import tempfile
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import IO

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

import sowa
from sowa.core.files import replacing
from sowa.detector.prediction import Prediction
from sowa.detector.render import Boxes
from sowa.report.charts import curve_plot, histogram
from sowa.report.summary import Summary
from sowa.report.thumbnails import thumbnails
from sowa.report.verdict import FILTERS, LABELLED_FILTERS, TAGS, Entry, Kind, kind_of

TEMPLATES = Path(__file__).with_name("template")
FIRST = 24  # cards that stand in the page itself: shown without JavaScript, and printed
# Longer side of a photograph in pixels: sharper where there are few.
FEW, SHARP, SMALL = 1000, 448, 224


def templates() -> Environment:
    """Where pages come from; it escapes what file names hold."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@contextmanager
def open_report(path: Path, images: int) -> Iterator[ReportWriter]:
    """A writer whose report becomes a file when the block ends well; otherwise the file stays as it was.

    Args:
        path: The page.
        images: About how many there will be.

    Raises:
        InputError: at once where the folder can't be written, and later where the disk is full.
    """
    with replacing(path) as page, tempfile.TemporaryFile(dir=path.parent) as cards:
        yield ReportWriter(page, cards, SHARP if images <= FEW else SMALL)


class ReportWriter:
    """Takes images one by one, in any order and number; memory holds some hundred bytes of each.

    Args:
        page: The file.
        cards: Where cards are kept until the page is written.
        side: The longer side of photographs, in pixels.
    """

    def __init__(self, page: Path, cards: IO[bytes], side: int) -> None:
        self._page, self._cards, self._side = page, cards, side
        self._entries: list[Entry] = []
        self._end = 0
        self._boxed = False
        self._thresholds: dict[str, tuple[float, float]] = {}
        self._templates = templates()
        self._card = self._templates.get_template("card.html")

    def add(
        self,
        prediction: Prediction,
        *,
        category: str = "",
        label: int | None = None,
        true_mask: NDArray[np.bool_] | None = None,
        defect_type: str | None = None,
        boxes: Boxes | None = None,
    ) -> None:
        """Draws an image's card.

        Args:
            prediction: Of the image.
            category: Its product.
            label: 0 for normal, 1 for anomalous, None where unknown.
            true_mask: (H, W) bool at the map's size.
            defect_type: What the data set calls the defect.
            boxes: In the image's pixels.

        Raises:
            InputError: the image can't be read again.
        """
        kind, name = kind_of(prediction, label), "/".join(Path(prediction.image_path).parts[-2:])
        unsure = prediction.verdict == "unsure"
        card = self._card.render(
            name=name,
            kind=kind,
            tag=TAGS[kind],
            unsure=unsure,
            prediction=prediction,
            category=category,
            labelled=label is not None,
            defect_type=defect_type,
            images=thumbnails(prediction, true_mask, self._side, boxes),
        )
        ratio = prediction.raw_score / prediction.threshold
        self._thresholds[category] = prediction.threshold, prediction.pixel_threshold
        self._boxed |= boxes is not None
        data = _utf8(card)
        self._cards.write(data)
        self._entries.append(Entry(kind, unsure, category, prediction.image_path, ratio, self._end, len(data)))
        self._end += len(data)

    def finish(self, summary: Summary) -> None:
        """Writes the page: what ``summary`` says, then the images."""
        self._entries.sort(key=lambda entry: entry.rank)
        groups = [
            _Group(name, [entry for entry in self._entries if entry.category == name], summary)
            for name in dict.fromkeys(sorted(entry.category for entry in self._entries))
        ]
        script = (TEMPLATES / "script.js").read_text(encoding="utf-8")
        index = [[entry.kind, entry.category, entry.name, int(entry.unsure)] for entry in self._entries]
        page = self._templates.get_template("page.html").generate(
            summary=summary,
            groups=groups,
            thresholds=self._thresholds,
            total=_Group("", self._entries, summary),
            filters=self._filters(),
            boxed=self._boxed,
            first=self._stored(self._entries[:FIRST]),
            rest=self._stored(self._entries[FIRST:]),
            FIRST=FIRST,
            index=Markup(json.dumps(index, separators=(",", ":")).replace("<", "\\u003c")),
            style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
            script=Markup(script),
            script_hash=b64encode(sha256(script.encode()).digest()).decode(),
            version=sowa.__version__,
        )
        with self._page.open("wb") as file:
            for part in page:
                file.write(_utf8(part))

    def _stored(self, entries: Iterable[Entry]) -> Iterator[Markup]:
        for entry in entries:
            self._cards.seek(entry.start)
            yield Markup(self._cards.read(entry.length).decode())

    def _filters(self) -> list[tuple[str, str, int]]:
        """Names of filters, the kinds that pass, and how many images do."""
        labelled = any(entry.kind in LABELLED_FILTERS["All"] for entry in self._entries)
        return [
            (name, " ".join(kinds), sum(entry.passes(kinds) for entry in self._entries))
            for name, kinds in (LABELLED_FILTERS if labelled else FILTERS).items()
        ]


@dataclass(frozen=True)
class _Group:
    """What the page shows of one category, or of all."""

    name: str
    entries: list[Entry]
    summary: Summary

    @cached_property
    def counts(self) -> dict[Kind, int]:
        return {kind: sum(entry.kind == kind for entry in self.entries) for kind in TAGS}

    @property
    def labelled(self) -> bool:
        return not any(self.counts[kind] for kind in FILTERS["All"])

    @property
    def unsure(self) -> int:
        """How many images nobody should be told a verdict on."""
        return sum(entry.unsure for entry in self.entries)

    @property
    def histogram(self) -> Markup:
        truly = {"missed": True, "found": True, "alarm": False, "passed": False}
        is_up = [truly.get(entry.kind, entry.ratio > 1) for entry in self.entries]
        up = [entry.ratio for entry, above in zip(self.entries, is_up, strict=True) if above]
        down = [entry.ratio for entry, above in zip(self.entries, is_up, strict=True) if not above]
        return histogram(down, up, self.labelled, 620 if self.labelled else 860)

    @property
    def plots(self) -> list[tuple[str, str, Markup]]:
        """Name, area in words and drawing of each curve."""
        found, missed, alarm, passed = (self.counts[kind] for kind in ("found", "missed", "alarm", "passed"))
        recall = found / max(1, found + missed)
        points = {"ROC": (alarm / max(1, alarm + passed), recall), "PR": (recall, found / max(1, found + alarm))}
        return [
            (plot.name, plot.area, curve_plot(plot, points.get(plot.name)))
            for plot in self.summary.plots.get(self.name, ())
        ]


def _utf8(text: str) -> bytes:
    """File names that aren't Unicode come as surrogates, which no file can hold."""
    return text.encode("utf-8", "replace")

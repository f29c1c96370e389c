"""What an image's card is filed under, and which card comes first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sowa.core.types import ABNORMAL
from sowa.detector.prediction import Prediction
from sowa.report.charts import octaves

Kind = Literal["missed", "alarm", "found", "passed", "anomalous", "unsure", "normal"]
"""The first four where the truth is known, the others where it isn't."""

TAGS: dict[Kind, str] = {
    "missed": "Missed defect",
    "alarm": "False alarm",
    "found": "Defect found",
    "passed": "Normal, passed",
    "anomalous": "Anomalous",
    "unsure": "Unsure",
    "normal": "Normal",
}
LABELLED_FILTERS: dict[str, tuple[Kind, ...]] = {  # "unsure" lets through what is, whatever else it is
    "All": ("missed", "alarm", "found", "passed"),
    "Errors": ("missed", "alarm"),
    "Missed": ("missed",),
    "False alarms": ("alarm",),
    "Unsure": ("unsure",),
    "Anomalous": ("missed", "found"),
    "Normal": ("alarm", "passed"),
}
FILTERS: dict[str, tuple[Kind, ...]] = {
    "All": ("anomalous", "unsure", "normal"),
    "Anomalous": ("anomalous",),
    "Unsure": ("unsure",),
    "Normal": ("normal",),
}


@dataclass(frozen=True)
class Entry:
    """What is kept of an image while its card lies on disk.

    Attributes:
        kind: What its verdict is worth.
        unsure: Whether that is "unsure".
        category: Its product.
        name: Its path.
        ratio: Of its raw score to the threshold.
        start: Where the card begins, in bytes.
        length: Of the card, in bytes.
    """

    kind: Kind
    unsure: bool
    category: str
    name: str
    ratio: float
    start: int
    length: int

    def passes(self, kinds: tuple[Kind, ...]) -> bool:
        """Whether a filter of these kinds shows it."""
        return self.kind in kinds or (self.unsure and "unsure" in kinds)

    @property
    def rank(self) -> tuple[bool, float]:
        """Ascending: errors first, the furthest from the threshold in front; then the highest scores."""
        wrong = self.kind in ("missed", "alarm")
        return not wrong, -abs(octaves(self.ratio)) if wrong else -self.ratio


def kind_of(prediction: Prediction, label: int | None) -> Kind:
    """What the verdict is worth.

    Args:
        prediction: Of the image.
        label: 0 for normal, 1 for anomalous, None where unknown.
    """
    if label is None:
        return prediction.verdict
    if label == ABNORMAL:
        return "found" if prediction.is_anomalous else "missed"
    return "alarm" if prediction.is_anomalous else "passed"

"""What a method says of one category: the metric against the number of shots, and the number to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Point:
    """Image AUROC with so many shots.

    Attributes:
        shots: So many.
        mean: In 0..1.
        error: The mean's standard error.
        low: Where an interval of 95 % for the mean begins, in 0..1,
        high: and where it ends.
    """

    shots: int
    mean: float
    error: float
    low: float
    high: float


@dataclass(frozen=True)
class Choice:
    """How many shots to take, and why.

    Attributes:
        method: The one that was asked.
        labels: What the metric was measured on: "real" anomalies, "generated" ones, or "none" where it's predicted.
        points: The curve, by rising numbers of shots.
        chosen: The number to take.
        best: The one with the highest mean.
        reason: Why, in words.
        fits: Banks that were judged.
        encoded: Images that went through the network.
        seconds: What all of it took.
        encoding: What reading and encoding images took of these.
    """

    method: str
    labels: str
    points: tuple[Point, ...]
    chosen: int
    best: int
    reason: str
    fits: int
    encoded: int
    seconds: float
    encoding: float

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return asdict(self)

    @property
    def gain(self) -> float:
        """What the best number is ahead of the chosen one."""
        means = {point.shots: point.mean for point in self.points}
        return means[self.best] - means[self.chosen]


def point(shots: int, by_fold: Sequence[float]) -> Point:
    """The point of one number of shots, from one mean per fold: folds are apart, the draws inside one share its images.

    Args:
        shots: So many.
        by_fold: Image AUROC of each fold, in 0..1.

    Example:
        >>> found = point(4, [0.90, 0.94, 0.92])
        >>> round(found.mean, 3), round(found.error, 4), round(found.low, 3), round(found.high, 3)
        (0.92, 0.0115, 0.87, 0.97)
    """
    values = np.asarray(by_fold, dtype=np.float64)
    mean = float(values.mean())
    if len(values) < 2:
        return Point(shots, mean, 0.0, mean, mean)
    error = float(values.std(ddof=1) / np.sqrt(len(values)))
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1)) * error
    return Point(shots, mean, error, max(0.0, mean - half), min(1.0, mean + half))


def one_standard_error(shots: Sequence[int], by_fold_FC: NDArray[np.float64]) -> tuple[int, int]:
    """The smallest number of shots within one standard error of the best, and the best (Breiman et al., 1984).

    The error is that of the difference to the best, fold by fold: how hard a fold is concerns all candidates alike, and
    less is lost so than with the error of the best's own mean (benchmarks/results/shots.md).

    Args:
        shots: The candidates.
        by_fold_FC: Each fold's mean, (folds, candidates).

    Example:
        >>> import numpy as np
        >>> one_standard_error([1, 2, 4], np.array([[0.80, 0.90, 0.91], [0.82, 0.93, 0.92], [0.81, 0.92, 0.93]]))
        (2, 4)
    """
    behind_FC = by_fold_FC[:, [by_fold_FC.mean(axis=0).argmax()]] - by_fold_FC
    within = behind_FC.mean(axis=0) <= behind_FC.std(axis=0, ddof=1) / np.sqrt(len(by_fold_FC))
    return min(np.asarray(shots)[within].tolist()), shots[int(by_fold_FC.mean(axis=0).argmax())]

"""Where normal ends: thresholds from normal images alone, or from labelled ones.

How far a normal image lies from the memory bank is seen by leaving each reference image out of the bank in turn, or
on normal images that aren't in it. Few images say little about the spread, so it is drawn towards what other products
show; how well that holds on products that weren't looked at is in benchmarks/results/choices.md and threshold.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sowa.core import student
from sowa.core.config import FALSE_POSITIVE_RATE
from sowa.errors import InputError

FEW = 8  # up to so many normal images show no shape of their own (chosen on auxiliary data)
UNSEEN_WIDTH = 0.25  # how gently the score rises where no normal image tells
PRIOR_SPREAD = 0.1
PRIOR_WEIGHT = 4  # counts as much as this many further images
# Variants of one reference lie nearer to it than other pieces do: mean and deviation, over products, of how far they
# miss the centre of normal images, in logarithms (three real and seven generated products, three references each).
CENTRE_SHIFT, CENTRE_SPREAD = 0.2, 0.22
BANK_GAIN = 0.14  # so much does the logarithm of a distance fall when the bank grows e-fold (same data)
SMALLEST = 1e-6  # keeps the logarithm of a distance of zero finite
SAME = 1e-4  # nearer than this lies only a copy of a reference, which says nothing of other pieces
RATES = (1e-6, 1 - 1e-6)  # beyond, a bound is nothing but the tail of a formula

Rule = Literal["f1", "youden", "recall", "cost"]
"""f1: the largest F1. youden: the largest difference of true and false positive rate. recall: no anomalous image is
missed, as few false alarms as that allows. cost: the smallest sum of false alarms and ``missed_cost`` times misses."""


@dataclass(frozen=True)
class NormalRange:
    """What one more normal image is expected to show, as far as the normal images seen so far tell.

    The number's logarithm follows Student's t, whose long tails stand for what few images can't show. Beyond `FEW`
    images their own logarithms tell the shape more and more: one more image is equally likely to fall between any two
    of them, as between an end and infinity.

    Attributes:
        centre: Of the logarithm.
        width: Of the logarithm, above 0.
        freedom: Degrees of freedom, 1 and more.
        logs: The logarithms seen.

    Raises:
        ValueError: a number isn't finite, or out of its range.
    """

    centre: float
    width: float
    freedom: int
    logs: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.centre, *self.logs))):
            raise ValueError("centre and logs of a range must be finite")
        if not 0 < self.width < math.inf or self.freedom < 1:
            raise ValueError(f"width {self.width} must be above 0, freedom {self.freedom} 1 or more")

    def bound(self, false_positive_rate: float) -> float:
        """The value that one more normal image exceeds at this rate (0..1, ends excluded)."""
        if len(self.logs) <= FEW:
            return math.exp(self.centre - self.width * student.quantile(self.freedom, false_positive_rate))
        # All parts of the mixture exceed the lower end at more than the rate, and the upper end at less.
        tail = min(false_positive_rate, 1 - false_positive_rate) / 2
        reach = self.width * (10 - student.quantile(1, tail))
        low, high = min((self.centre, *self.logs)) - reach, max((self.centre, *self.logs)) + reach
        return math.exp(student.falling_root(lambda log: self._exceeded(log) - false_positive_rate, low, high))

    def percentile(self, value: float) -> float:
        """Share of normal images that stay below ``value``, 0..100."""
        return 0.0 if value <= 0 else 100 * (1 - self._exceeded(math.log(value)))

    def _exceeded(self, log: float) -> float:
        """Chance that one more normal image lies above."""
        bell = self._bell(log)
        count = len(self.logs)
        if count <= FEW:
            return bell
        own = self._own(log)
        return own + (bell - own) * FEW / count

    def _bell(self, log: float) -> float:
        return student.cumulative(self.freedom, (self.centre - log) / self.width)

    @cached_property
    def _sorted(self) -> NDArray[np.float64]:
        return np.sort(self.logs)

    def _own(self, log: float) -> float:
        """By the images' ranks; beyond the ends the tails of Student's t, which meet the ranks there."""
        logs = self._sorted
        end = 1 / (len(logs) + 1)
        if log > logs[-1]:
            return end * self._bell(log) / self._bell(logs[-1])
        if log < logs[0]:
            return 1 - end * (1 - self._bell(log)) / (1 - self._bell(logs[0]))
        return float(np.interp(log, logs, np.linspace(1 - end, end, len(logs))))


@dataclass(frozen=True)
class Calibration:
    """Where normal ends.

    Attributes:
        threshold: A raw score, above 0.
        pixel_threshold: A map value, above 0.
        rule: In words how they were chosen.
        image: Range of raw scores over normal images; None where none was seen.
        pixel: Range of map maxima over normal images; None likewise.
        seen: Which normal images those were.

    Raises:
        ValueError: a threshold isn't above 0 and finite.
    """

    threshold: float = 0.5
    pixel_threshold: float = 2.0
    rule: str = "half of the abnormal probability"
    image: NormalRange | None = None
    pixel: NormalRange | None = None
    seen: str = "none"

    def __post_init__(self) -> None:
        if not all(0 < value < math.inf for value in (self.threshold, self.pixel_threshold)):
            raise ValueError(f"{self}: each threshold must be a number above 0")

    def score(self, raw_score: float) -> float:
        """Raw score (0 and more) to 0..1, rising, 0.5 at the threshold."""
        return score_of(raw_score, self.threshold, self.width)

    @property
    def width(self) -> float:
        """How gently the score rises around the threshold: the spread of normal images' logarithms."""
        return self.image.width if self.image else UNSEEN_WIDTH

    def normal_percentile(self, raw_score: float) -> float | None:
        """Share of normal images with a lower raw score, 0..100; None where no normal image was seen."""
        return self.image.percentile(raw_score) if self.image else None


def score_of(raw_score: float, threshold: float, width: float) -> float:
    """Raw score (0 and more) to 0..1, rising, 0.5 at ``threshold``; a logistic curve of its logarithm."""
    if raw_score <= 0:
        return 0.0
    return 0.5 * (1 + math.tanh(0.5 * (math.log(raw_score) - math.log(threshold)) / width))


def from_references(raw_scores: Sequence[float], map_maxima: Sequence[float], references: int) -> Calibration:
    """Calibration from left-out references, or from variants of a single one; at the rate `FALSE_POSITIVE_RATE`.

    Args:
        raw_scores: Of each left-out reference.
        map_maxima: Of the same.
        references: The size of the bank; the fewer of them were left out, the wider the ranges.
    """
    if references == 1:
        image, pixel = (_of_variants(values) for values in (raw_scores, map_maxima))
    else:
        shift = -BANK_GAIN * float(np.log(references / (references - 1)))
        image, pixel = (_range(values, shift) for values in (raw_scores, map_maxima))
    some = "" if len(raw_scores) >= references else f"{len(raw_scores)} of "
    seen = "1 reference, varied" if references == 1 else f"{some}{references} references, each left out in turn"
    return _with_ranges(image, pixel, seen)


def from_normal(raw_scores: Sequence[float], map_maxima: Sequence[float]) -> Calibration:
    """Calibration from raw scores and map maxima of normal images that aren't in the bank, one or more."""
    return _with_ranges(
        _range(raw_scores), _range(map_maxima), f"{len(raw_scores)} normal image{'' if len(raw_scores) == 1 else 's'}"
    )


def at_rate(calibration: Calibration, false_positive_rate: float) -> Calibration:
    """The thresholds that one more normal image exceeds at ``false_positive_rate``; its ranges stay.

    Raises InputError where the rate isn't between 0 and 1, or no normal image was seen.
    """
    check_rate(false_positive_rate)
    if calibration.image is None or calibration.pixel is None:
        raise InputError("the detector has seen no normal image, so no rate can be kept; fit or calibrate it on some")
    return replace(
        calibration,
        threshold=calibration.image.bound(false_positive_rate),
        pixel_threshold=calibration.pixel.bound(false_positive_rate),
        rule=f"false-positive rate {false_positive_rate:g}",
    )


def check_rate(false_positive_rate: float) -> None:
    """Raises InputError where the rate isn't in `RATES`."""
    if not RATES[0] <= false_positive_rate <= RATES[1]:
        raise InputError(
            f"false-positive rate is {false_positive_rate}, allowed is above 0 and below 1, by 0.000001, such as 0.01"
        )


def best_threshold(scores: ArrayLike, labels: ArrayLike, rule: Rule, missed_cost: float = 1.0) -> float:
    """The threshold that ``rule`` finds best for scores (N,) with labels (N,), 1 where anomalous.

    It lies half-way between two neighbouring scores, or on the highest where it's best to call none anomalous.

    Args:
        scores: (N,), higher where more anomalous.
        labels: (N,), 1 where anomalous.
        rule: What is best.
        missed_cost: What a miss costs for the rule "cost", counted in false alarms.

    Raises:
        InputError: there aren't images of both kinds, or ``missed_cost`` isn't above 0.

    Example:
        >>> best_threshold([0.1, 0.2, 0.6, 0.4], [0, 0, 1, 1], "f1")
        0.30000000000000004
    """
    score_N, label_N = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=bool)
    anomalous, normal = int(label_N.sum()), int((~label_N).sum())
    if not anomalous or not normal:
        raise InputError(
            f"{normal} normal and {anomalous} anomalous images, needed is at least one of each for the rule {rule}"
        )
    if not 0 < missed_cost < np.inf:
        raise InputError(f"missed cost is {missed_cost}, allowed is above 0")
    ascending_D, place = np.unique(score_N, return_inverse=True)
    found_D, false_D = (np.bincount(place, kind)[::-1].cumsum() for kind in (label_N, ~label_N))
    return best_cut(ascending_D[::-1], found_D, false_D, rule, missed_cost)


def best_cut(
    score_D: NDArray[np.floating],
    found_D: NDArray[np.float64],
    false_D: NDArray[np.float64],
    rule: Rule,
    missed_cost: float = 1.0,
) -> float:
    """As `best_threshold`, from D distinct scores. Of equally good thresholds the highest is taken.

    Args:
        score_D: The highest first.
        found_D: How many anomalous images lie at or above each.
        false_D: How many normal ones.
        rule: What is best.
        missed_cost: As of `best_threshold`.
    """
    found, false = np.concatenate(([0.0], found_D)), np.concatenate(([0.0], false_D))
    anomalous, normal = found[-1], max(false[-1], 1)
    merit = {
        "f1": 2 * found / (found + false + anomalous),
        "youden": found / anomalous - false / normal,
        "recall": np.where(found == anomalous, -false, -np.inf),
        "cost": -false - missed_cost * (anomalous - found),
    }
    called = int(np.argmax(merit[rule]))  # so many distinct scores from the top are anomalous
    lowest = float(score_D[max(called - 1, 0)])
    below = lowest if not called else float(score_D[called]) if called < len(score_D) else 0.0
    return max((lowest + below) / 2, SMALLEST)


def _with_ranges(image: NormalRange, pixel: NormalRange, seen: str) -> Calibration:
    return at_rate(Calibration(image=image, pixel=pixel, seen=seen), FALSE_POSITIVE_RATE)


def _range(values: Sequence[float], shift: float = 0.0) -> NormalRange:
    """Of one more image, with a scaled-inverse-chi-squared prior on the variance of the logarithm."""
    logs = _logs([value for value in values if value > SAME] or values)
    freedom = PRIOR_WEIGHT + len(logs) - 1
    variance = (PRIOR_WEIGHT * PRIOR_SPREAD**2 + ((logs - logs.mean()) ** 2).sum()) / freedom
    width = float(np.sqrt(variance * (1 + 1 / len(logs))))
    return NormalRange(float(logs.mean()) + shift, width, freedom, tuple((logs + shift).tolist()))


def _of_variants(values: Sequence[float]) -> NormalRange:
    """Variants of a single reference show neither the spread nor the centre of other pieces."""
    width = float(np.hypot(PRIOR_SPREAD * np.sqrt(2), CENTRE_SPREAD))
    return NormalRange(float(_logs(values).mean()) + CENTRE_SHIFT, width, PRIOR_WEIGHT)


def _logs(values: Sequence[float]) -> NDArray[np.float64]:
    return np.log(np.maximum(np.asarray(values, dtype=np.float64), SMALLEST))

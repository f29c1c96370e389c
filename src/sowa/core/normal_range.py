"""What one more normal image is expected to show, as far as the normal images seen so far tell.

How far a normal image lies from the memory bank is seen by leaving each reference image out of the bank in turn, or
on normal images that aren't in it. Few images say little about the spread, so it is drawn towards what other products
show; how well that holds on products that weren't looked at is in benchmarks/results/choices.md and threshold.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sowa.core import student

FEW = 8  # up to so many normal images show no shape of their own (chosen on auxiliary data)
PRIOR_SPREAD = 0.1
PRIOR_WEIGHT = 4  # counts as much as this many further images
# Variants of one reference lie nearer to it than other pieces do: mean and deviation, over products, of how far they
# miss the centre of normal images, in logarithms (three real and seven generated products, three references each).
CENTRE_SHIFT, CENTRE_SPREAD = 0.2, 0.22
BANK_GAIN = 0.14  # so much does the logarithm of a distance fall when the bank grows e-fold (same data)
SMALLEST = 1e-6  # keeps the logarithm of a distance of zero finite
SAME = 1e-4  # nearer than this lies only a copy of a reference, which says nothing of other pieces


Values = Sequence[float] | NDArray[np.float64]


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


def range_of(values: Values, shift: float = 0.0) -> NormalRange:
    """Of one more image, with a scaled-inverse-chi-squared prior on the variance of the logarithm.

    Args:
        values: Of normal images, one and more.
        shift: Is added to their logarithms.
    """
    logs = logarithms([value for value in values if value > SAME] or values)
    freedom = PRIOR_WEIGHT + len(logs) - 1
    variance = (PRIOR_WEIGHT * PRIOR_SPREAD**2 + ((logs - logs.mean()) ** 2).sum()) / freedom
    width = float(np.sqrt(variance * (1 + 1 / len(logs))))
    return NormalRange(float(logs.mean()) + shift, width, freedom, tuple((logs + shift).tolist()))


def range_of_references(values: Values, references: int) -> NormalRange:
    """Of one more image, from references left out of a bank of so many, or from variants of a single one.

    Variants show neither the spread nor the centre of other pieces.
    """
    if references > 1:
        return range_of(values, bank_shift(references))
    width = float(np.hypot(PRIOR_SPREAD * np.sqrt(2), CENTRE_SPREAD))
    return NormalRange(float(logarithms(values).mean()) + CENTRE_SHIFT, width, PRIOR_WEIGHT)


def bank_shift(references: int) -> float:
    """What to add to the logarithm of an image that was left out of a bank of so many; 0 for a single one."""
    return -BANK_GAIN * math.log(references / (references - 1)) if references > 1 else 0.0


def logarithms(values: Values) -> NDArray[np.float64]:
    """Of values (N,), those of zero finite."""
    return np.log(np.maximum(np.asarray(values, dtype=np.float64), SMALLEST))

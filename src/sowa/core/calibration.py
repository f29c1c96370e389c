"""Where normal ends: thresholds from normal images alone, or from labelled ones.

How far a normal image lies from the memory bank is seen by leaving each reference image out of the bank in turn, or
on normal images that aren't in it. Few images say little about the spread, so it is drawn towards what other
products show. Drawn towards 0.1 (standard deviation of the distances' logarithm on the embedded backbone), four
references called 1.1, 4.8 and 9.0 % of unseen normal images anomalous for 1, 5 and 10 %, the mean over glass edges,
commutators, fibre lay-up, bare circuit boards and ten generated products; sixteen called 1.6, 4.6 and 8.9 %, and fifty
1.1, 4.9 and 10.1 %. Towards 0.08 it was 1.9, 6.5 and 11.0 % with four, towards 0.12 0.7, 3.5 and 7.3 %. Products
differ: with four references and a target of 1 % from 0 to 4 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sowa.core.config import FALSE_POSITIVE_RATE
from sowa.core.types import Calibration, NormalRange
from sowa.errors import InputError

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


def from_references(raw_scores: Sequence[float], map_maxima: Sequence[float], references: int) -> Calibration:
    """Calibration from raw scores and map maxima of left-out references, or of variants of a single one.

    ``references`` is the size of the bank; the fewer of them were left out, the wider the ranges. The threshold is that
    of ``FALSE_POSITIVE_RATE``, see `at_rate`.
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
    ``missed_cost`` is what a miss costs, counted in false alarms.

    Raises InputError unless there are images of both kinds and ``missed_cost`` is above 0.
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
    """As `best_threshold`, from D distinct scores, the highest first.

    ``found_D`` and ``false_D`` count the anomalous and the normal at or above each. Of equally good thresholds the
    highest is taken.
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

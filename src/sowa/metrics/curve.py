"""Pixel metrics as pure functions of one cumulated histogram.

Every threshold that matters is a distinct score. Going through them from the highest down, four sums say what
is at or above the threshold: anomalous pixels, normal pixels, regions (each shared by its pixels), images
(each shared by its normal pixels). All metrics below read those sums.

Shapes: D distinct scores.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sowa.metrics.histogram import GroupedHistogram, keys_of

AUPRO_LIMIT = 0.3
"""False positive rate up to which PRO is integrated (Bergmann et al., MVTec AD, section 5.1)."""

_AUTHORS_STEPS = 200
_ROUNDING = 1e-12
"""A rate averaged over images may miss the limit by rounding; closer than this counts as equal."""


@dataclass(frozen=True)
class ScoreCurve:
    """What lies at or above each distinct score, from the highest score (index 0) down; all arrays (D,).

    keys: uint32, see `keys_of`. tp, fp: pixels. tpr, fpr: fractions of all anomalous and all normal pixels.
    pro: mean over regions of the covered fraction. image_fpr: mean over images of the false positive rate;
    images without a normal pixel are left out.
    """

    keys: NDArray[np.uint32]
    tp: NDArray[np.float64]
    fp: NDArray[np.float64]
    tpr: NDArray[np.float64]
    fpr: NDArray[np.float64]
    pro: NDArray[np.float64]
    image_fpr: NDArray[np.float64]

    @classmethod
    def of(cls, normal: GroupedHistogram, anomalous: GroupedHistogram) -> "ScoreCurve":
        """The curve of two flushed histograms: normal pixels by image, anomalous ones (at least 1) by region.

        Without normal pixels fpr and image_fpr are all zero.
        """
        ascending = np.concatenate((normal.rows.keys, anomalous.rows.keys))
        ascending.sort()
        ascending = ascending[np.diff(ascending, prepend=ascending[0] ^ 1) != 0]  # each key once
        tp, pro = _cumulated_from_top(ascending, anomalous)
        fp, image_fpr = _cumulated_from_top(ascending, normal)
        return cls(
            keys=ascending[::-1],
            tp=tp,
            fp=fp,
            tpr=tp / max(anomalous.n_pixels, 1),
            fpr=fp / max(normal.n_pixels, 1),
            pro=pro / max(anomalous.n_groups, 1),
            image_fpr=image_fpr / max(normal.n_groups, 1),
        )


def _cumulated_from_top(
    ascending: NDArray[np.uint32], histogram: GroupedHistogram
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Counts and weights at or above each key, for keys from the highest down; both (D,)."""
    place = len(ascending) - 1 - np.searchsorted(ascending, histogram.rows.keys)
    counts, weights = np.zeros(len(ascending)), np.zeros(len(ascending))
    counts[place] = histogram.rows.counts
    weights[place] = histogram.rows.weights
    return np.cumsum(counts, out=counts), np.cumsum(weights, out=weights)


class Estimate(NamedTuple):
    """A metric, and how far off the exact value can be if every distinct score is a merger of several."""

    value: float
    merge_error: float


def auroc(curve: ScoreCurve) -> Estimate:
    """Area under TPR over FPR; ties count half. Error: half of each merged score's rectangle."""
    d_tpr, d_fpr = _steps(curve.tpr), _steps(curve.fpr)
    return Estimate(float(np.sum(d_fpr * (curve.tpr - d_tpr / 2))), float(np.sum(d_fpr * d_tpr)) / 2)


def average_precision(curve: ScoreCurve) -> Estimate:
    """Sum over thresholds of (recall step x precision), scikit-learn's AP.

    Error: inside a merged score the precision lies between that with all its normal pixels first and that
    with all its anomalous pixels first.
    """
    d_recall = _steps(curve.tpr)
    precision = curve.tp / (curve.tp + curve.fp)
    step = d_recall > 0
    tp, fp = curve.tp[step], curve.fp[step]
    tp_before = (curve.tp - _steps(curve.tp))[step]
    fp_before = (curve.fp - _steps(curve.fp))[step]
    highest = tp / (tp + fp_before)
    lowest = (tp_before + 1) / (tp_before + 1 + fp)
    off = np.maximum(highest - precision[step], precision[step] - lowest)
    return Estimate(float(np.sum(d_recall * precision)), float(np.sum(d_recall[step] * off)))


def f1_max(curve: ScoreCurve) -> Estimate:
    """Largest F1 = 2 TP / (2 TP + FP + FN) over all thresholds. Error: upwards only."""
    total = curve.tp[-1]
    value = float(np.max(2 * curve.tp / (curve.tp + curve.fp + total)))
    fp_before = curve.fp - _steps(curve.fp)
    highest = float(np.max(2 * curve.tp / (curve.tp + fp_before + total)))
    return Estimate(value, highest - value)


def aupro(curve: ScoreCurve, limit: float = AUPRO_LIMIT) -> Estimate:
    """Standard AUPRO: area under PRO over pooled FPR from 0 to limit, divided by limit.

    The curve starts at (0, 0), is linear between its points, and is cut at the limit by interpolation.
    Error: half of each merged score's rectangle, all of the one that the limit cuts.
    """
    fpr = np.concatenate(([0.0], curve.fpr))
    pro = np.concatenate(([0.0], curve.pro))
    inside = int(np.searchsorted(fpr, limit, side="right"))  # points with FPR <= limit; at least (0, 0)
    x, y = fpr[:inside], pro[:inside]
    error = float(np.sum(np.diff(x) * np.diff(y))) / 2
    if inside < len(fpr):
        at_limit = np.interp(limit, fpr[inside - 1 : inside + 1], pro[inside - 1 : inside + 1])
        error += float((limit - x[-1]) * (pro[inside] - y[-1]))
        x, y = np.append(x, limit), np.append(y, at_limit)
    return Estimate(_area(x, y) / limit, error / limit)


def aupro_authors(
    curve: ScoreCurve, lowest: np.float32, highest: np.float32, limit: float = AUPRO_LIMIT
) -> float | str:
    """AUPRO as the authors of arXiv 2407.03634 compute it; lowest and highest are the extremes of all scores.

    200 equidistant thresholds; a pixel is found where its score is above the threshold; FPR is averaged over
    images; points with FPR under the limit are kept, and their FPR is rescaled by its own extremes to 0..1.
    Returns the reason instead of a number where that is undefined.
    """
    with np.errstate(over="ignore", under="ignore"):
        step = (highest - lowest) / np.float32(_AUTHORS_STEPS)
    if lowest == highest:
        return "all scores are equal"
    if not 0 < step < np.inf:
        return f"the score range {lowest}..{highest} has no 200 steps in float32"
    # As numpy 2 evaluates theirs: the step is float32, the thresholds are float64, the comparison is exact.
    thresholds = _round_down(np.arange(lowest, highest, step, dtype=np.float64))
    above = len(curve.keys) - np.searchsorted(curve.keys[::-1], keys_of(thresholds), side="right")
    fpr = np.concatenate(([0.0], curve.image_fpr))[above]
    pro = np.concatenate(([0.0], curve.pro))[above]
    kept = fpr < limit - _ROUNDING
    fpr, pro = fpr[kept], pro[kept]
    if not len(fpr):
        return f"no threshold has a mean FPR under {limit}"
    if fpr[0] == fpr[-1]:  # thresholds ascend, so FPR descends
        return f"all thresholds with a mean FPR under {limit} have the same FPR"
    return -_area((fpr - fpr[-1]) / (fpr[0] - fpr[-1]), pro)


def _round_down(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 not above each value: a float32 score exceeds both or neither."""
    nearest = values.astype(np.float32)
    return np.where(nearest > values, np.nextafter(nearest, np.float32(-np.inf)), nearest)


def _steps(cumulated: NDArray[np.float64]) -> NDArray[np.float64]:
    """What each distinct score adds to a cumulated sum (D,)."""
    return np.diff(cumulated, prepend=0.0)


def _area(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Trapezoid area under y over ascending x; negative if x descends."""
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]))) / 2

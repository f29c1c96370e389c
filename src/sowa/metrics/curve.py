"""Pixel metrics as pure functions of one cumulated histogram.

Every threshold that matters is a distinct score. Going through them from the highest down, three sums say what
is at or above the threshold: anomalous pixels, normal pixels, regions (each shared by its pixels). All metrics
below read those sums; the authors' AUPRO reads the histograms themselves, at its own thresholds.

Shapes: D distinct scores; R rows of a histogram; ... any number of curves over the same scores.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sowa.metrics.histogram import GroupedHistogram, distinct, keys_of

Floats = NDArray[np.float64]

AUPRO_LIMIT = 0.3
"""False positive rate up to which PRO is integrated (Bergmann et al., MVTec AD, section 5.1)."""

_AUTHORS_STEPS = 200
_ROUNDING = 1e-12
"""A rate averaged over images may miss the limit by rounding; closer than this counts as equal."""


@dataclass(frozen=True)
class ScoreCurve:
    """What lies at or above each distinct score, from the highest score (index 0) down; all arrays (..., D).

    Attributes:
        tp: Anomalous pixels, or images.
        fp: Normal ones.
        pro: Mean over regions of the covered fraction, in 0..1; only `aupro` reads it.
    """

    tp: Floats
    fp: Floats
    pro: Floats

    @classmethod
    def of(cls, normal: GroupedHistogram, anomalous: GroupedHistogram, keys: NDArray[np.uint32]) -> "ScoreCurve":
        """The curve of two flushed histograms.

        Args:
            normal: Normal pixels, by image.
            anomalous: Anomalous ones, by region.
            keys: Ascending, (D,), as `all_keys` or `corner_keys` gives them.
        """
        tp = at_or_above(keys[::-1], anomalous.rows.keys, anomalous.rows.counts)
        fp = at_or_above(keys[::-1], normal.rows.keys, normal.rows.counts)
        regions = at_or_above(keys[::-1], anomalous.rows.keys, anomalous.rows.weights)
        return cls(tp, fp, regions / max(anomalous.n_groups, 1))

    @property
    def tpr(self) -> Floats:
        """Fraction of all anomalous pixels; zero where there is none."""
        return self.tp / np.maximum(self.tp[..., -1:], 1)

    @property
    def fpr(self) -> Floats:
        """Fraction of all normal pixels; zero where there is none."""
        return self.fp / np.maximum(self.fp[..., -1:], 1)


def all_keys(normal: GroupedHistogram, anomalous: GroupedHistogram) -> NDArray[np.uint32]:
    """Every distinct key, ascending (D,)."""
    return distinct(normal.rows.keys, anomalous.rows.keys)


def corner_keys(normal: GroupedHistogram, anomalous: GroupedHistogram) -> NDArray[np.uint32]:
    """The keys between which the curves are straight, ascending (D,); every metric is the same on them.

    Where only normal pixels lie, TP and PRO stand still: of a run of normal scores the lowest is enough. Most
    pixels are normal, so that most scores drop out.
    """
    above = np.searchsorted(normal.rows.keys, anomalous.rows.keys, side="right")
    ends = normal.rows.keys[above[above < len(normal.rows.keys)]]
    return distinct(normal.rows.keys[:1], ends, anomalous.rows.keys)


def at_or_above(keys: NDArray[np.uint32], row_keys: NDArray[np.uint32], amounts: NDArray[Any]) -> Floats:
    """Sums of the amounts of all rows at or above each key, (D,).

    Args:
        keys: (D,), from the highest down.
        row_keys: (R,), ascending.
        amounts: (R,), of each row.
    """
    summed = np.zeros(len(amounts) + 1, amounts.dtype)
    np.cumsum(amounts[::-1], out=summed[1:])
    return summed[len(amounts) - np.searchsorted(row_keys, keys)].astype(np.float64, copy=False)


class Estimate(NamedTuple):
    """A metric of each curve, and how far off it may be.

    Attributes:
        value: (...,) in 0..1.
        merge_error: (...,): how far off the exact value can be if every distinct score is a merger of several.
    """

    value: Floats
    merge_error: Floats


def auroc(curve: ScoreCurve) -> Estimate:
    """Area under TPR over FPR; ties count half. Error: half of each merged score's rectangle."""
    tpr, d_tpr, d_fpr = curve.tpr, _steps(curve.tpr), _steps(curve.fpr)
    return Estimate(np.sum(d_fpr * (tpr - d_tpr / 2), axis=-1), np.sum(d_fpr * d_tpr, axis=-1) / 2)


def average_precision(curve: ScoreCurve) -> Estimate:
    """Sum over thresholds of (recall step x precision), scikit-learn's AP.

    Error: inside a merged score the precision lies between that with all its normal pixels first and that
    with all its anomalous pixels first.
    """
    tp, fp, d_recall = curve.tp, curve.fp, _steps(curve.tpr)
    precision = tp / np.maximum(tp + fp, 1)
    tp_before, fp_before = tp - _steps(tp), fp - _steps(fp)
    highest = tp / np.maximum(tp + fp_before, 1)
    lowest = (tp_before + 1) / (tp_before + 1 + fp)
    off = np.maximum(highest - precision, precision - lowest)
    return Estimate(np.sum(d_recall * precision, axis=-1), np.sum(d_recall * off, axis=-1))


def f1_max(curve: ScoreCurve) -> Estimate:
    """Largest F1 = 2 TP / (2 TP + FP + FN) over all thresholds. Error: upwards only."""
    tp, fp, total = curve.tp, curve.fp, curve.tp[..., -1:]
    value = np.max(2 * tp / (tp + fp + total), axis=-1)
    highest = np.max(2 * tp / (tp + fp - _steps(fp) + total), axis=-1)
    return Estimate(value, highest - value)


def aupro(curve: ScoreCurve, limit: float = AUPRO_LIMIT) -> Estimate:
    """Standard AUPRO: area under PRO over pooled FPR from 0 to a limit, divided by the limit.

    The curve starts at (0, 0), is linear between its points, and is cut at the limit by interpolation.
    Error: half of each merged score's rectangle, all of the one that the limit cuts.

    Args:
        curve: With ``pro``.
        limit: The largest FPR, above 0 up to 1.
    """
    d_fpr, d_pro = _steps(curve.fpr), _steps(curve.pro)
    width = _steps(np.minimum(curve.fpr, limit))
    share = width / np.where(d_fpr > 0, d_fpr, 1)  # of each segment, how much lies up to the limit
    area = np.sum(width * (curve.pro - d_pro * (1 - share / 2)), axis=-1)
    error = np.sum(width * d_pro * np.where(width < d_fpr, 1, 0.5), axis=-1)
    return Estimate(area / limit, error / limit)


def aupro_authors(
    normal: GroupedHistogram,
    anomalous: GroupedHistogram,
    lowest: np.float32,
    highest: np.float32,
    limit: float = AUPRO_LIMIT,
) -> float | str:
    """AUPRO as the authors of arXiv 2407.03634 compute it.

    200 equidistant thresholds; a pixel is found where its score is above the threshold; FPR is averaged over
    images that have a normal pixel; points with FPR under the limit are kept, and their FPR is rescaled by its
    own extremes to 0..1.

    Args:
        normal: Normal pixels, by image.
        anomalous: Anomalous ones, by region.
        lowest: Of all scores.
        highest: Of all scores.
        limit: The largest FPR.

    Returns:
        The area in 0..1, or the reason where that is undefined.
    """
    with np.errstate(over="ignore", under="ignore"):
        step = (highest - lowest) / np.float32(_AUTHORS_STEPS)
    if lowest == highest:
        return "all scores are equal"
    if not 0 < step < np.inf:
        return f"the score range {lowest}..{highest} has no 200 steps in float32"
    # As numpy 2 evaluates theirs: the step is float32, the thresholds are float64, the comparison is exact.
    thresholds = _round_down(np.arange(lowest, highest, step, dtype=np.float64))
    above = keys_of(thresholds) + np.uint32(1)
    fpr = at_or_above(above, normal.rows.keys, normal.rows.weights) / normal.n_groups
    pro = at_or_above(above, anomalous.rows.keys, anomalous.rows.weights) / anomalous.n_groups
    kept = fpr < limit - _ROUNDING
    fpr, pro = fpr[kept], pro[kept]
    if not len(fpr):
        return f"no threshold has a mean FPR under {limit}"
    if fpr[0] == fpr[-1]:  # thresholds ascend, so FPR descends
        return f"all thresholds with a mean FPR under {limit} have the same FPR"
    return -_area((fpr - fpr[-1]) / (fpr[0] - fpr[-1]), pro)


def _round_down(values: Floats) -> NDArray[np.float32]:
    """The largest float32 not above each value: a float32 score exceeds both or neither."""
    nearest = values.astype(np.float32)
    return np.where(nearest > values, np.nextafter(nearest, np.float32(-np.inf)), nearest)


def _steps(cumulated: Floats) -> Floats:
    """What each distinct score adds to a cumulated sum (..., D)."""
    return np.diff(cumulated, prepend=0.0)


def _area(x: Floats, y: Floats) -> float:
    """Trapezoid area under y over ascending x; negative if x descends."""
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]))) / 2

"""Confidence intervals by the bootstrap: what a metric would be on other images of the same kind.

Images, not pixels, are drawn again with replacement, since pixels of one image resemble each other. The interval
goes from one percentile of the resampled metrics to another (Efron, Bootstrap methods: another look at the jackknife,
1979; Efron and Tibshirani, An introduction to the bootstrap, 1993, chapter 13). Resamples are weights of images, so
that the metrics of all of them are matrix products and cumulated sums.

Shapes: N images; M resamples; D distinct scores; B bins of scores; P pixels; G regions.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sowa.metrics import curve as curves
from sowa.metrics.curve import Estimate, Floats, ScoreCurve
from sowa.metrics.histogram import (
    Rows,
    count_pixels,
    distinct,
    key_mask,
    keys_of,
    pack,
    rows_by_dropped_bits,
    sum_equal_keys,
)
from sowa.metrics.image import checked_scores
from sowa.metrics.regions import checked, regions_of

_BLOCK = 2**18
"""Numbers per matrix: few enough to stay in the processor's cache."""


@dataclass(frozen=True)
class Interval:
    """A percentile interval of one metric.

    Attributes:
        low: Fraction in 0..1; NaN where no resample has the metric.
        high: Likewise.
        level: The share of resamples between them.
        resamples: Those behind the interval.
        undefined: Those left out because the metric doesn't exist there.
        why: The reason where there is no interval, else None.
        error_bound: How far both ends can be off because scores were binned; 0.0 if they are exact.
    """

    low: float
    high: float
    level: float
    resamples: int
    undefined: int
    why: str | None = None
    error_bound: float = 0.0

    def to_json(self) -> list[float] | None:
        """[low, high], or None (JSON null) where there is no interval."""
        return None if self.why is not None else [self.low, self.high]


class _Metric(NamedTuple):
    name: str
    compute: Callable[[ScoreCurve], Estimate]
    needs_normal: bool


_IMAGE_METRICS = (
    _Metric("image_AUROC", curves.auroc, True),
    _Metric("image_AP", curves.average_precision, False),
    _Metric("image_F1Max", curves.f1_max, False),
)
_PIXEL_METRICS = (
    _Metric("pixel_AUROC", curves.auroc, True),
    _Metric("pixel_AP", curves.average_precision, False),
    _Metric("pixel_F1Max", curves.f1_max, False),
    _Metric("pixel_AUPRO", curves.aupro, True),
)


def draw(n_images: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """How often each image is in each resample; the same for the same numbers.

    Args:
        n_images: N.
        resamples: M.
        seed: 0 or more.

    Returns:
        (M, N); each row adds up to N.

    Example:
        >>> draw(4, 2, seed=0).sum(axis=1).tolist()
        [4, 4]
    """
    if not n_images:
        return np.zeros((resamples, 0), np.int64)
    return np.random.default_rng(seed).multinomial(n_images, np.full(n_images, 1 / n_images), resamples)


def bootstrap_images(
    scores: Iterable[float], labels: Iterable[int], resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Intervals of the image metrics by name.

    Args:
        scores: (N,) as `image_metrics` takes them.
        labels: (N,) likewise.
        resamples: How often N images are drawn again, 1 or more.
        level: The share of resamples inside an interval, between 0 and 1.
        seed: 0 or more.

    Raises:
        ValueError: as `image_metrics` says, or ``resamples`` or ``level`` is out of its range.

    Example:
        >>> found = bootstrap_images([0.1, 0.4, 0.3, 0.8], [0, 0, 1, 1], resamples=50)["image_AUROC"]
        >>> found.low < 0.75 <= found.high, found.resamples + found.undefined
        (True, 50)
    """
    _check(resamples, level)
    score_N, label_N = checked_scores(scores, labels)
    order = np.argsort(-score_N, kind="stable")
    last_D = np.flatnonzero(np.diff(score_N[order], append=math.nan))  # of each distinct score, its last image
    anomalous_N = label_N[order]

    def curves_of(weight_MN: NDArray[np.int64]) -> ScoreCurve:
        weight_MN = weight_MN[:, order]
        tp, fp = (np.cumsum(weight_MN * chosen, axis=1)[:, last_D] for chosen in (anomalous_N, ~anomalous_N))
        return ScoreCurve(tp.astype(np.float64), fp.astype(np.float64), tp.astype(np.float64))

    weights = draw(len(score_N), resamples, seed)
    return _intervals(_IMAGE_METRICS, _blocks(weights, len(score_N)), curves_of, level, exact=True)


class PixelBootstrap:
    """Accumulates anomaly maps and masks image by image; computes intervals of the pixel metrics.

    Of each image only counts per bin of scores are kept. Bins are as in `PixelMetrics`: every distinct score its
    own, until there are more than ``max_bins``; then neighbours are merged, in all images alike. What the merging can
    do to an interval is in its ``error_bound``.

    Args:
        max_bins: 1 or more; memory is at most 40 bytes x ``max_bins`` for each image.

    Raises:
        ValueError: ``max_bins`` is below 1.
    """

    def __init__(self, max_bins: int = 2**11) -> None:
        if max_bins < 1:
            raise ValueError(f"max_bins is {max_bins}: give at least 1, or leave it out")
        self.max_bins = max_bins
        self._normal: list[Rows] = []
        self._anomalous: list[Rows] = []
        self._n_regions: list[int] = []
        self._keys = np.zeros(0, np.uint32)  # ascending, (B,)
        self._dropped_bits = 0

    def update(self, anomaly_map: ArrayLike, mask: ArrayLike) -> None:
        """Add one image; see `PixelMetrics.update`, also for what it raises."""
        score_HW, mask_HW = checked(anomaly_map, mask, len(self._normal))
        key_HW = keys_of(score_HW)
        region_P, size_G = regions_of(mask_HW)
        self._normal.append(self._rows(key_HW[~mask_HW], np.zeros(1, np.intp), np.ones(1)))
        self._anomalous.append(self._rows(key_HW[mask_HW], region_P, 1 / size_G))
        self._n_regions.append(len(size_G))
        self._keys = distinct(self._keys, self._normal[-1].keys, self._anomalous[-1].keys)
        if len(self._keys) > self.max_bins:
            self._coarsen()

    def intervals(self, resamples: int = 1000, level: float = 0.95, seed: int = 0) -> dict[str, Interval]:
        """Intervals of the pixel metrics by name, AUPRO the standard one; more images may follow.

        Args:
            resamples: How often as many images are drawn again, 1 or more.
            level: The share of resamples inside an interval, between 0 and 1.
            seed: 0 or more; the same one draws the same images as in `bootstrap_images`.

        Raises:
            ValueError: ``resamples`` or ``level`` is out of its range.
        """
        _check(resamples, level)
        descending = self._keys[::-1]
        fp_NB = _cumulated(descending, self._normal, "counts")
        tp_NB = _cumulated(descending, self._anomalous, "counts")
        regions_NB = _cumulated(descending, self._anomalous, "weights")
        n_regions_N = np.array(self._n_regions, dtype=np.float64)

        def curves_of(weight_MN: NDArray[np.int64]) -> ScoreCurve:
            weights = weight_MN.astype(np.float64)
            n_regions_M1 = np.maximum(weights @ n_regions_N, 1)[:, None]
            return ScoreCurve(weights @ tp_NB, weights @ fp_NB, weights @ regions_NB / n_regions_M1)

        weights = draw(len(self._normal), resamples, seed)
        return _intervals(
            _PIXEL_METRICS, _blocks(weights, len(self._keys)), curves_of, level, exact=not self._dropped_bits
        )

    def _rows(self, keys: NDArray[np.uint32], groups: NDArray[np.intp], share_G: Floats) -> Rows:
        if not len(keys):
            return Rows(keys, np.zeros(0, np.int64), np.zeros(0))
        return count_pixels(pack(keys, groups), share_G, self._dropped_bits)

    def _coarsen(self) -> None:
        """Drop as few low key bits as bring the bins under max_bins."""
        remaining = rows_by_dropped_bits(self._keys)
        self._dropped_bits = int(np.argmax(remaining <= self.max_bins))
        mask = key_mask(self._dropped_bits)
        self._keys = distinct(self._keys & mask)
        for images in (self._normal, self._anomalous):
            images[:] = [sum_equal_keys(rows._replace(keys=rows.keys & mask)) for rows in images]


def _cumulated(descending: NDArray[np.uint32], images: list[Rows], field: str) -> Floats:
    """What lies at or above each key in each image (N, B)."""
    if not images:
        return np.zeros((0, len(descending)))
    return np.stack([curves.at_or_above(descending, rows.keys, getattr(rows, field)) for rows in images])


def _check(resamples: int, level: float) -> None:
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}: give at least 1")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}: give a share between 0 and 1, such as 0.95")


def _blocks(weights: NDArray[np.int64], width: int) -> Iterator[NDArray[np.int64]]:
    """Resamples, so many at once that a matrix of that width stays small."""
    rows = max(_BLOCK // max(width, 1), 1)
    return (weights[start : start + rows] for start in range(0, len(weights), rows))


def _intervals(
    metrics: tuple[_Metric, ...],
    blocks: Iterator[NDArray[np.int64]],
    curves_of: Callable[[NDArray[np.int64]], ScoreCurve],
    level: float,
    exact: bool,
) -> dict[str, Interval]:
    """Resamples without what a metric needs are left out of its interval."""
    found: dict[str, list[Floats]] = {metric.name: [] for metric in metrics}
    errors = dict.fromkeys(found, 0.0)
    resamples = 0
    for weight_MN in blocks:
        curve = curves_of(weight_MN)
        resamples += len(weight_MN)
        if not curve.tp.shape[1]:
            continue
        has_anomalous, has_normal = curve.tp[:, -1] > 0, curve.fp[:, -1] > 0
        for name, compute, needs_normal in metrics:
            defined = has_anomalous & has_normal if needs_normal else has_anomalous
            if defined.any():
                value, error = compute(ScoreCurve(curve.tp[defined], curve.fp[defined], curve.pro[defined]))
                found[name].append(value)
                errors[name] = max(errors[name], 0.0 if exact else float(error.max()))
    return {name: _interval(found[name], level, resamples, errors[name]) for name in found}


def _interval(values: list[Floats], level: float, resamples: int, error: float) -> Interval:
    """A percentile moves no further than the value that moves furthest, so the largest error bounds both ends."""
    if not values:
        return Interval(math.nan, math.nan, level, 0, resamples, "the metric is undefined in every resample")
    value_M = np.clip(np.concatenate(values), 0.0, 1.0)
    low, high = np.quantile(value_M, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level, len(value_M), resamples - len(value_M), None, error)

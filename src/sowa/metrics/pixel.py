"""pixel_AUROC, pixel_AP, pixel_F1Max and pixel_AUPRO of a data set, one image at a time, in bounded memory.

Shapes: H, W height and width in pixels (images may differ in size); P pixels; G regions.
"""

# ruff: noqa: N815 (the field writes its metrics with capitals)

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sowa.metrics import curve as curves
from sowa.metrics.curve import Estimate, ScoreCurve
from sowa.metrics.histogram import GroupedHistogram, keys_of, scores_of
from sowa.metrics.points import Curve, pro_curve
from sowa.metrics.value import MetricValue

Aupro = Literal["standard", "authors"]
"""standard: pooled FPR, integral to 0.3 divided by 0.3. authors: as arXiv 2407.03634 computes it."""

_MANTISSA_BITS = 23
_Floats = NDArray[np.float32]
_Bools = NDArray[np.bool_]
_Ints = NDArray[np.intp]


@dataclass(frozen=True)
class PixelMetricsResult:
    """The four pixel metrics, and what they rest on.

    aupro: which AUPRO `pixel_AUPRO` is.
    resolution: 0.0 where every distinct score was kept and the metrics are exact; else scores closer than
    this fraction of their size may count as equal (above 1: scores of several powers of two), and each
    metric's `error_bound` says how much that can change.
    """

    pixel_AUROC: MetricValue
    pixel_AP: MetricValue
    pixel_F1Max: MetricValue
    pixel_AUPRO: MetricValue
    aupro: Aupro
    n_images: int
    n_regions: int
    n_anomalous_pixels: int
    n_normal_pixels: int
    resolution: float

    def metrics(self) -> dict[str, MetricValue]:
        """The metrics by name, in the order of publication."""
        return {
            "pixel_AUROC": self.pixel_AUROC,
            "pixel_AP": self.pixel_AP,
            "pixel_F1Max": self.pixel_F1Max,
            "pixel_AUPRO": self.pixel_AUPRO,
        }


class PixelMetrics:
    """Accumulates anomaly maps and masks; computes the pixel metrics at any time.

    Exact while the data set has at most `max_scores` distinct float32 scores, those of normal and of
    anomalous pixels counted apart. Beyond that, neighbouring scores are merged, as few as the limit allows,
    and the result carries error bounds. Memory is 20 bytes x max_scores at rest and six times that while
    merging (0.5 GB at the default), whatever the number of images. Neither their order nor the buffer size
    matters.
    """

    def __init__(self, max_scores: int = 2**22, buffer_pixels: int = 2**21) -> None:
        """Raises ValueError if max_scores < 2 or buffer_pixels < 1."""
        if max_scores < 2:
            raise ValueError(f"max_scores is {max_scores}: give at least 2, or leave it out")
        if buffer_pixels < 1:
            raise ValueError(f"buffer_pixels is {buffer_pixels}: give at least 1, or leave it out")
        self.max_scores = max_scores
        self.n_images = 0
        self._normal = GroupedHistogram(buffer_pixels)  # grouped by image
        self._anomalous = GroupedHistogram(buffer_pixels)  # grouped by region
        self._dropped_bits = 0
        self._lowest, self._highest = np.float32(np.inf), np.float32(-np.inf)

    @property
    def stored_scores(self) -> int:
        """Rows held by the two histograms; never above max_scores."""
        return len(self._normal.rows.keys) + len(self._anomalous.rows.keys)

    def update(self, anomaly_map: ArrayLike, mask: ArrayLike) -> None:
        """Add one image.

        anomaly_map: (H, W) float, finite, any range, higher is more anomalous; compared as float32.
        mask: (H, W) bool, or integers of which all but 0 are anomalous. Anomalous pixels that touch,
        diagonals included, form one region.
        Raises ValueError, and adds nothing, if the shapes differ or are not 2-D, a score is NaN or infinite,
        or the mask is not boolean.
        """
        score_HW, mask_HW = _checked(anomaly_map, mask, self.n_images)
        self.n_images += 1
        if not score_HW.size:
            return
        self._lowest = min(self._lowest, score_HW.min())
        self._highest = max(self._highest, score_HW.max())
        key_HW = keys_of(score_HW)
        region_P, sizes = _regions(mask_HW)
        if len(sizes):
            self._anomalous.add(key_HW[mask_HW], region_P, sizes)
        normal_keys = key_HW[~mask_HW]
        self._normal.add(normal_keys, np.zeros(1, np.intp), np.array([len(normal_keys)]))
        if self._normal.full or self._anomalous.full:
            self._merge()

    def compute(self, aupro: Aupro = "standard") -> PixelMetricsResult:
        """The metrics of all images so far, in 0..1; more images may follow.

        All need an anomalous pixel; pixel_AUROC and pixel_AUPRO need a normal one too.
        Raises ValueError if aupro is neither "standard" nor "authors".
        """
        if aupro not in get_args(Aupro):
            raise ValueError(f"aupro is {aupro!r}, allowed are {', '.join(get_args(Aupro))}")
        self._merge()
        auroc = ap = f1 = pro = MetricValue.undefined(self._why_undefined())
        if self._anomalous.n_pixels:
            curve = ScoreCurve.of(self._normal, self._anomalous)
            ap = self._value(curves.average_precision(curve))
            f1 = self._value(curves.f1_max(curve))
            if self._normal.n_pixels:
                auroc = self._value(curves.auroc(curve))
                pro = self._value(curves.aupro(curve)) if aupro == "standard" else self._aupro_authors(curve)
        return PixelMetricsResult(
            pixel_AUROC=auroc,
            pixel_AP=ap,
            pixel_F1Max=f1,
            pixel_AUPRO=pro,
            aupro=aupro,
            n_images=self.n_images,
            n_regions=self._anomalous.n_groups,
            n_anomalous_pixels=self._anomalous.n_pixels,
            n_normal_pixels=self._normal.n_pixels,
            resolution=2.0 ** (self._dropped_bits - _MANTISSA_BITS) if self._dropped_bits else 0.0,
        )

    def counts(self) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
        """The D distinct scores so far from the highest down, and how many anomalous and how many normal pixels lie at
        or above each; all (D,). Raises ValueError where there is no pixel."""
        self._merge()
        if not self._normal.n_pixels and not self._anomalous.n_pixels:
            raise ValueError("there are no pixels: add an image first")
        curve = ScoreCurve.of(self._normal, self._anomalous)
        return scores_of(curve.keys), curve.tp, curve.fp

    def pro_curve(self) -> Curve | None:
        """The curve under which pixel_AUPRO is the (standard) area, up to its limit; None where that is undefined."""
        self._merge()
        if not self._anomalous.n_pixels or not self._normal.n_pixels:
            return None
        return pro_curve(ScoreCurve.of(self._normal, self._anomalous))

    def _merge(self) -> None:
        """Empty the buffers; then drop as few low key bits as bring the rows under max_scores.

        That number depends only on the scores seen, so neither order nor buffer size changes the result.
        """
        self._normal.flush(self._key_mask())
        self._anomalous.flush(self._key_mask())
        while self.stored_scores > self.max_scores:
            self._dropped_bits += 1
            self._normal.coarsen(self._key_mask())
            self._anomalous.coarsen(self._key_mask())

    def _key_mask(self) -> np.uint32:
        return np.uint32((0xFFFFFFFF << self._dropped_bits) & 0xFFFFFFFF)

    def _value(self, estimate: Estimate) -> MetricValue:
        return MetricValue.of(estimate.value, estimate.merge_error if self._dropped_bits else 0.0)

    def _aupro_authors(self, curve: ScoreCurve) -> MetricValue:
        area = curves.aupro_authors(curve, self._lowest, self._highest)
        if isinstance(area, str):
            return MetricValue.undefined(area)
        return MetricValue.of(area, None if self._dropped_bits else 0.0)

    def _why_undefined(self) -> str:
        if not self._anomalous.n_pixels:
            return "no anomalous pixel" if self._normal.n_pixels else "no pixels"
        return "no normal pixel"


def pixel_metrics(
    maps: Iterable[ArrayLike], masks: Iterable[ArrayLike], aupro: Aupro = "standard"
) -> PixelMetricsResult:
    """Pixel metrics of a data set in one call; maps and masks may be generators. See `PixelMetrics`.

    Raises ValueError as `PixelMetrics` does, and if there are more maps than masks or the reverse.
    """
    accumulator = PixelMetrics()
    missing = object()
    pairs: Iterable[tuple[Any, Any]] = zip_longest(maps, masks, fillvalue=missing)
    for anomaly_map, mask in pairs:
        if anomaly_map is missing or mask is missing:
            short, long = ("maps", "masks") if anomaly_map is missing else ("masks", "maps")
            raise ValueError(f"{accumulator.n_images} {short} but more {long}: give one of each per image")
        accumulator.update(anomaly_map, mask)
    return accumulator.compute(aupro)


def _checked(anomaly_map: ArrayLike, mask: ArrayLike, index: int) -> tuple[_Floats, _Bools]:
    """Map and mask as arrays (H, W). Raises ValueError as `PixelMetrics.update` says."""
    with np.errstate(over="ignore"):
        score_HW = np.asarray(anomaly_map).astype(np.float32, copy=False)
    raw_HW = np.asarray(mask)
    if score_HW.shape != raw_HW.shape or score_HW.ndim != 2:
        raise ValueError(
            f"image {index}: the anomaly map has shape {score_HW.shape} and the mask {raw_HW.shape}: "
            "both must be the same (H, W), resize one to the other"
        )
    if raw_HW.dtype.kind not in "biu":
        raise ValueError(f"image {index}: the mask is {raw_HW.dtype}, not boolean: binarise it (mask > 0.5)")
    n_bad = score_HW.size - int(np.count_nonzero(np.isfinite(score_HW)))
    if n_bad:
        raise ValueError(
            f"image {index}: {n_bad} of {score_HW.size} anomaly map scores are NaN or infinite in float32: "
            "leave the image out or score it again"
        )
    return score_HW, raw_HW.astype(bool)


def _regions(mask: _Bools) -> tuple[_Ints, _Ints]:
    """Region, numbered from 0, of each anomalous pixel in row order (P,); pixels in each region (G,)."""
    if not mask.any():
        return np.zeros(0, np.intp), np.zeros(0, np.intp)

    from scipy.ndimage import label  # keeps `import sowa` light

    labels_HW, _ = label(mask, structure=np.ones((3, 3)))  # 8-connected, as scikit-image's default
    region_P = labels_HW[mask].astype(np.intp) - 1
    return region_P, np.bincount(region_P)

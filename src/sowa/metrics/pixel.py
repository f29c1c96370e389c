"""pixel_AUROC, pixel_AP, pixel_F1Max and pixel_AUPRO of a data set, one image at a time, in bounded memory.

Shapes: H, W height and width in pixels (images may differ in size); D distinct scores.
"""

# ruff: noqa: N815 (the field writes its metrics with capitals)

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sowa.metrics import curve as curves
from sowa.metrics.curve import Estimate, ScoreCurve
from sowa.metrics.histogram import GroupedHistogram, ScoreHistograms, keys_of, scores_of
from sowa.metrics.points import Curve, pro_curve
from sowa.metrics.regions import checked, regions_of
from sowa.metrics.value import MetricValue

Aupro = Literal["standard", "authors"]
"""standard: pooled FPR, integral to 0.3 divided by 0.3. authors: as arXiv 2407.03634 computes it."""


@dataclass(frozen=True)
class PixelMetricsResult:
    """The four pixel metrics, and what they rest on.

    Attributes:
        pixel_AUROC: Area under the ROC curve of pixels.
        pixel_AP: Average precision of pixels.
        pixel_F1Max: Their largest F1 over all thresholds.
        pixel_AUPRO: Area under the curve of per-region overlap.
        aupro: Which AUPRO that is.
        n_images: So many images,
        n_regions: anomalous regions,
        n_anomalous_pixels: anomalous pixels,
        n_normal_pixels: and normal pixels there were.
        resolution: 0.0 where every distinct score was kept and the metrics are exact; else scores closer than this
            fraction of their size may count as equal (above 1: scores of several powers of two), and each metric's
            ``error_bound`` says how much that can change.
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
    """Accumulates anomaly maps and masks; computes the pixel metrics at any time. Also the streaming mode.

    Exact while the data set has at most ``max_scores`` distinct float32 scores, those of normal and of anomalous pixels
    counted apart. Beyond that, neighbouring scores are merged, as few as the limit allows, and every metric carries its
    ``error_bound``. Neither the order of images nor the buffer size matters.

    Args:
        max_scores: 2 or more. A small one streams a data set of any size in little memory and, since few scores are
            counted rather than sorted, several times as fast. Memory is 20 bytes x ``max_scores`` at rest and six times
            that while merging (0.5 GB at the default), whatever the number of images.
        buffer_pixels: How many pixels wait to be counted at once, 8 bytes each; by default as many as is fast.
        image_rates: False leaves out the false positive rates of single images, which only the authors' AUPRO reads,
            and is faster (benchmarks/results/metrics.md).

    Raises:
        ValueError: ``max_scores`` is below 2 or ``buffer_pixels`` below 1.

    Example:
        >>> pixels = PixelMetrics()
        >>> pixels.update([[0.1, 0.9], [0.2, 0.3]], [[0, 1], [0, 0]])
        >>> float(pixels.compute().pixel_AUROC)
        1.0
    """

    def __init__(self, max_scores: int = 2**22, buffer_pixels: int | None = None, image_rates: bool = True) -> None:
        self.n_images = 0
        self.image_rates = image_rates
        self._histograms = ScoreHistograms(2, max_scores, buffer_pixels)
        self._normal, self._anomalous = self._histograms.all  # grouped by image, by region
        self._lowest, self._highest = np.float32(np.inf), np.float32(-np.inf)

    @property
    def stored_scores(self) -> int:
        """Rows held by the two histograms; never above max_scores."""
        return self._histograms.stored_scores

    def update(self, anomaly_map: ArrayLike, mask: ArrayLike) -> None:
        """Add one image.

        Args:
            anomaly_map: (H, W) float, finite, any range, higher is more anomalous; compared as float32.
            mask: (H, W) bool, or integers of which all but 0 are anomalous. Anomalous pixels that touch, diagonals
                included, form one region.

        Raises:
            ValueError: the shapes differ or are not 2-D, a score is NaN or infinite, or the mask is not boolean;
                nothing is added.
        """
        score_HW, mask_HW = checked(anomaly_map, mask, self.n_images)
        self.n_images += 1
        if not score_HW.size:
            return
        self._lowest = min(self._lowest, score_HW.min())
        self._highest = max(self._highest, score_HW.max())
        key_HW = keys_of(score_HW)
        self._anomalous.add(key_HW[mask_HW], *regions_of(mask_HW))
        add_normal = self._normal.add_group if self.image_rates else self._normal.add_ungrouped
        add_normal(key_HW[~mask_HW])
        self._histograms.merge_if_full()

    def compute(self, aupro: Aupro = "standard") -> PixelMetricsResult:
        """The metrics of all images so far, in 0..1; more images may follow.

        All need an anomalous pixel; pixel_AUROC and pixel_AUPRO need a normal one too.

        Args:
            aupro: "standard" or "authors", see `Aupro`.

        Raises:
            ValueError: another ``aupro``, or one that needs the ``image_rates`` left out.
        """
        if aupro not in get_args(Aupro):
            raise ValueError(f"aupro is {aupro!r}, allowed are {', '.join(get_args(Aupro))}")
        if aupro == "authors" and not self.image_rates:
            raise ValueError("aupro 'authors' needs false positive rates by image: leave image_rates=False out")
        self._histograms.merge()
        result = result_of(self._normal, self._anomalous, self._histograms.resolution, self.n_images)
        if aupro == "standard":
            return result
        return replace(result, aupro=aupro, pixel_AUPRO=self._aupro_authors(result.pixel_AUPRO))

    @property
    def n_anomalous(self) -> int:
        """Anomalous pixels so far; none where masks were lost when they were shrunk."""
        return self._anomalous.n_pixels

    def counts(self) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
        """How many pixels lie at or above each distinct score.

        Returns:
            The D distinct scores so far from the highest down, and how many anomalous and how many normal pixels lie at
            or above each; all (D,).

        Raises:
            ValueError: there is no pixel.
        """
        self._histograms.merge()
        if not self._normal.n_pixels and not self._anomalous.n_pixels:
            raise ValueError("there are no pixels: add an image first")
        keys = curves.all_keys(self._normal, self._anomalous)
        curve = ScoreCurve.of(self._normal, self._anomalous, keys)
        return scores_of(keys[::-1]), curve.tp, curve.fp

    def f1(self, threshold: float) -> MetricValue:
        """F1 of the pixels above a threshold; undefined where no pixel is anomalous."""
        self._histograms.merge()
        if not self.n_anomalous:
            return MetricValue.undefined("no anomalous pixel")
        scores, found, false = self.counts()
        above = int((scores > threshold).sum())
        called = (found[above - 1], false[above - 1]) if above else (0.0, 0.0)
        return MetricValue.of(2 * called[0] / (sum(called) + found[-1]))

    def pro_curve(self) -> Curve | None:
        """The curve under which pixel_AUPRO is the (standard) area, up to its limit; None where that is undefined."""
        self._histograms.merge()
        if not self._anomalous.n_pixels or not self._normal.n_pixels:
            return None
        keys = curves.corner_keys(self._normal, self._anomalous)
        return pro_curve(ScoreCurve.of(self._normal, self._anomalous, keys))

    def _aupro_authors(self, standard: MetricValue) -> MetricValue:
        if standard.why is not None:
            return standard
        area = curves.aupro_authors(self._normal, self._anomalous, self._lowest, self._highest)
        if isinstance(area, str):
            return MetricValue.undefined(area)
        return MetricValue.of(area, None if self._histograms.dropped_bits else 0.0)


def result_of(
    normal: GroupedHistogram, anomalous: GroupedHistogram, resolution: float, n_images: int
) -> PixelMetricsResult:
    """The metrics of two flushed histograms.

    Args:
        normal: Normal pixels, by image.
        anomalous: Anomalous ones, by region.
        resolution: As in the result.
        n_images: Likewise.
    """

    def value(estimate: Estimate) -> MetricValue:
        return MetricValue.of(float(estimate.value), float(estimate.merge_error) if resolution else 0.0)

    auroc = ap = f1 = pro = MetricValue.undefined(_why_undefined(normal, anomalous))
    if anomalous.n_pixels:
        curve = ScoreCurve.of(normal, anomalous, curves.corner_keys(normal, anomalous))
        ap, f1 = value(curves.average_precision(curve)), value(curves.f1_max(curve))
        if normal.n_pixels:
            auroc, pro = value(curves.auroc(curve)), value(curves.aupro(curve))
    return PixelMetricsResult(
        pixel_AUROC=auroc,
        pixel_AP=ap,
        pixel_F1Max=f1,
        pixel_AUPRO=pro,
        aupro="standard",
        n_images=n_images,
        n_regions=anomalous.n_groups,
        n_anomalous_pixels=anomalous.n_pixels,
        n_normal_pixels=normal.n_pixels,
        resolution=resolution,
    )


def _why_undefined(normal: GroupedHistogram, anomalous: GroupedHistogram) -> str:
    if not anomalous.n_pixels:
        return "no anomalous pixel" if normal.n_pixels else "no pixels"
    return "no normal pixel"


def pixel_metrics(
    maps: Iterable[ArrayLike], masks: Iterable[ArrayLike], aupro: Aupro = "standard"
) -> PixelMetricsResult:
    """Pixel metrics of a data set in one call; see `PixelMetrics`.

    Args:
        maps: N times (H, W), as `PixelMetrics.update` takes them; may be a generator.
        masks: N times (H, W), likewise.
        aupro: "standard" or "authors", see `Aupro`.

    Raises:
        ValueError: as `PixelMetrics` says, or there are more maps than masks or the reverse.

    Example:
        >>> found = pixel_metrics([[[0.1, 0.9], [0.2, 0.3]]], [[[0, 1], [1, 0]]])
        >>> float(found.pixel_AUROC), found.n_regions
        (0.75, 1)
    """
    accumulator = PixelMetrics(image_rates=aupro != "standard")
    missing = object()
    pairs: Iterable[tuple[Any, Any]] = zip_longest(maps, masks, fillvalue=missing)
    for anomaly_map, mask in pairs:
        if anomaly_map is missing or mask is missing:
            short, long = ("maps", "masks") if anomaly_map is missing else ("masks", "maps")
            raise ValueError(f"{accumulator.n_images} {short} but more {long}: give one of each per image")
        accumulator.update(anomaly_map, mask)
    return accumulator.compute(aupro)

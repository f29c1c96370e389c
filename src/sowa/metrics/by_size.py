"""The pixel metrics of small and of large defects apart.

Shapes: H, W height and width in pixels; P pixels; G regions; K ranges of size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from sowa.metrics.histogram import ScoreHistograms, keys_of
from sowa.metrics.pixel import PixelMetricsResult, result_of
from sowa.metrics.regions import checked, regions_of

SIZE_EDGES = (0.001, 0.01, 0.05)
"""Shares of the image at which a region counts as larger: under 0.1 %, up to 1 %, up to 5 %, and above."""


@dataclass(frozen=True)
class OfSize:
    """The metrics of regions of a range of sizes, as shares of their image in 0..1.

    Attributes:
        smallest: They cover at least so much,
        largest: and less than so much; the last range includes 1, a region as large as the image.
        metrics: Theirs.
    """

    smallest: float
    largest: float
    metrics: PixelMetricsResult


class PixelMetricsBySize:
    """Accumulates anomaly maps and masks as `PixelMetrics` does; the metrics are those of regions of a size.

    For each range only its own regions are anomalous. Those of other sizes are left out, neither found nor falsely
    found; normal pixels are the same for all, those of every image.

    Args:
        edges: (K - 1,) ascending shares of the image between 0 and 1.
        max_scores: As in `PixelMetrics`, shared by all ranges, K + 1 or more.
        buffer_pixels: As in `PixelMetrics`.

    Raises:
        ValueError: other edges, or a number that is too small.
    """

    def __init__(
        self, edges: Sequence[float] = SIZE_EDGES, max_scores: int = 2**22, buffer_pixels: int | None = None
    ) -> None:
        self._bounds = (0.0, *edges, 1.0)
        if not all(low < high for low, high in pairwise(self._bounds)):
            raise ValueError(f"size edges are {list(edges)}: give ascending shares of the image between 0 and 1")
        self.n_images = 0
        self._histograms = ScoreHistograms(len(self._bounds), max_scores, buffer_pixels)
        self._normal, *self._anomalous = self._histograms.all  # grouped by region

    def update(self, anomaly_map: ArrayLike, mask: ArrayLike) -> None:
        """Add one image; see `PixelMetrics.update`, also for what it raises."""
        score_HW, mask_HW = checked(anomaly_map, mask, self.n_images)
        self.n_images += 1
        if not score_HW.size:
            return
        key_HW = keys_of(score_HW)
        self._normal.add_ungrouped(key_HW[~mask_HW])
        key_P, (region_P, size_G) = key_HW[mask_HW], regions_of(mask_HW)
        range_G = np.searchsorted(self._bounds[1:-1], size_G / mask_HW.size, side="right")
        for index in np.unique(range_G):
            chosen_G = range_G == index
            chosen_P = chosen_G[region_P]
            renumbered_G = np.cumsum(chosen_G) - 1
            self._anomalous[index].add(key_P[chosen_P], renumbered_G[region_P[chosen_P]], size_G[chosen_G])
        self._histograms.merge_if_full()

    def compute(self) -> list[OfSize]:
        """The metrics of each range (K), from the smallest defects up; more images may follow.

        They are undefined where a range has no region. AUPRO is the standard one.
        """
        self._histograms.merge()
        return [
            OfSize(*bounds, result_of(self._normal, anomalous, self._histograms.resolution, self.n_images))
            for bounds, anomalous in zip(pairwise(self._bounds), self._anomalous, strict=True)
        ]

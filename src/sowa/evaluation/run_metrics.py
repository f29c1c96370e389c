"""What one run of an evaluation collects image by image, and what all runs on a category share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sowa.core.arrays import to_numpy
from sowa.core.calibration import Calibration
from sowa.core.scoring import paper_scores
from sowa.core.types import Judgement
from sowa.evaluation.config import EvaluationConfig
from sowa.evaluation.inspection import Inspection
from sowa.evaluation.results import DECISIONS, METRICS, Run
from sowa.metrics import (
    Interval,
    MetricValue,
    PixelBootstrap,
    PixelMetrics,
    bootstrap_images,
    decision_metrics,
    image_curves,
    image_metrics,
)


@dataclass
class Truth:
    """What all runs on a category share.

    Attributes:
        has_masks: Whether every anomalous image has one.
        image_size: (H, W) in pixels at which images are seen.
        labels: Of the images judged so far.
        probabilities: What the prompts say of each, 0..1; empty where they weren't asked.
        skipped: Names of images that couldn't be read, and why.
        seconds: That encoding took.
    """

    has_masks: bool
    image_size: tuple[int, int]
    labels: list[bool] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0


class RunMetrics:
    """One run's; maps are counted, not kept.

    Args:
        k_shot: Number of references.
        seed: That drew them.
        references: Their names.
        config: How the data set is judged.
        calibration: Of these references.

    Attributes:
        inspection: Shows every image of the run, where somebody looks at it.
    """

    inspection: Inspection | None = None

    def __init__(
        self, k_shot: int, seed: int, references: list[str], config: EvaluationConfig, calibration: Calibration
    ) -> None:
        self.k_shot, self.seed, self.references, self.config = k_shot, seed, references, config
        self.calibration = calibration
        self.pixels = PixelMetrics(image_rates=config.aupro == "authors")
        self.resampled = PixelBootstrap() if config.bootstrap else None
        self.raw_scores: list[float] = []
        self.map_maxima: list[float] = []

    def add(self, judgement: Judgement, masks: Sequence[NDArray[np.bool_]] | None) -> None:
        """The images of a batch.

        Args:
            judgement: Of the batch.
            masks: The true ones, (H, W) bool at the maps' size; None where some are missing.
        """
        self.raw_scores += judgement.raw_scores.tolist()
        self.map_maxima += judgement.map_maxima.tolist()
        if masks is not None:
            for anomaly_map, mask in zip(to_numpy(judgement.maps), masks, strict=True):
                self.pixels.update(anomaly_map, mask)
                if self.resampled:
                    self.resampled.update(anomaly_map, mask)

    def compute(self, category: str, truth: Truth) -> Run:
        """The run's metrics, with the curves where it was inspected.

        Args:
            category: Its name.
            truth: What is known of its images.
        """
        config, scores = self.config, self.raw_scores
        if config.scoring == "paper":
            scores = truth.probabilities  # as published for zero shots
            if self.k_shot:
                maxima = np.asarray(self.map_maxima, np.float32)
                scores = paper_scores(np.asarray(scores, np.float32), maxima).tolist()
        metrics = image_metrics(scores, truth.labels).metrics()
        if truth.has_masks:
            metrics |= self.pixels.compute(config.aupro).metrics()
        else:
            undefined = MetricValue.undefined("an anomalous image has no mask")
            metrics |= {name: undefined for name in METRICS if name.startswith("pixel")}
        metrics |= self._decisions(truth)
        curves = {}
        if self.inspection:
            pro = self.pixels.pro_curve() if truth.has_masks else None
            curves = image_curves(scores, truth.labels) | ({"PRO": pro} if pro else {})
        intervals = self._intervals(scores, truth)
        return Run(category, self.k_shot, self.seed, metrics, self.references, truth.image_size, intervals, curves)

    def _decisions(self, truth: Truth) -> dict[str, MetricValue]:
        """What the thresholds make of the run."""
        if self.config.scoring == "paper":
            undefined = MetricValue.undefined("paper scores mix the test set, so no threshold is theirs")
            return dict.fromkeys(DECISIONS, undefined)
        calibration = self.calibration
        found = decision_metrics(self.raw_scores, truth.labels, calibration.threshold, calibration.unsure).metrics()
        if truth.has_masks:
            return found | {"pixel_F1": self.pixels.f1(calibration.pixel_threshold)}
        return found | {"pixel_F1": MetricValue.undefined("an anomalous image has no mask")}

    def _intervals(self, scores: list[float], truth: Truth) -> dict[str, Interval]:
        """Of all metrics that exist; the authors' AUPRO depends on the extremes of all scores and has none."""
        if not self.resampled:
            return {}
        intervals = bootstrap_images(scores, truth.labels, self.config.bootstrap)
        if truth.has_masks:
            intervals |= self.resampled.intervals(self.config.bootstrap)
            if self.config.aupro == "authors":
                del intervals["pixel_AUPRO"]
        return intervals

"""How far an exported graph is from the detector that it was made of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sowa.core.progress import Report, silent
from sowa.detector.detector import Sowa
from sowa.encoders.engines import Engine

# Largest difference of raw scores and maps that still counts as equal, in parts of their thresholds.
TOLERANCES = {"fp32": 0.001, "fp16": 0.02, "int8": 0.05}
BATCH = 3  # the last one is shorter where the images aren't a multiple: the batch's size must not matter


@dataclass(frozen=True)
class Comparison:
    """How far an export is from the original.

    Attributes:
        images: On so many images.
        raw_score: The largest difference of raw scores, in parts of the threshold.
        anomaly_map: The same of maps.
        flips: How many verdicts differ.
    """

    images: int
    raw_score: float
    anomaly_map: float
    flips: int

    def within(self, tolerance: float) -> bool:
        """Whether both differences are; False where one is no number."""
        return self.raw_score <= tolerance and self.anomaly_map <= tolerance

    def to_dict(self, tolerance: float) -> dict[str, Any]:
        """Ready for JSON."""
        return {**asdict(self), "tolerance": tolerance}


def compare(detector: Sowa, engine: Engine, images: NDArray[np.uint8], report: Report = silent) -> Comparison:
    """Compares a detector and its export on the same images.

    Args:
        detector: The original.
        engine: Runs the export.
        images: (N, H, W, 3) uint8 at the detector's size.
        report: Told of the progress.
    """
    calibration = detector.calibration_
    scores, maps, flips = 0.0, 0.0, 0
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        original, exported = detector.judge_images(batch).numpy(), engine(batch)
        scores = np.maximum(scores, np.abs(original.raw_scores - exported.raw_scores).max())
        maps = np.maximum(maps, np.abs(original.maps - exported.maps).max())
        verdicts = (one.raw_scores > calibration.threshold for one in (original, exported))
        flips += int(np.not_equal(*verdicts).sum())
        report("compare with the original", min(start + BATCH, len(images)), len(images))
    return Comparison(
        len(images), float(scores) / calibration.threshold, float(maps) / calibration.pixel_threshold, flips
    )

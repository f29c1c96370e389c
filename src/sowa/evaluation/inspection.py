"""Looking at single images of a labelled data set while it is judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sowa.core.calibration import Calibration
from sowa.core.types import NORMAL, Judgement, Sample
from sowa.data.batches import Batch
from sowa.detector.prediction import Prediction, predictions


@dataclass(frozen=True)
class Inspected:
    """One image of the inspected run.

    Attributes:
        sample: What it is.
        mask: The true one at the map's size, (H, W) bool; None where an anomalous image has none.
        prediction: What the detector says of it.
    """

    sample: Sample
    mask: NDArray[np.bool_] | None
    prediction: Prediction


@dataclass(frozen=True)
class Inspection:
    """Shows the images of one run.

    Attributes:
        show: Is called with each.
        calibration: That of the run's references.
    """

    show: Callable[[Inspected], None]
    calibration: Calibration

    def add(
        self, batch: Batch, samples: list[Sample], masks: list[NDArray[np.bool_]], judgement: Judgement, seconds: float
    ) -> None:
        """Shows each image of a batch.

        Args:
            batch: The images, B of them.
            samples: What they are, B.
            masks: The true ones, (H, W) bool at the map's size, B.
            judgement: Of the batch.
            seconds: That the whole batch took.
        """
        of_batch = predictions(batch, judgement.numpy(), self.calibration, seconds / len(samples))
        for sample, mask, prediction in zip(samples, masks, of_batch, strict=True):
            known = sample.label == NORMAL or sample.mask_path is not None
            self.show(Inspected(sample, mask if known else None, prediction))

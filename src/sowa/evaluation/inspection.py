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
    """One image of the inspected run: what it is, and what the detector says of it.

    ``mask`` (H, W) bool is the true one at the map's size, None where an anomalous image has none.
    """

    sample: Sample
    mask: NDArray[np.bool_] | None
    prediction: Prediction


@dataclass(frozen=True)
class Inspection:
    """Shows the images of one run; ``calibration`` is that of its references."""

    show: Callable[[Inspected], None]
    calibration: Calibration

    def add(
        self, batch: Batch, samples: list[Sample], masks: list[NDArray[np.bool_]], judgement: Judgement, seconds: float
    ) -> None:
        """Shows each image of a batch; true masks (H, W) at the map's size, ``seconds`` of the whole batch."""
        of_batch = predictions(batch, judgement.numpy(), self.calibration, seconds / len(samples))
        for sample, mask, prediction in zip(samples, masks, of_batch, strict=True):
            known = sample.label == NORMAL or sample.mask_path is not None
            self.show(Inspected(sample, mask if known else None, prediction))

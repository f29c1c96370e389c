"""Looking at single pictures of a labelled data set while it is judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sowa.data.stream import Batch
from sowa.prediction import Prediction, predictions
from sowa.types import NORMAL, Calibration, Judgement, Sample


@dataclass(frozen=True)
class Inspected:
    """One picture of the inspected run: what it is, and what the detector says of it.

    ``mask`` (H, W) bool is the true one at the map's size, None where an anomalous picture has none.
    """

    sample: Sample
    mask: NDArray[np.bool_] | None
    prediction: Prediction


@dataclass(frozen=True)
class Inspection:
    """Shows the pictures of one run; ``calibration`` is that of its references."""

    show: Callable[[Inspected], None]
    calibration: Calibration

    def add(
        self, batch: Batch, samples: list[Sample], masks: list[NDArray[np.bool_]], judgement: Judgement, seconds: float
    ) -> None:
        """Shows each picture of a batch; true masks (H, W) at the map's size, ``seconds`` of the whole batch."""
        of_batch = predictions(batch, judgement.numpy(), self.calibration, seconds / len(samples))
        for sample, mask, prediction in zip(samples, masks, of_batch, strict=True):
            known = sample.label == NORMAL or sample.mask_path is not None
            self.show(Inspected(sample, mask if known else None, prediction))

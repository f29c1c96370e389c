"""``ExportedSowa``: as `sowa.Sowa`, for a detector that ``sowa export`` wrote."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np

from sowa.data.batches import Batch
from sowa.detector.exported_metadata import ExportedBoundary, Metadata, read_metadata
from sowa.detector.prediction import Boundary, Prediction, predictions
from sowa.detector.predictor import Predictor
from sowa.encoders.engines import Engine, Precision, open_engine


class ExportedSowa(Predictor):
    """Finds defects as the detector that was exported does. May be used from many threads at once.

    Attributes:
        metadata: What the export says of itself.
        engine: Runs its graph.
        boundary: Where normal ends; another one may be put in its place.
        skipped_: Names of the images that the last call couldn't read, and why.
    """

    boundary: ExportedBoundary

    def __init__(self, metadata: Metadata, engine: Engine) -> None:
        self.metadata = metadata
        self.engine = engine
        self.boundary = metadata.boundary
        self.skipped_: list[tuple[str, str]] = []

    @classmethod
    def load(
        cls, path: str | Path, *, device: str = "cpu", precision: Precision = "fp32", threads: int | None = None
    ) -> Self:
        """The detector that ``sowa export`` wrote.

        Args:
            path: The folder.
            device: "cpu", for onnxruntime also "cuda", for openvino also "gpu" or "auto".
            precision: "bf16" lets openvino compute in bfloat16, about twice as fast where the processor has it.
            threads: So many are used; all by default.

        Raises:
            InputError: a file is missing, broken or changed, or the runtime isn't there.
        """
        folder = Path(path)
        metadata = read_metadata(folder)
        return cls(metadata, open_engine(metadata.runtime, folder / metadata.model, device, precision, threads))

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels at which images are seen."""
        return self.metadata.image_size

    @property
    def references_(self) -> list[str]:
        """Names of the images whose patches are in its memory bank."""
        return list(self.metadata.detector.get("references", []))

    def warm_up(self, batch_size: int = 1) -> Self:
        """Judges an empty image, so that the first real one needn't wait for what is only done once."""
        self.engine(np.zeros((batch_size, *self.image_size, 3), np.uint8))
        return self

    def _current_boundary(self) -> ExportedBoundary:
        return self.boundary

    def _predict_batch(self, batch: Batch, boundary: Boundary, started: float) -> Iterator[Prediction]:
        judgement = self.engine(batch.images)
        yield from predictions(batch, judgement, boundary, (time.perf_counter() - started) / len(batch.sources))

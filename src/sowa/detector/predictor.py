"""Images in, predictions out, for whatever can judge them: a detector, or an export of one. No torch in here."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from sowa.data.batches import Batch, none_readable, read_batches
from sowa.data.images import resize_image
from sowa.data.sources import ImageSource, image_sources
from sowa.data.video import frames
from sowa.detector.prediction import Boundary, Prediction


class Predictor:
    """What judges images.

    Attributes:
        skipped_: Names of the images that the last call couldn't read, and why.
    """

    skipped_: list[tuple[str, str]]

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels at which images are seen."""
        raise NotImplementedError

    def _check_ready(self) -> None:
        """Raises InputError where nothing can be judged yet."""

    def _current_boundary(self) -> Boundary:
        """Where normal ends when a call begins."""
        raise NotImplementedError

    def _predict_batch(self, batch: Batch, boundary: Boundary, started: float) -> Iterator[Prediction]:
        """The verdicts on images at ``image_size``, which have taken time since ``started`` (`time.perf_counter`)."""
        raise NotImplementedError

    @overload
    def predict(self, source: Any, *, stream: Literal[True], batch_size: int = 8) -> Iterator[Prediction]: ...

    @overload
    def predict(self, source: Any, *, stream: Literal[False] = False, batch_size: int = 8) -> list[Prediction]: ...

    def predict(
        self, source: Any, *, stream: bool = False, batch_size: int = 8
    ) -> Iterator[Prediction] | list[Prediction]:
        """Verdicts on images, in order; no image's verdict depends on the others of the call.

        Args:
            source: A folder, file, glob pattern, PIL image, array (H, W, 3) uint8, tensor (3, H, W) in 0..1, or a list
                of those.
            stream: Whether predictions come one by one, in memory that doesn't grow.
            batch_size: How many images are judged at once.

        Returns:
            One prediction per image that could be read; the others are in ``skipped_``.

        Raises:
            InputError: all images are broken, or the detector is neither fitted nor trained.
        """
        self._check_ready()
        skipped = self.skipped_ = []
        found = self._predict(image_sources(source), batch_size, skipped)
        return found if stream else list(found)

    def _predict(
        self, wanted: Sequence[ImageSource], batch_size: int, skipped: list[tuple[str, str]]
    ) -> Iterator[Prediction]:
        boundary, started = self._current_boundary(), time.perf_counter()
        for batch in read_batches(wanted, self.image_size, batch_size, skipped):
            yield from self._predict_batch(batch, boundary, started)
            started = time.perf_counter()
        if len(skipped) == len(wanted):
            raise none_readable(len(wanted), skipped)

    def watch(self, source: str | os.PathLike[str] | int, every: int = 1) -> Iterator[Prediction]:
        """Verdicts on the frames of a video, one by one.

        Args:
            source: A video file, a camera (0, 1, ...) or a stream (rtsp://...), see `sowa.data.video.frames`.
            every: Only each so-manieth frame is judged.

        Raises:
            InputError: the source can't be opened, or the detector is neither fitted nor trained.
        """
        self._check_ready()
        return self._watch(source, every)

    def _watch(self, source: str | os.PathLike[str] | int, every: int) -> Iterator[Prediction]:
        boundary = self._current_boundary()
        for original in frames(source, every):
            started = time.perf_counter()
            frame: NDArray[np.uint8] = original.read()
            image = resize_image(frame, self.image_size)[None]
            batch = Batch([original], [(frame.shape[0], frame.shape[1])], image)
            yield from self._predict_batch(batch, boundary, started)

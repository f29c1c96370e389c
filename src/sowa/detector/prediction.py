"""The verdict on one image, whoever computed it. No torch in here."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from sowa.core.files import write_bytes
from sowa.core.types import Judged, JudgedNames
from sowa.data.images import read_image, resize_image
from sowa.data.stream import Batch, ImageSource, image_sources, read_batches, skipped_into
from sowa.data.video import frames
from sowa.errors import InputError

if TYPE_CHECKING:
    from sowa.detector.render import Boxes


@dataclass(frozen=True, eq=False)
class NamedDefect:
    """How far an image's defect, if it has one, is of this ``name``.

    ``probability`` is its share among the names that were asked for, ``score`` the image's by ``defect_map`` (h, w)
    float32, the anomaly map as far as it's of this name, on the grid of patches.
    """

    name: str
    probability: float
    score: float
    defect_map: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the detector says of one image.

    ``score`` lies in 0..1 and 0.5 is the decision boundary; ``raw_score`` is the method's own number and
    ``threshold`` the raw score at the boundary. ``normal_percentile`` is the share of normal images, 0..100, that are
    expected to score lower, None where the detector has seen none. ``anomaly_map`` (H, W) float32 and ``mask`` (H, W)
    bool are at the size that the network saw; a pixel is in the mask where the map is above ``pixel_threshold``.
    ``level_maps`` (L, h, w) float32 say what each level adds, on the grid of patches. ``seconds`` is the image's
    share of its batch's computing time. ``defects`` are the names that were asked for, the likeliest first.
    """

    image_path: str
    score: float
    raw_score: float
    normal_percentile: float | None
    threshold: float
    is_anomalous: bool
    anomaly_map: NDArray[np.float32] = field(repr=False)
    mask: NDArray[np.bool_] = field(repr=False)
    level_maps: NDArray[np.float32] = field(repr=False)
    pixel_threshold: float
    seconds: float
    # Where the image can be had again: thousands of predictions don't hold thousands of images in memory.
    source: Path | NDArray[np.uint8] = field(repr=False)
    defects: tuple[NamedDefect, ...] = ()

    @property
    def image(self) -> NDArray[np.uint8]:
        """The image (H', W', 3) uint8, read again from disk where it came from there."""
        return read_image(self.source) if isinstance(self.source, Path) else self.source

    def to_dict(self) -> dict[str, Any]:
        """The numbers of the verdict, ready for JSON: no images and no maps."""
        named = {"defects": {each.name: round(each.probability, 4) for each in self.defects}} if self.defects else {}
        return {
            "image_path": self.image_path,
            "score": round(self.score, 6),
            "raw_score": round(self.raw_score, 6),
            "threshold": round(self.threshold, 6),
            "is_anomalous": self.is_anomalous,
            "seconds": round(self.seconds, 4),
            "normal_percentile": None if self.normal_percentile is None else round(self.normal_percentile, 3),
            **named,
        }

    def plot(self, boxes: Boxes | None = None) -> NDArray[np.uint8]:
        """The image under its heat map with the mask's outline, (H', W', 3) uint8 RGB at the image's own size.

        ``boxes`` are drawn too, such as those of `sowa.detector.instances`.
        """
        return self._drawn(self.image, boxes)

    def save(self, directory: str | Path, name: str | None = None, boxes: Boxes | None = None) -> Path:
        """Writes ``NAME_overlay.jpg``, as `plot` draws it, and ``NAME_mask.png`` (0/255), both at the image's own
        size.

        ``name`` is the image's file name without its suffix unless given. Returns the overlay's path. Neither file
        is ever half-written. Raises InputError where the folder can't be written.
        """
        from sowa.detector.render import encode, enlarge_mask

        name = name or Path(self.image_path).stem
        image = self.image
        drawn = self._drawn(image, boxes)
        target = Path(directory) / f"{name}_overlay.jpg"
        write_bytes(target, encode(drawn, "JPEG"))
        write_bytes(target.with_name(f"{name}_mask.png"), encode(enlarge_mask(self.mask, image.shape[:2]), "PNG"))
        return target

    def _drawn(self, image: NDArray[np.uint8], boxes: Boxes | None) -> NDArray[np.uint8]:
        from sowa.detector.render import overlay, with_boxes  # drawing needs OpenCV, judging doesn't

        drawn = overlay(image, self.anomaly_map, self.mask, self.pixel_threshold)
        return drawn if boxes is None else with_boxes(drawn, boxes)


class Boundary(Protocol):
    """Where normal ends, and what a raw score says against it."""

    @property
    def threshold(self) -> float:
        """The raw score at the boundary."""
        ...

    @property
    def pixel_threshold(self) -> float:
        """The map value at the boundary."""
        ...

    def score(self, raw_score: float) -> float:
        """Raw score to 0..1, 0.5 at the threshold."""
        ...

    def normal_percentile(self, raw_score: float) -> float | None:
        """Share of normal images with a lower raw score, 0..100, where normal images were seen."""
        ...


class Predictor:
    """Images in, predictions out, for whatever can judge them: a detector or an export of one.

    ``skipped_`` lists what the last call couldn't read, and why.
    """

    skipped_: list[tuple[str, str]]

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels at which images are seen."""
        raise NotImplementedError

    def _check_ready(self) -> None:
        """Raises InputError where nothing can be judged yet."""

    def _boundary(self) -> Boundary:
        raise NotImplementedError

    def _judged(self, images: NDArray[np.uint8]) -> Judged:
        """Images (B, H, W, 3) uint8 at ``image_size`` to their raw verdict."""
        raise NotImplementedError

    @overload
    def predict(self, source: Any, *, stream: Literal[True], batch_size: int = 8) -> Iterator[Prediction]: ...

    @overload
    def predict(self, source: Any, *, stream: Literal[False] = False, batch_size: int = 8) -> list[Prediction]: ...

    def predict(
        self, source: Any, *, stream: bool = False, batch_size: int = 8
    ) -> Iterator[Prediction] | list[Prediction]:
        """Verdicts on images, in order; no image's verdict depends on the others of the call.

        ``source`` is a folder, file, glob pattern, PIL image, array (H, W, 3) uint8, tensor (3, H, W) in 0..1, or a
        list of those. ``stream`` yields predictions one by one, in memory that doesn't grow. Broken images are
        skipped and listed in ``skipped_``; the reason is raised as InputError where all are broken. Raises InputError
        where a detector is neither fitted nor trained.
        """
        self._check_ready()
        skipped = self.skipped_ = []
        found = self._predict(image_sources(source), batch_size, skipped)
        return found if stream else list(found)

    def _predict(
        self, wanted: Sequence[ImageSource], batch_size: int, skipped: list[tuple[str, str]]
    ) -> Iterator[Prediction]:
        boundary, started = self._boundary(), time.perf_counter()
        for batch in read_batches(wanted, self.image_size, batch_size, skipped_into(skipped)):
            judged = self._judged(batch.images)
            seconds = (time.perf_counter() - started) / len(batch.sources)
            yield from predictions(batch, judged, boundary, seconds)
            started = time.perf_counter()
        if len(skipped) == len(wanted):
            raise InputError(f"none of {len(wanted)} images can be read; first problem: {skipped[0][1]}")

    def watch(self, source: str | os.PathLike[str] | int, every: int = 1) -> Iterator[Prediction]:
        """Verdicts on the frames of a video file, a camera (0, 1, ...) or a stream (rtsp://...), one by one.

        See `sowa.data.video.frames`. Raises InputError where a detector is neither fitted nor trained.
        """
        self._check_ready()
        return self._watch(source, every)

    def _watch(self, source: str | os.PathLike[str] | int, every: int) -> Iterator[Prediction]:
        boundary = self._boundary()
        for original in frames(source, every):
            started = time.perf_counter()
            frame = original.read()
            image = resize_image(frame, self.image_size)[None]
            judged = self._judged(image)
            batch = Batch([original], [(frame.shape[0], frame.shape[1])], image)
            yield from predictions(batch, judged, boundary, time.perf_counter() - started)


def predictions(batch: Batch, judged: Judged, boundary: Boundary, seconds: float) -> Iterator[Prediction]:
    """The verdict on each image of a batch; ``seconds`` is each one's share of the computing time."""
    for index, image in enumerate(batch.sources):
        raw, anomaly_map = float(judged.raw_scores[index]), judged.maps[index]
        yield Prediction(
            image_path=image.name,
            score=boundary.score(raw),
            raw_score=raw,
            normal_percentile=boundary.normal_percentile(raw),
            threshold=boundary.threshold,
            is_anomalous=raw > boundary.threshold,
            anomaly_map=anomaly_map,
            mask=anomaly_map > boundary.pixel_threshold,
            level_maps=judged.level_maps[index],
            pixel_threshold=boundary.pixel_threshold,
            seconds=seconds,
            source=image.origin,
            defects=_defects(judged.named, index) if judged.named else (),
        )


def _defects(named: JudgedNames, index: int) -> tuple[NamedDefect, ...]:
    """Of one image of a batch, the likeliest name first."""
    values = zip(
        named.names, named.probabilities[index].tolist(), named.scores[index].tolist(), named.maps[index], strict=True
    )
    return tuple(sorted((NamedDefect(*each) for each in values), key=lambda each: -each.probability))

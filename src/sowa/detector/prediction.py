"""The verdict on one image, whoever computed it. No torch in here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sowa.core.calibration import Verdict, verdict_of
from sowa.core.files import write_bytes
from sowa.core.types import Judgement
from sowa.data.batches import Batch
from sowa.data.images import read_image
from sowa.detector.extension import Annotation

if TYPE_CHECKING:
    from sowa.detector.render import Boxes


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the detector says of one image.

    Attributes:
        image_path: Where the image is, or what stands for an image that came from no file.
        score: How likely it is that the part is bad, 0..1; 0.5 is the decision boundary.
        raw_score: The method's own number, 0 and more.
        normal_percentile: Share of normal images, 0..100, that are expected to score lower; None where none was seen.
        threshold: The raw score at the boundary.
        is_anomalous: Whether the raw score lies above the threshold.
        verdict: "normal" or "anomalous", or "unsure" where neither is right often enough.
        anomaly_map: (H, W) float32 at the size that the network saw.
        mask: (H, W) bool: where the map is above ``pixel_threshold``.
        level_maps: What each level adds, on the grid of patches, (L, h, w) float32.
        pixel_threshold: The map value at the boundary.
        seconds: The image's share of its batch's computing time.
        source: Where the image can be had again: a path, or pixels (H', W', 3) uint8.
        annotations: What annotators say of it, by their names.
    """

    image_path: str
    score: float
    raw_score: float
    normal_percentile: float | None
    threshold: float
    is_anomalous: bool
    verdict: Verdict
    anomaly_map: NDArray[np.float32] = field(repr=False)
    mask: NDArray[np.bool_] = field(repr=False)
    level_maps: NDArray[np.float32] = field(repr=False)
    pixel_threshold: float
    seconds: float
    source: Path | NDArray[np.uint8] = field(repr=False)  # thousands of predictions don't hold thousands of images
    annotations: Mapping[str, Annotation] = field(default_factory=dict)

    @property
    def image(self) -> NDArray[np.uint8]:
        """The image (H', W', 3) uint8, read again from disk where it came from there."""
        return read_image(self.source) if isinstance(self.source, Path) else self.source

    def to_dict(self) -> dict[str, Any]:
        """The numbers of the verdict, ready for JSON: no images and no maps."""
        return {
            "image_path": self.image_path,
            "score": round(self.score, 6),
            "raw_score": round(self.raw_score, 6),
            "threshold": round(self.threshold, 6),
            "verdict": self.verdict,
            "is_anomalous": self.is_anomalous,
            "seconds": round(self.seconds, 4),
            "normal_percentile": None if self.normal_percentile is None else round(self.normal_percentile, 3),
            **{name: annotation.to_json() for name, annotation in self.annotations.items()},
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

    @property
    def unsure(self) -> tuple[float, float]:
        """The raw scores between which neither verdict is right often enough."""
        ...

    def score(self, raw_score: float) -> float:
        """Raw score to 0..1, 0.5 at the threshold."""
        ...

    def normal_percentile(self, raw_score: float) -> float | None:
        """Share of normal images with a lower raw score, 0..100, where normal images were seen."""
        ...


def predictions(
    batch: Batch,
    judgement: Judgement,
    boundary: Boundary,
    seconds: float,
    annotations: Sequence[Mapping[str, Annotation]] = (),
) -> Iterator[Prediction]:
    """The verdict on each image of a batch.

    Args:
        batch: The images.
        judgement: What is said of them, as numpy arrays.
        boundary: Where normal ends.
        seconds: Each image's share of the computing time.
        annotations: What annotators say of each image; none by default.
    """
    for index, source in enumerate(batch.sources):
        raw, anomaly_map = float(judgement.raw_scores[index]), judgement.maps[index]
        yield Prediction(
            image_path=source.name,
            score=boundary.score(raw),
            raw_score=raw,
            normal_percentile=boundary.normal_percentile(raw),
            threshold=boundary.threshold,
            is_anomalous=raw > boundary.threshold,
            verdict=verdict_of(raw, boundary.threshold, boundary.unsure),
            anomaly_map=anomaly_map,
            mask=anomaly_map > boundary.pixel_threshold,
            level_maps=judgement.level_maps[index],
            pixel_threshold=boundary.pixel_threshold,
            seconds=seconds,
            source=source.origin,
            annotations=annotations[index] if annotations else {},
        )

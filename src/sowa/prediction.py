"""The verdict on one picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sowa.data.images import read_image
from sowa.data.stream import Batch
from sowa.files import write_bytes
from sowa.render import encode, enlarge_mask, overlay
from sowa.types import Calibration, Judgement


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the detector says of one picture.

    ``score`` lies in 0..1 and 0.5 is the decision boundary; ``raw_score`` is the method's own number and
    ``threshold`` the raw score at the boundary. ``normal_percentile`` is the share of normal pictures, 0..100, that are
    expected to score lower, None where the detector has seen none. ``anomaly_map`` (H, W) float32 and ``mask`` (H, W)
    bool are at the size that the network saw; a pixel is in the mask where the map is above ``pixel_threshold``.
    ``level_maps`` (L, h, w) float32 say what each level adds, on the grid of patches. ``seconds`` is the picture's
    share of its batch's computing time.
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
    # Where the picture can be had again: thousands of predictions don't hold thousands of pictures in memory.
    source: Path | NDArray[np.uint8] = field(repr=False)

    @property
    def image(self) -> NDArray[np.uint8]:
        """The picture (H', W', 3) uint8, read again from disk where it came from there."""
        return read_image(self.source) if isinstance(self.source, Path) else self.source

    def to_dict(self) -> dict[str, Any]:
        """The numbers of the verdict, ready for JSON: no pictures and no maps."""
        return {
            "image_path": self.image_path,
            "score": round(self.score, 6),
            "raw_score": round(self.raw_score, 6),
            "threshold": round(self.threshold, 6),
            "is_anomalous": self.is_anomalous,
            "seconds": round(self.seconds, 4),
            "normal_percentile": None if self.normal_percentile is None else round(self.normal_percentile, 3),
        }

    def plot(self) -> NDArray[np.uint8]:
        """The picture under its heat map with the mask's outline, (H', W', 3) uint8 RGB at the picture's own size."""
        return overlay(self.image, self.anomaly_map, self.mask, self.pixel_threshold)

    def save(self, directory: str | Path, name: str | None = None) -> Path:
        """Writes ``NAME_overlay.jpg`` and ``NAME_mask.png`` (0/255), both at the picture's own size.

        ``name`` is the picture's file name without its suffix unless given. Returns the overlay's path. Neither file
        is ever half-written. Raises InputError where the folder can't be written.
        """
        name = name or Path(self.image_path).stem
        image = self.image
        drawn = overlay(image, self.anomaly_map, self.mask, self.pixel_threshold)
        target = Path(directory) / f"{name}_overlay.jpg"
        write_bytes(target, encode(drawn, "JPEG"))
        write_bytes(target.with_name(f"{name}_mask.png"), encode(enlarge_mask(self.mask, image.shape[:2]), "PNG"))
        return target


def predictions(batch: Batch, judgement: Judgement, calibration: Calibration, seconds: float) -> Iterator[Prediction]:
    """The verdict on each picture of a batch; ``seconds`` is each one's share of the computing time."""
    maps, levels = judgement.maps.cpu().numpy(), judgement.level_maps.cpu().numpy()
    for index, (picture, raw) in enumerate(zip(batch.pictures, judgement.raw_scores.tolist(), strict=True)):
        yield Prediction(
            image_path=picture.name,
            score=calibration.score(raw),
            raw_score=raw,
            normal_percentile=calibration.normal_percentile(raw),
            threshold=calibration.threshold,
            is_anomalous=raw > calibration.threshold,
            anomaly_map=maps[index],
            mask=maps[index] > calibration.pixel_threshold,
            level_maps=levels[:, index],
            pixel_threshold=calibration.pixel_threshold,
            seconds=seconds,
            source=picture.origin,
        )

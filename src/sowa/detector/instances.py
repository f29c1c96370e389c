"""Boxes from anomaly maps, without training: where one defect ends and the next begins.

Shapes: H x W pixels as the network saw the image, H' x W' as it is on disk, h x w patches, L levels, n instances.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sowa.core.calibration import UNSEEN_WIDTH, score_of
from sowa.detector.prediction import Prediction
from sowa.errors import InputError

# Chosen on auxiliary products, DeepPCB and generated products (benchmarks/instances.py measures others).
SHARE = 0.6  # of its own peak, down to which a defect reaches
LEAST = 0.2  # patches that it covers: smaller is a patch that hardly exceeds the threshold
STEPS = 9  # positions per patch at which maps are read; odd, so that one of them is the patch's centre

Map = NDArray[np.float32]
Region = NDArray[np.bool_]
Box = tuple[int, int, int, int]  # left, top, right, bottom; the last two are outside


@dataclass(frozen=True, eq=False)
class Instances:
    """The defects of an image, the plainest first.

    ``xyxy`` (n, 4) float32 are left, top, right and bottom in whole pixels of the image as it is on disk, so that
    ``image[top:bottom, left:right]`` is what a box holds. ``confidence`` (n,) float32 says how far a defect's highest
    value lies above the pixel threshold: 0.5 at it, 0.74 at 1.3 times, 0.94 at twice, below 1. ``area`` (n,) int64 are
    the pixels that it covers. `supervision.Detections` takes the first two as they are.
    """

    xyxy: NDArray[np.float32]
    confidence: NDArray[np.float32]
    area: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.xyxy)

    def to_dicts(self) -> list[dict[str, Any]]:
        """One for each, ready for JSON."""
        rows = zip(self.xyxy.astype(int).tolist(), self.confidence.tolist(), self.area.tolist(), strict=True)
        return [{"score": round(score, 4), "xyxy": box, "area": area} for box, score, area in rows]


def instances(prediction: Prediction, *, min_score: float = 0.5, min_area: int = 0) -> Instances:
    """The defects that an image's maps show, each with a box.

    A defect begins at a peak above the pixel threshold and reaches down to `SHARE` of that peak, never below the
    threshold. Two peaks are two defects where the map between them falls below that share of the lower one. The sum of
    the levels says what is a defect; its box is, edge by edge, the median of what the sum shows and of what each level
    shows around the same peak, at most a patch farther. Left out is what scores below ``min_score`` (0.5 to 1) or
    covers fewer pixels than ``min_area``.

    The image is read again for its size where there is any defect. Raises InputError where that fails, and for limits
    outside their range.
    """
    if not 0.5 <= min_score <= 1 or min_area < 0:
        raise InputError(
            f"min_score is {min_score}, allowed is 0.5 to 1; min_area is {min_area}, allowed is 0 and more"
        )
    grid, threshold = prediction.level_maps.shape[1:], prediction.pixel_threshold
    summed = _centred(prediction.anomaly_map, grid)
    found = [each for each in _regions(summed, threshold) if each[1].sum() >= LEAST * STEPS**2]
    if not found:
        return Instances(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    levels = [cv2.resize(level, summed.shape[::-1]).astype(np.float32) for level in prediction.level_maps]
    height, width = prediction.image.shape[:2]
    down, across = height / summed.shape[0], width / summed.shape[1]
    boxes = np.array([_merged([_box(region), *_around(region, levels)]) for _, region in found])
    xyxy = boxes * (across, down, across, down)
    xyxy = np.concatenate([np.floor(xyxy[:, :2]), np.ceil(xyxy[:, 2:])], axis=1).clip(0, (width, height) * 2)
    scores = np.array([score_of(peak, threshold, UNSEEN_WIDTH) for peak, _ in found])
    area = np.array([round(region.sum() * down * across) for _, region in found]).clip(min=1)
    kept = (scores >= min_score) & (area >= min_area)
    return Instances(xyxy[kept].astype(np.float32), scores[kept].astype(np.float32), area[kept].astype(np.int64))


def _centred(anomaly_map: Map, grid: Sequence[int]) -> Map:
    """A map (H, W) with `STEPS` positions per patch, each patch's value at its centre.

    Maps are enlarged with aligned corners, which puts the outer patches onto the image's edges, half a patch outside
    of what they see. Nobody minds in a heat map, but of boxes it costs a tenth of F1 at an overlap of one half.
    """
    (down, top), (across, left) = (
        ((pixels - 1) / max(1, patches - 1) / STEPS, (pixels - 1) / max(1, patches - 1) * (0.5 / STEPS - 0.5))
        for pixels, patches in zip(anomaly_map.shape, grid, strict=True)
    )
    place = np.array([[across, 0, left], [0, down, top]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (grid[1] * STEPS, grid[0] * STEPS)
    moved = cv2.warpAffine(anomaly_map, place, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return moved.astype(np.float32)


def _regions(summed: Map, threshold: float) -> Iterator[tuple[float, Region]]:
    """Each defect's peak and where it is, the highest first; they never overlap.

    A peak whose region holds a higher one is a part of that one, or of its slope. So is whatever else lies in such a
    region: its own would reach at least as far.
    """
    left = summed.copy()
    while (peak := float(left.max())) > threshold:
        row, column = np.unravel_index(left.argmax(), left.shape)
        region = _connected(summed, int(row), int(column), max(threshold, SHARE * peak))
        if summed[region].max() <= peak:
            yield peak, region
        left[region] = -np.inf


def _connected(values: Map, row: int, column: int, lowest: float) -> Region:
    """What is connected with a position over values of at least ``lowest``, corners included."""
    filled = np.zeros((values.shape[0] + 2, values.shape[1] + 2), np.uint8)
    flags = 8 | cv2.FLOODFILL_FIXED_RANGE | cv2.FLOODFILL_MASK_ONLY
    below = max(0.0, float(values[row, column]) - lowest)
    cv2.floodFill(values, filled, (column, row), 0, below, float(np.finfo(np.float32).max), flags)
    return filled[1:-1, 1:-1].astype(np.bool_)


def _around(region: Region, levels: Sequence[Map]) -> list[Box]:
    """What each level shows of a defect: around its own highest value in the region, at most a patch beyond that."""
    near = cv2.dilate(region.astype(np.uint8), np.ones((2 * STEPS + 1,) * 2, np.uint8)) > 0
    boxes = []
    for level in levels:
        row, column = np.unravel_index(np.where(region, level, -np.inf).argmax(), level.shape)
        boxes.append(_box(near & _connected(level, int(row), int(column), SHARE * float(level[row, column]))))
    return boxes


def _box(region: Region) -> Box:
    rows, columns = (np.flatnonzero(region.any(axis=axis)) for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _merged(boxes: Sequence[Box]) -> NDArray[np.float64]:
    """Boxes of one defect to one, (4,): a single level that sees too much or too little has no say."""
    return np.median(np.array(boxes, np.float64), axis=0)

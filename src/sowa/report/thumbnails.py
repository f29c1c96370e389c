"""The small images of a card: photograph, heat, outlines, levels. A few kilobytes altogether.

Shapes: H', W' the photograph, H x W the map, L levels on h x w patches.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sowa.detector.prediction import Prediction
from sowa.detector.render import Boxes, heat, heat_png

QUALITY = 74
BOX = 1000  # side of the square in which outlines are given
OUTLINES = 60  # of one mask; the largest ones are drawn
GAP = 1  # patches between two level maps


@dataclass(frozen=True)
class Thumbnails:
    """What a card shows, in a square of ``BOX``.

    Attributes:
        photo: The image, encoded in base64.
        heat: Its map, likewise.
        levels: The maps of its levels side by side, likewise.
        n_levels: How many.
        ratio: Width over height.
        predicted: Outlines as an SVG path.
        true: Likewise, of the true mask.
        boxes: Left, top, width and height each.
    """

    photo: str
    heat: str
    levels: str
    n_levels: int
    ratio: float
    predicted: str
    true: str
    boxes: list[list[float]]


def thumbnails(
    prediction: Prediction, true_mask: NDArray[np.bool_] | None, side: int, boxes: Boxes | None = None
) -> Thumbnails:
    """What a card shows.

    Args:
        prediction: Of the image, which is read again.
        true_mask: (H, W) bool at the map's size, None where unknown.
        side: The photograph's longer side has at most so many pixels.
        boxes: In the image's pixels.

    Raises:
        InputError: the image can't be read again.
    """
    image = prediction.image
    height, width = image.shape[:2]
    n_levels = len(prediction.level_maps)
    return Thumbnails(
        photo=_base64(jpeg(image, side)),
        heat=_base64(_heat(prediction)),
        levels=_base64(_levels(prediction)),
        n_levels=n_levels,
        ratio=round(width / height, 4),
        predicted=outline(prediction.mask),
        true="" if true_mask is None else outline(true_mask),
        boxes=[] if boxes is None else in_square(boxes.xyxy, (height, width)),
    )


def outline(mask: NDArray[np.bool_]) -> str:
    """Outlines of a mask (H, W) and of its holes as an SVG path, simplified to a quarter of a percent; may be empty."""
    height, width = mask.shape
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    scale = BOX / np.array([width, height])
    parts = []
    for contour in sorted(found, key=cv2.contourArea, reverse=True)[:OUTLINES]:
        simple = cv2.approxPolyDP(contour, max(height, width) / 400, closed=True)
        points = np.round((simple[:, 0] + 0.5) * scale).astype(int)
        steps = " ".join(f"{x} {y}" for x, y in np.diff(points, axis=0))
        parts.append(f"M{points[0, 0]} {points[0, 1]}" + (f"l{steps}" if steps else "") + "z")
    return "".join(parts)


def in_square(xyxy: NDArray[np.float32], size: tuple[int, int]) -> list[list[float]]:
    """Boxes as left, top, width and height in a square of ``BOX``.

    Args:
        xyxy: (n, 4) in pixels of the image.
        size: The image's (H', W').
    """
    corners = xyxy * (BOX / np.array([size[1], size[0]] * 2))
    found: list[list[float]] = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]]).round(1).tolist()
    return found


def jpeg(image: NDArray[np.uint8], side: int) -> bytes:
    """The image as a JPEG.

    Args:
        image: (H, W, 3) uint8 RGB.
        side: The longer side has at most so many pixels.
    """
    factor = side / max(image.shape[:2])
    if factor < 1:
        size = [max(1, round(length * factor)) for length in image.shape[1::-1]]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    return bytes(cv2.imencode(".jpg", image[..., ::-1], options)[1])


def _heat(prediction: Prediction) -> bytes:
    """Twice as fine as the patches; the browser enlarges it smoothly, as the map itself was."""
    height, width = (2 * side for side in prediction.level_maps.shape[1:])
    small = cv2.resize(prediction.anomaly_map, (width, height), interpolation=cv2.INTER_AREA)
    return heat_png(heat(small.astype(np.float32), prediction.pixel_threshold))


def _levels(prediction: Prediction) -> bytes:
    """The level maps side by side, each as hot as its part of the threshold says: the threshold is of their sum."""
    level_maps = prediction.level_maps
    hot = heat(level_maps, prediction.pixel_threshold / len(level_maps))
    padded = np.pad(hot, ((0, 0), (0, 0), (0, GAP)), constant_values=np.nan)
    strip = np.concatenate(padded, axis=1)[:, :-GAP]
    return heat_png(strip, opaque=True)


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")

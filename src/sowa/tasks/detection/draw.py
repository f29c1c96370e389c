"""Boxes on pictures: a colour for each name, its name and score above."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sowa.tasks.detection.detector import Detections

# Told apart by colour-blind readers too (Okabe and Ito, 2008), RGB.
PALETTE = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
LINE = 0.004  # width in parts of the picture's mean side
TEXT = 0.0011  # size of the letters in parts of it


def draw_boxes(detections: Detections) -> NDArray[np.uint8]:
    """The picture (H', W', 3) uint8 RGB with what was found on it, the likeliest on top."""
    image = np.ascontiguousarray(detections.image).copy()
    side = sum(image.shape[:2]) / 2
    width, letters = max(1, round(LINE * side)), max(0.35, TEXT * side)
    order = detections.confidence.argsort()
    for place in order.tolist():
        colour = PALETTE[int(detections.class_id[place]) % len(PALETTE)]
        x1, y1, x2, y2 = (round(float(value)) for value in detections.xyxy[place])
        cv2.rectangle(image, (x1, y1), (x2, y2), colour, width, cv2.LINE_AA)
        text = f"{detections.names[int(detections.class_id[place])]} {detections.confidence[place]:.2f}"
        _tag(image, text, (x1, y1), colour, letters)
    return image


def _tag(
    image: NDArray[np.uint8], text: str, corner: tuple[int, int], colour: tuple[int, int, int], size: float
) -> None:
    """A name on its colour, above the box or, at the picture's edges, inside it."""
    thickness = max(1, round(size * 1.6))
    (across, up), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, thickness)
    x = max(0, min(corner[0], image.shape[1] - across - 4))
    y = corner[1] if corner[1] >= up + below + 4 else corner[1] + up + below + 4
    cv2.rectangle(image, (x, y - up - below - 4), (x + across + 4, y), colour, -1)
    dark = sum(colour) > 3 * 130
    ink = (20, 20, 20) if dark else (255, 255, 255)
    at = (x + 2, y - below - 1)
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, ink, thickness, cv2.LINE_AA)

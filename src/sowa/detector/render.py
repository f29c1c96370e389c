"""Drawing: heat maps over images. The only file that knows colours."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

Image = NDArray[np.uint8]
OUTLINE = (255, 255, 255)
BOX, SHADE = (255, 255, 255), (16, 18, 24)  # of boxes over a heat map, which hues belong to
# Of boxes by class; told apart by colour-blind readers too (Okabe and Ito, 2008).
PALETTE = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
SMALLEST_TEXT = 10  # pixels; larger in larger images
# Colours begin at the first of these multiples of the pixel threshold and are hottest from the second on.
COOLEST, HOTTEST = 0.5, 1.6
OPACITY = 0.65
STEPS, DARKEST = 32, 22  # shades of a small heat map, and where in the colour map they begin: black is too heavy


class Boxes(Protocol):
    """What can be drawn as boxes."""

    @property
    def xyxy(self) -> NDArray[Any]:
        """Left, top, right and bottom of each in pixels, (n, 4)."""
        ...

    @property
    def confidence(self) -> NDArray[Any]:
        """How sure each is, (n,) in 0..1."""
        ...


def heat_map(
    anomaly_map: NDArray[np.float32], pixel_threshold: float, size: tuple[int, int]
) -> tuple[Image, NDArray[np.float32]]:
    """Colours (H', W', 3) RGB and opacity (H', W', 1) in 0..1 of a map (H, W), enlarged to ``size`` (H', W').

    Colours are tied to the threshold, not to the image's own extremes: a normal image stays cool.
    """
    enlarged = cv2.resize(anomaly_map, size[::-1], interpolation=cv2.INTER_LINEAR).astype(np.float32)
    hot = heat(enlarged, pixel_threshold)
    opacity = np.float32(OPACITY) * np.sqrt(hot)
    colours = cv2.applyColorMap((hot * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    return colours.astype(np.uint8), opacity[..., None]


def heat(anomaly_map: NDArray[np.float32], pixel_threshold: float) -> NDArray[np.float32]:
    """How hot each value of a map is, 0..1, same shape."""
    relative = anomaly_map / pixel_threshold
    hot: NDArray[np.float32] = np.clip((relative - COOLEST) / (HOTTEST - COOLEST), 0.0, 1.0).astype(np.float32)
    return hot


def heat_png(hot: NDArray[np.float32], opaque: bool = False) -> bytes:
    """Heat (H, W) in 0..1 as a PNG of ``STEPS`` colours, a few hundred bytes; NaN is clear.

    The colder, the clearer, unless ``opaque``. Colours rise in lightness, so colour-blind readers tell them apart.
    """
    ramp = np.linspace(0.0, 1.0, STEPS)
    shades = (DARKEST + ramp * (255 - DARKEST)).astype(np.uint8)
    colours = cv2.applyColorMap(shades[:, None], cv2.COLORMAP_INFERNO)[:, 0, ::-1]
    alpha = np.round(255 * (np.ones(STEPS) if opaque else ramp)).astype(np.uint8)
    steps = np.where(np.isnan(hot), STEPS, np.round(np.nan_to_num(hot) * (STEPS - 1))).astype(np.uint8)
    image = PillowImage.frombytes("P", hot.shape[::-1], steps.tobytes())
    image.putpalette(colours.tobytes() + bytes(3))
    buffer = BytesIO()
    image.save(buffer, format="PNG", optimize=True, transparency=alpha.tobytes() + bytes(1))
    return buffer.getvalue()


def overlay(image: Image, anomaly_map: NDArray[np.float32], mask: NDArray[np.bool_], pixel_threshold: float) -> Image:
    """The image (H', W', 3) under its heat map, the mask outlined; same size, uint8 RGB."""
    height, width = image.shape[:2]
    colours, opacity = heat_map(anomaly_map, pixel_threshold, (height, width))
    blended = image * (1 - opacity) + colours * opacity
    drawn = np.ascontiguousarray(np.clip(blended, 0, 255).astype(np.uint8))
    contours, _ = cv2.findContours(enlarge_mask(mask, (height, width)), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    thickness = max(1, round(min(height, width) / 300))
    cv2.drawContours(drawn, contours, -1, OUTLINE, thickness)
    return drawn


def with_boxes(image: Image, boxes: Boxes, labels: Sequence[str] = (), classes: Sequence[int] = ()) -> Image:
    """The image (H', W', 3) with each box and its confidence, the surest on top.

    ``labels`` say what each of the boxes is, ``classes`` number what they are, each with a colour of its own; without
    them boxes are white.
    """
    drawn = PillowImage.fromarray(image)
    pencil = ImageDraw.Draw(drawn)
    side = min(image.shape[:2])
    line, font = max(1, round(side / 250)), ImageFont.load_default(max(SMALLEST_TEXT, round(side / 32)))
    texts = []
    for at in np.argsort(boxes.confidence, kind="stable"):
        left, top, right, bottom = (round(float(edge)) for edge in boxes.xyxy[at])
        outer = (left - line, top - line, max(right, left + 1) + line - 1, max(bottom, top + 1) + line - 1)
        pencil.rectangle((outer[0] - 1, outer[1] - 1, outer[2] + 1, outer[3] + 1), outline=SHADE, width=line + 2)
        colour = PALETTE[classes[at] % len(PALETTE)] if len(classes) else BOX
        pencil.rectangle(outer, outline=colour, width=line)
        texts.append((" ".join([*labels[at : at + 1], f"{boxes.confidence[at]:.2f}"]), outer, colour))
    for text, outer, colour in texts:  # after all boxes, so that none crosses them
        _label(pencil, text, outer, colour, font, (image.shape[1], image.shape[0]))
    return np.array(drawn)


def _label(
    pencil: ImageDraw.ImageDraw,
    text: str,
    box: tuple[int, int, int, int],
    colour: tuple[int, int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    size: tuple[int, int],
) -> None:
    """A text on its colour above a box, or below where there is no room, inside the image of ``size`` (W', H')."""
    _, _, width, height = pencil.textbbox((0, 0), text, font=font, anchor="lt")
    margin = max(2, round(height / 3))
    width, height = round(width) + 2 * margin, round(height) + 2 * margin
    left = max(0, min(box[0], size[0] - width))
    top = box[1] - height if box[1] >= height else min(box[3] + 1, size[1] - height)
    pencil.rectangle((left, top, left + width - 1, top + height - 1), fill=colour)
    ink = SHADE if sum(colour) > 3 * 128 else BOX
    pencil.text((left + margin, top + margin), text, fill=ink, font=font, anchor="lt")


def enlarge_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> Image:
    """Mask (H, W) bool to another size (H', W') as 0/255."""
    enlarged = cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
    return ((enlarged > 0.5) * 255).astype(np.uint8)


def encode(image: Image, kind: str) -> bytes:
    """An image (H, W, 3) or (H, W) uint8 as the bytes of a "JPEG" or "PNG" file.

    Encoded in memory: Pillow overlooks a full disk when it writes a JPEG to a path.
    """
    buffer = BytesIO()
    PillowImage.fromarray(image).save(buffer, format=kind, quality=90)
    return buffer.getvalue()


def side_by_side(images: list[Image], height: int = 384, gap: int = 6) -> Image:
    """Images of any sizes in a row, all brought to one height."""
    scaled = [
        cv2.resize(
            image,
            (max(1, round(image.shape[1] * height / image.shape[0])), height),
            interpolation=cv2.INTER_AREA,
        )
        for image in images
    ]
    spacer = np.full((height, gap, 3), 255, np.uint8)
    row: list[NDArray[np.uint8]] = []
    for image in scaled:
        row += [image.astype(np.uint8), spacer]
    return np.concatenate(row[:-1], axis=1)

"""Two-dimensional fields that surfaces and defects are made of: noise, shapes, coordinates, colours.

All lengths are in *reference pixels*: 1/384 of the image's shorter side, so that a scene looks the same at
any size. Angles are in radians, y points down. Fields are float32; suffix legend: H, W image size.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]
Shape = tuple[int, int]

REFERENCE_SIZE = 384


def field(array: Any) -> Field:
    """Return `array` as float32 (OpenCV's answers carry no dtype of their own)."""
    return np.asarray(array, dtype=np.float32)


def pixels_per_unit(shape: Shape) -> float:
    """Return how many pixels one reference pixel is in an image of this shape."""
    return min(shape) / REFERENCE_SIZE


def smoothstep(low: float, high: float, x: Field) -> Field:
    """Rise smoothly from 0 at `low` to 1 at `high`.

    Args:
        low: Where it begins; above `high` it falls.
        high: Where it ends.
        x: Of any shape.

    Example:
        >>> smoothstep(0.0, 2.0, field([-1.0, 1.0, 3.0])).tolist()
        [0.0, 0.5, 1.0]
    """
    t = np.clip((x - low) * np.float32(1 / (high - low)), 0, 1)
    return field(t * t * (3 - 2 * t))


def mix(a: Field, b: Field, weight: Field) -> Field:
    """Blend a to b.

    Args:
        a: (H, W) or (H, W, 3).
        b: Likewise, or one colour (3,).
        weight: (H, W), 0 for a, 1 for b.
    """
    if a.ndim == 2:
        return field(a + (b - a) * weight)
    if b.ndim == 1:  # plane by plane: several times faster than broadcasting over a last axis of three
        return stack([plane_ + (c - plane_) * weight for plane_, c in zip(cv2.split(a), b, strict=True)])
    return field(a + (b - a) * stack([weight] * 3))


def stack(planes: list[Any]) -> Field:
    """Three (H, W) planes as one (H, W, 3) image."""
    return field(cv2.merge([field(plane_) for plane_ in planes]))


def blur(image: Field, sigma: float) -> Field:
    """Gaussian blur, sigma in image pixels; nothing below 0.2."""
    if sigma < 0.2:
        return image
    return field(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101))


# --- noise


def fractal(
    rng: Generator, shape: Shape, cell: float, *, octaves: int = 4, gain: float = 0.5, stretch: float = 1.0
) -> Field:
    """Fractal noise (H, W), mean 0, deviation 1.

    Args:
        rng: Draws it.
        shape: (H, W) in pixels.
        cell: The largest feature, reference pixels.
        octaves: How many sizes of features, each half the one before.
        gain: How strong each is against the one before.
        stretch: Draws it out along x.
    """
    height, width = shape
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        step = max(cell * pixels_per_unit(shape) / 2**octave, 1.0)
        grid_shape = int(height / step) + 3, int(width / (step * stretch)) + 3
        grid = rng.standard_normal(grid_shape, dtype=np.float32)
        total += np.float32(gain**octave) * field(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC))
        if step == 1.0:  # nothing finer than a pixel
            break
    mean, deviation = (float(v[0, 0]) for v in cv2.meanStdDev(total))
    return field((total - np.float32(mean)) * np.float32(1 / (deviation + 1e-6)))


def oriented(
    rng: Generator,
    shape: Shape,
    cell: float,
    *,
    stretch: float,
    angle: float,
    octaves: int = 3,
    gain: float = 0.6,
) -> Field:
    """Fractal noise stretched along a direction: brush marks, fibres, wood grain.

    Args:
        rng: Draws it.
        shape: (H, W) in pixels.
        cell: As in `fractal`.
        stretch: Likewise, along the direction.
        angle: Of the direction, radians.
        octaves: As in `fractal`.
        gain: Likewise.
    """
    height, width = shape
    side = int(np.hypot(height, width)) + 2
    cell_on_canvas = cell * pixels_per_unit(shape) * REFERENCE_SIZE / side
    canvas = fractal(rng, (side, side), cell_on_canvas, stretch=stretch, octaves=octaves, gain=gain)
    turn = np.asarray(cv2.getRotationMatrix2D((side / 2, side / 2), -np.degrees(angle), 1.0), np.float64)
    turn[:, 2] += np.array([width - side, height - side]) / 2
    return field(cv2.warpAffine(canvas, turn, (width, height), flags=cv2.INTER_LINEAR))


def grain(rng: Generator, shape: Shape) -> Field:
    """White noise (H, W), deviation 1: the finest roughness a camera resolves."""
    return rng.standard_normal(shape, dtype=np.float32)


def cells(rng: Generator, shape: Shape, cell: float) -> tuple[Field, NDArray[np.int32]]:
    """Voronoi cells.

    Args:
        rng: Draws them.
        shape: (H, W) in pixels.
        cell: About so wide each is, reference pixels.

    Returns:
        Distance to the border, reference pixels, and cell numbers, both (H, W).
    """
    height, width = shape
    step = max(cell * pixels_per_unit(shape), 2.0)
    rows, columns = int(height / step) + 1, int(width / step) + 1
    y, x = np.mgrid[0:rows, 0:columns] + rng.uniform(0.05, 0.95, (2, rows, columns))
    free = np.full(shape, 255, np.uint8)
    free[np.clip(y * step, 0, height - 1).astype(int), np.clip(x * step, 0, width - 1).astype(int)] = 0
    _, labels = cv2.distanceTransformWithLabels(free, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    numbers = np.asarray(labels, np.int32)
    inside = np.ones(shape, np.uint8)
    inside[:, 1:] &= numbers[:, 1:] == numbers[:, :-1]
    inside[1:] &= numbers[1:] == numbers[:-1]
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 5)
    return field(distance / pixels_per_unit(shape)), numbers


# --- coordinates and shapes


@dataclass(frozen=True)
class Plane:
    """Coordinates of every pixel in an object's own frame, in reference pixels from its centre.

    Attributes:
        x: (H, W).
        y: (H, W).
        unit: Image pixels per reference pixel.
    """

    x: Field
    y: Field
    unit: float  # image pixels per reference pixel

    def cover(self, distance: Field) -> Field:
        """Turn a signed distance (negative inside) into anti-aliased coverage 0..1."""
        return field(np.clip(0.5 - distance * self.unit, 0, 1))


def plane(shape: Shape, *, shift: tuple[float, float] = (0.0, 0.0), angle: float = 0.0) -> Plane:
    """Coordinates of an object.

    Args:
        shape: The image's (H, W).
        shift: Where its centre lies from the image's, (x, y) in reference pixels.
        angle: By which it's turned, radians.
    """
    unit = pixels_per_unit(shape)
    y = (np.arange(shape[0], dtype=np.float32)[:, None] + 0.5 - shape[0] / 2) / np.float32(unit) - np.float32(shift[1])
    x = (np.arange(shape[1], dtype=np.float32)[None, :] + 0.5 - shape[1] / 2) / np.float32(unit) - np.float32(shift[0])
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return Plane(field(x * cos + y * sin), field(y * cos - x * sin), unit)


def circle(x: Field, y: Field, radius: float) -> Field:
    """Signed distance to a circle round the origin."""
    return field(np.sqrt(x * x + y * y) - np.float32(radius))


def box(x: Field, y: Field, half_width: float, half_height: float, corner: float = 0.0) -> Field:
    """Signed distance to a rectangle round the origin.

    Args:
        x: Coordinates, reference pixels.
        y: Likewise.
        half_width: Of the rectangle.
        half_height: Likewise.
        corner: Radius of its corners.

    Example:
        >>> box(field([0.0, 5.0]), field([0.0, 0.0]), 3.0, 2.0).tolist()
        [-2.0, 2.0]
    """
    dx = np.abs(x) - np.float32(half_width - corner)
    dy = np.abs(y) - np.float32(half_height - corner)
    outside = np.sqrt(np.maximum(dx, 0) ** 2 + np.maximum(dy, 0) ** 2)
    return field(outside + np.minimum(np.maximum(dx, dy), 0) - np.float32(corner))


def hexagon(x: Field, y: Field, radius: float) -> Field:
    """Signed distance (exact inside) to a regular hexagon whose flat sides lie `radius` from the origin."""
    ax, ay = np.abs(x), np.abs(y)
    return field(np.maximum(ax, ax * np.float32(0.5) + ay * np.float32(np.sqrt(0.75))) - np.float32(radius))


def dome(distance: Field, width: float) -> Field:
    """Quarter-circle edge profile: 0 at the outline, 1 from `width` inside it."""
    t = np.clip(1 + distance / np.float32(width), 0, 1)
    return field(np.sqrt(1 - t * t))


# --- colours


def rgb(red: float, green: float, blue: float) -> Field:
    """Linear colour (3,) of a display colour 0..1 (gamma 2, as the camera's tone curve)."""
    return field([red**2, green**2, blue**2])


def hsv(hue: float, saturation: float, value: float) -> Field:
    """Linear colour (3,) of a display colour.

    Args:
        hue: 0..1, wraps.
        saturation: 0..1.
        value: 0..1.
    """
    return rgb(*colorsys.hsv_to_rgb(hue % 1.0, saturation, value))


def paint(shape: Shape, colour: Field) -> Field:
    """Albedo (H, W, 3) of one colour."""
    return stack([np.full(shape, c, np.float32) for c in colour])


def tinted(colour: Field, pattern: Field) -> Field:
    """Albedo (H, W, 3): one colour whose brightness is multiplied by `pattern` (H, W), kept within 0..1."""
    return stack([np.clip(pattern * c, 0, 1) for c in colour])


def scaled(albedo: Field, factor: Field) -> Field:
    """Albedo (H, W, 3) with its brightness multiplied by `factor` (H, W), kept within 0..1."""
    return field(np.clip(albedo * stack([factor] * 3), 0, 1))


def pigment(style: Generator, *, vivid: float = 0.6, dark: float = 0.25, light: float = 0.85) -> Field:
    """A colour that products have: mostly muted; strong green and magenta are rare."""
    hue, saturation = style.uniform(), vivid * style.uniform() ** 1.3
    if 0.18 < hue < 0.48 or 0.72 < hue < 0.95:
        saturation *= 0.55
    return hsv(hue, saturation, style.uniform(dark, light))

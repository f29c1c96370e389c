"""Where defects lie and which shape they have: sites on a material, blobs, paths and strokes.

Lengths in reference pixels unless said otherwise.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from sowa.synthetic.fields import Field, Mask, Shape, field, fractal, smoothstep
from sowa.synthetic.material import Material


def distance_inside(mask: Mask, unit: float) -> Field:
    """Distance (H, W) to the nearest False pixel in reference pixels.

    Args:
        mask: (H, W) bool.
        unit: Image pixels per reference pixel.
    """
    distance = np.minimum(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5), sum(mask.shape))
    return field(distance / unit)


def pick(rng: Generator, where: Mask, fallback: Mask) -> tuple[int, int]:
    """A random True pixel (row, column), away from the image's border if possible.

    Args:
        rng: Draws it.
        where: (H, W) bool.
        fallback: Where ``where`` has none, (H, W) bool.
    """
    inner = np.zeros_like(where)
    border_y, border_x = where.shape[0] // 10, where.shape[1] // 10
    inner[border_y:-border_y, border_x:-border_x] = True
    for candidates in (where & inner, where, fallback & inner, fallback):
        places = np.flatnonzero(candidates)
        if places.size:
            row, column = divmod(int(places[rng.integers(places.size)]), where.shape[1])
            return row, column
    return where.shape[0] // 2, where.shape[1] // 2


def site(material: Material, rng: Generator, margin: float) -> tuple[int, int]:
    """A pixel (row, column) on the material.

    Args:
        material: The scene.
        rng: Draws it.
        margin: From its outline if there is such a pixel, at least so far, reference pixels.
    """
    deep = distance_inside(material.region, material.unit) > margin
    return pick(rng, deep, material.region)


def rim(material: Material, rng: Generator) -> tuple[int, int]:
    """A pixel just inside the outline between the material and what lies below it."""
    depth = distance_inside(material.region, material.unit)
    return pick(rng, (depth > 0) & (depth < max(2.0, 1.5 / material.unit)), material.region)


def blob(
    material: Material,
    rng: Generator,
    centre: tuple[int, int],
    radius: float,
    *,
    rough: float = 0.25,
    soft: float = 0.15,
) -> Field:
    """Irregular soft-edged patch, (H, W) in 0..1.

    Args:
        material: The scene.
        rng: Draws it.
        centre: (row, column).
        radius: In reference pixels.
        rough: How irregular, in parts of the radius.
        soft: Width of its edge, likewise.
    """
    aspect, angle = rng.uniform(0.6, 1.0), rng.uniform(0, np.pi)
    size = max(radius * material.unit, 1.5)
    y = np.arange(material.shape[0], dtype=np.float32)[:, None] - np.float32(centre[0])
    x = np.arange(material.shape[1], dtype=np.float32)[None, :] - np.float32(centre[1])
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along, across = x * cos + y * sin, (y * cos - x * sin) / np.float32(aspect)
    distance = np.sqrt(along * along + across * across) / np.float32(size)
    ragged = fractal(rng, material.shape, radius * 0.9, octaves=4, gain=0.55)
    return smoothstep(1 + soft, 1 - soft, field(distance + np.float32(rough) * ragged))


def walk(rng: Generator, centre: tuple[int, int], length: float, angle: float, wander: float, kinks: int) -> Field:
    """A path (N, 2) of (x, y) pixels through a pixel: its heading drifts, or breaks.

    Args:
        rng: Draws it.
        centre: (row, column) that it goes through.
        length: In pixels.
        angle: At the start, radians.
        wander: Standard deviation of its turns, radians.
        kinks: About how often it breaks; 0 for drifting.
    """
    steps = max(int(length / 2), 8)
    turns = rng.normal(0, wander, steps)
    if kinks:
        turns = np.where(rng.uniform(size=steps) < kinks / steps, rng.normal(0, 0.7, steps), 0.8 * turns)
        heading = angle + np.cumsum(turns) * 0.5 + turns
    else:
        heading = angle + np.cumsum(np.cumsum(turns)) * (2.0 / steps)
    path = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1) * (length / steps), axis=0)
    middle = path[steps // 2]
    return field(path - middle + np.array([centre[1], centre[0]]))


def stroke(shape: Shape, path: Field, width: float, *, taper: bool = True) -> Field:
    """Draw a path as a soft line, (H, W) in 0..1.

    Args:
        shape: (H, W) in pixels.
        path: (N, 2) as of `walk`.
        width: In pixels.
        taper: Whether it's thinner to its ends.
    """
    over = 3  # drawn three times finer, so that lines thinner than a pixel fade instead of breaking up
    x0, y0 = np.clip(np.floor(path.min(0) - width - 2), 0, None).astype(int)
    x1, y1 = np.minimum(np.ceil(path.max(0) + width + 3), (shape[1], shape[0])).astype(int)
    full = np.zeros(shape, np.float32)
    if x1 <= x0 or y1 <= y0:
        return full
    canvas = np.zeros(((y1 - y0) * over, (x1 - x0) * over), np.uint8)
    points = np.round((path - (x0, y0) + 0.5) * over * 16).astype(np.int32)
    pieces = min(12, len(points)) if taper else 1
    for index, piece in enumerate(np.array_split(np.arange(len(points)), pieces)):
        profile = np.sin(np.pi * (index + 0.6) / (pieces + 0.2)) ** 0.6 if taper else 1.0
        joined = points[piece[0] : piece[-1] + 2]
        thickness = max(1, round(width * over * profile))
        cv2.polylines(canvas, [joined], False, 255, thickness, cv2.LINE_AA, shift=4)
    small = cv2.resize(canvas, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    full[y0:y1, x0:x1] = field(small) / np.float32(255)
    return full

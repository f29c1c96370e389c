"""Scenes of coloured things of two sizes on surfaces, with boxes: to learn, and to test, what words mean.

Every thing is called "<size> <colour> <kind>", such as "big red star". Some pairs of colour and kind can be kept out of
the training images, so that a test on them asks for what was never shown.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sowa.core.files import write_bytes
from sowa.errors import InputError
from sowa.synthetic.fields import Field, field
from sowa.synthetic.generator import generate
from sowa.synthetic.surfaces import TEXTURES

Image = NDArray[np.uint8]
Progress = Callable[[int, int], None]

# Hue in degrees and how far it wanders, then ranges of saturation and value.
COLOURS: dict[str, tuple[float, float, tuple[float, float], tuple[float, float]]] = {
    "red": (0, 7, (0.8, 1.0), (0.65, 0.95)),
    "orange": (26, 5, (0.85, 1.0), (0.85, 1.0)),
    "yellow": (54, 5, (0.8, 1.0), (0.85, 1.0)),
    "green": (125, 20, (0.6, 1.0), (0.4, 0.8)),
    "blue": (222, 12, (0.7, 1.0), (0.5, 0.95)),
    "purple": (282, 10, (0.5, 0.9), (0.4, 0.8)),
    "pink": (333, 8, (0.35, 0.6), (0.9, 1.0)),
    "white": (0, 180, (0.0, 0.05), (0.92, 1.0)),
    "black": (0, 180, (0.0, 0.3), (0.03, 0.12)),
}
SIZES = {"small": (0.09, 0.15), "big": (0.26, 0.4)}  # longer side in parts of the image's
MOST, TRIES = 6, 40  # things in a scene, and tries to find a place for one
APART = 0.02  # of the image, between two things
SMOOTH = 4  # a shape is drawn so many times as large and shrunk


@dataclass(frozen=True)
class Scene:
    """An image of several things.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        boxes: x1, y1, x2, y2 of each, in pixels.
        labels: What each is called.
    """

    image: Image
    boxes: tuple[tuple[float, float, float, float], ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Inventory:
    """What scenes are made of.

    Attributes:
        cutouts: RGBA images by the name of their kind, beside the `SHAPES`.
        surfaces: RGB images to lay things on; generated ones by default.
    """

    cutouts: Mapping[str, Sequence[Image]]
    surfaces: Sequence[Image] = ()

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of all kinds of things."""
        return (*SHAPES, *sorted(self.cutouts))


def _polygon(angles: NDArray[np.float64], radii: Any) -> NDArray[np.float64]:
    return np.stack([np.cos(angles) * radii, np.sin(angles) * radii], axis=1)


def _regular(corners: int) -> NDArray[np.float64]:
    return _polygon(np.arange(corners) * 2 * np.pi / corners, np.ones(corners))


def _cross() -> NDArray[np.float64]:
    x = (0.32, 0.32, 1, 1, 0.32, 0.32, -0.32, -0.32, -1, -1, -0.32, -0.32)
    return np.stack([np.array(x), np.roll(x, 3)], axis=1)


SHAPES: dict[str, NDArray[np.float64]] = {
    "circle": _regular(64),
    "square": _regular(4),
    "triangle": _regular(3),
    "hexagon": _regular(6),
    "star": _polygon(np.arange(10) * np.pi / 5, [1, 0.42] * 5),
    "cross": _cross(),
    "ring": _regular(64),
}
HOLLOW = 0.58  # inner radius of a ring


def compose(
    inventory: Inventory,
    seed: int,
    size: int = 384,
    unseen: Sequence[tuple[str, str]] = (),
    only_unseen: bool = False,
) -> Scene:
    """One scene.

    Args:
        inventory: What it's made of.
        seed: That draws it.
        size: Pixels a side.
        unseen: Pairs of colour and kind, none of which is shown.
        only_unseen: At least one of them is shown instead, and nothing but known kinds and colours around it.

    Raises:
        InputError: no pair is left to choose from.
    """
    random = np.random.default_rng([seed, 77])
    image = _surface(inventory, random, size).copy()
    pairs = [(colour, kind) for colour in COLOURS for kind in inventory.kinds]
    known = [pair for pair in pairs if pair not in set(unseen)]
    if not known or (only_unseen and not unseen):
        raise InputError(
            f"{len(unseen)} of {len(pairs)} pairs of colour and kind are kept out; leave some on each side"
        )
    boxes: list[tuple[float, float, float, float]] = []
    labels: list[str] = []
    for place in range(int(random.integers(2, MOST + 1))):
        choices = list(unseen) if only_unseen and (place == 0 or random.random() < 0.3) else known
        colour, kind = choices[int(random.integers(len(choices)))]
        named = str(random.choice(list(SIZES)))
        thing = _thing(inventory, kind, colour, round(size * random.uniform(*SIZES[named])), random)
        spot = _free_spot(thing.shape[:2], size, boxes, random)
        if spot is not None:
            boxes.append(_lay(image, thing, spot))
            labels.append(f"{named} {colour} {kind}")
    return Scene(image, tuple(boxes), tuple(labels))


def write_scenes(
    root: str | os.PathLike[str],
    inventory: Inventory,
    counts: Mapping[str, int],
    *,
    size: int = 384,
    seed: int = 0,
    unseen: Sequence[tuple[str, str]] = (),
    progress: Progress | None = None,
) -> Path:
    """Writes ``root``/<split>/*.png and ``root``/annotations/<split>.json as COCO has them.

    Args:
        root: The folder.
        inventory: What scenes are made of.
        counts: Scenes of each split.
        size: Pixels a side.
        seed: That draws them.
        unseen: Pairs of colour and kind that scenes of the split "test" show and the others never do.
        progress: Called with (images written, images in all) after each one.

    Raises:
        InputError: as `compose` says.
    """
    folder, done = Path(root), 0
    total = sum(counts.values())
    for number, (split, count) in enumerate(counts.items()):
        scenes: list[tuple[str, Scene]] = []
        for index in range(count):
            name = f"{index:05d}.png"
            made = compose(inventory, seed + 1_000_000 * number + index, size, unseen, split == "test" and bool(unseen))
            _, code = cv2.imencode(".png", made.image[..., ::-1])
            write_bytes(folder / split / name, code.tobytes())
            scenes.append((name, made))
            done += 1
            if progress is not None:
                progress(done, total)
        content = json.dumps(_coco(scenes)).encode()
        write_bytes(folder / "annotations" / f"{split}.json", content)
    return folder


def _coco(scenes: Sequence[tuple[str, Scene]]) -> dict[str, object]:
    names = sorted({label for _, scene in scenes for label in scene.labels})
    images, annotations = list[dict[str, Any]](), list[dict[str, Any]]()
    for number, (name, scene) in enumerate(scenes):
        height, width = scene.image.shape[:2]
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        for (x1, y1, x2, y2), label in zip(scene.boxes, scene.labels, strict=True):
            box = [x1, y1, x2 - x1, y2 - y1]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": names.index(label) + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _surface(inventory: Inventory, random: Generator, size: int) -> Image:
    if inventory.surfaces:
        chosen = inventory.surfaces[int(random.integers(len(inventory.surfaces)))]
        if random.random() < 0.5:
            chosen = chosen[:, ::-1]
        return np.asarray(cv2.resize(chosen, (size, size), interpolation=cv2.INTER_CUBIC), np.uint8)
    category = str(random.choice(sorted(TEXTURES)))
    return generate(category, size=size, seed=int(random.integers(2**31)), style_seed=int(random.integers(2**31))).image


def _thing(inventory: Inventory, kind: str, colour: str, side: int, random: Generator) -> Image:
    """RGBA, cut to what can be seen of it, its longer side ``side`` pixels."""
    if kind in SHAPES:
        alpha = _shape(kind, side, random)
        above, below = random.uniform(0.85, 1.0, 2)
        light = field(np.linspace(above, below, side)[:, None] * np.ones((1, side)))
    else:
        alpha, light = _photograph(inventory.cutouts[kind], side, random)
    rows, columns = (np.flatnonzero(alpha.max(axis=axis) > 0.5) for axis in (1, 0))
    cut = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    painted = _paint(colour, light[cut], random)
    return np.concatenate([painted, np.round(alpha[cut] * 255).astype(np.uint8)[..., None]], axis=2)


def _photograph(cutouts: Sequence[Image], side: int, random: Generator) -> tuple[Field, Field]:
    """How opaque and how light one of the cut-outs is, its colours left out."""
    cutout = cutouts[int(random.integers(len(cutouts)))]
    if random.random() < 0.5:
        cutout = cutout[:, ::-1]
    scale = side / max(cutout.shape[:2])
    sides = [max(4, round(length * scale)) for length in cutout.shape[1::-1]]
    small = field(cv2.resize(cutout, sides, interpolation=cv2.INTER_AREA)) / 255
    grey = cv2.cvtColor(small[..., :3], cv2.COLOR_RGB2GRAY)
    return field(small[..., 3]), field(0.35 + 0.65 * grey)


def _shape(kind: str, side: int, random: Generator) -> Field:
    large = side * SMOOTH
    turn = random.uniform(0, 2 * np.pi)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = SHAPES[kind] @ matrix.T
    points = points / np.abs(points).max()
    canvas = np.zeros((large, large), np.uint8)
    cv2.fillPoly(canvas, [np.round((points + 1) / 2 * (large - 1)).astype(np.int32)], 255)
    if kind == "ring":
        cv2.circle(canvas, (large // 2, large // 2), round(HOLLOW * large / 2), 0, -1)
    return field(cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA) / 255)


def _paint(colour: str, light: Field, random: Generator) -> Image:
    hue, wander, saturations, values = COLOURS[colour]
    hsv = np.empty((*light.shape, 3), np.float32)
    hsv[..., 0] = (hue + random.uniform(-wander, wander)) % 360
    hsv[..., 1] = random.uniform(*saturations)
    hsv[..., 2] = random.uniform(*values) * light
    return np.clip(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255, 0, 255).astype(np.uint8)


def _free_spot(
    shape: tuple[int, ...], size: int, boxes: Sequence[tuple[float, float, float, float]], random: Generator
) -> tuple[int, int] | None:
    """Top left corner where nothing lies yet, None where there is no room."""
    height, width = shape[:2]
    gap = APART * size
    for _ in range(TRIES):
        top, left = int(random.integers(0, size - height + 1)), int(random.integers(0, size - width + 1))
        if all(
            left > x2 + gap or left + width < x1 - gap or top > y2 + gap or top + height < y1 - gap
            for x1, y1, x2, y2 in boxes
        ):
            return top, left
    return None


def _lay(image: Image, thing: Image, spot: tuple[int, int]) -> tuple[float, float, float, float]:
    """Lays a thing into the image in place; returns its box."""
    (top, left), (height, width) = spot, thing.shape[:2]
    part = image[top : top + height, left : left + width]
    alpha = thing[..., 3:].astype(np.float32) / 255
    part[:] = np.round(part * (1 - alpha) + thing[..., :3] * alpha).astype(np.uint8)
    return float(left), float(top), float(left + width), float(top + height)

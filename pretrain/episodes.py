"""Few-shot tasks made up for training: references, normal and defective images of a product, with exact masks.

A product is one of ``sowa.synthetic``, a surface laid out from a photograph, or a photograph of an object taken again
and again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sowa.data import read_image
from sowa.synthetic import CATEGORIES, DAMAGE_TYPES, damage, defect_types, generate

Image = NDArray[np.uint8]
Masks = NDArray[np.bool_]
Take = Callable[[Generator], Image]

SIZE = 384
REFERENCES, NORMALS, DEFECTIVE = 4, 2, 4
KINDS = {"product": 0.5, "surface": 0.2, "object": 0.3}
TRANSPLANT = "transplant"  # a piece of another image: the defect that no list foresees


@dataclass(frozen=True)
class Episode:
    """``images`` (N, SIZE, SIZE, 3): the references, then normal images, then defective ones with their ``masks``."""

    images: Image
    masks: Masks
    types: tuple[str, ...]  # of the defective images
    kind: str


def images_of(corpus: Path, data: Path, hold_out: Sequence[str]) -> dict[str, list[Path]]:
    """Photographs of objects, without the categories held out, and of surfaces: those whose licence lets a business use
    what was trained on them (Caltech-101, CC BY; ball screws, CC BY-SA; DeepPCB's templates, MIT)."""
    folders = [folder for folder in sorted((corpus / "objects").iterdir()) if folder.name not in hold_out]
    return {
        "objects": [path for folder in folders for path in sorted(folder.glob("image_*.jpg"))],
        "surfaces": sorted((data / "auxiliary" / "ballscrew" / "images").iterdir())
        + sorted((data / "deeppcb").rglob("*_temp.jpg")),
    }


def episode(originals: dict[str, list[Path]], seed: int) -> Episode:
    """The task of that seed; the same seed and images give the same bits."""
    rng = np.random.default_rng([seed, 7])
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    if kind == "product":
        images, masks, types = _product(rng)
    else:
        photographs = originals["objects"] + originals["surfaces"]
        take = _surface(photographs, rng) if kind == "surface" else _object(originals["objects"], rng)
        images, masks, types = _damaged(take, photographs, rng)
    return Episode(_develop(images, rng), masks, types, kind)


def _product(rng: Generator) -> tuple[Image, Masks, tuple[str, ...]]:
    category, style = str(rng.choice(CATEGORIES)), int(rng.integers(1 << 20))
    types = tuple(str(name) for name in rng.choice(defect_types(category), DEFECTIVE))
    pieces: list[str | None] = [*[None] * (REFERENCES + NORMALS), *types]
    made = [
        generate(category, size=SIZE, seed=piece, style_seed=style, defect_type=name, severity=_severity(rng))
        for piece, name in enumerate(pieces)
    ]
    return np.stack([one.image for one in made]), np.stack([one.mask for one in made]), types


def _severity(rng: Generator) -> float:
    return float(rng.uniform(0, 1) ** 1.5)  # most defects are small


def _surface(photographs: Sequence[Path], rng: Generator) -> Take:
    """Another stretch of an endless surface every time: a photograph, mirrored over and over."""
    zoom = rng.uniform(0.9, 2.0)
    tile = _zoomed(_pick(photographs, rng), zoom)
    turn, free = rng.uniform(0, 360), rng.uniform() < 0.25
    margin = round(SIZE * 0.75)
    canvas = np.pad(tile, ((0, 2 * SIZE), (0, 2 * SIZE), (0, 0)), mode="symmetric")
    canvas = np.pad(canvas, ((margin, margin), (margin, margin), (0, 0)), mode="symmetric")

    def take(rng: Generator) -> Image:
        angle = rng.uniform(0, 360) if free else turn + rng.normal(0, 1)
        x, y = rng.uniform(margin + SIZE / 2, margin + 2 * SIZE, 2)
        return _window(canvas, float(x), float(y), float(angle), 1.0)

    return take


def _object(objects: Sequence[Path], rng: Generator) -> Take:
    """One photograph, laid down a little differently each time; one in three is turned any way round."""
    image = cv2.resize(_pick(objects, rng), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    free, shake = rng.uniform() < 0.33, rng.uniform(0, 8)
    margin = SIZE // 2
    canvas = np.pad(np.asarray(image, np.uint8), ((margin, margin), (margin, margin), (0, 0)), mode="symmetric")

    def take(rng: Generator) -> Image:
        angle = rng.uniform(0, 360) if free else rng.normal(0, 1.5)
        x, y = SIZE + rng.normal(0, shake, 2)
        return _window(canvas, float(x), float(y), float(angle), float(rng.normal(1, 0.01)))

    return take


def _pick(paths: Sequence[Path], rng: Generator) -> Image:
    return read_image(paths[int(rng.integers(len(paths)))])


def _zoomed(image: Image, zoom: float) -> Image:
    return np.asarray(cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC), np.uint8)


def _window(canvas: Image, x: float, y: float, angle: float, zoom: float) -> Image:
    """SIZE x SIZE pixels of the canvas round (x, y), turned by ``angle`` degrees."""
    matrix = np.asarray(cv2.getRotationMatrix2D((x, y), angle, zoom), np.float64)
    matrix[:, 2] += SIZE / 2 - np.array([x, y])
    cut = cv2.warpAffine(canvas, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(cut, np.uint8)


def _damaged(take: Take, donors: Sequence[Path], rng: Generator) -> tuple[Image, Masks, tuple[str, ...]]:
    types = tuple(str(name) for name in rng.choice([*DAMAGE_TYPES, TRANSPLANT, TRANSPLANT], DEFECTIVE))
    images = [take(rng) for _ in range(REFERENCES + NORMALS)]
    masks = [np.zeros((SIZE, SIZE), np.bool_) for _ in images]
    for name in types:
        clean = take(rng)
        if name == TRANSPLANT:
            image, mask = _transplanted(clean, _pick(donors, rng), rng)
        else:
            made = damage(clean, name, seed=int(rng.integers(1 << 31)), severity=_severity(rng))
            image, mask = made.image, made.mask
        images.append(image)
        masks.append(mask)
    return np.stack(images), np.stack(masks), types


def _transplanted(image: Image, donor: Image, rng: Generator) -> tuple[Image, Masks]:
    """A blob of another image, more or less see-through."""
    donor = np.asarray(cv2.resize(donor, (SIZE, SIZE)), np.uint8)
    grain = cv2.resize(rng.normal(size=(24, 24)).astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    x, y, radius = *rng.uniform(0.1 * SIZE, 0.9 * SIZE, 2), SIZE * rng.uniform(0.02, 0.12)
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    distance = np.hypot((columns - x) * rng.uniform(0.5, 1), rows - y) / radius
    inside = (distance + 0.35 * grain < 1).astype(np.float32)
    alpha = cv2.GaussianBlur(inside, (0, 0), 1.0)[..., None] * rng.uniform(0.35, 1)
    mixed = np.round(image + alpha * (donor.astype(np.float32) - image)).clip(0, 255).astype(np.uint8)
    changed = np.abs(mixed.astype(np.int16) - image).max(-1) > 12
    mask = cv2.morphologyEx(changed.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)) > 0
    return mixed, np.asarray(mask & (inside > 0), np.bool_)


def _develop(images: Image, rng: Generator) -> Image:
    """Half of the products are taken without colour; exposure, focus and noise differ from image to image."""
    grey, gamma, noise = rng.uniform() < 0.5, rng.uniform(0.7, 1.4), rng.uniform(0, 5)
    developed = []
    for image in images:
        shown: NDArray[np.float32] = image.astype(np.float32)
        if grey:
            shown = np.repeat(shown @ np.array([[0.3], [0.59], [0.11]], np.float32), 3, axis=2)
        if rng.uniform() < 0.3:
            shown = np.asarray(cv2.GaussianBlur(shown, (0, 0), rng.uniform(0.3, 0.8)), np.float32)
        exposed: NDArray[np.float64] = 255 * (shown / 255).clip(0, 1) ** gamma * rng.normal(1, 0.03) + rng.normal(0, 2)
        noisy = exposed + noise * rng.standard_normal((SIZE, SIZE, 1 if grey else 3), dtype=np.float32)
        developed.append(noisy.clip(0, 255).astype(np.uint8))
    return np.stack(developed)

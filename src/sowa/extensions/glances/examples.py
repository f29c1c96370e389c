"""Generated large images with small defects: what the policy learns on and is measured on.

Shapes: H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sowa.detector.detector import Sowa
from sowa.extensions.glances.eyes import Eyes, Image
from sowa.extensions.glances.known import Known, Seen
from sowa.extensions.glances.scene import Mask, Scene
from sowa.synthetic import DAMAGE_TYPES, damage, defect_types, generate

REFERENCES = 4
KEEP = 0.25  # of the references' patches; searching all of them takes longer than encoding
SEVERITIES = (0.0, 0.1)  # of a category's own defects
PART = 384  # pixels: a small defect is as large as the category's own in an image of this size
FIRST = 1000  # piece that is judged; references come before


@dataclass(frozen=True)
class Product:
    """A product line, its images' size (H, W), and how many normal and anomalous images of it are judged. ``own``
    has every second defect be one of the category's own, which an overview shows well; the others are smaller."""

    category: str
    style: int
    size: tuple[int, int]
    normal: int
    anomalous: int
    own: bool = True

    @property
    def name(self) -> str:
        """Of the product and its files."""
        images = f"{self.normal}+{self.anomalous}"
        return f"{self.category}-{self.style}-{self.size[0]}x{self.size[1]}-{images}"

    def reference(self, index: int) -> Image:
        """A normal image (H, W, 3) uint8."""
        return generate(self.category, size=self.size, seed=index, style_seed=self.style).image

    def image(self, index: int) -> tuple[Image, Mask | None]:
        """An image (H, W, 3) uint8 and its mask (H, W), None for normal ones, which are first."""
        piece, bad = FIRST + index, index - self.normal
        if bad < 0:
            return self.reference(piece), None
        if bad % 2 or not self.own:
            return small_defect(self.reference(piece), self.style + piece)
        kinds, severity = defect_types(self.category), SEVERITIES[bad // 2 % 2]
        kind = kinds[bad // 2 % len(kinds)]
        made = generate(
            self.category, defect_type=kind, size=self.size, seed=piece, style_seed=self.style, severity=severity
        )
        return made.image, made.mask

    def scenes(self, folder: Path, backbone: str = "mini") -> list[Scene]:
        """Of all its images; those that ``folder`` holds already are read, the others made and kept."""
        paths = [folder / self.name / f"{index:03d}.safetensors" for index in range(self.normal + self.anomalous)]
        missing = [index for index, path in enumerate(paths) if not path.exists()]
        if missing:
            eyes = Eyes(Sowa.from_pretrained(backbone, image_size=self.size, tiled=True))
            known = Known.learn(eyes, [self.reference(index) for index in range(REFERENCES)], keep=KEEP)
        for index in missing:
            image, mask = self.image(index)
            Scene.of(known, Seen.of(eyes, image), mask).save(paths[index])
        return [Scene.load(path) for path in paths]


def small_defect(image: Image, seed: int) -> tuple[Image, Mask]:
    """An image (H, W, 3) uint8 with a generated defect on a part of it, and its mask (H, W)."""
    rng = np.random.default_rng(seed)
    side = min(PART, *image.shape[:2])
    top, left = (int(rng.integers(0, length - side + 1)) for length in image.shape[:2])
    part = np.s_[top : top + side, left : left + side]
    kind = DAMAGE_TYPES[int(rng.integers(len(DAMAGE_TYPES)))]
    made = damage(image[part], kind, seed=seed, severity=float(rng.uniform(0.1, 0.5)))
    whole, mask = image.copy(), np.zeros(image.shape[:2], bool)
    whole[part], mask[part] = made.image, made.mask
    return whole, mask

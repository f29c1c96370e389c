"""Generated large images with defects so small that they need full resolution.

Shapes: H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sowa.synthetic.damage import DAMAGE_TYPES, damage
from sowa.synthetic.generator import defect_types, generate

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

SEVERITIES = (0.0, 0.1)  # of a category's own defects
PART = 384  # pixels: a small defect is as large as the category's own in an image of this size
FIRST_TEST_PIECE = 1000  # references are pieces before


@dataclass(frozen=True)
class ProductLine:
    """Images of a product that differ by their number.

    Attributes:
        category: one of `sowa.synthetic.CATEGORIES`.
        style_seed: draws the product.
        size: (H, W) of its images.
        normal: number of normal test images.
        anomalous: number of anomalous test images.
        own_defects: whether every second defect is one of the category's own, which show at low resolution too; the
            others are small.
    """

    category: str
    style_seed: int
    size: tuple[int, int]
    normal: int
    anomalous: int
    own_defects: bool = True

    @property
    def name(self) -> str:
        """A name for files."""
        images = f"{self.normal}+{self.anomalous}"
        return f"{self.category}-{self.style_seed}-{self.size[0]}x{self.size[1]}-{images}"

    def __len__(self) -> int:
        return self.normal + self.anomalous

    def reference(self, index: int) -> Image:
        """A normal image, (H, W, 3) uint8."""
        return generate(self.category, size=self.size, seed=index, style_seed=self.style_seed).image

    def image(self, index: int) -> tuple[Image, Mask | None]:
        """A test image, (H, W, 3) uint8, and its mask, (H, W), None for the normal ones, which are first."""
        piece, number = FIRST_TEST_PIECE + index, index - self.normal
        if number < 0:
            return self.reference(piece), None
        if number % 2 or not self.own_defects:
            return with_small_defect(self.reference(piece), self.style_seed + piece)
        types, severity = defect_types(self.category), SEVERITIES[number // 2 % 2]
        made = generate(
            self.category,
            defect_type=types[number // 2 % len(types)],
            size=self.size,
            seed=piece,
            style_seed=self.style_seed,
            severity=severity,
        )
        return made.image, made.mask


def with_small_defect(image: Image, seed: int) -> tuple[Image, Mask]:
    """An image with a generated defect on a part of at most `PART` pixels, and its mask (H, W) bool.

    Args:
        image: (H, W, 3) uint8 RGB.
        seed: Draws the part and the defect.
    """
    rng = np.random.default_rng(seed)
    side = min(PART, *image.shape[:2])
    top, left = (int(rng.integers(0, length - side + 1)) for length in image.shape[:2])
    part = np.s_[top : top + side, left : left + side]
    defect_type = DAMAGE_TYPES[int(rng.integers(len(DAMAGE_TYPES)))]
    made = damage(image[part], defect_type, seed=seed, severity=float(rng.uniform(0.1, 0.5)))
    whole, mask = image.copy(), np.zeros(image.shape[:2], bool)
    whole[part], mask[part] = made.image, made.mask
    return whole, mask

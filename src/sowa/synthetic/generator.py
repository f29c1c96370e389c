"""From a category and a seed to an image with its mask."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator, SeedSequence
from numpy.typing import NDArray

from sowa.errors import InputError
from sowa.synthetic.board import printed_board
from sowa.synthetic.camera import Camera, draw_camera, expose, gain, illuminate, sense
from sowa.synthetic.defects import DEFECTS
from sowa.synthetic.fields import Field, Mask, Shape, blur, field, pixels_per_unit
from sowa.synthetic.material import Material, Scene
from sowa.synthetic.parts import PARTS
from sowa.synthetic.surfaces import TEXTURES
from sowa.synthetic.trays import TRAYS

SURFACES = {**TEXTURES, **PARTS, **TRAYS, "printed_board": printed_board}

CATEGORIES: tuple[str, ...] = tuple(SURFACES)
"""Every category: the textures first, then the objects."""

DEFECT_TYPES: tuple[str, ...] = tuple(DEFECTS)
"""Every defect type; `defect_types(category)` says which of them a category can have."""

SMALLEST_SIZE = 64
VISIBLE = 0.05  # difference of displayed brightness (0..1) that counts as defective
FEWEST_PIXELS = 12
LARGEST_SHARE = 0.5  # of the image that a defect may cover

_ANYWHERE = ("scratch", "stain", "contamination", "discoloration")
_DEFECTS_OF: dict[str, tuple[str, ...]] = {
    "brushed_metal": (*_ANYWHERE, "dent", "hole", "corrosion"),
    "woven_fabric": ("stain", "contamination", "discoloration", "hole", "distortion"),
    "carbon_fibre": (*_ANYWHERE, "crack", "hole", "distortion"),
    "ceramic_tile": (*_ANYWHERE, "crack", "chip", "hole"),
    "wood": (*_ANYWHERE, "crack", "hole", "dent"),
    "leather": (*_ANYWHERE, "hole", "dent", "distortion"),
    "cast_iron": (*_ANYWHERE, "crack", "hole", "dent", "corrosion"),
    "painted_steel": (*_ANYWHERE, "crack", "dent", "corrosion"),
    "perforated_plate": (*_ANYWHERE, "burr", "dent", "corrosion", "distortion"),
    "cardboard": (*_ANYWHERE, "hole", "dent", "crack"),
    "gear": (*_ANYWHERE, "chip", "burr", "crack", "dent", "corrosion"),
    "bearing": (*_ANYWHERE, "missing_part", "dent", "corrosion", "crack"),
    "capsule": (*_ANYWHERE, "crack", "dent", "chip", "hole"),
    "blister_pack": (*_ANYWHERE, "missing_part", "hole", "dent", "crack"),
    "washer_tray": (*_ANYWHERE, "missing_part", "burr", "chip", "corrosion"),
    "screw": (*_ANYWHERE, "burr", "chip", "dent", "corrosion", "distortion"),
    "bottle_mouth": (*_ANYWHERE, "chip", "crack"),
    "connector": (*_ANYWHERE, "missing_part", "chip", "crack", "distortion"),
    "printed_board": (*_ANYWHERE, "missing_part", "chip", "crack"),
}


@dataclass(frozen=True)
class SyntheticImage:
    """One image and where its defect is.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) bool, True where the defect changes the image visibly; all False for a normal image.
        category: The product.
        defect_type: None for a normal image.
        seed: Of the piece.
    """

    image: NDArray[np.uint8]
    mask: Mask
    category: str
    defect_type: str | None
    seed: int


def defect_types(category: str) -> tuple[str, ...]:
    """The defect types that make sense for a category.

    Raises:
        InputError: (a ValueError) an unknown category.

    Example:
        >>> "scratch" in defect_types("brushed_metal")
        True
    """
    if category not in _DEFECTS_OF:
        raise InputError(f"unknown category {category!r}; choose one of {', '.join(CATEGORIES)}")
    return tuple(name for name in DEFECT_TYPES if name in _DEFECTS_OF[category])


def generate(
    category: str,
    *,
    defect_type: str | None = None,
    size: int | tuple[int, int] = 384,
    seed: int = 0,
    style_seed: int = 0,
    severity: float | None = None,
) -> SyntheticImage:
    """Make one image of a product; the same arguments give the same bits.

    Args:
        category: one of `CATEGORIES`.
        defect_type: one of `defect_types(category)`, or None for a normal image.
        size: side of a square image, or (height, width); each at least 64.
        seed: the individual piece, 0 or more; the same piece, light and noise with and without a defect.
        style_seed: the product line (colours, pattern, layout, camera, lighting), 0 or more.
        severity: size and strength of the defect, 0..1; None draws it from the seed.

    Raises:
        InputError: (a ValueError) an argument is not one of the above; the message says what is allowed.

    Example:
        >>> normal = generate("leather", size=64, seed=3)
        >>> scratched = generate("leather", defect_type="scratch", size=64, seed=3)
        >>> scratched.image.shape, bool(scratched.mask.any()), bool(normal.mask.any())
        ((64, 64, 3), True, False)
    """
    shape = _checked(category, defect_type, size, seed, style_seed, severity)
    key = zlib.crc32(category.encode())
    style, style_camera = _generators([key, style_seed], 2)
    piece, piece_camera, damage, noise = _generators([key, style_seed, seed, 1], 4)
    clean = SURFACES[category](Scene(shape, style, piece))
    camera = draw_camera(style_camera, piece_camera)
    light = illuminate(clean, camera)
    exposure = gain(light, camera)
    image, mask = expose(light, camera, exposure), np.zeros(shape, np.bool_)
    if defect_type is not None:
        strength = float(damage.uniform(0.25, 1.0)) if severity is None else severity
        image, mask = damaged(clean, image, camera, exposure, defect_type, damage, strength)
    return SyntheticImage(sense(image, camera, noise), mask, category, defect_type, seed)


def _generators(entropy: list[int], count: int) -> list[Generator]:
    return [np.random.default_rng(child) for child in SeedSequence(entropy).spawn(count)]


def damaged(
    clean: Material,
    normal: Field,
    camera: Camera,
    exposure: float,
    defect_type: str,
    rng: Generator,
    severity: float,
) -> tuple[Field, Mask]:
    """Add the defect and see what it changed; one that hardly shows is drawn again, stronger.

    Args:
        clean: The piece without it.
        normal: What the sensor sees of that, without noise, (H, W, 3).
        camera: That looks.
        exposure: As for ``normal``.
        defect_type: Of `DEFECTS`.
        rng: Draws it.
        severity: Size and strength, 0..1.

    Returns:
        What the sensor sees with it, and where it shows, (H, W) bool.
    """
    best, best_mask = normal, np.zeros(clean.shape, np.bool_)
    enough = max(FEWEST_PIXELS, 40 * pixels_per_unit(clean.shape))
    for attempt in range(12):
        strength = min(1.0, severity + 0.1 * attempt)
        material = DEFECTS[defect_type](clean, rng, strength)
        defective = expose(illuminate(material, camera), camera, exposure)
        # a camouflaged product line may show no defect clearly: then fainter ones count
        mask = changed(normal, defective, VISIBLE * min(1.0, 2 / (attempt + 1)))
        if best_mask.sum() < mask.sum() < LARGEST_SHARE * mask.size:
            best, best_mask = defective, mask
        if best_mask.sum() >= enough:
            break
    return best, best_mask


def changed(normal: Field, defective: Field, threshold: float) -> Mask:
    """Where two noise-free images differ visibly when displayed, without specks.

    Args:
        normal: Linear, (H, W, 3).
        defective: Likewise.
        threshold: The difference of display values that is visible, 0..1.

    Returns:
        (H, W) bool.
    """
    red, green, blue = cv2.split(np.abs(np.sqrt(np.maximum(defective, 0)) - np.sqrt(np.maximum(normal, 0))))
    difference = blur(field(np.maximum(np.maximum(red, green), blue)), 0.6)
    reach = max(1, round(2.5 * pixels_per_unit(_shape(difference))))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    faint = cv2.morphologyEx((difference > 0.6 * threshold).astype(np.uint8), cv2.MORPH_CLOSE, disc)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(faint, connectivity=8)
    # a region may fade out but needs a clearly visible core
    clear = np.bincount(labels[difference > threshold], minlength=count)
    keep = (clear >= 1) & (stats[:, cv2.CC_STAT_AREA] >= max(3, 0.005 * int(faint.sum())))
    keep[0] = False
    return np.asarray(keep[labels], np.bool_)


def _shape(image: Field) -> Shape:
    return image.shape[0], image.shape[1]


def _checked(
    category: str,
    defect_type: str | None,
    size: int | tuple[int, int],
    seed: int,
    style_seed: int,
    severity: float | None,
) -> Shape:
    """Return (height, width), or raise ValueError naming the argument that is wrong."""
    possible = defect_types(category)
    if defect_type is not None and defect_type not in DEFECTS:
        raise InputError(f"unknown defect type {defect_type!r}; choose one of {', '.join(possible)}, or None")
    if defect_type is not None and defect_type not in possible:
        raise InputError(f"{category} cannot have a {defect_type}; choose one of {', '.join(possible)}, or None")
    shape = (size, size) if isinstance(size, int) else (size[0], size[1])
    if min(shape) < SMALLEST_SIZE:
        raise InputError(f"size {size} is too small; give at least {SMALLEST_SIZE} pixels for each side")
    for name, value in (("seed", seed), ("style_seed", style_seed)):
        if value < 0:
            raise InputError(f"{name} {value} is negative; give 0 or more")
    if severity is not None and not 0 <= severity <= 1:
        raise InputError(f"severity {severity} is outside 0..1; give a number in that range, or None")
    return shape

"""Generated defects on images that exist: what a scratch or a stain would do to them, with its exact mask."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sowa.errors import InputError
from sowa.synthetic.camera import draw_camera, expose, illuminate
from sowa.synthetic.fields import field
from sowa.synthetic.generator import SMALLEST_SIZE, SyntheticImage, damaged
from sowa.synthetic.material import Material

DAMAGE_TYPES: tuple[str, ...] = (
    "scratch",
    "crack",
    "hole",
    "stain",
    "dent",
    "contamination",
    "discoloration",
    "corrosion",
    "distortion",
)
"""Defect types that need nothing but a surface: no outline, no parts."""


def damage(
    image: NDArray[np.uint8],
    defect_type: str,
    *,
    seed: int = 0,
    severity: float | None = None,
    region: NDArray[np.bool_] | None = None,
) -> SyntheticImage:
    """Put a defect on an image; what the defect doesn't touch stays as it was, bit by bit.

    Args:
        image: (H, W, 3) uint8 RGB, each side at least 64.
        defect_type: one of `DAMAGE_TYPES`.
        seed: place, shape and light, 0 or more.
        severity: size and strength, 0..1; None draws it from the seed.
        region: (H, W) bool, where the defect may lie; None: anywhere.

    Raises:
        InputError: (a ValueError) an argument is not one of the above; the message says what is allowed.

    Example:
        >>> image = np.full((64, 64, 3), 128, np.uint8)
        >>> found = damage(image, "scratch", seed=1)
        >>> bool(found.mask.any()), bool((found.image[~found.mask] == image[~found.mask]).mean() > 0.8)
        (True, True)
    """
    _check(image, defect_type, seed, severity, region)
    shape = (image.shape[0], image.shape[1])
    light, rng = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2))
    # The image has been lit, exposed and developed already: a plain camera with a light from some side.
    camera = replace(
        draw_camera(light, light), tint=field([1, 1, 1]), falloff=(0.0, 0.0), vignette=0.0, highlight=(0.0, 0.0)
    )
    surface = Material(
        albedo=field((image.astype(np.float32) / 255) ** 2),
        height=np.zeros(shape, np.float32),
        gloss=np.zeros(shape, np.float32),
        region=np.ones(shape, np.bool_) if region is None else region,
    )
    strength = float(rng.uniform(0.1, 1.0)) if severity is None else severity
    normal = expose(illuminate(surface, camera), camera, 1.0)
    defective, mask = damaged(surface, normal, camera, 1.0, defect_type, rng, strength)
    change = np.float32(255) * (np.sqrt(np.maximum(defective, 0)) - np.sqrt(np.maximum(normal, 0)))
    source = np.clip(image + np.round(change), 0, 255).astype(np.uint8)
    return SyntheticImage(source, mask, "image", defect_type, seed)


def _check(
    image: NDArray[np.uint8],
    defect_type: str,
    seed: int,
    severity: float | None,
    region: NDArray[np.bool_] | None,
) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or min(image.shape[:2]) < SMALLEST_SIZE:
        raise InputError(
            f"image of shape {image.shape} and type {image.dtype}; give (H, W, 3) uint8 with sides of at least "
            f"{SMALLEST_SIZE} pixels"
        )
    if defect_type not in DAMAGE_TYPES:
        raise InputError(f"defect type {defect_type!r} can't be put on an image; choose one of {list(DAMAGE_TYPES)}")
    if seed < 0:
        raise InputError(f"seed {seed} is negative; give 0 or more")
    if severity is not None and not 0 <= severity <= 1:
        raise InputError(f"severity {severity} is outside 0..1; give a number in that range, or None")
    if region is not None and (region.shape != image.shape[:2] or region.dtype != np.bool_):
        raise InputError(f"region of shape {region.shape} and type {region.dtype}; give {image.shape[:2]} bool")

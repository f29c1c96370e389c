"""How much each place of an image is looked at: Gaussians around fixations, on pixels or on a coarser grid.

Shape legend: H x W pixels of the image, h x w cells of a grid, N fixations. A density sums to 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sowa.data.images import read_image
from sowa.errors import InputError
from sowa.extensions.gaze.fixations import Fixation, Gaze

Density = NDArray[np.float64]
SIGMA_DEGREES = 1.0  # what the fovea sees sharply, and the field's usual blur (Le Meur and Baccino, 2013)


@dataclass(frozen=True)
class Screen:
    """What images were shown on, a pixel of the image on each of the screen's, and from how far they were seen.

    By default a monitor of 24 inches with 1920 pixels in a row at 60 cm: 38 pixels per degree of visual angle.

    Attributes:
        width_cm: Of the screen, above 0.
        width_px: Pixels in a row, above 0.
        distance_cm: From the eye to the screen, above 0.

    Raises:
        InputError: a number isn't above 0.

    Example:
        >>> round(Screen().pixels_per_degree)
        38
    """

    width_cm: float = 53.0
    width_px: float = 1920.0
    distance_cm: float = 60.0

    def __post_init__(self) -> None:
        for name in ("width_cm", "width_px", "distance_cm"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"screen {name} is {getattr(self, name)}, needed is a number above 0")

    @property
    def pixels_per_degree(self) -> float:
        """At the screen's middle."""
        return math.tan(math.radians(1)) * self.distance_cm * self.width_px / self.width_cm


def fixation_density(
    fixations: Iterable[Fixation],
    size: tuple[int, int],
    pixels_per_degree: float,
    sigma: float = SIGMA_DEGREES,
    by_duration: bool = False,
) -> Density:
    """The density (H, W) of fixations: a Gaussian around each, the image's share of them all.

    Args:
        fixations: One or more.
        size: (H, W) in pixels.
        pixels_per_degree: Of visual angle: comes from `Screen`, or is measured on the images as they were shown.
        sigma: Standard deviation of the Gaussian, in degrees, above 0.
        by_duration: Whether a fixation counts as long as it lasted.

    Raises:
        InputError: there is no fixation, one lies outside, a duration is unknown or all are 0, or a number isn't above
            0.
    """
    blur = sigma * pixels_per_degree
    if not 0 < blur < math.inf:
        raise InputError(f"sigma is {sigma} degrees of {pixels_per_degree} pixels, needed are numbers above 0")
    found = list(fixations)
    if not found:
        raise InputError("there is no fixation to make a density of; give at least one")
    pixels(found, size)  # raises where one lies outside
    weights_N = _durations(found) if by_duration else np.ones(len(found))
    down_NH = _gaussians(np.array([each.y for each in found]), blur, size[0])
    right_NW = _gaussians(np.array([each.x for each in found]), blur, size[1])
    density_HW = (down_NH * weights_N[:, None]).T @ right_NW
    if not density_HW.any():
        raise InputError(
            f"{blur:g} pixels of blur are too few to be seen; give more pixels per degree, or a larger sigma"
        )
    return normalised(density_HW)


def density_of(
    gaze: Gaze,
    image: str,
    size: tuple[int, int],
    pixels_per_degree: float,
    sigma: float = SIGMA_DEGREES,
    by_duration: bool = False,
) -> Density:
    """The density (H, W) of all that is known of an image.

    That is every observer's fixations, or its density map, brought to the image's size.

    Args:
        gaze: What is known.
        image: Its name.
        size: Its (H, W) in pixels.
        pixels_per_degree: As in `fixation_density`.
        sigma: Likewise.
        by_duration: Likewise.

    Raises:
        InputError: as `fixation_density` and `read_density` say.
    """
    if image in gaze.densities:
        return pool(read_density(gaze.densities[image]), size)
    found = [each for viewing in gaze.by_image.get(image, ()) for each in viewing.fixations]
    return fixation_density(found, size, pixels_per_degree, sigma, by_duration)


def pixels(fixations: Sequence[Fixation], size: tuple[int, int]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row and column, both (N,), that each fixation hits.

    Args:
        fixations: N, in pixels of the image.
        size: The image's (H, W).

    Raises:
        InputError: one lies outside; `sowa.extensions.gaze.fixations.keep_inside` leaves those out.
    """
    places_N2 = np.floor([[each.y, each.x] for each in fixations] or np.empty((0, 2))).astype(np.intp)
    beyond = np.flatnonzero(((places_N2 < 0) | (places_N2 >= size)).any(axis=1))
    if len(beyond):
        first = fixations[beyond[0]]
        raise InputError(
            f"{len(beyond)} of {len(fixations)} fixations lie outside of an image {size[1]} wide and {size[0]} high, "
            f"the first at ({first.x:g}, {first.y:g}); leave them out or correct them"
        )
    return places_N2[:, 0], places_N2[:, 1]


def read_density(path: Path) -> Density:
    """The density (H, W) of a grey image, bright where people looked, in 256 steps.

    Raises:
        InputError: a file that can't be read, isn't grey, or is black everywhere.
    """
    image_HW3 = read_image(path)
    if (image_HW3 != image_HW3[..., :1]).any():
        raise InputError(f"{path} is coloured, needed is a grey image that is bright where people looked")
    if not image_HW3.any():
        raise InputError(f"{path} is black everywhere, so nobody looked anywhere; leave it out")
    return normalised(image_HW3[..., 0])


def normalised(values_HW: NDArray[np.generic]) -> Density:
    """Values (H, W) of 0 and more, not all 0, divided by their sum."""
    density_HW = np.asarray(values_HW, dtype=np.float64)
    return np.asarray(density_HW / density_HW.sum())


def pool(density_HW: Density, grid: tuple[int, int]) -> Density:
    """The density on a grid (h, w): each cell holds what lies in it, a pixel on its border by its parts.

    Args:
        density_HW: (H, W).
        grid: (h, w); may be finer too, each pixel is spread evenly then.

    Raises:
        InputError: a side is below 1.

    Example:
        >>> import numpy as np
        >>> pool(np.full((4, 4), 1 / 16), (2, 2)).tolist()
        [[0.25, 0.25], [0.25, 0.25]]
    """
    if min(grid) < 1:
        raise InputError(f"grid is {grid[0]} x {grid[1]}, both sides must be 1 or more")
    height, width = density_HW.shape
    return _overlaps(grid[0], height) @ density_HW @ _overlaps(grid[1], width).T


def _overlaps(cells: int, length: int) -> Density:
    """Part (cells, length) of each pixel of a row that lies in each cell. Every column sums to 1."""
    borders = np.arange(cells + 1) * (length / cells)
    starts = np.arange(length)
    upper = np.minimum(borders[1:, None], starts + 1)
    return np.asarray(np.clip(upper - np.maximum(borders[:-1, None], starts), 0, None))


def _gaussians(centres_N: Density, blur: float, length: int) -> Density:
    """A Gaussian (N, length) around each position, at the pixels' middles."""
    return np.asarray(np.exp(-0.5 * ((np.arange(length) + 0.5 - centres_N[:, None]) / blur) ** 2))


def _durations(fixations: Sequence[Fixation]) -> Density:
    durations = [each.duration_ms for each in fixations]
    known_N = np.array([each for each in durations if each is not None])
    if len(known_N) < len(durations) or not known_N.any():
        raise InputError(
            f"{len(durations) - len(known_N)} of {len(durations)} durations are unknown and the others sum to "
            f"{known_N.sum():g} ms, so they can't weigh fixations; count each fixation once"
        )
    return known_N

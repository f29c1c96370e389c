"""What a saliency map must beat, and what it can hardly reach: no knowledge, the middle of the image, other people.

Shape legend: H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from sowa.errors import InputError
from sowa.extensions.gaze.density import SIGMA_DEGREES, Density, fixation_density, normalised
from sowa.extensions.gaze.fixations import Fixation, Gaze, Viewing
from sowa.extensions.gaze.metrics import GazeMetrics, gaze_metrics


def uniform(size: tuple[int, int]) -> Density:
    """The density (H, W) of somebody who looks everywhere alike.

    Args:
        size: (H, W) in pixels.

    Example:
        >>> uniform((2, 2)).tolist()
        [[0.25, 0.25], [0.25, 0.25]]
    """
    return normalised(np.ones(size))


@dataclass(frozen=True)
class CentreBias:
    """A Gaussian around the image's middle: people look there whatever the image shows.

    The defaults are Clarke and Tatler's (2014) for any images: variances of 0.22 and 0.45 x 0.22 in halves of the
    width, here of one that is four to three.

    Attributes:
        mean_x: In parts of the image's width.
        mean_y: In parts of its height.
        std_x: In parts of the width, above 0.
        std_y: In parts of the height, above 0.

    Raises:
        InputError: a number isn't finite, or a deviation isn't above 0.
    """

    mean_x: float = 0.5
    mean_y: float = 0.5
    std_x: float = 0.235
    std_y: float = 0.21

    def __post_init__(self) -> None:
        values = (self.mean_x, self.mean_y, self.std_x, self.std_y)
        if not all(map(math.isfinite, values)) or min(self.std_x, self.std_y) <= 0:
            raise InputError(f"centre bias is {values}, needed are finite numbers and deviations above 0")

    def density(self, size: tuple[int, int]) -> Density:
        """The density (H, W) on an image.

        Args:
            size: Its (H, W) in pixels.

        Example:
            >>> density = CentreBias().density((5, 5))
            >>> bool(density[2, 2] == density.max()), round(float(density.sum()), 6)
            (True, 1.0)
        """
        down_H = _gaussian(size[0], self.mean_y, self.std_y)
        right_W = _gaussian(size[1], self.mean_x, self.std_x)
        return normalised(np.outer(down_H, right_W))

    @classmethod
    def fit(cls, gaze: Gaze, sizes: Mapping[str, tuple[int, int]]) -> CentreBias:
        """The Gaussian of all fixations.

        Args:
            gaze: The fixations.
            sizes: (H, W) of the images, by name.

        Raises:
            InputError: fewer than two places, or an image's size isn't known.
        """
        places = []
        for viewing in gaze.viewings:
            if viewing.image not in sizes:
                raise InputError(f"the size of {viewing.image} isn't known; give its size")
            height, width = sizes[viewing.image]
            places += [(each.x / width, each.y / height) for each in viewing.fixations]
        places_N2 = np.array(places).reshape(-1, 2)
        if len(places_N2) < 2 or not places_N2.std(axis=0).all():
            raise InputError(f"{len(places_N2)} fixation(s) in one row or column show no spread; give more")
        mean, std = places_N2.mean(axis=0), places_N2.std(axis=0)
        return cls(float(mean[0]), float(mean[1]), float(std[0]), float(std[1]))


def human_consistency(
    viewings: Iterable[Viewing], size: tuple[int, int], pixels_per_degree: float, sigma: float = SIGMA_DEGREES
) -> GazeMetrics:
    """How well people tell where another one looks.

    Each observer of one image in turn is predicted by the density of the others. The mean over observers, undefined
    where there are fewer than two.

    Args:
        viewings: Of one image.
        size: Its (H, W) in pixels.
        pixels_per_degree: As in `fixation_density`.
        sigma: Likewise.

    Raises:
        InputError: as `fixation_density` says.
    """
    by_observer: dict[str, list[Fixation]] = {}
    for viewing in viewings:
        if viewing.fixations:
            by_observer.setdefault(viewing.observer, []).extend(viewing.fixations)
    found = []
    for observer, own in by_observer.items():
        others = [each for name, part in by_observer.items() if name != observer for each in part]
        if others:
            own_HW = fixation_density(own, size, pixels_per_degree, sigma)
            found.append(gaze_metrics(fixation_density(others, size, pixels_per_degree, sigma), own, own_HW))
    return GazeMetrics.mean(found, f"{len(by_observer)} observer(s), needed are two")


def _gaussian(length: int, mean: float, std: float) -> Density:
    exponent = -0.5 * (((np.arange(length) + 0.5) / length - mean) / std) ** 2
    return np.asarray(np.exp(exponent - exponent.max()))

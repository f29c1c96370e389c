"""Simulated observers, where no people can be asked: ideal searchers with a fovea (Najemnik and Geisler, 2005).

A searcher looks for one target that lies in one cell of a grid. Each fixation gives evidence of every cell: a response
of mean 0.5 where the target is and -0.5 elsewhere, with variance 1 / d'^2, where the visibility d' falls with the
cell's distance from the fixation. The posterior of cell i after the fixations k is

    p_i  ~  prior_i exp(sum over k of d'_ik^2 W_ik)

and the most probable cell is fixated next (their MAP searcher). Cells that were seen clearly and turned out empty are
thereby left alone. What is made here is no observation of people, and says so: observers' names begin with
"simulated-".

Shape legend: H x W pixels, h x w cells, G = h * w.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sowa.errors import InputError
from sowa.extensions.gaze.baselines import CentreBias
from sowa.extensions.gaze.density import Density, Screen, pool
from sowa.extensions.gaze.fixations import Fixation, Viewing

SIMULATED = "simulated-"  # what the names of such observers begin with, and nobody else's
CELLS = 32  # of the grid along the image's longer side


@dataclass(frozen=True)
class Searcher:
    """A typical observer; each simulated one is like it but for ``variety``.

    Attributes:
        visibility: d' in the fovea.
        half: Degrees from it at which d' is halved, and so on.
        guidance: Share of the prior that the priority map has, 0..1, beside the centre bias.
        certainty: The search ends when the fixated cell is the target with this probability,
        most: or after so many fixations.
        scatter: The eye lands beside its aim, standard deviation in degrees.
        rest_ms: It rests for a log-normal time of this median, in milliseconds,
        rest_spread: and of this spread (of the logarithm).
        variety: Visibility, halving, guidance and rest differ between observers by log-normal factors of this spread.

    Raises:
        InputError: a number is outside of what is allowed.
    """

    visibility: float = 3.0
    half: float = 4.0
    guidance: float = 0.3
    certainty: float = 0.95
    most: int = 12
    scatter: float = 0.3
    rest_ms: float = 230.0
    rest_spread: float = 0.35
    variety: float = 0.2

    def __post_init__(self) -> None:
        for name in ("visibility", "half", "rest_ms"):
            _check(name, getattr(self, name), "above 0", 0 < getattr(self, name) < math.inf)
        for name in ("scatter", "rest_spread", "variety"):
            _check(name, getattr(self, name), "0 and more", 0 <= getattr(self, name) < math.inf)
        _check("guidance", self.guidance, "0 to 1", 0 <= self.guidance <= 1)
        _check("certainty", self.certainty, "above 0 to 1", 0 < self.certainty <= 1)
        _check("most", self.most, "1 and more", self.most >= 1)


def simulate(
    image: str,
    priority_HW: NDArray[np.generic],
    observers: int,
    seed: int,
    searcher: Searcher | None = None,
    screen: Screen | None = None,
) -> list[Viewing]:
    """What simulated people do on an image.

    The target's cell is drawn from the priority map for every observer; where it's 0 everywhere there is no target. The
    first fixation, in the image's middle, isn't recorded, as usual. Observers keep their traits from image to image,
    and the same arguments give the same result.

    Args:
        image: What the image is called.
        priority_HW: What stands out, (H, W), 0 and more: a defect's mask or a saliency map.
        observers: How many, 1 or more.
        seed: 0 or more.
        searcher: The typical one; by default `Searcher`'s own.
        screen: Where images are shown; by default `Screen`'s own.

    Raises:
        InputError: a map that isn't so, or a number outside of what is allowed.

    Example:
        >>> import numpy as np
        >>> mask = np.zeros((200, 200))
        >>> mask[120:140, 30:50] = 1
        >>> [each.observer for each in simulate("part.png", mask, observers=2, seed=0)]
        ['simulated-01', 'simulated-02']
    """
    values_HW = np.asarray(priority_HW, dtype=np.float64)
    if values_HW.ndim != 2 or not values_HW.size or not np.isfinite(values_HW).all() or values_HW.min() < 0:
        raise InputError(f"priority map of shape {values_HW.shape} must be (H, W) of finite numbers of 0 and more")
    if observers < 1 or seed < 0:
        raise InputError(f"{observers} observers with seed {seed}, allowed are 1 and more, and seeds of 0 and more")
    scene, typical = Scene(values_HW, screen or Screen()), searcher or Searcher()
    viewings = []
    for number in range(observers):
        own = vary(typical, np.random.default_rng([seed, number]))
        chance = np.random.default_rng([seed, number, zlib.crc32(image.encode())])
        viewings.append(Viewing(image, f"{SIMULATED}{number + 1:02d}", tuple(search(scene, own, chance))))
    return viewings


def vary(typical: Searcher, chance: np.random.Generator) -> Searcher:
    """Somebody like a typical observer.

    Args:
        typical: Whom.
        chance: Draws the factors.
    """
    factors = np.exp(typical.variety * chance.standard_normal(4)).tolist()
    return replace(
        typical,
        visibility=typical.visibility * factors[0],
        half=typical.half * factors[1],
        guidance=min(1.0, typical.guidance * factors[2]),
        rest_ms=typical.rest_ms * factors[3],
    )


class Scene:
    """An image as searchers know it: cells, their positions in pixels, and what stands out.

    Args:
        priority_HW: What stands out, (H, W), 0 and more.
        screen: Where it's shown.
    """

    def __init__(self, priority_HW: Density, screen: Screen) -> None:
        self.size = priority_HW.shape[0], priority_HW.shape[1]
        self.pixels_per_degree = screen.pixels_per_degree
        side = max(self.size) / min(CELLS, max(self.size))
        grid = max(1, round(self.size[0] / side)), max(1, round(self.size[1] / side))
        rows_h = (np.arange(grid[0]) + 0.5) * self.size[0] / grid[0]
        columns_w = (np.arange(grid[1]) + 0.5) * self.size[1] / grid[1]
        self.places_G2 = np.stack(np.meshgrid(columns_w, rows_h), axis=-1).reshape(-1, 2)  # x, y
        self.centre_G = CentreBias().density(grid).ravel()
        total = priority_HW.sum()
        self.priority_G = pool(priority_HW / total, grid).ravel() if total > 0 else None

    def prior(self, guidance: float) -> Density:
        """Of each cell (G,), summing to 1; the centre bias alone where nothing stands out."""
        if self.priority_G is None:
            return self.centre_G
        return (1 - guidance) * self.centre_G + guidance * self.priority_G

    def visibility(self, place_2: Density, searcher: Searcher) -> Density:
        """d' of each cell, (G,).

        Args:
            place_2: The fixation, (x, y) in pixels.
            searcher: Who looks.
        """
        degrees_G = np.hypot(*(self.places_G2 - place_2).T) / self.pixels_per_degree
        return np.asarray(searcher.visibility * 0.5 ** (degrees_G / searcher.half))


def search(scene: Scene, searcher: Searcher, chance: np.random.Generator) -> list[Fixation]:
    """One search: the fixations after the first, central one.

    Args:
        scene: What is looked at.
        searcher: Who looks.
        chance: Draws the target, what is seen and where the eye lands.
    """
    truth_G = np.full(len(scene.places_G2), -0.5)
    if scene.priority_G is not None:
        truth_G[chance.choice(len(truth_G), p=scene.priority_G / scene.priority_G.sum())] = 0.5
    with np.errstate(divide="ignore"):  # a cell that can't hold the target
        belief_G = np.log(scene.prior(searcher.guidance))
    edge_2 = np.array(scene.size[::-1], dtype=np.float64)
    place_2, target, found = edge_2 / 2, -1, list[Fixation]()
    while True:
        seen_G = scene.visibility(place_2, searcher)
        belief_G = belief_G + seen_G**2 * truth_G + seen_G * chance.standard_normal(len(truth_G))
        aim = int(belief_G.argmax())
        sure = 1 / np.exp(belief_G - belief_G[aim]).sum()
        if len(found) == searcher.most or (target == aim and sure >= searcher.certainty):
            return found
        target = aim
        off_2 = chance.normal(0, searcher.scatter * scene.pixels_per_degree, 2)
        place_2 = np.clip(scene.places_G2[aim] + off_2, 0, edge_2 - 0.01)
        rest = searcher.rest_ms * math.exp(searcher.rest_spread * float(chance.standard_normal()))
        found.append(Fixation(round(float(place_2[0]), 2), round(float(place_2[1]), 2), round(rest, 1)))


def _check(name: str, value: float, allowed: str, right: bool) -> None:
    if not right:
        raise InputError(f"searcher {name} is {value}, allowed is {allowed}")

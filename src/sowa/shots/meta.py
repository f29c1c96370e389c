"""A prediction of the whole curve from a few normal images, learned from other products.

``pretrain/shots.py`` measured what shots were worth on many products, and what a few normal images of each told of
it. A product is compared with these (Gaussian process regression; Rasmussen and Williams, 2006, section 2.2), so
nothing is encoded but a handful of images.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel

from sowa.core.config import from_dict
from sowa.core.files import packaged
from sowa.core.progress import Report, silent
from sowa.data.sampling import draw
from sowa.errors import InputError
from sowa.shots.config import ShotsConfig
from sowa.shots.curve import CONFIDENCE, Choice, Point
from sowa.shots.pool import Clock, Pool
from sowa.shots.traits import FEWEST, traits

# Of the process, chosen by leaving a group out in turn: how far a product tells of others, in root mean square
# differences of their traits, and how much of the curves' variance the traits don't tell.
REACH, NOISE = 1.0, 0.3
USUAL = 0.95  # share of the measured products that lie no farther from their nearest than is usual


@dataclass(frozen=True)
class MeasuredProduct:
    """A product that was measured.

    Attributes:
        name: Its own.
        group: Products of one group are alike.
        traits: As `sowa.shots.traits.names` lists them.
        curve: Image AUROC in 0..1 for each number of shots.
    """

    name: str
    group: str
    traits: tuple[float, ...]
    curve: tuple[float, ...]


@dataclass(frozen=True)
class MeasuredProducts:
    """What was measured.

    Attributes:
        shots: The numbers of shots.
        traits: What the traits are called.
        images: They were read from so many of each product.
        tasks: The products.
    """

    shots: tuple[int, ...]
    traits: tuple[str, ...]
    images: int
    tasks: tuple[MeasuredProduct, ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a file that ``pretrain/shots.py`` wrote."""
        return from_dict(cls, json.loads(path.read_text(encoding="utf-8")))

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    def without(self, group: str) -> Self:
        """Without the tasks of that group."""
        return replace(self, tasks=tuple(task for task in self.tasks if task.group != group))

    def forecast(self, seen: NDArray[np.float64], shots: Sequence[int]) -> Forecast:
        """Image AUROC of a product that wasn't measured.

        Args:
            seen: Its traits, as many as ``traits``.
            shots: Numbers inside those that were measured; between these it's interpolated over their logarithm.
        """
        known = np.array([task.traits for task in self.tasks])
        centre, scale = known.mean(axis=0), known.std(axis=0).clip(min=1e-6)
        known, new = (known - centre) / scale, (seen - centre) / scale
        curves = np.array([task.curve for task in self.tasks])
        kernel = RBF(REACH * np.sqrt(known.shape[1])) + WhiteKernel(NOISE)
        process = GaussianProcessRegressor(kernel, optimizer=None, normalize_y=True).fit(known, curves)
        mean, error = (values[0] for values in process.predict(new[None], return_std=True))
        apart = np.linalg.norm(known[:, None] - known, axis=2) + np.diag(np.full(len(known), np.inf))
        usual = np.quantile(apart.min(axis=1), USUAL)
        at = np.log2(shots), np.log2(self.shots)
        return Forecast(
            np.interp(*at, mean), np.interp(*at, error), float(np.linalg.norm(known - new, axis=1).min() / usual)
        )


@dataclass(frozen=True)
class Forecast:
    """What is predicted of a product.

    Attributes:
        mean: Image AUROC for each number of shots.
        error: Its standard deviation.
        distance: How far the product lies from the nearest one that was measured, 1 where but a twentieth of those lie
            as far from theirs.
    """

    mean: NDArray[np.float64]
    error: NDArray[np.float64]
    distance: float


def shipped_products() -> MeasuredProducts:
    """What the package ships."""
    return MeasuredProducts.read(packaged("shots.json"))


def predict_curve(
    pool: Pool, config: ShotsConfig, report: Report = silent, known: MeasuredProducts | None = None
) -> Choice:
    """Predicts the curve from a few normal images, as many as the traits in ``known`` were read from.

    Chosen is the smallest number that is predicted to come within ``config.tolerance`` of the best. The reason says
    where the product is unlike all that were measured.

    Args:
        pool: The images.
        config: For candidates, tolerance and seed.
        report: Told of the progress.
        known: What was measured; by default what the package ships.

    Raises:
        InputError: fewer than `FEWEST` images can be read, candidates are outside what was measured, or the backbone
            has other levels.
    """
    clock, shots = Clock(pool), sorted(config.candidates)
    known = known or shipped_products()
    if shots[0] < known.shots[0] or shots[-1] > known.shots[-1]:
        raise InputError(
            f"candidates are {shots}, but what meta learned is about {known.shots[0]} to {known.shots[-1]} shots; "
            "change --candidates or take another --method"
        )
    some = pool.readable(draw(range(len(pool.normal)), len(pool.normal), config.seed), known.images)
    forecast = known.forecast(_traits(pool, some, known), shots)
    report("predict_curve", 1, 1)
    half = float(stats.norm.ppf(0.5 + CONFIDENCE / 2))
    points = tuple(
        Point(count, *np.clip((mean, error, mean - half * error, mean + half * error), 0, 1).tolist())
        for count, mean, error in zip(shots, forecast.mean, forecast.error, strict=True)
    )
    best = max(points, key=lambda each: each.mean)
    chosen = min(each.shots for each in points if each.mean >= best.mean - config.tolerance)
    reason = (
        f"{chosen} is the smallest number within {config.tolerance:g} of the best, {best.shots}, as {len(some)} "
        f"images and what was measured of {len(known.tasks)} products tell"
    )
    if forecast.distance > 1:
        reason += (
            f"; but it's {forecast.distance:.1f} times as unlike the products it learned from as those are each other, "
            "so don't rely on it"
        )
    return Choice(
        method="meta",
        labels="none",
        points=points,
        chosen=chosen,
        best=best.shots,
        reason=reason,
        fits=0,
        **clock.read(),
    )


def _traits(pool: Pool, some: Sequence[int], known: MeasuredProducts) -> NDArray[np.float64]:
    """Of the images ``some`` of a pool. Raises InputError where they are too few, or of other levels than known."""
    if len(some) < FEWEST:
        raise InputError(f"{len(some)} normal images can be read, needed are {FEWEST} for --method meta; add some")
    encoder = pool.encoder
    seen = traits(pool.features(some)[: encoder.prompt_levels].cpu(), encoder.grid)  # without the whole
    if len(seen) != len(known.traits):
        raise InputError(
            f"--method meta learned of backbones with four levels, {encoder.name!r} is read at "
            f"{encoder.prompt_levels}; take another --method"
        )
    return seen

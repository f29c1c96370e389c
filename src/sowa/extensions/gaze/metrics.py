"""How well a saliency map tells where people look (Bylinskii et al., 2019).

Shape legend: H x W pixels, N fixations. Maps are finite numbers, higher where more is looked at; a map to be compared
with a density by SIM and KL must not be negative.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from sowa.extensions.gaze.density import Density, pixels
from sowa.extensions.gaze.fixations import Fixation

EPS = 2.2204e-16  # of KL, as in the MIT/Tuebingen saliency benchmark
Map = NDArray[np.floating]


@dataclass(frozen=True)
class Score:
    """One metric, in any range.

    Attributes:
        value: A number, or NaN.
        why: The reason where there is none, else None.
    """

    value: float
    why: str | None = None

    def __float__(self) -> float:
        return self.value

    @classmethod
    def undefined(cls, why: str) -> Score:
        """A metric that doesn't exist for these data, and why."""
        return cls(math.nan, why)


@dataclass(frozen=True)
class GazeMetrics:
    """All five metrics of one map, or their means. Higher is better, but for KL.

    Attributes:
        AUC: As of `auc_judd`, 0..1.
        NSS: As of `nss`.
        CC: As of `cc`, -1..1.
        SIM: As of `sim`, 0..1.
        KL: As of `kl`, 0 and more.
    """

    AUC: Score
    NSS: Score
    CC: Score
    SIM: Score
    KL: Score

    def metrics(self) -> dict[str, Score]:
        """The metrics by name."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def mean(cls, found: Iterable[GazeMetrics], why: str) -> GazeMetrics:
        """The mean of each metric where it's defined.

        Args:
            found: Metrics of several maps.
            why: The reason where there is none; where a metric is never defined, the first reason.
        """
        results = [each.metrics() for each in found]
        scores = []
        for each in fields(cls):
            values = [result[each.name].value for result in results if result[each.name].why is None]
            reasons = [result[each.name].why or why for result in results]
            scores.append(Score(float(np.mean(values))) if values else Score.undefined((reasons or [why])[0]))
        return cls(*scores)


def gaze_metrics(map_HW: Map, fixations: Sequence[Fixation], density_HW: Density) -> GazeMetrics:
    """All metrics of a map.

    Args:
        map_HW: (H, W), finite.
        fixations: On its image, in pixels.
        density_HW: Theirs, (H, W).

    Raises:
        InputError: a fixation lies outside of the map.
        ValueError: map or density aren't finite or of one size.
    """
    return GazeMetrics(
        auc_judd(map_HW, fixations),
        nss(map_HW, fixations),
        cc(map_HW, density_HW),
        sim(map_HW, density_HW),
        kl(map_HW, density_HW),
    )


def auc_judd(map_HW: Map, fixations: Sequence[Fixation]) -> Score:
    """Area under the ROC curve of the map as a classifier of pixels into looked at or not (Judd et al., 2009): 0..1.

    A pixel counts once however many fixations hit it, all others are negative, and equal values count half.

    Args:
        map_HW: (H, W), finite.
        fixations: On its image, in pixels.

    Raises:
        InputError: a fixation lies outside of the map.
        ValueError: the map isn't finite.

    Example:
        >>> import numpy as np
        >>> from sowa.extensions.gaze.fixations import Fixation
        >>> auc_judd(np.array([[0.1, 0.9], [0.2, 0.3]]), [Fixation(1.5, 0.5)]).value
        1.0
    """
    values_HW = _checked(map_HW)
    hit_HW = np.zeros(values_HW.shape, dtype=bool)
    hit_HW[pixels(fixations, (values_HW.shape[0], values_HW.shape[1]))] = True
    if not hit_HW.any():
        return Score.undefined("no fixation")
    if hit_HW.all():
        return Score.undefined("every pixel is fixated")
    fixated = np.sort(values_HW[hit_HW])
    others = values_HW[~hit_HW]
    below = np.searchsorted(fixated, others, "left").sum() + np.searchsorted(fixated, others, "right").sum()
    return Score(float(1 - below / 2 / len(others) / len(fixated)))


def nss(map_HW: Map, fixations: Sequence[Fixation]) -> Score:
    """Normalised scanpath saliency (Peters et al., 2005).

    The mean over fixations of the map, as standard scores of its pixels. 0 is chance, any sign.

    Args:
        map_HW: (H, W), finite.
        fixations: On its image, in pixels.

    Raises:
        InputError: a fixation lies outside of the map.
        ValueError: the map isn't finite.
    """
    values_HW = _checked(map_HW)
    hit_N = values_HW[pixels(fixations, (values_HW.shape[0], values_HW.shape[1]))]
    if not len(hit_N):
        return Score.undefined("no fixation")
    if values_HW.min() == values_HW.max():
        return Score.undefined("the map is constant")
    return Score(float((hit_N.mean() - values_HW.mean()) / values_HW.std()))


def cc(map_HW: Map, density_HW: Density) -> Score:
    """Pearson's correlation of map and density, -1..1.

    Args:
        map_HW: (H, W), finite.
        density_HW: (H, W).

    Raises:
        ValueError: they aren't finite or of one size.
    """
    both = _checked(map_HW, density_HW), _checked(density_HW)
    for name, values in zip(("map", "density"), both, strict=True):
        if values.min() == values.max():
            return Score.undefined(f"the {name} is constant")
    first, second = (values / np.abs(values).max() for values in both)  # so that squares of tiny values don't vanish
    first, second = first - first.mean(), second - second.mean()
    product = float((first * second).sum() / np.sqrt((first**2).sum() * (second**2).sum()))
    return Score(min(max(product, -1.0), 1.0))


def sim(map_HW: Map, density_HW: Density) -> Score:
    """Similarity: what the map, made a density, and the density have in common, 0..1, and 1 where they are equal.

    Args:
        map_HW: (H, W), finite, 0 and more.
        density_HW: (H, W).

    Raises:
        ValueError: they aren't finite or of one size, or are negative.

    Example:
        >>> import numpy as np
        >>> sim(np.array([[2.0, 2.0]]), np.array([[0.25, 0.75]])).value
        0.75
    """
    shares = _shares(map_HW, density_HW)
    return shares if isinstance(shares, Score) else Score(min(1.0, float(np.minimum(*shares).sum())))


def kl(map_HW: Map, density_HW: Density) -> Score:
    """Kullback-Leibler divergence KL(P||Q) in nats, 0 and more, of the density P from the map made a density, Q.

    The sum of P log(eps + P / (Q + eps)) with eps `EPS`, so that it's 36 at most, where people look at what the map
    has as 0.

    Args:
        map_HW: (H, W), finite, 0 and more.
        density_HW: (H, W).

    Raises:
        ValueError: they aren't finite or of one size, or are negative.
    """
    shares = _shares(map_HW, density_HW)
    if isinstance(shares, Score):
        return shares
    q_HW, p_HW = shares
    return Score(max(0.0, float((p_HW * np.log(EPS + p_HW / (q_HW + EPS))).sum())))


def _shares(map_HW: Map, density_HW: Density) -> tuple[Density, Density] | Score:
    both = _checked(map_HW, density_HW), _checked(density_HW)
    for name, values in zip(("map", "density"), both, strict=True):
        if values.min() < 0:
            raise ValueError(
                f"the {name} holds {values.min():g}, allowed is 0 and more: shift it, or take its exponential"
            )
        if values.max() == 0:
            return Score.undefined(f"the {name} is 0 everywhere")
    first, second = (values / values.max() for values in both)
    return first / first.sum(), second / second.sum()


def _checked(map_HW: Map, other_HW: Map | None = None) -> Density:
    values_HW = np.asarray(map_HW, dtype=np.float64)
    if values_HW.ndim != 2 or (other_HW is not None and values_HW.shape != np.shape(other_HW)):
        other = "" if other_HW is None else f" and the density's {np.shape(other_HW)}"
        raise ValueError(f"the map's shape is {values_HW.shape}{other}, needed is one (H, W)")
    if not values_HW.size or not np.isfinite(values_HW).all():
        raise ValueError("the map is empty or holds NaN or infinity: compute it again")
    return values_HW

"""What frozen features say of classes: Gaussians of one shrunken spread, whose parts count as far as the shots allow.

Three things tell classes apart: the image's class feature, what the levels hold (`sowa.tasks.classification.network`)
and the classes' names. With one shot nothing can be held out to weigh them, but names can: they haven't seen the shots.
Where they tell the shots apart, the class feature is at home and counts more. All constants were chosen on groups of
images that no result is reported for (docs/CLASSIFICATION.md).

Shapes: N images, C classes, E joint width, K = L * D width of all levels together, T tokens of a level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sowa.tasks.classification.pooled_features import PooledFeatures

SHARPEST_NAMES = 40.0  # what cosines with names are multiplied by at most
SHRINKAGE = 0.5  # how far the spread inside classes is drawn towards that inside images
REGIONS = 3  # an image's levels are compared with each other on so many regions a side
HEAVIEST = 4.0  # what the class feature counts at most beside a level
ONE_SHOT = 20.0  # sharpness of Gaussians from a single image of each class


@dataclass(frozen=True)
class NameWeight:
    """What names are worth on some images.

    Attributes:
        sharpness: Their cosines are multiplied by it.
        share: Of the uncertainty about the class, what they take away, 0..1.
    """

    sharpness: float
    share: float


def weigh_names(cosines_NC: Tensor, labels: Tensor) -> NameWeight:
    """What names are worth on images that they never saw.

    The sharpness is the mean of its likelihood, so chance alone gives little.

    Args:
        cosines_NC: Of images with names, (N, C).
        labels: (N,) numbers of classes.
    """
    steps = torch.arange(0, SHARPEST_NAMES + 1, 2)
    losses = torch.stack([F.cross_entropy(step * cosines_NC, labels) for step in steps])
    sharpness = ((-losses * len(labels)).softmax(dim=0) * steps).sum()
    return NameWeight(float(sharpness), 1 - float(losses.min()) / math.log(cosines_NC.shape[1]))


@dataclass(frozen=True)
class Gaussians:
    """Classes as linear functions of features. Logits are scaled so that classes lie one apart in the mean.

    Attributes:
        weights: (E + K, C).
        bias: (C,).
        feature_weight: The class feature is multiplied by it.
    """

    weights: Tensor
    bias: Tensor
    feature_weight: float

    def __call__(self, features_NE: Tensor, levels_NK: Tensor) -> Tensor:
        """Logits (N, C), not yet of any sharpness."""
        return self._joined(features_NE, levels_NK) @ self.weights + self.bias

    def _joined(self, features_NE: Tensor, levels_NK: Tensor) -> Tensor:
        return joined(features_NE, levels_NK, self.feature_weight)

    @classmethod
    def fit(cls, pooled: PooledFeatures, levels_NK: Tensor, labels: Tensor, classes: int, share: float) -> Gaussians:
        """From images of every class.

        Args:
            pooled: N images.
            levels_NK: Their levels as vectors, (N, K).
            labels: (N,) numbers of classes.
            classes: C.
            share: Of the classes' differences, what names tell apart, 0..1.
        """
        shots = len(labels) / classes
        weight = min(HEAVIEST, 1 + (4 + 4 / shots) * share)
        x = joined(pooled.features, levels_NK, weight)
        means = class_means(x, labels, classes)
        spread = _spread(x - means[labels], spread_inside(pooled, pooled.features.shape[1], shots), classes)
        weights = torch.linalg.solve(spread, means.T)
        products = means @ weights
        squared = products.diag()[:, None] + products.diag()[None] - products - products.T
        apart = squared.sum() / (classes * (classes - 1))
        scale = 1 / apart.clamp(min=1e-12)
        return cls(weights * scale, -0.5 * products.diag() * scale, weight)


def joined(features_NE: Tensor, levels_NK: Tensor, feature_weight: float) -> Tensor:
    """Class feature and levels side by side, (N, E + K).

    Args:
        features_NE: Class features, (N, E).
        levels_NK: Levels as vectors, (N, K).
        feature_weight: The class feature is multiplied by it.
    """
    return torch.cat([feature_weight * features_NE, levels_NK], dim=1)


def class_means(x_NK: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The mean of each class, (C, K).

    Args:
        x_NK: (N, K).
        labels: (N,) numbers of classes.
        classes: C.

    Example:
        >>> class_means(torch.tensor([[0.0], [2.0], [5.0]]), torch.tensor([0, 0, 1]), 2).tolist()
        [[1.0], [5.0]]
    """
    sums = torch.zeros(classes, x_NK.shape[1]).index_add(0, labels, x_NK)
    return sums / torch.bincount(labels, minlength=classes)[:, None]


def spread_inside(pooled: PooledFeatures, width: int, shots: float) -> Tensor:
    """How the levels vary inside images, (E + K, E + K) with ones as its mean diagonal.

    What differs between regions of one image doesn't tell its class.

    Args:
        pooled: The images.
        width: E + K.
        shots: Images of a class. With more it counts more, beside equal spread in all directions; with one not at all,
            since a defect is such a difference too.
    """
    regions = _regions(pooled.tokens)
    between = (regions - regions.mean(dim=1, keepdim=True)).flatten(0, 1)
    inside = between.T @ between / max(len(between), 1)
    share = 0.9 * (1 - 1 / max(shots, 1.0))
    whole = torch.eye(width + len(inside))
    size = inside.trace() / len(inside)
    if size > 0:
        whole[width:, width:] = (1 - share) * torch.eye(len(inside)) + share * inside / size
    return whole


def _regions(tokens_LNTD: Tensor) -> Tensor:
    """Means over regions, all levels side by side, in lengths of the image's own mean: (N, regions, K)."""
    side = math.isqrt(tokens_LNTD.shape[2])
    parts = []
    for tokens in tokens_LNTD.float():
        maps = tokens.transpose(1, 2).unflatten(2, (side, side))
        regions = F.adaptive_avg_pool2d(maps, min(REGIONS, side)).flatten(2).transpose(1, 2)
        parts.append(regions / regions.mean(dim=1, keepdim=True).norm(dim=-1, keepdim=True).clamp(min=1e-6))
    return torch.cat(parts, dim=-1)


def _spread(residuals_NK: Tensor, inside: Tensor, classes: int) -> Tensor:
    """The spread inside classes, drawn towards that inside images; the latter alone where each class has one."""
    freedom = len(residuals_NK) - classes
    if freedom < 1:
        return inside
    within = residuals_NK.T @ residuals_NK / freedom
    size = (within.trace() / len(within)).clamp(min=1e-9)
    return (1 - SHRINKAGE) * within + SHRINKAGE * size * inside

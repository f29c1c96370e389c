"""What a classifier has to beat: a linear probe and nearest class mean, on frozen features.

Both are told on two features: the backbone's class feature, and that beside the mean of every level's tokens, which is
the stronger one where the image's surface tells classes apart. Shapes: N images, C classes, F width of a feature.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sowa.tasks.classification.evidence import class_means
from sowa.tasks.classification.pooled_features import PooledFeatures

STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0)  # C of the logistic regression, of which cross-validation takes one
FOLDS = 5
RIVALS = (
    "linear probe, class feature",
    "nearest mean, class feature",
    "linear probe, all levels",
    "nearest mean, all levels",
)


def frozen_features(pooled: PooledFeatures) -> dict[str, Tensor]:
    """The two features (N, F), each part a unit vector."""
    levels = [F.normalize(tokens.float().mean(dim=1), dim=-1) for tokens in pooled.tokens]
    return {"class feature": pooled.features, "all levels": torch.cat([pooled.features, *levels], dim=1)}


def rivals(
    train: dict[str, Tensor], labels: Tensor, test: dict[str, Tensor], classes: int
) -> dict[str, NDArray[np.int64]]:
    """What each of `RIVALS` says of the test images, class numbers (N,).

    Args:
        train: As of `frozen_features`, to learn from.
        labels: Their classes.
        test: As of `frozen_features`, N images.
        classes: C.
    """
    found: dict[str, NDArray[np.int64]] = {}
    for name in RIVALS:
        kind, _, feature = name.partition(", ")
        classify = linear_probe if kind == "linear probe" else nearest_mean
        found[name] = classify(train[feature], labels, test[feature], classes)
    return found


def nearest_mean(train_NF: Tensor, labels: Tensor, test_NF: Tensor, classes: int) -> NDArray[np.int64]:
    """The class whose mean has the largest cosine, (N,).

    Args:
        train_NF: To learn from.
        labels: Their classes.
        test_NF: N images.
        classes: C.
    """
    means = F.normalize(class_means(F.normalize(train_NF, dim=-1), labels, classes), dim=-1)
    nearest: NDArray[np.int64] = (F.normalize(test_NF, dim=-1) @ means.T).argmax(dim=1).numpy()
    return nearest


def linear_probe(train_NF: Tensor, labels: Tensor, test_NF: Tensor, classes: int) -> NDArray[np.int64]:
    """The class by logistic regression, (N,).

    Its strength is cross-validated where each class has two images or more, and else 1.

    Args:
        train_NF: To learn from.
        labels: Their classes.
        test_NF: N images.
        classes: C.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    least = int(torch.bincount(labels, minlength=classes).min())
    probe = LogisticRegression(max_iter=300)
    if least >= 2:
        folds = StratifiedKFold(min(FOLDS, least), shuffle=True, random_state=0)
        probe = GridSearchCV(probe, {"C": STRENGTHS}, cv=folds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the weakest ones are nearly separable
        probe.fit(train_NF.numpy(), labels.numpy())
    predicted: NDArray[np.int64] = probe.predict(test_NF.numpy())
    return predicted

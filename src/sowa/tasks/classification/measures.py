"""How well images are sorted: pure functions of probabilities, independent of any network.

Shapes: N images, C classes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

BINS = 15  # of confidence, as calibration errors are usually reported (Guo et al., 2017)


@dataclass(frozen=True)
class Measured:
    """How well images are sorted; shares in 0..1.

    Attributes:
        images: N.
        top1: Share whose class is right.
        top5: Share whose class is among the five likeliest; 1 of five classes or fewer.
        balanced: The mean of the classes' recalls.
        ece: Expected calibration error.
        ece_before: That of probabilities before their temperature.
        recall: Of each class, by name; None where there is no image of it.
        confusion: Row the true class, column the predicted one.
    """

    images: int
    top1: float
    top5: float
    balanced: float
    ece: float
    ece_before: float
    recall: dict[str, float | None]
    confusion: list[list[int]]

    def to_dict(self) -> dict[str, object]:
        """Plain values, ready for JSON."""
        return asdict(self)


def measure(logits_NC: Tensor, labels: Tensor, names: tuple[str, ...], temperature: float = 1.0) -> Measured:
    """Everything of one or more images whose classes are known.

    Args:
        logits_NC: (N, C).
        labels: True classes, (N,).
        names: Of the classes, C.
        temperature: What logits are divided by to be probabilities.
    """
    truth, count = labels.numpy(), len(names)
    ranked = logits_NC.argsort(dim=1, descending=True).numpy()
    table = confusion(truth, ranked[:, 0], count)
    recalls = recall(table)
    return Measured(
        images=len(truth),
        top1=float((ranked[:, 0] == truth).mean()),
        top5=float((ranked[:, :5] == truth[:, None]).any(axis=1).mean()),
        balanced=float(np.nanmean(recalls)),
        ece=calibration_error((logits_NC / temperature).softmax(dim=1).numpy(), truth),
        ece_before=calibration_error(logits_NC.softmax(dim=1).numpy(), truth),
        recall={name: None if np.isnan(value) else float(value) for name, value in zip(names, recalls, strict=True)},
        confusion=table.tolist(),
    )


def confusion(truth: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """How often each class was predicted as each, (C, C): row the true class, column the predicted one.

    Args:
        truth: (N,) numbers of classes.
        predicted: (N,) likewise.
        classes: C.

    Example:
        >>> confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
        [[1, 1], [0, 1]]
    """
    table = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(table, (truth, predicted), 1)
    return table


def recall(table_CC: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of each class (C,), NaN where there is no image of it."""
    of_class = table_CC.sum(axis=1)
    with np.errstate(invalid="ignore"):
        shares: NDArray[np.float64] = np.diag(table_CC) / of_class
    return shares


def calibration_error(probabilities_NC: NDArray[np.floating], truth: NDArray[np.int64]) -> float:
    """Expected calibration error in 0..1: how far confidence is from accuracy, over `BINS` equal bins of confidence.

    Args:
        probabilities_NC: (N, C) in 0..1.
        truth: (N,) numbers of classes.

    Example:
        >>> round(calibration_error(np.array([[0.8, 0.2], [0.8, 0.2]]), np.array([0, 1])), 3)
        0.3
    """
    confidence, right = probabilities_NC.max(axis=1), probabilities_NC.argmax(axis=1) == truth
    places = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gap = np.bincount(places, weights=confidence - right, minlength=BINS)
    return float(np.abs(gap).sum() / len(truth))

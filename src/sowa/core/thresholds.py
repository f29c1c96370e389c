"""The threshold that is best on labelled images, by a rule of the user's."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sowa.core.normal_range import SMALLEST
from sowa.errors import InputError

Rule = Literal["f1", "youden", "recall", "cost"]
"""f1: the largest F1. youden: the largest difference of true and false positive rate. recall: no anomalous image is
missed, as few false alarms as that allows. cost: the smallest sum of false alarms and ``missed_cost`` times misses."""


def best_threshold(scores: ArrayLike, labels: ArrayLike, rule: Rule, missed_cost: float = 1.0) -> float:
    """The threshold that ``rule`` finds best for scores (N,) with labels (N,), 1 where anomalous.

    It lies half-way between two neighbouring scores, or on the highest where it's best to call none anomalous.

    Args:
        scores: (N,), higher where more anomalous.
        labels: (N,), 1 where anomalous.
        rule: What is best.
        missed_cost: What a miss costs for the rule "cost", counted in false alarms.

    Raises:
        InputError: there aren't images of both kinds, or ``missed_cost`` isn't above 0.

    Example:
        >>> best_threshold([0.1, 0.2, 0.6, 0.4], [0, 0, 1, 1], "f1")
        0.30000000000000004
    """
    score_N, label_N = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=bool)
    anomalous, normal = int(label_N.sum()), int((~label_N).sum())
    if not anomalous or not normal:
        raise InputError(
            f"{normal} normal and {anomalous} anomalous images, needed is at least one of each for the rule {rule}"
        )
    if not 0 < missed_cost < np.inf:
        raise InputError(f"missed cost is {missed_cost}, allowed is above 0")
    ascending_D, place = np.unique(score_N, return_inverse=True)
    found_D, false_D = (np.bincount(place, kind)[::-1].cumsum() for kind in (label_N, ~label_N))
    return best_cut(ascending_D[::-1], found_D, false_D, rule, missed_cost)


def best_cut(
    score_D: NDArray[np.floating],
    found_D: NDArray[np.float64],
    false_D: NDArray[np.float64],
    rule: Rule,
    missed_cost: float = 1.0,
) -> float:
    """As `best_threshold`, from D distinct scores. Of equally good thresholds the highest is taken.

    Args:
        score_D: The highest first.
        found_D: How many anomalous images lie at or above each.
        false_D: How many normal ones.
        rule: What is best.
        missed_cost: As of `best_threshold`.
    """
    found, false = np.concatenate(([0.0], found_D)), np.concatenate(([0.0], false_D))
    anomalous, normal = found[-1], max(false[-1], 1)
    merit = {
        "f1": 2 * found / (found + false + anomalous),
        "youden": found / anomalous - false / normal,
        "recall": np.where(found == anomalous, -false, -np.inf),
        "cost": -false - missed_cost * (anomalous - found),
    }
    called = int(np.argmax(merit[rule]))  # so many distinct scores from the top are anomalous
    lowest = float(score_D[max(called - 1, 0)])
    below = lowest if not called else float(score_D[called]) if called < len(score_D) else 0.0
    return max((lowest + below) / 2, SMALLEST)

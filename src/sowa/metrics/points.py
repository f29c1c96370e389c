"""Curves to draw: ROC and PR over images, PRO over regions. The metrics themselves don't depend on them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sowa.metrics.curve import AUPRO_LIMIT, ScoreCurve
from sowa.metrics.image import checked_scores

POINTS = 300
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A curve from left to right, fractions in 0..1.

    Attributes:
        x: (N,), rising, with N at most `POINTS`.
        y: (N,).
    """

    x: _Floats
    y: _Floats

    @classmethod
    def of(cls, x: _Floats, y: _Floats) -> "Curve":
        """The curve through points, thinned to those about equally far apart on it.

        Args:
            x: (N,), rising or falling.
            y: (N,).
        """
        if x[0] > x[-1]:
            x, y = x[::-1], y[::-1]
        way = np.concatenate(([0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))))
        kept = np.unique(np.searchsorted(way, np.linspace(0.0, way[-1], POINTS)))
        return cls(x[kept], y[kept])


def image_curves(scores: Iterable[float], labels: Iterable[int]) -> dict[str, Curve]:
    """ROC (true over false positive rate) and PR (precision over recall) of images, as scikit-learn draws them.

    Args:
        scores: (N,) as `image_metrics` takes them.
        labels: (N,) likewise.

    Returns:
        Curves by name; what is undefined is left out.

    Raises:
        ValueError: as `image_metrics` says.
    """
    score_N, label_N = checked_scores(scores, labels)
    if not label_N.any():
        return {}

    from sklearn.metrics import precision_recall_curve, roc_curve

    precision, recall, _ = precision_recall_curve(label_N, score_N)
    curves = {"PR": Curve.of(recall, precision)}
    if not label_N.all():
        false_positive, true_positive, _ = roc_curve(label_N, score_N)
        curves = {"ROC": Curve.of(false_positive, true_positive)} | curves
    return curves


def pro_curve(curve: ScoreCurve, limit: float = AUPRO_LIMIT) -> Curve:
    """Mean covered fraction of a region over the pooled false positive rate of pixels.

    Args:
        curve: With ``pro``.
        limit: The largest rate, above 0 up to 1.
    """
    fpr, pro = np.concatenate(([0.0], curve.fpr)), np.concatenate(([0.0], curve.pro))
    inside = fpr <= limit
    x, y = fpr[inside], pro[inside]
    if not inside.all():
        beyond = len(x)
        x = np.append(x, limit)
        y = np.append(y, np.interp(limit, fpr[beyond - 1 : beyond + 1], pro[beyond - 1 : beyond + 1]))
    return Curve.of(x, y)

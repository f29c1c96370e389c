"""image_AUROC, image_AP and image_F1Max: how well one score per image tells normal from anomalous images."""

# ruff: noqa: N815 (the field writes its metrics with capitals)

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sowa.metrics.value import MetricValue

_Floats = NDArray[np.float64]
_Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class ImageMetricsResult:
    """The three image metrics and what they rest on.

    Attributes:
        image_AUROC: Area under the ROC curve; needs both kinds of image.
        image_AP: Average precision; needs an anomalous image.
        image_F1Max: The largest F1 over all thresholds; needs an anomalous image.
        n_images: N.
    """

    image_AUROC: MetricValue
    image_AP: MetricValue
    image_F1Max: MetricValue
    n_images: int

    def metrics(self) -> dict[str, MetricValue]:
        """The metrics by name, in the order of publication."""
        return {"image_AUROC": self.image_AUROC, "image_AP": self.image_AP, "image_F1Max": self.image_F1Max}


def image_metrics(scores: Iterable[float], labels: Iterable[int]) -> ImageMetricsResult:
    """Image metrics of a data set, as scikit-learn defines them.

    Args:
        scores: (N,) finite image scores, any range, higher is more anomalous.
        labels: (N,) False or 0 is normal, True or 1 is anomalous.

    Returns:
        image_AUROC, which needs both kinds of image, and image_AP and image_F1Max (the largest F1 over all thresholds),
        which need an anomalous one.

    Raises:
        ValueError: the lengths differ, a score is NaN or infinite, or a label is neither 0 nor 1.

    Example:
        >>> found = image_metrics([0.1, 0.4, 0.3, 0.8], [0, 0, 1, 1])
        >>> float(found.image_AUROC), round(float(found.image_AP), 3), float(found.image_F1Max)
        (0.75, 0.833, 0.8)
        >>> image_metrics([0.1, 0.4], [0, 0]).image_AP.why
        'only normal images'
    """
    score_N, label_N = checked_scores(scores, labels)
    n_anomalous = int(label_N.sum())
    if n_anomalous == 0:
        why = "only normal images" if len(label_N) else "no images"
        undefined = MetricValue.undefined(why)
        return ImageMetricsResult(undefined, undefined, undefined, len(label_N))

    # Imported here to keep `import sowa` light.
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

    if n_anomalous == len(label_N):
        auroc = MetricValue.undefined("only anomalous images")
    else:
        auroc = MetricValue.of(roc_auc_score(label_N, score_N))
    precision, recall, _ = precision_recall_curve(label_N, score_N)
    both = precision + recall
    f1 = 2 * precision * recall / np.where(both > 0, both, 1.0)
    return ImageMetricsResult(
        image_AUROC=auroc,
        image_AP=MetricValue.of(average_precision_score(label_N, score_N)),
        image_F1Max=MetricValue.of(f1.max()),
        n_images=len(label_N),
    )


def checked_scores(scores: Iterable[float], labels: Iterable[int]) -> tuple[_Floats, _Bools]:
    """Scores and labels as arrays.

    Args:
        scores: (N,) as `image_metrics` takes them.
        labels: (N,) likewise.

    Raises:
        ValueError: as `image_metrics` says.
    """
    score_N = np.asarray(list(scores), dtype=np.float64)
    raw_label_N = np.asarray(list(labels))
    if score_N.ndim != 1 or score_N.shape != raw_label_N.shape:
        raise ValueError(f"scores {score_N.shape} and labels {raw_label_N.shape} differ: give one of each per image")
    bad = np.flatnonzero(~np.isfinite(score_N))
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {len(score_N)} image scores are NaN or infinite, the first at index {bad[0]}: "
            "leave those images out or score them again"
        )
    if raw_label_N.dtype.kind not in "biuf":
        raise ValueError(f"image labels are of type {raw_label_N.dtype}: use 0 (normal) and 1 (anomalous)")
    label_N = raw_label_N.astype(bool)
    odd = np.flatnonzero(raw_label_N != label_N)
    if len(odd):
        raise ValueError(
            f"image label {raw_label_N[odd[0]]} at index {odd[0]} is unknown: use 0 (normal) or 1 (anomalous)"
        )
    return score_N, label_N

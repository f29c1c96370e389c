"""What a threshold makes of image scores: what is found, what is called falsely, and what is left unsure."""

# ruff: noqa: N815 (the field writes its metrics with capitals)

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sowa.metrics.image import checked_scores
from sowa.metrics.value import MetricValue


@dataclass(frozen=True)
class DecisionMetricsResult:
    """Of images judged at a threshold, with a band in which they count as unsure.

    Attributes:
        image_BalancedAccuracy: Mean of the shares of anomalous and of normal images that are called what they are.
        image_TPR: Share of anomalous images above the threshold.
        image_FPR: Share of normal ones.
        image_Unsure: Share of images within the band, both kinds counting half.
        image_SureBalancedAccuracy: As ``image_BalancedAccuracy``, of the images outside it.
    """

    image_BalancedAccuracy: MetricValue
    image_TPR: MetricValue
    image_FPR: MetricValue
    image_Unsure: MetricValue
    image_SureBalancedAccuracy: MetricValue

    def metrics(self) -> dict[str, MetricValue]:
        """The metrics by name."""
        return {
            "image_BalancedAccuracy": self.image_BalancedAccuracy,
            "image_TPR": self.image_TPR,
            "image_FPR": self.image_FPR,
            "image_Unsure": self.image_Unsure,
            "image_SureBalancedAccuracy": self.image_SureBalancedAccuracy,
        }


def decision_metrics(
    scores: Iterable[float], labels: Iterable[int], threshold: float, unsure: tuple[float, float]
) -> DecisionMetricsResult:
    """What a threshold makes of scores.

    Args:
        scores: (N,) finite image scores, any range, higher is more anomalous.
        labels: (N,) False or 0 is normal, True or 1 is anomalous.
        threshold: Above it an image is called anomalous.
        unsure: Between these two scores, ends excluded, it is unsure.

    Returns:
        Metrics, each undefined where the kind of image that it needs isn't there.

    Raises:
        ValueError: as of `sowa.metrics.image_metrics`.

    Example:
        >>> found = decision_metrics([0.1, 0.4, 0.3, 0.8], [0, 0, 1, 1], threshold=0.35, unsure=(0.3, 0.5))
        >>> float(found.image_BalancedAccuracy), float(found.image_FPR), float(found.image_Unsure)
        (0.5, 0.5, 0.25)
        >>> float(found.image_SureBalancedAccuracy)
        0.75
    """
    score_N, label_N = checked_scores(scores, labels)
    sure_N = (score_N <= unsure[0]) | (score_N >= unsure[1])
    called_N = score_N > threshold
    found, false = _share(called_N, label_N, "anomalous"), _share(called_N, ~label_N, "normal")
    sure_found = _share(called_N[sure_N], label_N[sure_N], "sure anomalous")
    sure_false = _share(called_N[sure_N], ~label_N[sure_N], "sure normal")
    unsure_shares = [_share(~sure_N, kind, name) for kind, name in ((label_N, "anomalous"), (~label_N, "normal"))]
    return DecisionMetricsResult(
        image_BalancedAccuracy=_balanced(found, false),
        image_TPR=found,
        image_FPR=false,
        image_Unsure=_mean(*unsure_shares),
        image_SureBalancedAccuracy=_balanced(sure_found, sure_false),
    )


def _share(chosen: NDArray[np.bool_], of: NDArray[np.bool_], name: str) -> MetricValue:
    return MetricValue.of(chosen[of].mean()) if of.any() else MetricValue.undefined(f"no {name} image")


def _balanced(found: MetricValue, false: MetricValue) -> MetricValue:
    return _mean(found, false if false.why else MetricValue.of(1 - false.value))


def _mean(one: MetricValue, other: MetricValue) -> MetricValue:
    why = one.why or other.why
    return MetricValue.undefined(why) if why else MetricValue.of((one.value + other.value) / 2)

"""The seven metrics of visual anomaly detection, over whole data sets in bounded memory.

`image_metrics` judges one score per image; `pixel_metrics`, and its incremental form `PixelMetrics`, judge
anomaly maps against masks; `PixelMetricsBySize` does so for small and for large defects apart. `decision_metrics` says
what a threshold makes of scores. `bootstrap_images` and `PixelBootstrap` say how far the metrics may move with other
images of the same kind. Every metric is a fraction in 0..1, and an undefined one is NaN together with the reason, never
0. `image_curves` and `PixelMetrics.pro_curve` give points to draw. Nothing here imports torch.
"""

from sowa.metrics.bootstrap import Interval, PixelBootstrap, bootstrap_images
from sowa.metrics.by_size import SIZE_EDGES, OfSize, PixelMetricsBySize
from sowa.metrics.curve import AUPRO_LIMIT
from sowa.metrics.decision import DecisionMetricsResult, decision_metrics
from sowa.metrics.image import ImageMetricsResult, image_metrics
from sowa.metrics.pixel import Aupro, PixelMetrics, PixelMetricsResult, pixel_metrics
from sowa.metrics.points import Curve, image_curves
from sowa.metrics.value import MetricValue

__all__ = [
    "AUPRO_LIMIT",
    "SIZE_EDGES",
    "Aupro",
    "Curve",
    "DecisionMetricsResult",
    "ImageMetricsResult",
    "Interval",
    "MetricValue",
    "OfSize",
    "PixelBootstrap",
    "PixelMetrics",
    "PixelMetricsBySize",
    "PixelMetricsResult",
    "bootstrap_images",
    "decision_metrics",
    "image_curves",
    "image_metrics",
    "pixel_metrics",
]

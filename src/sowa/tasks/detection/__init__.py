"""Object detection: boxes with names from the frozen levels, trained on a user's own images."""

from sowa.tasks.detection.detector import BoxDetector, Detections

__all__ = ["BoxDetector", "Detections"]

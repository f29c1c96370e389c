"""SOWA: few-shot and zero-shot visual anomaly detection with a frozen vision-language model (arXiv 2407.03634).

Importing the package is light: torch is loaded when a detector is built.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sowa.errors import InputError

if TYPE_CHECKING:
    from sowa.core.config import Settings
    from sowa.core.types import Sample
    from sowa.detector.detector import Sowa
    from sowa.detector.exported import ExportedSowa
    from sowa.detector.prediction import Prediction
    from sowa.tasks.classification.classifier import Classifier
    from sowa.tasks.detection.detector import BoxDetector

__version__ = "0.1.0"
__all__ = [
    "BoxDetector",
    "Classifier",
    "ExportedSowa",
    "InputError",
    "Prediction",
    "Sample",
    "Settings",
    "Sowa",
    "__version__",
]

_LOADED_WHEN_ASKED = {
    "BoxDetector": "sowa.tasks.detection.detector",
    "Classifier": "sowa.tasks.classification.classifier",
    "ExportedSowa": "sowa.detector.exported",
    "Prediction": "sowa.detector.prediction",
    "Sample": "sowa.core.types",
    "Settings": "sowa.core.config",
    "Sowa": "sowa.detector.detector",
}


def __getattr__(name: str) -> Any:
    if name in _LOADED_WHEN_ASKED:
        return getattr(import_module(_LOADED_WHEN_ASKED[name]), name)
    raise AttributeError(f"module 'sowa' has no attribute {name!r}")

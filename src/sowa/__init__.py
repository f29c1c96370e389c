"""SOWA: few-shot and zero-shot visual anomaly detection with a frozen vision-language model (arXiv 2407.03634).

Importing the package is light: torch is loaded when a detector is built.
"""

from typing import TYPE_CHECKING, Any

from sowa.errors import InputError
from sowa.types import Sample

if TYPE_CHECKING:
    from sowa.detector import Sowa
    from sowa.prediction import Prediction

__version__ = "0.1.0"
__all__ = ["InputError", "Prediction", "Sample", "Sowa", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Sowa":
        from sowa.detector import Sowa

        return Sowa
    if name == "Prediction":
        from sowa.prediction import Prediction

        return Prediction
    raise AttributeError(f"module 'sowa' has no attribute {name!r}")

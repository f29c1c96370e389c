"""Exported detectors where they work: pictures in, predictions out, without torch.

Needed are numpy, Pillow and the runtime that the detector was exported for, onnxruntime or openvino; OpenCV only to
draw and to read videos.
"""

from sowa.runtime.detector import ExportedSowa

__all__ = ["ExportedSowa"]

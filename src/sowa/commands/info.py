"""``sowa info``: what the package offers, or what a file of ours holds. Loads no torch for the former."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

import sowa
from sowa.errors import InputError

LIBRARIES = ("torch", "torchvision", "open-clip-torch", "timm", "numpy", "opencv-python-headless", "pillow")
DATASETS = ("folder", "mvtec", "visa", "pairs")


def describe_package() -> dict[str, Any]:
    """Versions and what can be named on the command line."""
    weights = files("sowa") / "weights"
    shipped = sorted(path.name for path in weights.iterdir() if path.name.endswith(".safetensors"))
    return {
        "sowa": sowa.__version__,
        "libraries": [f"{name} {_version(name)}" for name in LIBRARIES],
        "backbones": ["mini (embedded, offline)", "any ViT-* of open_clip: NAME, NAME:TAG, NAME:FILE, NAME:random"],
        "data sets": list(DATASETS),
        "shipped weights": shipped,
    }


def describe_file(path: Path) -> dict[str, Any]:
    """What a detector or weights file holds, read from its header alone.

    Raises InputError for a file that is missing, truncated or not ours.
    """
    from sowa.files import read_metadata

    kind, metadata = read_metadata(path)
    if kind not in ("sowa-detector", "sowa-weights"):
        raise InputError(f"{path} is a {kind} file, info reads detectors and weights")
    facts: dict[str, Any] = {
        "file": str(path),
        "kind": kind,
        "backbone": metadata["backbone"]["name"],
        "levels": metadata["backbone"]["levels"],
        "fingerprint": metadata["backbone"]["fingerprint"],
    }
    if kind == "sowa-detector":
        facts |= {
            "image size": "{} x {}".format(*metadata["image_size"]),
            "prompts trained": metadata["trained"],
            "threshold": metadata["calibration"]["threshold"],
            "pixel threshold": metadata["calibration"]["pixel_threshold"],
            "seed": metadata["seed"],
            "references": metadata["references"],
        }
    else:
        facts |= {"training": metadata.get("train", {}), "held-out metrics": metadata.get("after", {})}
    return facts


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"

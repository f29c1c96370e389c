"""``sowa info``: what the package offers, or what a file of ours holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import sowa
from sowa.cli.console import Console
from sowa.cli.options import AsJson, basic
from sowa.core.files import read_metadata
from sowa.core.headers import (
    CLASSIFY_FORMAT,
    DETECT_FORMAT,
    DETECTOR_FORMAT,
    WEIGHTS_FORMAT,
    Identity,
    TaskHeader,
    WeightsHeader,
    read_header,
)
from sowa.errors import InputError

LIBRARIES = ("torch", "torchvision", "open-clip-torch", "timm", "numpy", "opencv-python-headless", "pillow")


def info(
    file: Annotated[Path | None, basic("a *.sowa or *.safetensors file")] = None, *, json_out: AsJson = False
) -> None:
    """Show what a detector or weights file holds, or what the package offers."""
    Console().describe(_describe_file(file) if file else describe_package(), as_json=json_out)


def describe_package() -> dict[str, Any]:
    """Versions and what can be named on the command line."""
    from importlib.resources import files

    from sowa.data import DATASETS

    weights = files("sowa") / "weights"
    shipped = sorted(path.name for path in weights.iterdir() if path.name.endswith(".safetensors"))
    return {
        "sowa": sowa.__version__,
        "libraries": [f"{name} {_version(name)}" for name in LIBRARIES],
        "backbones": ["mini (embedded, offline)", "any ViT-* of open_clip: NAME, NAME:TAG, NAME:FILE, NAME:random"],
        "data sets": list(DATASETS),
        "shipped weights": shipped,
    }


def _describe_file(path: Path) -> dict[str, Any]:
    """What a detector, a weights file or a task's model holds, read from its header alone.

    Raises InputError for a file that is missing, truncated or not ours.
    """
    from sowa.detector.file import DetectorHeader

    kind, metadata = read_metadata(path)
    facts: dict[str, Any] = {"file": str(path), "kind": kind}
    if kind == DETECTOR_FORMAT:
        detector = read_header(DetectorHeader, metadata, path)
        return facts | {
            **_backbone(detector.backbone),
            "image size": "{} x {}".format(*detector.image_size) + (", in tiles" if detector.tiled else ""),
            "prompts trained": detector.trained,
            "threshold": detector.calibration.threshold,
            "pixel threshold": detector.calibration.pixel_threshold,
            "unsure": "raw score {:.4f} to {:.4f}".format(*detector.calibration.unsure),
            "thresholds by": detector.calibration.rule,
            "normal images seen": detector.calibration.seen,
            "seed": detector.seed,
            "references": detector.references,
            "augmented by": ", ".join(detector.augment) or "nothing",
            "extensions": [f"{name}: {_settings(own)}" for name, own in detector.extensions.items()],
        }
    if kind == WEIGHTS_FORMAT:
        weights = read_header(WeightsHeader, metadata, path)
        held_out = [
            f"{name} {_digits(weights.before[name])} -> {_digits(value)}" for name, value in weights.after.items()
        ]
        return facts | {**_backbone(weights.backbone), "training": weights.train, "held-out metrics": held_out}
    if kind in (DETECT_FORMAT, CLASSIFY_FORMAT):
        task = read_header(TaskHeader, metadata, path)
        return facts | {
            **_backbone(task.backbone),
            "image size": "{} x {}".format(*task.image_size),
            "classes": list(task.names),
            "training": task.train,
            "held-out metrics": [f"{name} {_digits(value)}" for name, value in task.metrics.items()],
        }
    raise InputError(f"{path} is a {kind} file, info reads detectors, weights and models of tasks")


def _backbone(identity: Identity) -> dict[str, Any]:
    levels = ", ".join(str(level) for level in identity.levels)
    return {"backbone": identity.name, "levels": levels, "fingerprint": identity.fingerprint}


def _settings(settings: dict[str, Any]) -> str:
    """In words, without hashes."""
    told = {name: value for name, value in settings.items() if not name.endswith("sha256")}
    return "; ".join(f"{name} {', '.join(v) if isinstance(v, list) else v}" for name, v in told.items())


def _digits(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _version(name: str) -> str:
    # A hundredth of a second, which other commands needn't wait for.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"

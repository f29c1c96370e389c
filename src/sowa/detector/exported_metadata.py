"""What ``metadata.json`` says beside an exported model: how to feed it, and where normal ends."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sowa.core.calibration import score_of
from sowa.errors import InputError

NAME, FORMAT, VERSION = "metadata.json", "sowa-export", 2
LARGEST = 1 << 26  # bytes of a metadata file that is read at all


@dataclass(frozen=True)
class ExportedBoundary:
    """Where normal ends. The thresholds may be edited; ``width`` says how gently the score rises around them.

    Between the two raw scores of ``unsure`` neither verdict is right often enough.

    ``normal_raw_scores`` rise, and ``normal_percentiles`` says how many of 100 normal images stay below each; both
    are empty where the detector has seen no normal image.
    """

    threshold: float
    pixel_threshold: float
    width: float
    unsure: tuple[float, float]
    normal_raw_scores: tuple[float, ...] = ()
    normal_percentiles: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not all(0 < value < math.inf for value in (self.threshold, self.pixel_threshold, self.width)):
            raise ValueError("threshold, pixel_threshold and width must be numbers above 0")
        if len(self.unsure) != 2 or not 0 < self.unsure[0] <= self.unsure[1] < math.inf:
            raise ValueError("unsure must be two numbers above 0, the lower one first")
        if len(self.normal_raw_scores) != len(self.normal_percentiles):
            raise ValueError("normal_raw_scores and normal_percentiles must be of one length")

    def score(self, raw_score: float) -> float:
        """Raw score (0 and more) to 0..1, rising, 0.5 at the threshold."""
        return score_of(raw_score, self.threshold, self.width)

    def normal_percentile(self, raw_score: float) -> float | None:
        """Share of normal images with a lower raw score, 0..100, between the table's values linear."""
        if not self.normal_raw_scores:
            return None
        return float(np.interp(raw_score, self.normal_raw_scores, self.normal_percentiles))


@dataclass(frozen=True)
class Metadata:
    """Everything about an exported model but its weights.

    ``runtime`` "onnx", "openvino" or "torch" reads ``model``, a file beside it; ``sha256`` are those of all its files.
    The graph takes images (B, H, W, 3) uint8 RGB at ``image_size`` (H, W) and normalises them itself by ``mean`` and
    ``std``. ``detector`` says where it came from, ``comparison`` how far it is from the original.
    """

    runtime: str
    precision: str
    model: str
    sha256: dict[str, str]
    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    boundary: ExportedBoundary
    detector: dict[str, Any] = field(default_factory=dict)
    comparison: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Writes the file into ``folder``."""
        text = json.dumps({"format": FORMAT, "version": VERSION, **asdict(self)}, indent=1)
        (folder / NAME).write_text(text + "\n", encoding="utf-8")


def read_metadata(folder: Path) -> Metadata:
    """The metadata of an exported detector, its files checked against their SHA-256.

    Raises InputError where something is missing, broken, changed, or of another version.
    """
    file = folder / NAME
    try:
        if file.stat().st_size > LARGEST:
            raise ValueError(f"it has {file.stat().st_size} bytes")
        found = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or found.pop("format", None) != FORMAT:
            raise ValueError(f"its format isn't {FORMAT}")
        if found.pop("version", None) != VERSION:
            raise ValueError(f"its version isn't {VERSION}")
        metadata = _understood(found)
    except OSError as error:
        raise InputError(f"{file} can't be read ({error.strerror}); give a folder that sowa export wrote") from None
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"{file} isn't understood ({error}); export the detector anew") from None
    for name, digest in metadata.sha256.items():
        if sha256(folder / name) != digest:
            raise InputError(f"{folder / name} isn't the file that was exported (SHA-256 differs); export it anew")
    return metadata


def _understood(found: dict[str, Any]) -> Metadata:
    boundary: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in found["boundary"].items()
    }
    for name in ("unsure", "normal_raw_scores", "normal_percentiles"):
        if any(not isinstance(value, int | float) for value in boundary.get(name, ())):
            raise ValueError(f"{name} holds something else than numbers")
    height, width = (int(side) for side in found["image_size"])
    names = {found["model"], *found["sha256"]}
    if (
        any(not isinstance(name, str) or Path(name).name != name for name in names)
        or found["model"] not in found["sha256"]
    ):
        raise ValueError("a model's files lie beside its metadata")
    if min(height, width) < 1:
        raise ValueError(f"image size is {height} x {width}")
    values = {"image_size": (height, width), "mean": tuple(found["mean"]), "std": tuple(found["std"])}
    return Metadata(**{**found, **values, "boundary": ExportedBoundary(**boundary)})


def sha256(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal. Raises InputError where it can't be read."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{file} can't be read ({error.strerror}); export the detector anew") from None

"""The detector's file: a safetensors archive whose header says everything but memory bank, weights and what extensions
know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sowa.core.arrays import Array
from sowa.core.calibration import Calibration
from sowa.core.config import STRICT, ModelConfig, to_dict
from sowa.core.files import read_safetensors, write_safetensors
from sowa.core.headers import DETECTOR_FORMAT, Identity, read_header

BANK, EXTENSION = "bank", "extensions."  # the names of tensors begin so; all others are the network's


@dataclass(frozen=True)
class DetectorHeader:
    """Of a detector file: network, backbone, and everything that ``fit`` found but the memory bank.

    Attributes:
        config: The network's.
        backbone: Which one it is.
        trained: Whether the file holds trained adapters and prompts.
        image_size: (H, W) in pixels at which images are seen.
        tiled: Whether through overlapping windows.
        category: The class whose prompts are used.
        calibration: Where normal ends.
        references: Names of the reference images, in the bank's order.
        seed: That drew them.
        augment: Kinds of their views in the bank.
        weights: What each level's distances count; None for as much as they are.
        zero_shot_weight: What an image's zero-shot score counts beside them.
        extensions: Settings by the name of the extension.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    config: ModelConfig
    backbone: Identity
    trained: bool
    image_size: tuple[int, int]
    tiled: bool
    category: str | None
    calibration: Calibration
    references: list[str]
    seed: int | None
    augment: tuple[str, ...] = ()
    weights: tuple[float, ...] | None = None
    zero_shot_weight: float = 0.0
    extensions: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class DetectorFile:
    """What a file holds.

    Attributes:
        header: What it says of itself.
        bank: (L, K, P, E) unit vectors.
        network: Tensors of the network by name.
        extensions: Tensors of each extension by its name.
    """

    header: DetectorHeader
    bank: Array
    network: Mapping[str, Array]
    extensions: Mapping[str, Mapping[str, Array]]


def write_detector(path: Path, file: DetectorFile) -> None:
    """Writes a file, or nothing. Raises InputError where it can't be written."""
    tensors = {BANK: file.bank, **file.network}
    for name, own in file.extensions.items():
        tensors |= {f"{EXTENSION}{name}.{key}": tensor for key, tensor in own.items()}
    write_safetensors(path, tensors, DETECTOR_FORMAT, to_dict(file.header))


def read_detector(path: Path) -> DetectorFile:
    """What a file holds.

    Raises:
        InputError: it is truncated, not ours, or of another version.
    """
    tensors, metadata = read_safetensors(path, DETECTOR_FORMAT)
    header = read_header(DetectorHeader, metadata, path)
    bank = tensors.pop(BANK, np.empty(0))
    extensions: dict[str, dict[str, Array]] = {name: {} for name in header.extensions}
    for key in [key for key in tensors if key.startswith(EXTENSION)]:
        name, _, own = key.removeprefix(EXTENSION).partition(".")
        extensions.setdefault(name, {})[own] = tensors.pop(key)
    return DetectorFile(header, bank, tensors, extensions)

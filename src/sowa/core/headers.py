"""What the package's files say of themselves beside their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from sowa.core.config import STRICT, ModelConfig, from_dict
from sowa.errors import InputError

WEIGHTS_FORMAT, DETECTOR_FORMAT, CHECKPOINT_FORMAT = "sowa-weights", "sowa-detector", "sowa-checkpoint"
DETECT_FORMAT, CLASSIFY_FORMAT = "sowa-detect", "sowa-classify"
H = TypeVar("H")


@dataclass(frozen=True)
class Identity:
    """Which backbone a file belongs to: its name, the levels that were read, SHA-256 of its weights."""

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    name: str
    levels: tuple[int, ...]
    fingerprint: str


@dataclass(frozen=True)
class WeightsHeader:
    """Of a weights file: network, backbone, how it was trained, and metrics on held-out images before and after."""

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    config: ModelConfig
    backbone: Identity
    train: dict[str, Any] = field(default_factory=dict)
    before: dict[str, float | None] = field(default_factory=dict)
    after: dict[str, float | None] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class TaskHeader:
    """Of a task's file: what was trained on which backbone at which image size (H, W), the classes, the settings, how
    it was trained, and metrics on held-out images."""

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    backbone: Identity
    image_size: tuple[int, int]
    names: tuple[str, ...]
    config: dict[str, Any]
    train: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float | None] = field(default_factory=dict)


def read_header(kind: type[H], metadata: Mapping[str, Any], path: Path) -> H:
    """A file's metadata as a header. Raises InputError where it isn't understood."""
    try:
        return from_dict(kind, dict(metadata))
    except InputError as error:
        raise InputError(f"{path}: {error}; another version wrote it, make it anew") from None

"""The file of what tells defects by their names, and what the package ships."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch

from sowa.core.config import STRICT, to_dict
from sowa.core.files import packaged, read_safetensors, write_safetensors
from sowa.core.headers import Identity, read_header
from sowa.errors import InputError
from sowa.extensions.names.config import NamerConfig
from sowa.extensions.names.namer import Namer
from sowa.model.backbone import Backbone
from sowa.model.checkpoint import identity

FORMAT, SHIPPED = "sowa-namer", "mini-namer.safetensors"


@dataclass(frozen=True)
class NamerHeader:
    """Of a namer's file.

    Attributes:
        config: Its settings.
        backbone: That it looks through.
        train: How it was trained.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    config: NamerConfig
    backbone: Identity
    train: dict[str, Any] = field(default_factory=dict)


def save_namer(namer: Namer, backbone: Backbone, how: dict[str, Any], path: Path) -> None:
    """Writes a namer's weights, in 16 bits, and its header.

    Args:
        namer: The trained one.
        backbone: That it looks through.
        how: It was trained, for the header.
        path: The file.

    Raises:
        InputError: the file can't be written.
    """
    tensors = {name: value.half().cpu().contiguous() for name, value in namer.state_dict().items()}
    write_safetensors(path, tensors, FORMAT, to_dict(NamerHeader(namer.config, identity(backbone), how)))


def load_namer(backbone: Backbone, path: Path | None = None) -> Namer:
    """The namer that was trained on a backbone.

    Args:
        backbone: That it looks through.
        path: Its file; by default what the package ships for its own backbone.

    Raises:
        InputError: it belongs to another backbone, or the file doesn't fit its own header.
    """
    path = path or packaged(SHIPPED)
    tensors, metadata = read_safetensors(path, FORMAT)
    header = read_header(NamerHeader, metadata, path)
    if header.backbone.fingerprint != backbone.fingerprint() or header.backbone.levels != backbone.levels:
        raise InputError(
            f"names of defects are told through backbone {header.backbone.name!r}, this is {backbone.name!r} or has "
            "other levels; leave the names out, or use that one"
        )
    with torch.random.fork_rng(devices=[]):
        namer = Namer(header.config, len(backbone.levels), backbone)
    try:
        namer.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f"{path} doesn't fit its own header ({error}); make it anew") from None
    return namer.requires_grad_(False).eval()

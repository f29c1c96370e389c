"""The detector's file: a safetensors archive whose header says everything but the memory bank."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from sowa.core.config import to_dict
from sowa.core.files import read_safetensors, write_safetensors
from sowa.core.headers import DETECTOR_FORMAT, DetectorHeader, read_header
from sowa.core.tiling import check_image_size
from sowa.data.views import check, count
from sowa.errors import InputError
from sowa.model.checkpoint import load_weights, rebuild, trained_tensors
from sowa.model.sowa import SowaNetwork

GLANCES = "glances."  # the names of what glances know begin so


def write_detector(
    path: Path, header: DetectorHeader, bank: Tensor, trained: Mapping[str, Tensor], glances: Mapping[str, Tensor]
) -> None:
    """Writes header, bank (L, K, P, E), trained tensors, and what glances know. Raises InputError where the file can't
    be written."""
    known = {GLANCES + name: tensor for name, tensor in glances.items()}
    write_safetensors(path, {"bank": bank.cpu().contiguous(), **trained, **known}, DETECTOR_FORMAT, to_dict(header))


def read_detector(path: Path, backbone: str | None) -> tuple[DetectorHeader, SowaNetwork, Tensor, Mapping[str, Tensor]]:
    """Header, network with its trained weights, bank (L, K, P, E) and what glances know of a file; ``backbone`` as in
    ``Sowa.load``.

    Raises InputError for a file that is truncated, not ours, of another version, or made with another backbone.
    """
    tensors, metadata = read_safetensors(path, DETECTOR_FORMAT)
    header = read_header(DetectorHeader, metadata, path)
    network = rebuild(header.config, header.backbone, path, backbone)
    bank = tensors.pop("bank", torch.empty(0))
    size = check_image_size(header.image_size, network.backbone, header.tiled)
    patches = count(size, check(header.augment)) * math.prod(network.backbone.grid(size))
    kept = min(bank.shape[2], patches) if bank.ndim == 4 else patches  # of each reference all patches, or some
    expected = (len(network.backbone.levels), len(header.references), kept, network.backbone.embed_dim)
    if tuple(bank.shape) != expected or 0 in expected or not torch.isfinite(bank).all():
        raise InputError(
            f"{path} holds a memory bank of shape {tuple(bank.shape)}, needed are finite numbers {expected}; "
            "fit it anew"
        )
    known = {name.removeprefix(GLANCES): tensors.pop(name) for name in list(tensors) if name.startswith(GLANCES)}
    if header.trained or network.saliency:
        own = {} if header.trained else {n: t for n, t in trained_tensors(network).items() if n[:9] != "saliency."}
        load_weights(network, own | tensors, str(path))
    return header, network, bank, known

"""A training run's state on disk, so that a run that was killed goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sowa.core.files import read_safetensors, write_safetensors
from sowa.core.headers import CHECKPOINT_FORMAT
from sowa.errors import InputError


def save_checkpoint(
    path: Path,
    tensors: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    run: Mapping[str, Any],
    state: Mapping[str, Any],
) -> None:
    """Writes what is trained, the optimizer's moments, what the run is and how far it is."""
    moments = {
        f"optimizer.{index}.{key}": value.cpu().contiguous()
        for index, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
    }
    write_safetensors(path, {**tensors, **moments}, CHECKPOINT_FORMAT, {"run": run, "state": state})


def load_checkpoint(
    path: Path, optimizer: torch.optim.Optimizer, run: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What was trained and how far it was; the optimizer takes its moments over.

    Raises InputError for the checkpoint of another run.
    """
    tensors, metadata = read_safetensors(path, CHECKPOINT_FORMAT)
    if metadata["run"] != json.loads(json.dumps(run)):
        raise InputError(
            f"{path} is the checkpoint of a run with other settings or images; remove it, or choose another --out"
        )
    moments: dict[int, dict[str, Tensor]] = {}
    for key in [key for key in tensors if key.startswith("optimizer.")]:
        _, index, name = key.split(".")
        moments.setdefault(int(index), {})[name] = tensors.pop(key)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return tensors, metadata["state"]

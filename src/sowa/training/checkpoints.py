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
    """Writes the state of a run that goes on.

    Args:
        path: The file.
        tensors: What is trained, by name.
        optimizer: Whose moments are kept.
        run: What the run is: two must share it for one to go on where the other was stopped.
        state: How far it is.

    Raises:
        InputError: the file can't be written.
    """
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

    Args:
        path: The file.
        optimizer: Of the same parameters.
        run: What the run is.

    Raises:
        InputError: a file that isn't a checkpoint, or one of another run.
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

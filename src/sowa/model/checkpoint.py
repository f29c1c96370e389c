"""Files of trained weights: safetensors, only what is trained, with the configuration and the backbone's identity.

Nothing is ever unpickled. The authors' key names are read too.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sowa.config import ModelConfig, from_dict, to_dict
from sowa.errors import InputError
from sowa.model.backbone import Backbone
from sowa.model.sowa import SowaNetwork

FORMAT, VERSION = "sowa-weights", 1

# The authors' name of a tensor -> ours. Buffers that follow from the configuration are skipped.
AUTHORS_NAMES = (
    (r"visual_encoder\.adapters\.(\d+)\.blocks\.(\d+)\.norm1\.", r"adapters.\1.blocks.\2.norm_attention."),
    (r"visual_encoder\.adapters\.(\d+)\.blocks\.(\d+)\.norm2\.", r"adapters.\1.blocks.\2.norm_linear."),
    (r"visual_encoder\.adapters\.(\d+)\.blocks\.(\d+)\.mlp\.layers\.0\.", r"adapters.\1.blocks.\2.linear."),
    (r"visual_encoder\.adapters\.(\d+)\.blocks\.(\d+)\.attn\.cpb_mlp\.", r"adapters.\1.blocks.\2.attention.position_mlp."),
    (r"visual_encoder\.adapters\.(\d+)\.blocks\.(\d+)\.attn\.logit_scale$", r"adapters.\1.blocks.\2.attention.logit_scale"),
    (r"prompt_learner\.ctx_pos$", "prompts.context_normal"),
    (r"prompt_learner\.ctx_neg$", "prompts.context_abnormal"),
    (r"cross_fusion\.linear\.", "prompts.linear."),
)
AUTHORS_DERIVED = re.compile(
    r"clip_model\.|text_encoder\.|.*\.(relative_coords_table|relative_position_index|attn_mask)$"
    r"|.*\.attn\.(qkv|proj\.weight|proj\.bias)$|prompt_learner\.(token|clip_model)|visual_encoder\.(clip_model|visual)"
)


def from_authors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' state dict under this package's names; ``net.`` in front (Lightning) is dropped.

    Raises InputError for a key that is neither trained nor derived.
    """
    ours = {}
    for key, value in state.items():
        name = key.removeprefix("net.")
        if AUTHORS_DERIVED.match(name):
            continue
        for pattern, replacement in AUTHORS_NAMES:
            renamed, count = re.subn(f"^{pattern}", replacement, name)
            if count:
                ours[renamed] = value
                break
        else:
            raise InputError(f"weight {key!r} is unknown; expected are this package's or the authors' names")
    return ours


def save_weights(network: SowaNetwork, path: Path, extra: Mapping[str, Any] | None = None) -> None:
    """Writes what is trained, the configuration and the backbone's identity."""
    tensors = {name: p.detach().cpu().contiguous() for name, p in network.trainable().items()}
    metadata = {"config": to_dict(network.config), "backbone": identity(network.backbone), **(extra or {})}
    write_safetensors(path, tensors, FORMAT, VERSION, metadata)


def identity(backbone: Backbone) -> dict[str, Any]:
    """Name, levels and fingerprint of a backbone, as saved files hold them."""
    return {"name": backbone.name, "levels": list(backbone.levels), "fingerprint": backbone.fingerprint()}


def check_identity(saved: Mapping[str, Any], backbone: Backbone, path: Path) -> None:
    """Raises InputError where a file was made with another backbone than the one at hand."""
    here = identity(backbone)
    if saved["fingerprint"] != here["fingerprint"]:
        raise InputError(
            f"{path} was made with other weights of backbone {saved['name']!r} than {here['name']!r} has here; "
            "use the same weights"
        )


def load_config(metadata: Mapping[str, Any]) -> ModelConfig:
    """The network's configuration from a file's metadata."""
    return from_dict(ModelConfig, metadata["config"])


def load_weights(network: SowaNetwork, tensors: Mapping[str, Tensor], source: str) -> None:
    """Puts trained weights into the network, in place.

    Raises InputError unless names and shapes are exactly those of ``network.trainable()``.
    """
    trainable = network.trainable()
    missing, surplus = sorted(trainable.keys() - tensors.keys()), sorted(tensors.keys() - trainable.keys())
    if missing or surplus:
        raise InputError(f"{source} doesn't fit the network: missing {missing[:3]}, unexpected {surplus[:3]}")
    for name, parameter in trainable.items():
        if parameter.shape != tensors[name].shape:
            raise InputError(
                f"{source}: {name} has shape {tuple(tensors[name].shape)}, the network has {tuple(parameter.shape)}"
            )
    with torch.no_grad():
        for name, parameter in trainable.items():
            parameter.copy_(tensors[name])


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], kind: str, version: int, metadata: Mapping[str, Any]
) -> None:
    """Writes a file of ours under a temporary name, then renames it: a reader never sees half a file."""
    header = {"format": kind, "version": str(version), "sowa": json.dumps(metadata)}
    with replacing(path) as temporary:
        save_file(dict(tensors), temporary, metadata=header)


def read_safetensors(path: Path, kind: str, version: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a file of ours.

    Raises InputError for a file that is missing, truncated, not ours or of another version.
    """
    if not path.is_file():
        raise InputError(f"{path} is no file; give the path of a {kind} file")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != kind:
                raise InputError(f"{path} is no {kind} file (format {header.get('format', 'unnamed')!r})")
            if header.get("version") != str(version):
                raise InputError(
                    f"{path} has {kind} version {header.get('version')}, this package reads {version}; make it anew"
                )
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(header["sowa"])  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError, KeyError, OSError) as error:
        raise InputError(f"{path} is truncated or no {kind} file ({error}); make it anew") from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that becomes ``path`` when the block ends well, and vanishes otherwise.

    Raises InputError where the folder can't be written or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} can't be written ({error}); free some space or choose another folder") from error
    finally:
        temporary.unlink(missing_ok=True)

"""Files of trained weights: safetensors, only what is trained, with the configuration and the backbone's identity.

Nothing is ever unpickled. The authors' key names are read too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sowa.config import ModelConfig, from_dict, to_dict
from sowa.errors import InputError
from sowa.files import file_format, write_safetensors
from sowa.model.backbone import Backbone
from sowa.model.mini import trained_weights_path
from sowa.model.pretrained import build_backbone
from sowa.model.sowa import SowaNetwork

WEIGHTS_FORMAT = "sowa-weights"

# The authors' name of a tensor -> ours. Buffers that follow from the configuration are skipped.
AUTHORS_NAMES = (
    (r"visual_encoder\.adapters\.(\d+)\.blocks\.(\d+)\.norm1\.", r"adapters.\1.blocks.\2.norm_attention."),
    (r"visual_encoder\.adapters\.(\d+)\.blocks\.(\d+)\.norm2\.", r"adapters.\1.blocks.\2.norm_linear."),
    (r"visual_encoder\.adapters\.(\d+)\.blocks\.(\d+)\.mlp\.layers\.0\.", r"adapters.\1.blocks.\2.linear."),
    (
        r"visual_encoder\.adapters\.(\d+)\.blocks\.(\d+)\.attn\.cpb_mlp\.",
        r"adapters.\1.blocks.\2.attention.position_mlp.",
    ),
    (
        r"visual_encoder\.adapters\.(\d+)\.blocks\.(\d+)\.attn\.logit_scale$",
        r"adapters.\1.blocks.\2.attention.logit_scale",
    ),
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
    write_safetensors(path, tensors, WEIGHTS_FORMAT, metadata)


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


def load_config(metadata: Mapping[str, Any], path: Path) -> ModelConfig:
    """The network's configuration from a file's metadata. Raises InputError where it isn't understood."""
    try:
        return from_dict(ModelConfig, metadata["config"])
    except InputError as error:
        raise InputError(f"{path}: {error}; it was written by another version, make it anew") from None


def find_weights(name: str) -> Path | None:
    """Trained weights that a name stands for: a file of ours, or what the package ships for its own backbone."""
    if name == "mini":
        shipped = trained_weights_path()
        return shipped if shipped.is_file() else None
    path = Path(name)
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    return path if file_format(path) == WEIGHTS_FORMAT else None


def seeded_network(name: str, config: ModelConfig, seed: int = 0) -> SowaNetwork:
    """The network on the backbone of that name; what is going to be trained starts from ``seed``."""
    backbone = build_backbone(name, config.levels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SowaNetwork(backbone, config)


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

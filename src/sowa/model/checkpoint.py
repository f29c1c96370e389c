"""Files of trained weights: safetensors, only what is trained, with the configuration and the backbone's identity.

Nothing is ever unpickled. The authors' key names are read too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from sowa.config import ModelConfig, to_dict
from sowa.errors import InputError
from sowa.files import file_format, is_file, write_safetensors
from sowa.headers import DETECTOR_FORMAT, WEIGHTS_FORMAT, Identity, WeightsHeader
from sowa.model.backbone import Backbone
from sowa.model.mini import trained_weights_path
from sowa.model.pretrained import build_backbone
from sowa.model.sowa import SowaNetwork

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


def save_weights(network: SowaNetwork, path: Path, header: WeightsHeader) -> None:
    """Writes what is trained and the header. Raises InputError where the file can't be written."""
    write_safetensors(path, trained_tensors(network), WEIGHTS_FORMAT, to_dict(header))


def trained_tensors(network: SowaNetwork) -> dict[str, Tensor]:
    """What is trained, by name, on the CPU and without a graph."""
    return {name: parameter.detach().cpu().contiguous() for name, parameter in network.trainable().items()}


def identity(backbone: Backbone) -> Identity:
    """The backbone's identity; hashes all its weights."""
    return Identity(backbone.name, backbone.levels, backbone.fingerprint())


def rebuild(config: ModelConfig, saved: Identity, path: Path) -> SowaNetwork:
    """The untrained network that a file was made with. Raises InputError where the backbone has other weights here."""
    network = seeded_network(saved.name, config)
    if network.backbone.fingerprint() != saved.fingerprint:
        raise InputError(
            f"{path} was made with other weights of backbone {saved.name!r} than it has here; use the same"
        )
    return network


def find_weights(name: str) -> Path | None:
    """Trained weights that a name stands for: a file of ours, or what the package ships for its own backbone."""
    if name == "mini":
        shipped = trained_weights_path()
        return shipped if shipped.is_file() else None
    if not is_file(name):
        return None
    path = Path(name)
    try:
        found = file_format(path)
    except InputError:  # no safetensors at all; whether it's a backbone is for others to say
        return None
    if found == DETECTOR_FORMAT:
        raise InputError(f"{path} is a fitted detector; give weights of sowa train, or use it with sowa predict")
    return path if found == WEIGHTS_FORMAT else None


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

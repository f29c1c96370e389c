"""Files of trained weights: safetensors, only what is trained, with the configuration and the backbone's identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from sowa.core.config import ModelConfig, SaliencyConfig, to_dict
from sowa.core.files import file_format, is_file, read_safetensors, write_safetensors
from sowa.core.headers import DETECTOR_FORMAT, WEIGHTS_FORMAT, Identity, WeightsHeader, read_header
from sowa.errors import InputError
from sowa.model.authors import read_authors
from sowa.model.backbone import Backbone
from sowa.model.mini import trained_weights_path
from sowa.model.pretrained import build_backbone
from sowa.model.sowa import SowaNetwork


def save_weights(network: SowaNetwork, path: Path, header: WeightsHeader) -> None:
    """Writes what is trained and the header.

    Args:
        network: What is trained.
        path: The file.
        header: How it was.

    Raises:
        InputError: the file can't be written.
    """
    write_safetensors(path, trained_tensors(network), WEIGHTS_FORMAT, to_dict(header))


def trained_tensors(network: SowaNetwork) -> dict[str, Tensor]:
    """What is trained, by name, on the CPU and without a graph."""
    return {name: parameter.detach().cpu().contiguous() for name, parameter in network.trainable().items()}


def identity(backbone: Backbone) -> Identity:
    """The backbone's identity; hashes all its weights."""
    return Identity(backbone.name, backbone.levels, backbone.fingerprint())


def rebuild(config: ModelConfig, saved: Identity, path: Path, backbone: str | None = None) -> SowaNetwork:
    """The untrained network that a file was made with.

    Args:
        config: Of the network.
        saved: The backbone that the file names.
        path: The file, for the message.
        backbone: Stands in for the one that the file names.

    Raises:
        InputError: the backbone has other weights or levels here.
    """
    network = seeded_network(backbone or saved.name, config)
    if network.backbone.fingerprint() != saved.fingerprint or network.backbone.levels != saved.levels:
        raise InputError(
            f"{path} was made with other weights of backbone {saved.name!r} than it has here; use the same"
        )
    return network


def pretrained_network(
    name: str,
    weights: str | Path | None = None,
    config: ModelConfig | None = None,
    saliency: SaliencyConfig | None = None,
) -> tuple[SowaNetwork, bool]:
    """The network that a name stands for, and whether its adapters and prompts are trained.

    Args:
        name: A backbone, or weights of ``sowa train``, which name theirs.
        weights: An authors' checkpoint for that backbone.
        config: The network's, where it isn't the published one and no file tells it.
        saliency: Is added to whatever that gives.

    Raises:
        InputError: whatever doesn't exist or doesn't fit.
    """
    network, trained = _pretrained(name, weights, config)
    return (_salient(network, saliency) if saliency else network), trained


def _salient(network: SowaNetwork, saliency: SaliencyConfig) -> SowaNetwork:
    """The same network with saliency, which changes nothing until it's trained or weighs distances.

    Where the network has saliency already, it keeps the CNN unless another is named.
    """
    if network.config.saliency:
        saliency = replace(saliency, cnn=saliency.cnn or network.config.saliency.cnn)
    with torch.random.fork_rng(devices=[]):
        salient = SowaNetwork(network.backbone, replace(network.config, saliency=saliency))
    if salient.saliency and salient.saliency.cnn and network.saliency is None:
        salient.saliency.cnn.download()
    load_weights(salient, trained_tensors(salient) | trained_tensors(network), "the network without saliency")
    return salient


def _pretrained(name: str, weights: str | Path | None, config: ModelConfig | None) -> tuple[SowaNetwork, bool]:
    if weights is not None:
        tensors, inferred = read_authors(Path(weights), config)
        network = seeded_network(name, inferred)
        load_weights(network, tensors, str(weights))
        return network, True
    path = find_weights(name) if config is None else None
    if path is None:
        network = seeded_network(name, config or ModelConfig())
        if network.saliency and network.saliency.cnn:
            network.saliency.cnn.download()
        return network, False
    tensors, metadata = read_safetensors(path, WEIGHTS_FORMAT)
    header = read_header(WeightsHeader, metadata, path)
    network = rebuild(header.config, header.backbone, path)
    load_weights(network, tensors, str(path))
    return network, True


def find_weights(name: str) -> Path | None:
    """Trained weights that a name stands for: a file of ours, or what the package ships for its own backbone.

    Raises:
        InputError: the file is a fitted detector.
    """
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
    """The network on a backbone, before training.

    Args:
        name: Of the backbone.
        config: Of the network.
        seed: What is going to be trained starts from it.

    Raises:
        InputError: as `sowa.model.pretrained.build_backbone` says.
    """
    backbone = build_backbone(name, config.levels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SowaNetwork(backbone, config)


def load_weights(network: SowaNetwork, tensors: Mapping[str, Tensor], source: str) -> None:
    """Puts trained weights into the network, in place.

    Args:
        network: That takes them.
        tensors: By name.
        source: What messages call where they are from.

    Raises:
        InputError: names and shapes aren't exactly those of ``network.trainable()``.
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

"""A classifier's file: safetensors with what was learned of the classes, and the backbone's identity, not itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from sowa.core.config import STRICT, Settings, from_dict, to_dict
from sowa.core.files import read_safetensors, write_safetensors
from sowa.core.headers import CLASSIFY_FORMAT, TaskHeader, read_header
from sowa.errors import InputError
from sowa.model.checkpoint import identity
from sowa.tasks.classification.config import ClassifyConfig
from sowa.tasks.classification.evidence import ONE_SHOT, Gaussians
from sowa.tasks.classification.learning import ClassifierState, new_head
from sowa.tasks.classification.pooled_features import side_of
from sowa.tasks.classification.weighing import Weights
from sowa.tasks.encoding import LevelEncoder

HEAD = "head."  # the names of what was trained begin so


@dataclass(frozen=True)
class Numbers:
    """What a file's header holds beside names.

    Attributes:
        classify: How classes were learned.
        feature_weight: As in `Gaussians`.
        visual: As in `Weights`.
        text: Likewise.
        known: As in `ClassifierState`.
        trained: Whether the head was trained.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    classify: ClassifyConfig
    feature_weight: float
    visual: float
    text: float
    known: float
    trained: bool


def write_classifier(
    path: Path,
    learned: ClassifierState,
    names: tuple[str, ...],
    encoder: LevelEncoder,
    config: ClassifyConfig,
    train: Mapping[str, Any],
    metrics: Mapping[str, float | None],
) -> None:
    """Writes the file, or nothing.

    Args:
        path: The file.
        learned: What was learned.
        names: Of the classes.
        encoder: That read images.
        config: How classes were learned.
        train: What was learned from, for the header.
        metrics: Of images held out, for the header.

    Raises:
        InputError: it can't be written.
    """
    tensors = {
        "weights": learned.gaussians.weights,
        "bias": learned.gaussians.bias,
        "centres": learned.centres,
        "text_centres": learned.text_centres,
    }
    if learned.trained:  # an untrained head is made again from its seed
        tensors |= {HEAD + name: value.detach() for name, value in learned.head.state_dict().items()}
    numbers = Numbers(
        config,
        learned.gaussians.feature_weight,
        learned.weights.visual,
        learned.weights.text,
        learned.known,
        learned.trained,
    )
    header = TaskHeader(
        identity(encoder.backbone), encoder.image_size, names, asdict(numbers), dict(train), dict(metrics)
    )
    written = {name: value.cpu().contiguous() for name, value in tensors.items()}
    write_safetensors(path, written, CLASSIFY_FORMAT, to_dict(header))


def read_classifier(
    path: Path, backbone: str | None, settings: Settings | None
) -> tuple[LevelEncoder, TaskHeader, ClassifyConfig, ClassifierState]:
    """Everything that `write_classifier` wrote.

    Args:
        path: The file.
        backbone: Stands in for the one that the file names.
        settings: Device and precision.

    Raises:
        InputError: a file that is truncated, not ours, of another version, or made with another backbone.
    """
    tensors, metadata = read_safetensors(path, CLASSIFY_FORMAT)
    header = read_header(TaskHeader, metadata, path)
    try:
        numbers = from_dict(Numbers, header.config)
    except InputError as error:
        raise InputError(f"{path}: {error}; another version wrote it, make it anew") from None
    encoder = LevelEncoder.restore(header, path, backbone, settings)
    return encoder, header, numbers.classify, _learned(path, tensors, header.names, numbers, encoder)


def _learned(
    path: Path, tensors: Mapping[str, Tensor], names: tuple[str, ...], numbers: Numbers, encoder: LevelEncoder
) -> ClassifierState:
    own, classes = encoder.backbone, len(names)
    joined = own.embed_dim + len(own.levels) * own.width
    apart = (classes, own.embed_dim)
    wanted = {"weights": (joined, classes), "bias": (classes,), "centres": apart, "text_centres": apart}
    for name, shape in wanted.items():
        found = tensors.get(name, torch.empty(0))
        if tuple(found.shape) != shape or not torch.isfinite(found).all():
            raise InputError(
                f"{path} holds {name} of shape {tuple(found.shape)}, needed are finite numbers {shape}; make it anew"
            )
    if numbers.visual <= 0 or not all(map(math.isfinite, (numbers.visual, numbers.text, numbers.known))):
        raise InputError(f"{path} weighs its evidence by {numbers.visual}, {numbers.text}; make it anew")
    head = new_head(names, side_of(encoder.grid), own, numbers.classify)
    if numbers.trained:
        state = {name.removeprefix(HEAD): value for name, value in tensors.items() if name.startswith(HEAD)}
        try:
            head.load_state_dict(state)
        except RuntimeError as error:
            raise InputError(
                f"{path} doesn't fit its own header ({' '.join(str(error).split())}); make it anew"
            ) from None
    return ClassifierState(
        head=head,
        gaussians=Gaussians(tensors["weights"], tensors["bias"], numbers.feature_weight),
        weights=Weights(numbers.visual, numbers.text),
        temperature=ONE_SHOT / numbers.visual,
        centres=tensors["centres"],
        text_centres=tensors["text_centres"],
        known=numbers.known,
        trained=numbers.trained,
    )

"""What finds boxes, and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sowa.core.config import STRICT, AdapterConfig, WordsConfig
from sowa.errors import InputError
from sowa.training.config import check_loop


@dataclass(frozen=True)
class DetectConfig:
    """What finds boxes (`sowa.tasks.detection`): adapters, words, and the ``width`` of what the heads read.

    With ``reference`` an image of the same part without anything to find is the network's second input.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    # Dropout of attention takes a third of a step on a CPU.
    adapter: AdapterConfig = AdapterConfig(dropout=0.0)  # noqa: RUF009 - frozen
    words: WordsConfig = WordsConfig()  # noqa: RUF009 - frozen
    width: int = 96
    reference: bool = False


@dataclass(frozen=True)
class DetectTrainConfig:
    """Training of `DetectConfig`'s network on images with boxes.

    ``held_out`` is the share of images that is kept to validate on where the data set has no split of its own.
    ``augment`` names views that are true images of the same things, of `sowa.tasks.detection.examples.VIEWS`. With
    ``phrases`` a label is read word by word, so that "star" and "red star" both fit what is called "big red star", and
    any such words can be asked for.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    epochs: int = 60
    batch_size: int = 4
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    held_out: float = 0.2
    augment: tuple[str, ...] = ("hflip",)
    phrases: bool = False
    checkpoint_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        check_loop(self)
        if not 0 < self.held_out < 1:
            raise InputError(f"held-out is {self.held_out}, allowed is between 0 and 1")

"""What finds boxes, and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sowa.core.config import STRICT, AdapterConfig, WordsConfig
from sowa.errors import InputError
from sowa.training.config import check_loop


@dataclass(frozen=True)
class DetectConfig:
    """What finds boxes (`sowa.tasks.detection`).

    Attributes:
        adapter: Of each level.
        words: Learned before names.
        width: Of what the heads read.
        reference: Whether an image of the same part without anything to find is the network's second input.
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

    Attributes:
        epochs: 1 or more.
        batch_size: Images of a step, 1 or more.
        learning_rate: Above 0.
        weight_decay: 0 or more.
        held_out: Share of images that is kept to validate on where the data set has no split of its own, between 0 and
            1.
        augment: Views that are true images of the same things, of `sowa.tasks.detection.examples.VIEWS`.
        phrases: Whether a label is read word by word, so that "star" and "red star" both fit what is called "big red
            star", and any such words can be asked for.
        checkpoint_every: So many steps lie between checkpoints, 1 or more.
        seed: 0 or more.

    Raises:
        InputError: a number is out of its range.
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

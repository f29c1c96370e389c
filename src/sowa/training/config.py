"""How adapters and prompts are trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from sowa.core.config import STRICT
from sowa.errors import InputError


class Loop(Protocol):
    """What every training needs."""

    @property
    def epochs(self) -> int:
        """1 and more."""
        ...

    @property
    def batch_size(self) -> int:
        """1 and more."""
        ...

    @property
    def checkpoint_every(self) -> int:
        """Steps, 1 and more."""
        ...

    @property
    def learning_rate(self) -> float:
        """Above 0."""
        ...

    @property
    def weight_decay(self) -> float:
        """0 and more."""
        ...

    @property
    def seed(self) -> int:
        """0 and more."""
        ...


@dataclass(frozen=True)
class TrainConfig:
    """Training (paper section 4.1; METHOD.md section 5).

    Attributes:
        epochs: passes over the images
        batch_size: images of a step of training
        learning_rate: step of the optimizer, above 0
        weight_decay: what pulls weights to zero, 0 and more
        mosaic: share of the images that are put together from four, 0 to 1
        validation_fraction: share of the images that is kept to validate on
        protocol: held-out, or paper (trains on the whole test split, validates on nothing)
        checkpoint_every: steps between checkpoints, from which a killed run goes on
        gaze_weight: what the loss of people's fixations counts, where there are any to learn from
        seed: seed of the draws, the weights and the order

    Raises:
        InputError: a number is out of its range.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    epochs: int = 1
    batch_size: int = 8
    learning_rate: float = 1e-3
    weight_decay: float = 0.2
    mosaic: float = 0.2
    validation_fraction: float = 0.2
    protocol: Literal["held-out", "paper"] = "held-out"
    checkpoint_every: int = 50
    gaze_weight: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_loop(self)
        if not 0 <= self.mosaic <= 1:
            raise InputError(f"mosaic is {self.mosaic}, allowed is 0 to 1")
        if not 0 < self.validation_fraction < 1:
            raise InputError(f"validation fraction is {self.validation_fraction}, allowed is between 0 and 1")
        if not 0 <= self.gaze_weight < math.inf:
            raise InputError(f"gaze weight is {self.gaze_weight}, allowed is 0 and more")


def check_loop(config: Loop) -> None:
    """Refuses settings that no training can have.

    Raises:
        InputError: a number that can't be.
    """
    if config.epochs < 1 or config.batch_size < 1 or config.checkpoint_every < 1:
        raise InputError(
            f"epochs {config.epochs}, batch size {config.batch_size}, checkpoint-every {config.checkpoint_every}: "
            "each must be 1 or more"
        )
    if not 0 < config.learning_rate < math.inf or not 0 <= config.weight_decay < math.inf or config.seed < 0:
        raise InputError(
            f"learning rate {config.learning_rate} must be above 0, weight decay {config.weight_decay} and seed "
            f"{config.seed} 0 or more"
        )

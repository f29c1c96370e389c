"""Settings of a classifier. Defaults were chosen on development groups (docs/CLASSIFICATION.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from sowa.core.config import STRICT
from sowa.errors import InputError


@dataclass(frozen=True)
class ClassifyConfig:
    """How classes are learned.

    Attributes:
        length: Learned words before each class's name.
        steps: Of training, 0 for none.
        learning_rate: Of these, above 0.
        seed: Of folds, draws and adapters.

    Raises:
        InputError: a number is out of its range.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    length: int = 4
    steps: int = 30
    learning_rate: float = 3e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.length < 0 or self.steps < 0 or self.seed < 0 or not 0 < self.learning_rate < math.inf:
            raise InputError(
                f"length {self.length}, steps {self.steps} and seed {self.seed} must be 0 or more, learning rate "
                f"{self.learning_rate} above 0"
            )

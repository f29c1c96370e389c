"""How the number of shots is looked for."""

from __future__ import annotations

from dataclasses import dataclass

from sowa.errors import InputError


@dataclass(frozen=True)
class ShotsConfig:
    """How the number of shots is looked for.

    The defaults were chosen on auxiliary and generated products (benchmarks/results/shots.md).

    Attributes:
        candidates: The numbers that are compared, each 1 or more, none twice.
        folds: Of cross-validation, 2 or more.
        draws: So often references are drawn in each fold, 1 or more.
        tolerance: Image AUROC in 0..1 that more shots must bring for the progressive way to go on, and that meta gives
            up for fewer.
        patience: The progressive way stops when so many larger numbers in a row haven't brought that, 1 or more.
        seed: That draws folds and references, 0 or more.

    Raises:
        InputError: a number is out of its range.
    """

    candidates: tuple[int, ...] = (1, 2, 4, 8, 16)
    folds: int = 5
    draws: int = 5
    tolerance: float = 0.0025
    patience: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.candidates or min(self.candidates) < 1 or len(set(self.candidates)) != len(self.candidates):
            raise InputError(f"candidates are {list(self.candidates)}, needed is one or more, from 1, none twice")
        if self.folds < 2 or self.draws < 1 or self.patience < 1 or self.seed < 0:
            raise InputError(
                f"folds {self.folds} must be 2 or more, draws {self.draws} and patience {self.patience} 1 or more, "
                f"seed {self.seed} 0 or more"
            )
        if not 0 <= self.tolerance < 1:
            raise InputError(f"tolerance is {self.tolerance}, allowed is 0 up to (not including) 1")

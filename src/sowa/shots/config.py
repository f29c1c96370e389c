"""How the number of shots is looked for."""

from __future__ import annotations

from dataclasses import dataclass

from sowa.errors import InputError


@dataclass(frozen=True)
class ShotsConfig:
    """How the number of shots is looked for.

    ``candidates`` are the numbers that are compared. Cross-validation draws references ``draws`` times in each of
    ``folds``; the progressive way stops when ``patience`` larger numbers in a row haven't brought more than
    ``tolerance`` image AUROC, which is also what meta gives up for fewer. Chosen on auxiliary and generated products:
    image AUROC lost by cross-validation with 3, 4, 5, 6 draws 0.016, 0.010, 0.008, 0.007.
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

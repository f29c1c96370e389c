"""How a labelled data set is judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sowa.errors import InputError


@dataclass(frozen=True)
class EvaluationConfig:
    """How a labelled data set is judged.

    Attributes:
        k_shots: Numbers of reference images, each 0 or more.
        seeds: That draw them, each 0 or more.
        scoring: "paper" mixes the test images of a category as the authors do; "inductive" judges each image by itself.
        aupro: "standard" pools false positives, "authors" follows theirs (`sowa.metrics.Aupro`).
        batch_size: So many images are encoded at once, 1 or more.
        bootstrap: The number of resamples for confidence intervals, 0 for none, up to 100000.
        augment: As in ``Sowa.fit``; "paper" has none.

    Raises:
        InputError: a number is out of its range.
    """

    k_shots: tuple[int, ...] = (0, 1, 2, 4)
    seeds: tuple[int, ...] = (0, 1, 2)
    scoring: Literal["inductive", "paper"] = "inductive"
    aupro: Literal["standard", "authors"] = "standard"
    batch_size: int = 8
    bootstrap: int = 0
    augment: str | tuple[str, ...] = "auto"

    def __post_init__(self) -> None:
        if not self.k_shots or min(self.k_shots) < 0 or not self.seeds or min(self.seeds) < 0:
            raise InputError(
                f"k-shot is {list(self.k_shots)}, seeds are {list(self.seeds)}; each needs one or more, from 0"
            )
        if self.batch_size < 1:
            raise InputError(f"batch size is {self.batch_size}, allowed is 1 and more")
        if not 0 <= self.bootstrap <= 100_000:
            raise InputError(f"bootstrap is {self.bootstrap}, allowed is 0 (no intervals) to 100000, such as 1000")

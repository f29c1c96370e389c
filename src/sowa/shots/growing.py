"""Progressive increase: more shots until more of them stop helping."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sowa.core.progress import Report, silent
from sowa.shots.config import ShotsConfig
from sowa.shots.curve import Choice, Point, point
from sowa.shots.folds import auroc, check, drawn, folds, judged_by
from sowa.shots.pool import Clock, Pool

# Orders of references in each fold: two lose less image AUROC than one, at well under half the fits of cross-validation
# (benchmarks/results/shots.md).
DRAWS = 2


class Round:
    """A fold whose bank grows: what its images are nearest to so far.

    Args:
        pool: The images.
        references: Numbers of those to draw from.
        judged: Numbers of those to judge.
        seed: That draws references.

    Raises:
        InputError: of one kind none can be judged.
    """

    def __init__(self, pool: Pool, references: Sequence[int], judged: Sequence[int], seed: int) -> None:
        self.pool, self.references, self.seed = pool, references, seed
        self.readable, self.labels = judged_by(pool, judged)
        self.shots = 0
        self.nearest_LQP: Tensor | None = None

    def grow(self, shots: int) -> float:
        """Image AUROC with so many references; only those that are new are searched."""
        new = drawn(self.pool, self.references, shots, self.seed)[self.shots :]
        found_LQP = self.pool.distances(new, self.readable).amin(dim=3)
        self.nearest_LQP = found_LQP if self.nearest_LQP is None else torch.minimum(self.nearest_LQP, found_LQP)
        self.shots = shots
        return auroc(self.nearest_LQP, self.labels)


def grow(pool: Pool, config: ShotsConfig, report: Report = silent) -> Choice:
    """From the smallest number of shots upwards, each judged on every fold in `DRAWS` orders of its references.

    It ends when ``config.patience`` larger numbers in a row haven't brought ``config.tolerance`` more than the best
    before them, or at the largest.

    Args:
        pool: The images.
        config: How.
        report: Told of the progress.

    Raises:
        InputError: images are too few.
    """
    check(pool, config)
    clock, shots = Clock(pool), sorted(config.candidates)
    rounds = [
        [Round(pool, *fold, (config.seed * config.folds + index) * DRAWS + order) for order in range(DRAWS)]
        for index, fold in enumerate(folds(pool, config))
    ]
    points: list[Point] = []
    chosen: Point | None = None
    waited, reason = 0, ""
    for step, count in enumerate(shots):
        points.append(point(count, np.mean([[each.grow(count) for each in fold] for fold in rounds], axis=1)))
        report("grow", step + 1, len(shots))
        if chosen is None or points[-1].mean > chosen.mean + config.tolerance:
            chosen, waited = points[-1], 0
            continue
        waited += 1
        if waited == config.patience:
            reason = f"{count} brought no more than {config.tolerance:g} over {chosen.shots}, so it stopped there"
            break
    assert chosen is not None  # there is at least one number
    return Choice(
        method="progressive",
        labels=pool.labels,
        points=tuple(points),
        chosen=chosen.shots,
        best=max(points, key=lambda each: each.mean).shots,
        reason=reason or f"the largest number, {shots[-1]}, was reached and {chosen.shots} was the last that helped",
        fits=len(points) * len(rounds) * DRAWS,
        **clock.read(),
    )

"""Progressive increase: more shots until more of them stop helping."""

from __future__ import annotations

import time

from sowa.config import ShotsConfig
from sowa.progress import Report, silent
from sowa.shots.curve import Choice, Point, point
from sowa.shots.folds import aurocs, check, folds
from sowa.shots.pool import Pool


def grow(pool: Pool, config: ShotsConfig, report: Report = silent) -> Choice:
    """From the smallest number of shots upwards, each judged once on every fold.

    It ends when ``config.patience`` larger numbers in a row haven't brought ``config.tolerance`` more than the best
    before them, or at the largest. Raises InputError where pictures are too few.
    """
    check(pool, config)
    started, encoded, shots = time.perf_counter(), pool.encoded, sorted(config.candidates)
    rounds = folds(pool, config)
    seeds = range(config.seed * len(rounds), (config.seed + 1) * len(rounds))
    points: list[Point] = []
    chosen: Point | None = None
    waited, reason = 0, ""
    for step, count in enumerate(shots):
        judged = [aurocs(pool, *fold, [count], seed)[0] for fold, seed in zip(rounds, seeds, strict=True)]
        points.append(point(count, judged))
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
        fits=len(points) * len(rounds),
        encoded=pool.encoded - encoded,
        seconds=time.perf_counter() - started,
    )

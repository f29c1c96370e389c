"""Cross-validation: what each number of shots is worth on pictures that the bank hasn't seen."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from sowa.config import ShotsConfig
from sowa.data.sampling import draw
from sowa.errors import InputError
from sowa.metrics import image_metrics
from sowa.progress import Report, silent
from sowa.shots.curve import Choice, one_standard_error, point
from sowa.shots.pool import Pool


def check(pool: Pool, config: ShotsConfig) -> None:
    """Raises InputError where there are too few normal pictures for the folds or the most shots."""
    normal, most = len(pool.normal), max(config.candidates)
    if normal < config.folds:
        raise InputError(f"{normal} normal pictures, needed are {config.folds}, one for each fold; lower --folds")
    left = normal - -(-normal // config.folds)
    if left < most:
        raise InputError(
            f"{most} shots of {normal} normal pictures in {config.folds} folds, allowed are {left}, since a fold is "
            "judged and the rest are references; lower --candidates or give more pictures"
        )


def folds(pool: Pool, config: ShotsConfig) -> list[tuple[list[int], list[int]]]:
    """For each fold the numbers of the pictures to draw references from, and of those to judge, both kinds.

    A generated defect is judged in the fold of the picture that it lies on.
    """
    place = dict(
        zip(draw(range(len(pool.normal)), len(pool.normal), config.seed), range(len(pool.normal)), strict=True)
    )
    fold_of = [place[number] % config.folds for number in range(len(pool.normal))]
    defects = range(len(pool.anomalous))
    of_defect = fold_of if pool.generated else [index % config.folds for index in defects]
    found = []
    for fold in range(config.folds):
        references = [number for number, own in enumerate(fold_of) if own != fold]
        judged = [number for number, own in enumerate(fold_of) if own == fold]
        judged += [pool.defect_of(index) for index in defects if of_defect[index] == fold]
        found.append((references, judged))
    return found


def aurocs(
    pool: Pool, references: Sequence[int], judged: Sequence[int], shots: Sequence[int], seed: int
) -> list[float]:
    """Image AUROC for each number of shots, of one draw of references."""
    readable = pool.readable(judged)
    labels = [number >= len(pool.normal) for number in readable]
    if len(set(labels)) < 2:
        raise InputError(
            f"{len(labels) - sum(labels)} normal and {sum(labels)} anomalous pictures can be read in a fold, needed is "
            "one of each; lower --folds or give more pictures"
        )
    most = max(shots)
    drawn = pool.readable(draw(references, len(references), seed), most)
    if len(drawn) < most:
        raise InputError(f"only {len(drawn)} normal pictures can be read, needed are {most}; lower --candidates")
    return [float(image_metrics(scores, labels).image_AUROC) for scores in pool.scores(drawn, readable, shots)]


def cross_validate(pool: Pool, config: ShotsConfig, report: Report = silent) -> Choice:
    """Every number of shots on every fold, with several draws of references.

    Chosen is the smallest number within one standard error of the best. Raises InputError where pictures are too few.
    """
    check(pool, config)
    started, encoded, shots = time.perf_counter(), pool.encoded, sorted(config.candidates)
    found = np.empty((config.folds, config.draws, len(shots)))
    for fold, (references, judged) in enumerate(folds(pool, config)):
        for index in range(config.draws):
            seed = (config.seed * config.folds + fold) * config.draws + index
            found[fold, index] = aurocs(pool, references, judged, shots, seed)
            report("cross-validate", fold * config.draws + index + 1, config.folds * config.draws)
    points = tuple(point(count, found[:, :, place].mean(axis=1)) for place, count in enumerate(shots))
    chosen, best = one_standard_error(points)
    of_best = next(each for each in points if each.shots == best)
    reason = (
        f"{chosen} is the smallest number within one standard error ({of_best.error:.3f}) of the best, {best}"
        if chosen != best
        else f"{best} is the best, and no smaller number comes within one standard error ({of_best.error:.3f})"
    )
    return Choice(
        method="cv",
        labels=pool.labels,
        points=points,
        chosen=chosen,
        best=best,
        reason=reason,
        fits=found.size,
        encoded=pool.encoded - encoded,
        seconds=time.perf_counter() - started,
    )

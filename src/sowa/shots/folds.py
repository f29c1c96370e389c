"""Cross-validation: what each number of shots is worth on images that the bank hasn't seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from sowa.core.progress import Report, silent
from sowa.core.scoring import few_shot_scores
from sowa.data.sampling import draw
from sowa.errors import InputError
from sowa.metrics import image_metrics
from sowa.shots.config import ShotsConfig
from sowa.shots.curve import Choice, one_standard_error, point
from sowa.shots.pool import Clock, Pool

DRAWN_FROM = 2  # times the most shots: so many references of a fold are searched, and every draw takes some of them


def check(pool: Pool, config: ShotsConfig) -> None:
    """Refuses what can't be cross-validated.

    Args:
        pool: The images.
        config: For folds and candidates.

    Raises:
        InputError: there are too few normal images for the folds or the most shots.
    """
    normal, most = len(pool.normal), max(config.candidates)
    if normal < config.folds:
        raise InputError(f"{normal} normal images, needed are {config.folds}, one for each fold; lower --folds")
    left = _left(normal, config.folds)
    if left < most:
        raise InputError(
            f"{most} shots of {normal} normal images in {config.folds} folds, allowed are {left}, since a fold is "
            "judged and the rest are references; lower --candidates or give more images"
        )


def _left(normal: int, folds: int) -> int:
    """Of so many normal images those that references can be drawn from while the largest fold is judged."""
    return normal - -(-normal // folds)


def suited(config: ShotsConfig, normal: int) -> ShotsConfig:
    """The candidates and folds of a configuration as far as so many normal images allow.

    Args:
        config: What is wanted.
        normal: So many normal images there are.

    Raises:
        InputError: they allow none.

    Example:
        >>> found = suited(ShotsConfig(), normal=6)
        >>> found.candidates, found.folds
        ((1, 2, 4), 5)
    """
    count = min(config.folds, normal)
    candidates = tuple(shots for shots in config.candidates if count and shots <= _left(normal, count))
    if not candidates:
        raise InputError(
            f"{normal} normal image(s) can't tell how many are needed, {min(config.candidates) + 1} could; give more "
            "or say how many shots"
        )
    return replace(config, candidates=candidates, folds=count)


def folds(pool: Pool, config: ShotsConfig) -> list[tuple[list[int], list[int]]]:
    """For each fold the numbers of the images to draw references from, and of those to judge, both kinds.

    A generated defect is judged in the fold of the image that it lies on.

    Args:
        pool: The images.
        config: For folds and seed.
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


def judged_by(pool: Pool, judged: Sequence[int]) -> tuple[list[int], list[bool]]:
    """The readable ones of a fold's images to judge, and whether each is anomalous.

    Args:
        pool: The images.
        judged: Numbers of a fold's, as of `folds`.

    Raises:
        InputError: there is none of a kind.
    """
    readable = pool.readable(judged)
    labels = [number >= len(pool.normal) for number in readable]
    if len(set(labels)) < 2:
        raise InputError(
            f"{len(labels) - sum(labels)} normal and {sum(labels)} anomalous images can be read in a fold, needed is "
            "one of each; lower --folds or give more images"
        )
    return readable, labels


def drawn(pool: Pool, references: Sequence[int], needed: int, seed: int, at_most: int | None = None) -> list[int]:
    """Readable ones of a fold's references in random order.

    Args:
        pool: The images.
        references: Numbers of a fold's, as of `folds`.
        needed: So many at least.
        seed: That draws them.
        at_most: So many are taken where there are; ``needed`` by default.

    Raises:
        InputError: there are fewer than ``needed``.
    """
    found = pool.readable(draw(references, len(references), seed), at_most or needed)
    if len(found) < needed:
        raise InputError(f"only {len(found)} normal images can be read, needed are {needed}; lower --candidates")
    return found


def auroc(distances_LQP: Tensor, labels: Sequence[bool]) -> float:
    """Image AUROC of images by their distances to a bank.

    Args:
        distances_LQP: Of patches, (L, Q, P) in 0..2.
        labels: Whether each of the Q images is anomalous.
    """
    return float(image_metrics(few_shot_scores(distances_LQP).cpu().numpy(), labels).image_AUROC)


def cross_validate(pool: Pool, config: ShotsConfig, report: Report = silent) -> Choice:
    """Every number of shots on every fold, with several draws of references.

    The draws of a fold are orders of the same few references, so one search serves them all. Chosen is the smallest
    number within one standard error of the best.

    Args:
        pool: The images.
        config: How.
        report: Told of the progress.

    Raises:
        InputError: images are too few.
    """
    check(pool, config)
    clock, shots = Clock(pool), sorted(config.candidates)
    found = np.empty((config.folds, config.draws, len(shots)))
    for fold, (references, judged) in enumerate(folds(pool, config)):
        readable, labels = judged_by(pool, judged)
        seed = config.seed * config.folds + fold
        some = drawn(pool, references, shots[-1], seed, at_most=DRAWN_FROM * shots[-1])
        distances_LQPK = pool.distances(some, readable)
        for index in range(config.draws):
            order = draw(range(len(some)), shots[-1], seed * config.draws + index)
            found[fold, index] = [auroc(distances_LQPK[..., order[:count]].amin(dim=3), labels) for count in shots]
            report("cross-validate", fold * config.draws + index + 1, config.folds * config.draws)
    by_fold = found.mean(axis=1)
    chosen, best = one_standard_error(shots, by_fold)
    reason = (
        f"{chosen} is the smallest number within one standard error of the best, {best}"
        if chosen != best
        else f"{best} is the best, and no smaller number comes within one standard error"
    )
    return Choice(
        method="cv",
        labels=pool.labels,
        points=tuple(point(count, values) for count, values in zip(shots, by_fold.T, strict=True)),
        chosen=chosen,
        best=best,
        reason=reason,
        fits=found.size,
        **clock.read(),
    )

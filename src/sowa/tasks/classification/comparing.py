"""The classifier beside its rivals, on the same images, for several numbers of shots and seeds, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sowa.core.progress import Report, silent
from sowa.data.class_folders import Folders, Labelled
from sowa.errors import InputError
from sowa.tasks.classification.config import ClassifyConfig
from sowa.tasks.classification.learning import Learned, cosines, learn
from sowa.tasks.classification.looks import Looks, look
from sowa.tasks.classification.measures import confusion, measure, recall
from sowa.tasks.classification.network import middle
from sowa.tasks.classification.rivals import frozen_features, rivals
from sowa.tasks.encoding import LevelEncoder

OURS = "sowa"
Shots = int | None  # None stands for all


@dataclass(frozen=True)
class Row:
    """One method at one number of shots (None: all) and seed. ``ece`` is of ours alone; shares in 0..1."""

    method: str
    shots: Shots
    seed: int
    top1: float
    balanced: float
    ece: float | None = None
    ece_before: float | None = None
    trained: bool | None = None


@dataclass(frozen=True)
class Seen:
    """Images that were looked at, and their classes."""

    looks: Looks
    labels: Tensor
    labelled: Labelled

    @classmethod
    def of(cls, encoder: LevelEncoder, labelled: Labelled, batch_size: int = 8, report: Report = silent) -> Seen:
        """Looks at every image that can be read. Raises InputError where a class has none of these."""
        looks = look(encoder, labelled.images, batch_size, report)
        readable = labelled.take(looks.kept)
        for label in set(labelled.labels) - set(readable.labels):
            raise InputError(
                f"none of the images of class {labelled.names[label]!r} can be read; first problem: "
                f"{looks.skipped[0][1]}"
            )
        return cls(looks, torch.tensor(readable.labels), readable)

    def take(self, places: Sequence[int]) -> Seen:
        """Some of the images."""
        chosen = list(places)
        return Seen(self.looks.take(chosen), self.labels[chosen], self.labelled.take(chosen))


def compare(
    encoder: LevelEncoder,
    folders: Folders,
    shots: Sequence[Shots],
    seeds: Sequence[int],
    config: ClassifyConfig = ClassifyConfig(),  # noqa: B008 - frozen
    batch_size: int = 8,
    report: Report = silent,
) -> list[Row]:
    """Every method at every number of shots and every seed, which draws the shots.

    Raises InputError where a class has fewer images than shots, or can't be read.
    """
    for count in shots:
        if count is not None:
            folders.train.shots(count, 0)  # what isn't there is said before anything is encoded
    train, test = (Seen.of(encoder, part, batch_size, report) for part in (folders.train, folders.test))
    return compare_seen(encoder, train, test, shots, seeds, config, report)


def compare_seen(
    encoder: LevelEncoder,
    train: Seen,
    test: Seen,
    shots: Sequence[Shots],
    seeds: Sequence[int],
    config: ClassifyConfig = ClassifyConfig(),  # noqa: B008 - frozen
    report: Report = silent,
) -> list[Row]:
    """The same of images that were looked at already."""
    rows: list[Row] = []
    runs = [(count, seed) for count in shots for seed in seeds]
    for number, (count, seed) in enumerate(runs, start=1):
        part = train if count is None else train.take(train.labelled.shots(count, seed))
        rows += _run(encoder, part, test, count, replace(config, seed=seed))
        report("compare", number, len(runs))
    return rows


def _run(encoder: LevelEncoder, train: Seen, test: Seen, shots: Shots, config: ClassifyConfig) -> list[Row]:
    names, truth = train.labelled.names, test.labels.numpy()
    learned = learn(train.looks, train.labels, names, encoder.backbone, config)
    found = measure(uncalibrated(learned, test.looks, encoder), test.labels, names, learned.temperature)
    rows = [
        Row(OURS, shots, config.seed, found.top1, found.balanced, found.ece, found.ece_before, learned.trained),
    ]
    told = rivals(frozen_features(train.looks), train.labels, frozen_features(test.looks), len(names))
    for name, classes in told.items():
        table = confusion(truth, classes, len(names))
        rows.append(Row(name, shots, config.seed, float((classes == truth).mean()), float(np.nanmean(recall(table)))))
    return rows


def uncalibrated(learned: Learned, looks: Looks, encoder: LevelEncoder) -> Tensor:
    """Logits (N, C) before they are divided by the temperature."""
    seen = learned.gaussians(looks.features, middle(looks.tokens))
    return learned.weights(seen, cosines(learned.head, looks, encoder.backbone)) * learned.temperature

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
from sowa.tasks.classification.learning import ClassifierState, cosines, learn
from sowa.tasks.classification.measures import confusion, measure, recall
from sowa.tasks.classification.network import middle
from sowa.tasks.classification.pooled_features import PooledFeatures, encode_pooled
from sowa.tasks.classification.rivals import frozen_features, rivals
from sowa.tasks.encoding import LevelEncoder

OURS = "sowa"
Shots = int | None  # None stands for all


@dataclass(frozen=True)
class Row:
    """One method at one number of shots and seed; shares in 0..1.

    Attributes:
        method: Its name.
        shots: Of each class; None for all.
        seed: That drew them.
        top1: Share of images whose class is right.
        balanced: The mean of the classes' recalls.
        ece: Expected calibration error, of ours alone.
        ece_before: That of probabilities before their temperature.
        trained: Whether training helped.
    """

    method: str
    shots: Shots
    seed: int
    top1: float
    balanced: float
    ece: float | None = None
    ece_before: float | None = None
    trained: bool | None = None


@dataclass(frozen=True)
class LabelledFeatures:
    """Images that were looked at, and their classes.

    Attributes:
        pooled: N images.
        labels: (N,) numbers of classes.
        labelled: The images.
    """

    pooled: PooledFeatures
    labels: Tensor
    labelled: Labelled

    @classmethod
    def of(
        cls, encoder: LevelEncoder, labelled: Labelled, batch_size: int = 8, report: Report = silent
    ) -> LabelledFeatures:
        """Encodes every image that can be read.

        Args:
            encoder: That reads them.
            labelled: The images.
            batch_size: So many are encoded at once.
            report: Told of the progress.

        Raises:
            InputError: of a class none can be read.
        """
        pooled = encode_pooled(encoder, labelled.images, batch_size, report)
        readable = labelled.take(pooled.kept)
        for label in set(labelled.labels) - set(readable.labels):
            raise InputError(
                f"none of the images of class {labelled.names[label]!r} can be read; first problem: "
                f"{pooled.skipped[0][1]}"
            )
        return cls(pooled, torch.tensor(readable.labels), readable)

    def take(self, places: Sequence[int]) -> LabelledFeatures:
        """Some of the images."""
        chosen = list(places)
        return LabelledFeatures(self.pooled.take(chosen), self.labels[chosen], self.labelled.take(chosen))


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

    Args:
        encoder: That reads images.
        folders: Images to learn from and to test on.
        shots: Of each class; None for all.
        seeds: 0 or more.
        config: How ours learns.
        batch_size: So many images are encoded at once.
        report: Told of the progress.

    Raises:
        InputError: a class has fewer images than shots, or can't be read.
    """
    for count in shots:
        if count is not None:
            folders.train.shots(count, 0)  # what isn't there is said before anything is encoded
    train, test = (LabelledFeatures.of(encoder, part, batch_size, report) for part in (folders.train, folders.test))
    return compare_features(encoder, train, test, shots, seeds, config, report)


def compare_features(
    encoder: LevelEncoder,
    train: LabelledFeatures,
    test: LabelledFeatures,
    shots: Sequence[Shots],
    seeds: Sequence[int],
    config: ClassifyConfig = ClassifyConfig(),  # noqa: B008 - frozen
    report: Report = silent,
) -> list[Row]:
    """The same of images that were looked at already.

    Args:
        encoder: That read them.
        train: To learn from.
        test: To test on.
        shots: Of each class; None for all.
        seeds: 0 or more.
        config: How ours learns.
        report: Told of the progress.
    """
    rows: list[Row] = []
    runs = [(count, seed) for count in shots for seed in seeds]
    for number, (count, seed) in enumerate(runs, start=1):
        part = train if count is None else train.take(train.labelled.shots(count, seed))
        rows += _run(encoder, part, test, count, replace(config, seed=seed))
        report("compare", number, len(runs))
    return rows


def _run(
    encoder: LevelEncoder, train: LabelledFeatures, test: LabelledFeatures, shots: Shots, config: ClassifyConfig
) -> list[Row]:
    names, truth = train.labelled.names, test.labels.numpy()
    learned = learn(train.pooled, train.labels, names, encoder.backbone, config)
    found = measure(uncalibrated(learned, test.pooled, encoder), test.labels, names, learned.temperature)
    rows = [
        Row(OURS, shots, config.seed, found.top1, found.balanced, found.ece, found.ece_before, learned.trained),
    ]
    predicted = rivals(frozen_features(train.pooled), train.labels, frozen_features(test.pooled), len(names))
    for name, classes in predicted.items():
        table = confusion(truth, classes, len(names))
        rows.append(Row(name, shots, config.seed, float((classes == truth).mean()), float(np.nanmean(recall(table)))))
    return rows


def uncalibrated(learned: ClassifierState, pooled: PooledFeatures, encoder: LevelEncoder) -> Tensor:
    """Logits (N, C) before they are divided by the temperature.

    Args:
        learned: What was learned of C classes.
        pooled: N images.
        encoder: That read them.
    """
    visual_logits = learned.gaussians(pooled.features, middle(pooled.tokens))
    text_logits = cosines(learned.head, pooled, encoder.backbone)
    return learned.weights(visual_logits, text_logits) * learned.temperature

"""What calibrations are made of: raw scores and map maxima of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sowa.core.calibration import from_references
from sowa.core.progress import Report, silent
from sowa.core.types import ABNORMAL, Calibration, Judgement, Sample
from sowa.data.images import read_mask_at, resize_image
from sowa.data.sampling import draw
from sowa.data.stream import ImageSource, read_batches, sample_sources, skipped_into, variants
from sowa.errors import InputError
from sowa.metrics import PixelMetrics

# The range that calibration draws has settled long before this many references are left out in turn.
LEFT_OUT = 64


@dataclass
class Scores:
    """``raw_scores`` and ``map_maxima`` of images, one of each per image."""

    raw_scores: list[float] = field(default_factory=list)
    map_maxima: list[float] = field(default_factory=list)

    def add(self, judgement: Judgement) -> None:
        """The images of one batch."""
        self.raw_scores += judgement.raw_scores.tolist()
        self.map_maxima += judgement.maps.amax(dim=(1, 2)).tolist()


Judge = Callable[[NDArray[np.uint8], int | None], Judgement]
"""Judges images (B, H, W, 3) uint8; the number is that of a reference that they aren't compared with."""


def calibration(
    judged: Judge, references: Sequence[ImageSource], size: tuple[int, int], seed: int, report: Report = silent
) -> Calibration:
    """What references tell of normal: each against the bank without it, a single one varied and against itself.

    ``size`` (H, W) is that at which images are judged.
    """
    alone = len(references) == 1
    chosen = sorted(draw(range(len(references)), min(len(references), LEFT_OUT), seed))
    scores = Scores()
    for done, index in enumerate(chosen, start=1):
        image = resize_image(references[index].read(), size)
        scores.add(judged(variants(image), None) if alone else judged(image[None], index))
        report("calibrate", done, len(chosen))
    return from_references(scores.raw_scores, scores.map_maxima, len(references))


def of_images(
    judged: Judge,
    wanted: Sequence[ImageSource],
    size: tuple[int, int],
    batch_size: int,
    skipped: list[tuple[str, str]],
    report: Report = silent,
) -> Scores:
    """Images that are no references, judged at ``size`` (H, W). Raises InputError where none can be read."""
    scores, before = Scores(), len(skipped)
    for batch in read_batches(wanted, size, batch_size, skipped_into(skipped)):
        scores.add(judged(batch.images, None))
        report("calibrate", len(scores.raw_scores) + len(skipped) - before, len(wanted))
    if not scores.raw_scores:
        raise InputError(f"none of {len(wanted)} images can be read; first problem: {skipped[0][1]}")
    return scores


@dataclass
class LabelledScores(Scores):
    """Also the ``labels``, 1 where anomalous, and the maps' ``pixels`` where every anomalous image has a mask."""

    labels: list[int] = field(default_factory=list)
    pixels: PixelMetrics | None = None


def of_samples(
    judged: Judge,
    samples: Sequence[Sample],
    size: tuple[int, int],
    batch_size: int,
    skipped: list[tuple[str, str]],
    report: Report = silent,
) -> LabelledScores:
    """Labelled images, judged at ``size`` (H, W). Raises InputError where none can be read."""
    by_name = {str(sample.image_path): sample for sample in samples if sample.label is not None}
    wanted = sample_sources(by_name.values())
    has_masks = all(sample.mask_path for sample in by_name.values() if sample.label == ABNORMAL)
    scores = LabelledScores(pixels=PixelMetrics(image_rates=False) if has_masks else None)
    for batch in read_batches(wanted, size, batch_size, skipped_into(skipped)):
        judgement = judged(batch.images, None)
        scores.add(judgement)
        of_batch = [by_name[image.name] for image in batch.sources]
        scores.labels += [sample.label or 0 for sample in of_batch]
        if scores.pixels is not None:
            for sample, own, anomaly_map in zip(of_batch, batch.sizes, judgement.maps.cpu().numpy(), strict=True):
                scores.pixels.update(anomaly_map, read_mask_at(sample.mask_path, size, own))
        report("calibrate", len(scores.labels) + len(skipped), len(wanted))
    if not scores.labels:
        problem = skipped[0][1] if skipped else "none of them has a label"
        raise InputError(f"none of {len(samples)} labelled images can be used; first problem: {problem}")
    return scores

"""What calibrations are made of: raw scores and map maxima of images, references left out of the bank in turn, as they
are and with generated damage."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sowa.core.arrays import to_numpy
from sowa.core.calibration import Calibration, Damaged, from_references
from sowa.core.progress import Report, silent
from sowa.core.types import ABNORMAL, Judgement, Sample
from sowa.data.batches import none_readable, read_batches
from sowa.data.images import read_mask_at, resize_image, resize_mask
from sowa.data.sampling import draw
from sowa.data.sources import ImageSource, sample_sources
from sowa.data.views import variants
from sowa.errors import InputError
from sowa.metrics import PixelMetrics

LEFT_OUT = 64
"""So many references are left out in turn at most; the range that they draw has settled long before."""
DAMAGED = 4
"""So many of them are damaged at most."""
DAMAGE = ("hole", "contamination") * 2
"""What is done to each. Of nine types these two tell best where real defects lie (benchmarks/results/decision.md)."""


@dataclass
class Scores:
    """``raw_scores`` and ``map_maxima`` of images, one of each per image."""

    raw_scores: list[float] = field(default_factory=list)
    map_maxima: list[float] = field(default_factory=list)

    def add(self, judgement: Judgement) -> None:
        """The images of one batch."""
        self.raw_scores += judgement.raw_scores.tolist()
        self.map_maxima += judgement.map_maxima.tolist()


@dataclass
class LabelledScores(Scores):
    """Also the ``labels``, 1 where anomalous, and the maps' ``pixels`` where every anomalous image has a mask."""

    labels: list[int] = field(default_factory=list)
    pixels: PixelMetrics | None = None


@dataclass(frozen=True)
class Judge:
    """How images are judged while a threshold is looked for.

    Attributes:
        judge: Judges images (B, H, W, 3) uint8; the number is that of a reference that they aren't compared with.
        size: (H, W) at which it takes them.
        batch_size: So many at once.
        report: Told of the progress.
    """

    judge: Callable[[NDArray[np.uint8], int | None], Judgement]
    size: tuple[int, int]
    batch_size: int = 8
    report: Report = silent


def score_references(judge: Judge, references: Sequence[ImageSource], seed: int) -> Scores:
    """Of references, each against the bank without it; of a single one variants, against itself.

    Args:
        judge: Against the bank that is made of them.
        references: In the bank's order; up to `LEFT_OUT` of them are left out.
        seed: That draws these.
    """
    alone = len(references) == 1
    chosen = sorted(draw(range(len(references)), min(len(references), LEFT_OUT), seed))
    scores = Scores()
    for done, index in enumerate(chosen, start=1):
        image = resize_image(references[index].read(), judge.size)
        scores.add(judge.judge(variants(image), None) if alone else judge.judge(image[None], index))
        judge.report("calibrate", done, len(chosen))
    return scores


def score_damaged(judge: Judge, images: Sequence[ImageSource], seed: int, *, in_bank: bool = True) -> Damaged:
    """What generated damage does to normal images.

    Args:
        judge: How they are judged.
        images: That can be read; up to `DAMAGED` of them are damaged.
        seed: That draws these, and the damage.
        in_bank: Whether they are the references, in the bank's order: each is judged against the bank without it, a
            single one varied.
    """
    alone = in_bank and len(images) == 1
    chosen = sorted(draw(range(len(images)), min(len(images), DAMAGED), seed))
    raw_scores, damaged_maps = list[float](), list[float]()
    for done, index in enumerate(chosen, start=1):
        shown, masks = damaged_images(images[index].read(), judge.size, alone, [seed, index])
        judgement = judge.judge(shown, index if in_bank and not alone else None)
        raw_scores += judgement.raw_scores.tolist()
        maps = zip(to_numpy(judgement.maps), masks, strict=True)
        damaged_maps += [float(one[mask].mean() if mask.any() else one.max()) for one, mask in maps]
        judge.report("damage", done, len(chosen))
    return Damaged.of(raw_scores, damaged_maps, len(images) if in_bank else 1)


def damaged_images(
    image: NDArray[np.uint8], size: tuple[int, int], vary: bool, seed: Sequence[int]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """An image, or variants of it, with each of `DAMAGE`: images (N, H, W, 3) and masks (N, H, W) at ``size``."""
    from sowa.synthetic import SMALLEST_SIZE, damage  # needs OpenCV, which judging doesn't

    larger = max(1, math.ceil(SMALLEST_SIZE / min(size)))
    shown = resize_image(image, (larger * size[0], larger * size[1]))
    bases = variants(shown) if vary else shown[None]
    seeds = np.random.default_rng(seed).integers(1 << 31, size=len(DAMAGE)).tolist()
    found = [
        damage(bases[index % len(bases)], kind, seed=own)
        for index, (kind, own) in enumerate(zip(DAMAGE, seeds, strict=True))
    ]
    images = [resize_image(one.image, size) for one in found]
    return np.stack(images), np.stack([resize_mask(one.mask, size) for one in found])


def calibrate_on_references(judge: Judge, references: Sequence[ImageSource], seed: int) -> Calibration:
    """What references tell of normal, and of what damage does to it; arguments as of `score_references`."""
    scores = score_references(judge, references, seed)
    damaged = score_damaged(judge, references, seed)
    return from_references(scores.raw_scores, scores.map_maxima, len(references), damaged)


def score_images(judge: Judge, wanted: Sequence[ImageSource], skipped: list[tuple[str, str]]) -> Scores:
    """Of images that are no references; those that can't be read go to ``skipped``.

    Raises:
        InputError: none can be read.
    """
    scores, before = Scores(), len(skipped)
    for batch in read_batches(wanted, judge.size, judge.batch_size, skipped):
        scores.add(judge.judge(batch.images, None))
        judge.report("calibrate", len(scores.raw_scores) + len(skipped) - before, len(wanted))
    if not scores.raw_scores:
        raise none_readable(len(wanted), skipped[before:])
    return scores


def score_samples(judge: Judge, samples: Sequence[Sample], skipped: list[tuple[str, str]]) -> LabelledScores:
    """Of labelled images; those that can't be read go to ``skipped``.

    Raises:
        InputError: none can be read, or none has a label.
    """
    by_name = {str(sample.image_path): sample for sample in samples if sample.label is not None}
    if not by_name:
        raise InputError(f"none of {len(samples)} images has a label; give normal and anomalous ones")
    has_masks = all(sample.mask_path for sample in by_name.values() if sample.label == ABNORMAL)
    scores = LabelledScores(pixels=PixelMetrics(image_rates=False) if has_masks else None)
    for batch in read_batches(sample_sources(by_name.values()), judge.size, judge.batch_size, skipped):
        judgement = judge.judge(batch.images, None)
        scores.add(judgement)
        of_batch = [by_name[source.name] for source in batch.sources]
        scores.labels += [sample.label or 0 for sample in of_batch]
        if scores.pixels is not None:
            for sample, own, anomaly_map in zip(of_batch, batch.sizes, to_numpy(judgement.maps), strict=True):
                scores.pixels.update(anomaly_map, read_mask_at(sample.mask_path, judge.size, own))
        judge.report("calibrate", len(scores.labels) + len(skipped), len(by_name))
    if not scores.labels:
        raise none_readable(len(by_name), skipped, "labelled images")
    return scores

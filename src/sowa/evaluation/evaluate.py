"""Evaluation on a labelled data set: one pass over the images serves every number of shots and every seed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from sowa.core.config import EvaluationConfig
from sowa.core.progress import Report, silent
from sowa.core.scoring import judge, paper_scores
from sowa.core.types import ABNORMAL, NORMAL, Calibration, Judgement, Observation, Sample
from sowa.data import choose_references, read_mask_at, split
from sowa.data.stream import Batch, read_batches, sample_sources, skipped_into
from sowa.data.views import check
from sowa.detector import leave_one_out as collect
from sowa.detector.detector import Sowa
from sowa.detector.references import FEW, References, Sight, build
from sowa.encoders.devices import synchronise
from sowa.errors import InputError
from sowa.evaluation.inspection import Inspected, Inspection
from sowa.evaluation.results import METRICS, Evaluation, Run
from sowa.metrics import (
    Interval,
    MetricValue,
    PixelBootstrap,
    PixelMetrics,
    bootstrap_images,
    image_curves,
    image_metrics,
)

Banks = dict[tuple[int, int], References]  # by shots and seed


class _Tally:
    """What one run collects image by image; maps are counted, not kept."""

    inspection: Inspection | None = None

    def __init__(self, k_shot: int, seed: int, references: list[str], config: EvaluationConfig) -> None:
        self.k_shot, self.seed, self.references = k_shot, seed, references
        self.pixels = PixelMetrics(image_rates=config.aupro == "authors")
        self.resampled = PixelBootstrap() if config.bootstrap else None
        self.raw_scores: list[float] = []
        self.maxima: list[float] = []

    def add(self, judgement: Judgement, masks: Sequence[NDArray[np.bool_]] | None) -> None:
        self.raw_scores += judgement.raw_scores.tolist()
        self.maxima += judgement.maps.amax(dim=(1, 2)).tolist()
        if masks is not None:
            for anomaly_map, mask in zip(judgement.maps.cpu().numpy(), masks, strict=True):
                self.pixels.update(anomaly_map, mask)
                if self.resampled:
                    self.resampled.update(anomaly_map, mask)

    def finish(self, category: str, truth: _Truth, config: EvaluationConfig) -> Run:
        scores = self.raw_scores
        if config.scoring == "paper":
            scores = truth.probabilities  # as published for zero shots
            if self.k_shot:
                scores = paper_scores(torch.tensor(scores), torch.tensor(self.maxima)).tolist()
        metrics = image_metrics(scores, truth.labels).metrics()
        if truth.has_masks:
            metrics |= self.pixels.compute(config.aupro).metrics()
        else:
            undefined = MetricValue.undefined("an anomalous image has no mask")
            metrics |= {name: undefined for name in METRICS if name.startswith("pixel")}
        curves = {}
        if self.inspection:
            pro = self.pixels.pro_curve() if truth.has_masks else None
            curves = image_curves(scores, truth.labels) | ({"PRO": pro} if pro else {})
        intervals = self._intervals(scores, truth, config)
        return Run(category, self.k_shot, self.seed, metrics, self.references, intervals, curves)

    def _intervals(self, scores: list[float], truth: _Truth, config: EvaluationConfig) -> dict[str, Interval]:
        """Of all metrics that exist; the authors' AUPRO depends on the extremes of all scores and has none."""
        if not self.resampled:
            return {}
        intervals = bootstrap_images(scores, truth.labels, config.bootstrap)
        if truth.has_masks:
            intervals |= self.resampled.intervals(config.bootstrap)
            if config.aupro == "authors":
                del intervals["pixel_AUPRO"]
        return intervals


@dataclass
class _Truth:
    """What all runs on a category share."""

    has_masks: bool
    labels: list[bool] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0


def evaluate(
    detector: Sowa,
    dataset: str,
    samples: Sequence[Sample],
    config: EvaluationConfig,
    report: Report = silent,
    inspect: Callable[[Inspected], None] | None = None,
) -> Evaluation:
    """Metrics of ``detector``'s network for each category, number of shots and seed.

    References are drawn from the normal train images; every labelled image of the split "test" is judged. Zero
    shots don't depend on the seed and are run once, under the first one. ``inspect`` is called for every image of one
    run in each category, that of the most shots and the first seed, with the verdict by that run's own calibration.

    Raises InputError where a category has too few references or no labelled test image, and for a detector that
    glances.
    """
    if detector.glances:
        raise InputError("a test looks at all tiles; give a detector without glances")
    runs: list[Run] = []
    truths = []
    for category in dict.fromkeys(sample.category for sample in samples):
        of_category = [sample for sample in samples if sample.category == category]
        found, truth = _evaluate_category(detector, of_category, config, report, inspect)
        runs += found
        truths.append(truth)
    seconds = sum(truth.seconds for truth in truths)
    rate = sum(len(truth.labels) for truth in truths) / seconds if seconds else 0.0
    skipped = [skip for truth in truths for skip in truth.skipped]
    return Evaluation(
        dataset=dataset,
        backbone=detector.network.backbone.name,
        trained=detector.trained,
        config=config,
        runs=runs,
        images_per_second=rate,
        image_size=detector.image_size,
        tiled=detector.tiled,
        skipped=skipped,
    )


def _evaluate_category(
    detector: Sowa,
    samples: Sequence[Sample],
    config: EvaluationConfig,
    report: Report,
    inspect: Callable[[Inspected], None] | None,
) -> tuple[list[Run], _Truth]:
    category = samples[0].category
    test = [sample for sample in split(samples, "test") if sample.label is not None]
    if not test:
        raise InputError(f"category {category!r} has no labelled test image; add normal and anomalous ones")
    truth = _Truth(has_masks=all(sample.mask_path for sample in test if sample.label == ABNORMAL))
    banks = _banks(detector, samples, config, truth.skipped)
    tallies = [_Tally(*run, banks[run].names if run in banks else [], config) for run in _runs(config)]
    if inspect:
        inspected = next(t for t in tallies if (t.k_shot, t.seed) == (max(config.k_shots), config.seeds[0]))
        inspected.inspection = Inspection(inspect, _calibration(detector, banks, category, config, report))
    _judge_all(detector, test, banks, tallies, truth, config, report)
    if not truth.labels:
        raise InputError(f"none of {len(test)} test images can be read; first problem: {truth.skipped[0][1]}")
    return [tally.finish(category, truth, config) for tally in tallies], truth


def _judge_all(
    detector: Sowa,
    test: Sequence[Sample],
    banks: Banks,
    tallies: Sequence[_Tally],
    truth: _Truth,
    config: EvaluationConfig,
    report: Report,
) -> None:
    """The pass over the test images of a category: every run's tally and the truth grow batch by batch."""
    category = test[0].category
    prompts = detector.trained or config.scoring == "paper" or 0 in config.k_shots
    broken_references = len(truth.skipped)
    for batch, of_batch in _read(test, detector.image_size, config.batch_size, truth.skipped):
        masks = [
            read_mask_at(sample.mask_path, detector.image_size, size)
            for sample, size in zip(of_batch, batch.sizes, strict=True)
        ]
        started = time.perf_counter()
        observation = detector.observe(batch.images, prompts=prompts, categories=[category] * len(of_batch))
        synchronise(detector.device)
        seconds = time.perf_counter() - started
        for tally, judgement in zip(tallies, _judgements(detector, observation, banks, config), strict=True):
            tally.add(judgement, masks if truth.has_masks else None)
            if tally.inspection:
                tally.inspection.add(batch, of_batch, masks, judgement, seconds)
        truth.seconds += seconds
        truth.labels += [sample.label == ABNORMAL for sample in of_batch]
        if observation.abnormal_probability is not None:
            truth.probabilities += observation.abnormal_probability.tolist()
        report(f"test {category}", len(truth.labels) + len(truth.skipped) - broken_references, len(test))


def _calibration(detector: Sowa, banks: Banks, category: str, config: EvaluationConfig, report: Report) -> Calibration:
    """What `fit` with the references of the most shots and the first seed would come to."""
    if not banks:
        return detector.zero_shot_calibration
    references = banks[max(config.k_shots), config.seeds[0]]

    def judged(images: NDArray[np.uint8], leave_out: int | None) -> Judgement:
        observation = detector.observe(images, categories=[category] * len(images))
        return detector.judge(observation, references.bank, leave_out)

    return collect.calibration(judged, references.images, detector.image_size, config.seeds[0], report)


def _runs(config: EvaluationConfig) -> Iterator[tuple[int, int]]:
    """(shots, seed) of every run; zero shots once."""
    if 0 in config.k_shots:
        yield 0, config.seeds[0]
    for seed in config.seeds:
        yield from ((k_shot, seed) for k_shot in sorted(set(config.k_shots) - {0}))


def _banks(
    detector: Sowa, samples: Sequence[Sample], config: EvaluationConfig, skipped: list[tuple[str, str]]
) -> Banks:
    """The references of every run with shots, as ``fit`` would take them; fewer shots are the first of more.

    In place of a broken image the next one is drawn. Raises InputError where too few can be read.
    """
    banks: Banks = {}
    kinds = () if config.scoring == "paper" else check(config.augment)
    few = max(config.k_shots) <= FEW  # of more images too much would have to be kept
    there = sum(sample.split == "train" and sample.label == NORMAL for sample in samples)
    # Seeds that draw from hardly more than a few images draw the same ones, and see them once.
    shared = Sight(detector, keep=few) if there <= 2 * FEW else None
    sights = {seed: shared or Sight(detector, keep=few) for seed in config.seeds}
    for k_shot, seed in _runs(config):
        if not k_shot:
            continue
        choose_references(samples, k_shot, seed)  # says what's wrong where there are too few
        normal = choose_references(samples, there, seed)
        found = build(detector, sample_sources(normal), k_shot, config.batch_size, augment=kinds, sight=sights[seed])
        if k_shot == max(config.k_shots):
            del sights[seed]  # what it keeps is large
        skipped += [skip for skip in found.skipped if skip not in skipped]
        if len(found.images) < k_shot:
            raise InputError(f"only {len(found.images)} reference images can be read, needed are {k_shot}")
        banks[k_shot, seed] = found
    return banks


@torch.inference_mode()
def _judgements(
    detector: Sowa, observation: Observation, banks: Banks, config: EvaluationConfig
) -> Iterator[Judgement]:
    """One judgement per run, in the order of ``_runs``."""
    network = detector.network.config
    # Untrained prompts are noise: they are shown where zero shots were asked for, and kept out of the rest.
    few_shot = observation if detector.trained else replace(observation, level_maps=None)
    for run in _runs(config):
        if run not in banks:
            yield judge(observation, None, network)
            continue
        distances = banks[run].bank.distances(observation.patches, precision=detector.precision)
        yield judge(few_shot, distances, network)


def _read(
    samples: Sequence[Sample], size: tuple[int, int], batch_size: int, skipped: list[tuple[str, str]]
) -> Iterator[tuple[Batch, list[Sample]]]:
    """Batches with their samples; what can't be read goes to ``skipped``."""
    by_name = {str(sample.image_path): sample for sample in samples}
    wanted = sample_sources(by_name.values())
    for batch in read_batches(wanted, size, batch_size, skipped_into(skipped)):
        yield batch, [by_name[image.name] for image in batch.sources]

"""Evaluation on a labelled data set: one pass over the images serves every number of shots and every seed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from sowa.core.calibration import Calibration
from sowa.core.progress import Report, silent
from sowa.core.scoring import judge_zero_shot
from sowa.core.types import ABNORMAL, NORMAL, Features, Judgement, Sample
from sowa.data import choose_references, read_mask_at, split
from sowa.data.batches import Batch, none_readable, read_batches
from sowa.data.sources import sample_sources
from sowa.data.views import check
from sowa.detector.detector import Sowa
from sowa.detector.encoded import Encoded
from sowa.detector.image_size import at_suited_size
from sowa.detector.leave_one_out import Judge, calibrate_on_references
from sowa.detector.references import FEW, FeatureCache, References, Selection, build
from sowa.errors import InputError
from sowa.evaluation.config import EvaluationConfig
from sowa.evaluation.inspection import Inspected, Inspection
from sowa.evaluation.results import Evaluation, Run
from sowa.evaluation.run_metrics import RunMetrics, Truth

Banks = dict[tuple[int, int], References]  # by shots and seed


def evaluate(
    detector: Sowa,
    dataset: str,
    samples: Sequence[Sample],
    config: EvaluationConfig,
    report: Report = silent,
    inspect: Callable[[Inspected], None] | None = None,
) -> Evaluation:
    """Metrics of a detector's network for each category, number of shots and seed.

    References are drawn from the normal train images; every labelled image of the split "test" is judged. Zero shots
    don't depend on the seed and are run once, under the first one.

    Args:
        detector: Whose network and extensions are measured; it needn't be fitted.
        dataset: What the data set is called.
        samples: Its images.
        config: How it is judged.
        report: Told of the progress.
        inspect: Called for every image of one run in each category, that of the most shots and the first seed, with the
            verdict by that run's own calibration.

    Raises:
        InputError: a category has too few references or no labelled test image, or the detector judges images in
            another way than by its memory bank.
    """
    if judge := detector.image_judge:
        raise InputError(f"a test judges all of an image by a memory bank; give a detector without {judge.name}")
    runs: list[Run] = []
    truths = []
    for category in dict.fromkeys(sample.category for sample in samples):
        of_category = [sample for sample in samples if sample.category == category]
        for each in _passes(detector, of_category, config, report):
            shown = inspect if max(each.config.k_shots) == max(config.k_shots) else None
            found, truth = each.run(shown)
            runs += found
            truths.append(truth)
    seconds = sum(truth.seconds for truth in truths)
    rate = sum(len(truth.labels) for truth in truths) / seconds if seconds else 0.0
    encoder = detector.encoder
    return Evaluation(
        dataset=dataset,
        backbone=encoder.name,
        trained=encoder.trained,
        config=config,
        runs=runs,
        images_per_second=rate,
        tiled=encoder.settings.tiled,
        skipped=[skip for truth in truths for skip in truth.skipped],
    )


def _passes(detector: Sowa, samples: Sequence[Sample], config: EvaluationConfig, report: Report) -> Iterator[_Pass]:
    """Over the images of one category: one, or two where references choose another size than zero shots have."""
    shots = tuple(k_shot for k_shot in config.k_shots if k_shot)
    normal = [sample for sample in samples if sample.split == "train" and sample.label == NORMAL]
    suited = copy(detector)
    if shots:
        suited.encoder = at_suited_size(detector.encoder, sample_sources(normal))
    if shots and suited.image_size != detector.image_size:
        if 0 in config.k_shots:
            yield _Pass(detector, samples, replace(config, k_shots=(0,)), report)
        config = replace(config, k_shots=shots)
    yield _Pass(suited, samples, config, report)


@dataclass
class _Pass:
    """One over the images of one category, seen at one size."""

    detector: Sowa
    samples: Sequence[Sample]
    config: EvaluationConfig
    report: Report
    truth: Truth = field(init=False)

    def run(self, inspect: Callable[[Inspected], None] | None) -> tuple[list[Run], Truth]:
        category, config = self.samples[0].category, self.config
        test = [sample for sample in split(self.samples, "test") if sample.label is not None]
        if not test:
            raise InputError(f"category {category!r} has no labelled test image; add normal and anomalous ones")
        has_masks = all(sample.mask_path for sample in test if sample.label == ABNORMAL)
        self.truth = truth = Truth(has_masks, self.detector.image_size)
        banks = self._banks()
        calibrations = self._calibrations(banks)
        metrics = [
            RunMetrics(*run, banks[run].names if run in banks else [], config, calibrations[run])
            for run in _runs(config)
        ]
        if inspect:
            inspected = next(m for m in metrics if (m.k_shot, m.seed) == (max(config.k_shots), config.seeds[0]))
            inspected.inspection = Inspection(inspect, inspected.calibration)
        self._judge(test, banks, metrics)
        if not truth.labels:
            raise none_readable(len(test), truth.skipped, "test images")
        return [each.compute(category, truth) for each in metrics], truth

    def _judge(self, test: Sequence[Sample], banks: Banks, metrics: Sequence[RunMetrics]) -> None:
        """Every run's metrics and the truth grow batch by batch."""
        encoder, config, truth, category = self.detector.encoder, self.config, self.truth, test[0].category
        prompts = encoder.trained or config.scoring == "paper" or 0 in config.k_shots
        broken_references = len(truth.skipped)
        for batch, of_batch in _read(test, encoder.image_size, config.batch_size, truth.skipped):
            masks = [
                read_mask_at(sample.mask_path, encoder.image_size, size)
                for sample, size in zip(of_batch, batch.sizes, strict=True)
            ]
            started = time.perf_counter()
            features = encoder.encode(batch.images, prompts=prompts, categories=[category] * len(of_batch))
            encoder.synchronise()
            seconds = time.perf_counter() - started
            for each, judgement in zip(metrics, self._judgements(features, banks), strict=True):
                each.add(judgement, masks if truth.has_masks else None)
                if each.inspection:
                    each.inspection.add(batch, of_batch, masks, judgement, seconds)
            truth.seconds += seconds
            truth.labels += [sample.label == ABNORMAL for sample in of_batch]
            if features.abnormal_probability is not None:
                truth.probabilities += features.abnormal_probability.tolist()
            self.report(f"test {category}", len(truth.labels) + len(truth.skipped) - broken_references, len(test))

    def _calibrations(self, banks: Banks) -> dict[tuple[int, int], Calibration]:
        """What `fit` with the references of each run would come to; nothing is calibrated where no threshold counts."""
        zero_shot, found = self.detector.zero_shot_calibration, dict[tuple[int, int], Calibration]()
        shown = max(self.config.k_shots), self.config.seeds[0]
        for seed in self.config.seeds:
            encoded = Encoded(self.detector.encoder, self.samples[0].category)
            for run in [run for run in _runs(self.config) if run[1] == seed]:
                calibrated = run in banks and (self.config.scoring == "inductive" or run == shown)
                found[run] = self._calibrate(encoded, banks[run], seed) if calibrated else zero_shot
        return found

    def _calibrate(self, encoded: Encoded, references: References, seed: int) -> Calibration:
        def judge(images: NDArray[np.uint8], leave_out: int | None) -> Judgement:
            return self.detector.judge(encoded(images), references.bank, leave_out)

        judged = Judge(judge, self.detector.image_size, report=self.report)
        return calibrate_on_references(judged, references.images, seed)

    def _banks(self) -> Banks:
        """The references of every run with shots, as ``fit`` would take them; fewer shots are the first of more.

        In place of a broken image the next one is drawn. Raises InputError where too few can be read.
        """
        config, encoder, banks = self.config, self.detector.encoder, Banks()
        kinds = () if config.scoring == "paper" else check(config.augment)
        few = max(config.k_shots) <= FEW  # of more images too much would have to be kept
        there = sum(sample.split == "train" and sample.label == NORMAL for sample in self.samples)
        # Seeds that draw from hardly more than a few images draw the same ones, and encode them once.
        category = self.samples[0].category
        shared = FeatureCache(encoder, few, category) if there <= 2 * FEW else None
        caches = {seed: shared or FeatureCache(encoder, few, category) for seed in config.seeds}
        for k_shot, seed in _runs(config):
            if not k_shot:
                continue
            choose_references(self.samples, k_shot, seed)  # says what's wrong where there are too few
            normal = sample_sources(choose_references(self.samples, there, seed))
            selection = Selection(k_shot, config.batch_size, augment=kinds, seed=seed)
            found = build(encoder, normal, selection, cache=caches[seed])
            if k_shot == max(config.k_shots):
                del caches[seed]  # what it keeps is large
            self.truth.skipped += [skip for skip in found.skipped if skip not in self.truth.skipped]
            if len(found.images) < k_shot:
                raise InputError(f"only {len(found.images)} reference images can be read, needed are {k_shot}")
            banks[k_shot, seed] = found
        return banks

    def _judgements(self, features: Features, banks: Banks) -> Iterator[Judgement]:
        """One judgement per run, in the order of ``_runs``."""
        encoder = self.detector.encoder
        # Untrained prompts are noise: they are shown where zero shots were asked for, and kept out of the rest.
        few_shot = features if encoder.trained else replace(features, level_maps=None)
        for run in _runs(self.config):
            if run in banks:
                yield self.detector.judge(few_shot, banks[run].bank)
            else:
                yield judge_zero_shot(features, encoder.config)


def _runs(config: EvaluationConfig) -> Iterator[tuple[int, int]]:
    """(shots, seed) of every run; zero shots once."""
    if 0 in config.k_shots:
        yield 0, config.seeds[0]
    for seed in config.seeds:
        yield from ((k_shot, seed) for k_shot in sorted(set(config.k_shots) - {0}))


def _read(
    samples: Sequence[Sample], size: tuple[int, int], batch_size: int, skipped: list[tuple[str, str]]
) -> Iterator[tuple[Batch, list[Sample]]]:
    """Batches with their samples; what can't be read goes to ``skipped``."""
    by_name = {str(sample.image_path): sample for sample in samples}
    for batch in read_batches(sample_sources(by_name.values()), size, batch_size, skipped):
        yield batch, [by_name[source.name] for source in batch.sources]

"""A detector that judges: features against a memory bank, or zero-shot; and how its thresholds are set anew."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sowa.core.arrays import Array
from sowa.core.calibration import Calibration, at_rate, check_shares, decide, from_normal, moved, zero_shot
from sowa.core.config import PRIOR, WRONG, ModelConfig
from sowa.core.memory import MemoryBank
from sowa.core.progress import Report, silent
from sowa.core.scoring import judge_few_shot, judge_zero_shot
from sowa.core.thresholds import Rule, best_cut, best_threshold
from sowa.core.types import Features, Judgement, Sample
from sowa.data.batches import Batch
from sowa.data.sources import ImageSource, image_sources
from sowa.detector.extension import (
    Annotation,
    Annotator,
    DistanceWeight,
    Extension,
    ImageJudge,
    check_together,
    find_search,
)
from sowa.detector.leave_one_out import Judge, score_damaged, score_images, score_samples
from sowa.detector.prediction import Boundary, Prediction, predictions
from sowa.detector.predictor import Predictor
from sowa.encoders.base import Encoder
from sowa.errors import InputError

Encode = Callable[[NDArray[np.uint8]], Features]


class CalibratedDetector(Predictor):
    """What a fitted detector does: it judges, and its thresholds can be moved. `sowa.Sowa` is one that can be fitted.

    Args:
        encoder: Images to features.
        extensions: What plugs in, see `sowa.detector.extension`.

    Attributes:
        encoder: As given.
        extensions: As given.
        annotators: Say more of images that are judged.
        bank_: The memory bank, None without references.
        calibration_: Where normal ends.
        skipped_: Names of the images that the last call couldn't read, and why.

    Raises:
        InputError: an extension can't be used with this encoder or with another one.
    """

    def __init__(self, encoder: Encoder, extensions: Sequence[Extension] = ()) -> None:
        check_together(extensions)
        self.encoder = encoder
        self.extensions = tuple(extensions)
        self._search = find_search(encoder.settings.search)
        for extension in self.extensions:
            extension.attach(encoder)
        self.annotators: list[Annotator] = []
        self.bank_: MemoryBank | None = None
        self.calibration_ = self.zero_shot_calibration
        self.references_: list[str] = []
        self.skipped_: list[tuple[str, str]] = []

    @property
    def zero_shot_calibration(self) -> Calibration:
        """Where normal ends without references."""
        return zero_shot(self.encoder.prompt_levels, self.encoder.config.prompt.self_weight)

    @property
    def is_fitted(self) -> bool:
        """Whether there is a memory bank."""
        return self.bank_ is not None

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels at which images are seen."""
        return self.encoder.image_size

    @property
    def image_judge(self) -> ImageJudge | None:
        """The extension that judges images in place of the memory bank, None where there is none."""
        return next((each for each in self.extensions if isinstance(each, ImageJudge)), None)

    def judge(self, features: Features, bank: MemoryBank | None = None, leave_out: int | None = None) -> Judgement:
        """Raw scores and maps of what was encoded.

        Args:
            features: Of a batch.
            bank: A memory bank; by default the fitted one, and zero-shot where there is none.
            leave_out: Number of a reference that the images aren't compared with.
        """
        bank = self.bank_ if bank is None else bank
        if bank is None:
            return judge_zero_shot(features, self.encoder.config)
        distances = bank.distances(features.patches, leave_out, self.encoder.precision)
        return judge_weighed(features, distances, self.encoder.config, self.extensions, bank.zero_shot_weight)

    def judge_images(
        self,
        images: NDArray[np.uint8],
        bank: MemoryBank | None = None,
        leave_out: int | None = None,
        encode: Encode | None = None,
    ) -> Judgement:
        """As `judge`, of images (B, H, W, 3) uint8 at ``image_size``; an `ImageJudge` does it itself. ``encode`` stands
        in for the encoder where it may know them."""
        if self.image_judge and self.image_judge.is_fitted:
            return self.image_judge.judge(images, leave_out)
        return self.judge((encode or self.encoder.encode)(images), bank, leave_out)

    def calibrate(
        self,
        normal: Any = None,
        *,
        false_positive_rate: float | None = None,
        prior: float = PRIOR,
        unsure: float = WRONG,
        seed: int = 0,
        batch_size: int = 8,
        report: Report = silent,
    ) -> Self:
        """Sets the thresholds anew; the bank stays.

        Args:
            normal: Normal images that aren't in the bank, as in `fit`; they tell better than the references do where
                normal ends, and references among them are left out. None keeps what is known of normal images.
            false_positive_rate: The share of normal images that may be called anomalous, between 0 and 1; None sets the
                thresholds where good and bad images are equally likely, as `fit` does.
            prior: Share of bad parts among those that will be judged, between 0 and 1, for which that is so.
            unsure: How often a verdict that isn't "unsure" may be wrong, 0 to 0.5.
            seed: That draws damage for ``normal``.
            batch_size: So many images are judged at once.
            report: Told of the progress.

        Raises:
            InputError: a share is out of its range, no image can be read, all are references, or no normal image was
                seen.
        """
        check_shares(false_positive_rate, prior, unsure)
        calibration = self.calibration_
        if normal is not None:
            calibration = self._calibrate_on_normal(image_sources(normal), seed, batch_size, report)
        calibration = decide(calibration, prior, unsure)
        self.calibration_ = calibration if false_positive_rate is None else at_rate(calibration, false_positive_rate)
        return self

    def _calibrate_on_normal(
        self, given: Sequence[ImageSource], seed: int, batch_size: int, report: Report
    ) -> Calibration:
        """What normal images tell that aren't references, as they are and with generated damage."""
        self._check_ready()
        self.skipped_ = []
        known = self._reference_paths()
        unseen = [p for p in given if not isinstance(p.origin, Path) or p.origin.resolve() not in known]
        if not unseen:
            raise InputError(f"all {len(given)} images are references; give normal images that aren't")
        judge = self._judge_with(self.bank_, batch_size, report)
        scores = score_images(judge, unseen, self.skipped_)
        broken = {name for name, _ in self.skipped_}
        readable = [image for image in unseen if image.name not in broken]
        damaged = score_damaged(judge, readable, seed, in_bank=False)
        return from_normal(scores.raw_scores, scores.map_maxima, damaged)

    def calibrate_labelled(
        self,
        samples: Sequence[Sample],
        rule: Rule = "f1",
        *,
        missed_cost: float = 1.0,
        batch_size: int = 8,
        report: Report = silent,
    ) -> Self:
        """Sets the thresholds to what a rule finds best on labelled images; the bank stays.

        The pixel threshold is the best one for pixels where every anomalous image has a mask and the rule isn't recall;
        otherwise that of the maps' highest values. Judge the result on other images than these.

        Args:
            samples: All labelled ones but the references are used, whatever their split.
            rule: What is best, see `sowa.core.calibration.Rule`.
            missed_cost: What a miss costs for the rule "cost", counted in false alarms, above 0.
            batch_size: So many images are judged at once.
            report: Told of the progress.

        Raises:
            InputError: there aren't both normal and anomalous images, or ``missed_cost`` isn't above 0.
        """
        self._check_ready()
        self.skipped_ = []
        known = self._reference_paths()
        unseen = [sample for sample in samples if sample.image_path.resolve() not in known]
        scores = score_samples(self._judge_with(self.bank_, batch_size, report), unseen, self.skipped_)
        threshold = best_threshold(scores.raw_scores, scores.labels, rule, missed_cost)
        if rule != "recall" and scores.pixels is not None and scores.pixels.n_anomalous:
            pixel_threshold = best_cut(*scores.pixels.counts(), rule, missed_cost)
        else:
            pixel_threshold = best_threshold(scores.map_maxima, scores.labels, rule, missed_cost)
        told = f"{rule} on {len(scores.labels)} labelled images"
        self.calibration_ = moved(self.calibration_, threshold, pixel_threshold, told)
        return self

    def _judge_with(
        self, bank: MemoryBank | None, batch_size: int, report: Report, encode: Encode | None = None
    ) -> Judge:
        def judge(images: NDArray[np.uint8], leave_out: int | None) -> Judgement:
            return self.judge_images(images, bank, leave_out, encode)

        return Judge(judge, self.image_size, batch_size, report)

    def _current_boundary(self) -> Calibration:
        return self.calibration_

    def _predict_batch(self, batch: Batch, boundary: Boundary, started: float) -> Iterator[Prediction]:
        if self.annotators:
            features = self.encoder.encode(batch.images)
            judgement = self.judge(features)
            annotations = self._annotate(features, judgement)
        else:
            judgement, annotations = self.judge_images(batch.images), []
        judged = judgement.numpy()
        seconds = (time.perf_counter() - started) / len(batch.sources)
        yield from predictions(batch, judged, boundary, seconds, annotations)

    def _annotate(self, features: Features, judgement: Judgement) -> list[dict[str, Annotation]]:
        """What annotators say of each image, by their names."""
        said = {each.name: each.annotate(features, judgement) for each in self.annotators}
        return [dict(zip(said, of_image, strict=True)) for of_image in zip(*said.values(), strict=True)]

    def _reference_paths(self) -> set[Path]:
        return {Path(name).resolve() for name in self.references_}

    def _searchable(self, bank: MemoryBank) -> MemoryBank:
        if self._search:
            bank.index = self._search.index(bank.features)
        return bank

    def _check_ready(self) -> None:
        if not self.is_fitted and not self.encoder.trained:
            raise InputError(
                f"backbone {self.encoder.name!r} has no trained prompts and no memory bank; fit the detector on normal "
                "images first"
            )


def judge_weighed(
    features: Features,
    distances_LBP: Array,
    config: ModelConfig,
    extensions: Sequence[Extension] = (),
    zero_shot_weight: float = 0.0,
) -> Judgement:
    """The verdict of a memory bank, whose distances some of the extensions may weigh.

    Where one does, the zero-shot score has no say: it knows nothing of what counts where.

    Args:
        features: With what the extensions read of each patch.
        distances_LBP: To the memory bank, (L, B, P).
        config: The network's.
        extensions: Those of the detector.
        zero_shot_weight: The bank's.
    """
    weights = [each for each in extensions if isinstance(each, DistanceWeight)]
    for each in weights:
        distances_LBP = distances_LBP * each.factors(features.patch_values[each.name])
    use_prompts = not any(each.replaces_prompts for each in weights)
    return judge_few_shot(features, distances_LBP, config, use_prompts, 0.0 if weights else zero_shot_weight)

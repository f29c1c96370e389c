"""Where normal ends: thresholds from normal images and generated damage, at a rate of false alarms, or by labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sowa.core.config import PRIOR, WRONG
from sowa.core.decision import Traits, check_prior, check_wrong, learned_rule, logistic, logit
from sowa.core.normal_range import NormalRange, bank_shift, logarithms, range_of, range_of_references
from sowa.errors import InputError

UNSEEN_WIDTH = 0.25  # how gently a score rises where nothing tells
RATES = (1e-6, 1 - 1e-6)  # beyond, a bound is nothing but the tail of a formula
DEFAULT_RULE = "between normal images and generated damage, as other products taught"

Verdict = Literal["normal", "unsure", "anomalous"]


@dataclass(frozen=True)
class Damaged:
    """What references with generated damage show: logarithms, one an image.

    Attributes:
        image: Of raw scores.
        pixel: Of the map's mean over the damaged pixels.

    Raises:
        ValueError: there is none, or a number isn't finite.
    """

    image: tuple[float, ...]
    pixel: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.image or not self.pixel or not all(map(math.isfinite, (*self.image, *self.pixel))):
            raise ValueError("damaged references must be one or more, and their logarithms finite")

    @classmethod
    def of(cls, raw_scores: Sequence[float], damaged_maps: Sequence[float], references: int) -> Damaged:
        """From raw scores and map values against a bank of so many references, one left out; 1 where none was."""
        shift = bank_shift(references)
        image, pixel = (tuple((logarithms(some) + shift).tolist()) for some in (raw_scores, damaged_maps))
        return cls(image, pixel)


@dataclass(frozen=True)
class Calibration:
    """Where normal ends.

    Attributes:
        threshold: A raw score, above 0.
        pixel_threshold: A map value, above 0.
        rule: In words how they were chosen.
        width: How gently the score rises around the threshold, in logarithms, above 0.
        unsure: The raw scores between which neither verdict is right often enough.
        image: Range of raw scores over normal images; None where none was seen.
        pixel: Range of map maxima over normal images; None likewise.
        damaged: What generated damage shows; None where there was none.
        seen: Which normal images those were.
        prior: The share of bad parts among those judged, for which a score is a probability.
        wrong: How often a verdict that isn't unsure may be wrong.

    Raises:
        ValueError: a threshold or the width isn't above 0 and finite, or the band around it is none.
    """

    threshold: float = 0.5
    pixel_threshold: float = 2.0
    rule: str = "half of the abnormal probability"
    width: float = UNSEEN_WIDTH
    unsure: tuple[float, float] = (0.5, 0.5)
    image: NormalRange | None = None
    pixel: NormalRange | None = None
    damaged: Damaged | None = None
    seen: str = "none"
    prior: float = PRIOR
    wrong: float = WRONG

    def __post_init__(self) -> None:
        if not all(0 < value < math.inf for value in (self.threshold, self.pixel_threshold, self.width)):
            raise ValueError(f"{self}: thresholds and width must be numbers above 0")
        low, high = self.unsure
        if not 0 < low <= self.threshold <= high < math.inf:
            raise ValueError(f"{self}: the threshold must lie in the band of what is unsure")

    def score(self, raw_score: float) -> float:
        """Raw score (0 and more) to 0..1, rising, 0.5 at the threshold."""
        return score_of(raw_score, self.threshold, self.width)

    def normal_percentile(self, raw_score: float) -> float | None:
        """Share of normal images with a lower raw score, 0..100; None where no normal image was seen."""
        return self.image.percentile(raw_score) if self.image else None

    @property
    def false_alarms(self) -> float | None:
        """Share of normal images to expect above the threshold, 0..1; None where no normal image was seen."""
        if self.image is None:
            return None
        told = 1 - self.image.percentile(self.threshold) / 100
        return learned_rule().expected_false_alarms(told, len(self.image.logs) or 1)

    @property
    def missed(self) -> float | None:
        """Share of bad images to expect below the threshold, 0..1; None where no damage was generated."""
        if self.damaged is None:
            return None
        below = sum(log <= math.log(self.threshold) for log in self.damaged.image)
        return learned_rule().expected_missed(below, len(self.damaged.image))


def score_of(raw_score: float, threshold: float, width: float) -> float:
    """Raw score (0 and more) to 0..1, rising, 0.5 at ``threshold``; a logistic curve of its logarithm."""
    if raw_score <= 0:
        return 0.0
    return logistic((math.log(raw_score) - math.log(threshold)) / width)


def verdict_of(raw_score: float, threshold: float, unsure: tuple[float, float]) -> Verdict:
    """What a raw score means: unsure strictly within the band, otherwise by the threshold."""
    if unsure[0] < raw_score < unsure[1]:
        return "unsure"
    return "anomalous" if raw_score > threshold else "normal"


def zero_shot(levels: int, self_weight: float) -> Calibration:
    """Where normal ends without references: a map sums one probability per level, half of that is the boundary.

    An image's own patches add to its score, so for them the boundary lies higher. For `mini` it's known how
    much, and where its maps part best.

    Args:
        levels: How many the prompts are asked of.
        self_weight: Of `sowa.core.config.PromptConfig`.
    """
    half = Calibration(pixel_threshold=levels / 2)
    if not self_weight:
        return half
    rule = learned_rule()
    threshold = half.threshold + self_weight * levels * rule.self_boundary
    low, high = (threshold * math.exp(rule.self_width * logit(score)) for score in rule.band(WRONG, references=False))
    told = "what parts good and bad images of other products"
    pixel_threshold = levels * rule.self_pixel_boundary
    return replace(
        half, threshold=threshold, pixel_threshold=pixel_threshold, rule=told, width=rule.self_width, unsure=(low, high)
    )


def from_references(
    raw_scores: Sequence[float], map_maxima: Sequence[float], references: int, damaged: Damaged
) -> Calibration:
    """Calibration from left-out references, or from variants of a single one.

    Args:
        raw_scores: Of each left-out reference.
        map_maxima: Of the same.
        references: The size of the bank; the fewer of them were left out, the wider the ranges.
        damaged: What generated damage on them shows.
    """
    image, pixel = (range_of_references(values, references) for values in (raw_scores, map_maxima))
    some = "" if len(raw_scores) >= references else f"{len(raw_scores)} of "
    seen = "1 reference, varied" if references == 1 else f"{some}{references} references, each left out in turn"
    return decide(Calibration(image=image, pixel=pixel, damaged=damaged, seen=seen))


def from_normal(raw_scores: Sequence[float], map_maxima: Sequence[float], damaged: Damaged) -> Calibration:
    """Calibration from raw scores and map maxima of normal images that aren't in the bank, one or more.

    ``damaged`` is what generated damage on some of them shows.
    """
    seen = f"{len(raw_scores)} normal image{'' if len(raw_scores) == 1 else 's'}"
    image, pixel = range_of(raw_scores), range_of(map_maxima)
    return decide(Calibration(image=image, pixel=pixel, damaged=damaged, seen=seen))


def decide(calibration: Calibration, prior: float = PRIOR, wrong: float = WRONG) -> Calibration:
    """The thresholds at which good and bad are equally likely, as many products taught; what was seen stays.

    Args:
        calibration: That has seen normal images and generated damage.
        prior: Share of bad parts among those judged, between 0 and 1.
        wrong: How often a verdict that isn't unsure may be wrong, 0 to 0.5.

    Raises:
        InputError: a share is out of its range, or there was no normal image or no damage.
    """
    check_prior(prior)
    check_wrong(wrong)
    image, pixel, damaged = calibration.image, calibration.pixel, calibration.damaged
    if image is None or pixel is None or damaged is None:
        raise InputError("the detector has seen no normal image, so nothing tells where they end; fit it on some")
    rule = learned_rule()
    traits = Traits.of(damaged.image, image)
    width = rule.gentleness(traits)
    middle = image.centre + rule.place(traits) - width * logit(prior)
    pixels = pixel.centre + rule.place(Traits.of(damaged.pixel, pixel), pixels=True)
    low, high = (math.exp(middle + width * logit(score)) for score in rule.band(wrong))
    return replace(
        calibration,
        threshold=math.exp(middle),
        pixel_threshold=math.exp(pixels),
        rule=DEFAULT_RULE,
        width=width,
        unsure=(low, high),
        prior=prior,
        wrong=wrong,
    )


def at_rate(calibration: Calibration, false_positive_rate: float) -> Calibration:
    """The thresholds above which a normal image is to be expected at this rate; what was seen, and the band of what is
    unsure, stay.

    Raises InputError where the rate isn't between 0 and 1, or no normal image was seen.
    """
    check_rate(false_positive_rate)
    image, pixel = calibration.image, calibration.pixel
    if image is None or pixel is None:
        raise InputError("the detector has seen no normal image, so no rate can be kept; fit or calibrate it on some")
    told = learned_rule().told_false_alarms(false_positive_rate, len(image.logs) or 1)
    told = min(max(told, RATES[0]), RATES[1])
    return moved(calibration, image.bound(told), pixel.bound(told), f"false-positive rate {false_positive_rate:g}")


def moved(calibration: Calibration, threshold: float, pixel_threshold: float, rule: str) -> Calibration:
    """With other thresholds, chosen by ``rule``; what lies between the old one and the new one is unsure too."""
    low, high = calibration.unsure
    return replace(
        calibration,
        threshold=threshold,
        pixel_threshold=pixel_threshold,
        rule=rule,
        unsure=(min(low, threshold), max(high, threshold)),
    )


def check_shares(false_positive_rate: float | None, prior: float, wrong: float) -> None:
    """Raises InputError for a rate, a prior or a share of wrong verdicts that is out of its range."""
    check_prior(prior)
    check_wrong(wrong)
    if false_positive_rate is not None:
        check_rate(false_positive_rate)


def check_rate(false_positive_rate: float) -> None:
    """Raises InputError where the rate isn't in `RATES`."""
    if not RATES[0] <= false_positive_rate <= RATES[1]:
        raise InputError(
            f"false-positive rate is {false_positive_rate}, allowed is above 0 and below 1, by 0.000001, such as 0.01"
        )

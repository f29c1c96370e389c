"""The threshold from references alone: its shape, its limits, and how often normal pictures exceed it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm, t

from sowa.calibration import BANK_GAIN, FALSE_POSITIVE_RATE, PRIOR_SPREAD, PRIOR_WEIGHT, calibrate
from sowa.types import Calibration

scores = st.lists(st.floats(1e-4, 10), min_size=1, max_size=12)


def threshold_of(values: list[float] | NDArray[np.float64], references: int, rate: float = 0.01) -> float:
    return calibrate(values, values, references, rate).threshold


def left_out(values: NDArray[np.float64], references: int) -> NDArray[np.float64]:
    """What would be seen by leaving references out: the bank is smaller then, and everything farther away from it."""
    return values * (references / (references - 1)) ** BANK_GAIN if references > 1 else values


def false_positive_rate(references: int, values: int, rate: float = 0.01, runs: int = 1500) -> float:
    """Mean chance of one more normal picture over the bound, for products as the prior expects them.

    Each run is a product with a spread of its own; scores are log-normal; of ``references``, ``values`` are seen.
    """
    random, chances = np.random.default_rng(0), []
    for _ in range(runs):
        spread = PRIOR_SPREAD * math.sqrt(PRIOR_WEIGHT / random.chisquare(PRIOR_WEIGHT))
        middle = random.normal(-2, 1)
        seen = left_out(np.exp(random.normal(middle, spread, values)), references)
        bound = threshold_of(seen, references, rate)
        chances.append(norm.sf((math.log(bound) - middle) / spread))
    return float(np.mean(chances))


@given(scores, st.floats(1e-5, 100), st.floats(1e-5, 100))
@settings(max_examples=100, deadline=None)
def test_a_score_rises_with_the_raw_score_within_its_bounds(values, one, other):
    calibration = calibrate(values, values, len(values))
    low, high = sorted((one, other))
    assert 0 <= calibration.score(low) <= calibration.score(high) <= 1


@given(scores)
@settings(max_examples=100, deadline=None)
def test_the_score_at_the_threshold_is_a_half(values):
    calibration = calibrate(values, values, len(values))
    assert calibration.score(calibration.threshold) == 0.5
    assert calibration.score(calibration.threshold * 1.01) > 0.5 > calibration.score(calibration.threshold * 0.99)


def test_no_distance_at_all_scores_nothing():
    assert Calibration().score(0.0) == 0.0
    assert Calibration().score(-1e-9) == 0.0


def test_a_wider_spread_makes_the_score_gentler():
    narrow, wide = Calibration(spread=0.05), Calibration(spread=0.5)
    assert 0.5 < wide.score(0.55) < narrow.score(0.55)


@given(scores, st.floats(0.1, 10))
@settings(max_examples=60, deadline=None)
def test_the_bound_scales_with_the_scores(values, factor):
    plain, scaled = (calibrate(v, v, len(values)) for v in (values, [factor * value for value in values]))
    assert scaled.threshold == pytest.approx(factor * plain.threshold, rel=1e-6)
    assert scaled.spread == pytest.approx(plain.spread, rel=1e-6)


def test_score_and_map_have_bounds_of_their_own():
    calibration = calibrate([0.1, 0.11, 0.12], [0.5, 0.6, 0.9], 3)
    assert calibration.threshold == threshold_of([0.1, 0.11, 0.12], 3)
    assert calibration.pixel_threshold == threshold_of([0.5, 0.6, 0.9], 3)


@pytest.mark.parametrize("spread", [0.02, 0.05, 0.15])
def test_more_references_of_the_same_spread_lower_the_threshold(spread):
    values = np.exp([-spread, spread])
    thresholds = [threshold_of(left_out(np.tile(values, n), 2 * n), 2 * n) for n in (1, 2, 4, 8, 16)]
    assert thresholds == sorted(thresholds, reverse=True)
    assert len(set(thresholds)) == 5
    assert thresholds[-1] > math.exp(spread)


def test_a_single_reference_gets_the_widest_bound():
    variants = [1.0, 1.0, 1.0]
    assert threshold_of(variants, 1) > threshold_of([1.0, 1.0], 2) > threshold_of([1.0] * 4, 4) > 1.0


def test_the_variants_of_a_single_reference_say_nothing_of_the_spread():
    alike, apart = calibrate([1.0] * 3, [1.0] * 3, 1), calibrate([0.5, 1.0, 2.0], [1.0] * 3, 1)
    assert apart.spread == pytest.approx(alike.spread) == pytest.approx(PRIOR_SPREAD)
    assert apart.threshold == pytest.approx(alike.threshold)


def test_the_bound_is_for_the_whole_bank_and_not_for_the_one_that_lacks_the_left_out_reference():
    """All left out at the same distance: what is to come lies nearer, by the gain of one more reference."""
    factor = {n: threshold_of(left_out(np.ones(n), n), n) / threshold_of(np.ones(n), n) for n in (2, 10)}
    assert factor[2] == pytest.approx(2**BANK_GAIN)
    assert factor[10] == pytest.approx((10 / 9) ** BANK_GAIN)
    quantile = t.ppf(0.99, PRIOR_WEIGHT + 1) * math.sqrt(PRIOR_WEIGHT / (PRIOR_WEIGHT + 1)) * PRIOR_SPREAD
    assert threshold_of(left_out(np.ones(2), 2), 2) == pytest.approx(math.exp(quantile * math.sqrt(1.5)))


def test_a_lower_false_positive_rate_needs_a_higher_threshold():
    values = [1.0, 1.1, 0.9]
    assert threshold_of(values, 3, 0.001) > threshold_of(values, 3, 0.01) > threshold_of(values, 3, 0.1)
    assert calibrate(values, values, 3) == calibrate(values, values, 3, FALSE_POSITIVE_RATE)


def test_the_spread_lies_between_the_priors_and_the_references_own():
    values = np.exp(np.random.default_rng(0).normal(0, 0.3, 30))
    few, many = calibrate(values[:3], values[:3], 3), calibrate(values, values, 30)
    own = float(np.log(values).std(ddof=1))
    assert PRIOR_SPREAD < few.spread < float(np.log(values[:3]).std(ddof=1))
    assert few.spread < many.spread < own
    assert many.spread == pytest.approx(own, rel=0.1)


@pytest.mark.parametrize("references", [1, 2, 5, 20])
def test_identical_references_stay_finite(references):
    calibration = calibrate([0.0] * references, [0.0] * references, references)
    assert 0 < calibration.threshold < 1e-5
    assert calibration.spread > 0
    assert calibration.score(0.0) == 0.0
    assert calibration.score(calibration.threshold) == 0.5
    assert calibration.score(0.1) == pytest.approx(1.0)


def test_one_reference_alone_is_given_room_for_missing_the_centre():
    """Its variants show neither where other normal pictures lie nor how far apart."""
    assert false_positive_rate(1, 1) < 0.005
    assert threshold_of(np.ones(3), 1) > threshold_of(np.ones(2), 2)


@pytest.mark.parametrize("references", [2, 4, 8, 16, 32])
def test_normal_pictures_exceed_the_bound_as_often_as_wanted(references):
    assert false_positive_rate(references, references) == pytest.approx(0.01, abs=0.0025)


def test_another_rate_is_kept_as_well():
    assert false_positive_rate(4, 4, rate=0.1) == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("spread", [0.4 * PRIOR_SPREAD, PRIOR_SPREAD, 2 * PRIOR_SPREAD])
def test_many_references_of_any_spread_reach_the_wanted_rate(spread):
    random = np.random.default_rng(1)
    chances = []
    for _ in range(400):
        bound = threshold_of(left_out(np.exp(random.normal(0, spread, 32)), 32), 32)
        chances.append(norm.sf(math.log(bound) / spread))
    assert 0.001 < np.mean(chances) < 0.015


def test_a_sample_of_many_references_keeps_the_wanted_rate():
    """The detector leaves out 32 of its references at most: the spread of these is that of all, and not less."""
    assert false_positive_rate(200, 32) == pytest.approx(0.01, abs=0.0025)

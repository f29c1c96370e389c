"""The bound of normal images from references alone: its shape, its limits, and how often normal images exceed it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm, t

from sowa.core.normal_range import BANK_GAIN, PRIOR_SPREAD, PRIOR_WEIGHT, range_of, range_of_references


def threshold_of(values: list[float] | NDArray[np.float64], references: int, rate: float = 0.01) -> float:
    return range_of_references(values, references).bound(rate)


def left_out(values: NDArray[np.float64], references: int) -> NDArray[np.float64]:
    """What would be seen by leaving references out: the bank is smaller then, and everything farther away from it."""
    return values * (references / (references - 1)) ** BANK_GAIN if references > 1 else values


def false_positive_rate(references: int, values: int, rate: float = 0.01, runs: int = 1500) -> float:
    """Mean chance of one more normal image over the bound, for products as the prior expects them.

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
    alike, apart = range_of_references([1.0] * 3, 1), range_of_references([0.5, 1.0, 2.0], 1)
    assert apart.width == pytest.approx(alike.width)
    assert apart.bound(0.01) == pytest.approx(alike.bound(0.01))


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


def test_the_spread_lies_between_the_priors_and_the_references_own():
    values = np.exp(np.random.default_rng(0).normal(0, 0.3, 30))
    few, many = (range_of(some).width / math.sqrt(1 + 1 / len(some)) for some in (values[:3], values))
    own = float(np.log(values).std(ddof=1))
    assert PRIOR_SPREAD < few < float(np.log(values[:3]).std(ddof=1))
    assert few < many < own
    assert many == pytest.approx(own, rel=0.1)


def test_one_reference_alone_is_given_room_for_missing_the_centre():
    """Its variants show neither where other normal images lie nor how far apart."""
    assert false_positive_rate(1, 1) < 0.005
    assert threshold_of(np.ones(3), 1) > threshold_of(np.ones(2), 2)


@pytest.mark.parametrize("references", [2, 4, 8, 16, 32])
def test_normal_images_exceed_the_bound_as_often_as_wanted(references):
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
    """The detector leaves out some of many references only: the spread of these is that of all, and not less."""
    assert false_positive_rate(200, 32) == pytest.approx(0.01, abs=0.0025)


def test_a_percentile_is_the_share_of_normal_images_below():
    random = np.random.default_rng(3)
    seen, coming = np.exp(random.normal(-1, 0.2, 60)), np.exp(random.normal(-1, 0.2, 4000))
    seen_range = range_of(seen)
    for score in (0.3, 0.37, 0.5):
        assert seen_range.percentile(score) == pytest.approx(100 * np.mean(coming < score), abs=8)
    assert seen_range.percentile(0.0) == 0.0


distinct = st.lists(st.integers(2, 10_000), min_size=1, max_size=24, unique=True).map(
    lambda values: [value / 1000 for value in values]
)


@given(distinct, st.floats(0.001, 0.5))
@settings(max_examples=60)
def test_the_percentile_at_the_threshold_is_what_the_rate_leaves(values, rate):
    seen_range = range_of(values)
    assert seen_range.percentile(seen_range.bound(rate)) == pytest.approx(100 * (1 - rate), abs=1e-6)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1])
def test_fifty_normal_images_keep_the_rate(rate):
    random, chances = np.random.default_rng(4), []
    for _ in range(400):
        seen = np.exp(random.normal(0, 0.15, 50))
        chances.append(norm.sf(math.log(range_of(seen).bound(rate)) / 0.15))
    assert np.mean(chances) == pytest.approx(rate, abs=0.01)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1])
def test_many_normal_images_keep_the_rate_where_their_scores_are_skewed(rate):
    """A tenth of the pieces lies far off, so that no bell shape fits."""

    def scores(count):
        return np.exp(random.normal(0, 0.05, count) + 0.4 * random.exponential(1, count) * (random.random(count) < 0.1))

    random, shares = np.random.default_rng(5), []
    for _ in range(40):
        seen, coming = scores(200), scores(2000)
        shares.append(np.mean(coming > range_of(seen).bound(rate)))
    assert np.mean(shares) == pytest.approx(rate, abs=0.02)


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3]), min_size=9, max_size=40))
@settings(max_examples=40)
def test_percentiles_rise_and_bounds_fall_where_images_score_alike(values):
    image = range_of(values)
    percentiles = [image.percentile(value) for value in np.geomspace(0.02, 2, 80)]
    assert percentiles == sorted(percentiles)
    bounds = [image.bound(rate) for rate in (0.001, 0.01, 0.1, 0.5, 0.9)]
    assert bounds == sorted(bounds, reverse=True)
    assert np.isfinite(bounds).all()


@pytest.mark.parametrize("rate", [0.05, 0.1])
def test_fifty_skewed_normal_images_keep_the_rate(rate):
    """A few odd but good images don't push the threshold beyond what the others ask for."""
    random, chances = np.random.default_rng(5), []
    for _ in range(400):
        seen = np.exp(0.1 * random.standard_exponential(50) ** 1.5)
        chances.append(math.exp(-((10 * math.log(range_of(seen).bound(rate))) ** (1 / 1.5))))
    assert np.mean(chances) == pytest.approx(rate, abs=0.012)

"""The threshold from references alone: its shape, its limits, and how often normal images exceed it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm, t

from sowa.core.calibration import (
    BANK_GAIN,
    PRIOR_SPREAD,
    PRIOR_WEIGHT,
    Calibration,
    NormalRange,
    at_rate,
    best_threshold,
    from_normal,
    from_references,
)
from sowa.core.config import FALSE_POSITIVE_RATE
from sowa.errors import InputError

scores = st.lists(st.floats(2e-3, 10), min_size=1, max_size=12)


def threshold_of(values: list[float] | NDArray[np.float64], references: int, rate: float = 0.01) -> float:
    return at_rate(from_references(values, values, references), rate).threshold


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


@given(scores, st.floats(1e-5, 100), st.floats(1e-5, 100))
@settings(max_examples=100)
def test_a_score_rises_with_the_raw_score_within_its_bounds(values, one, other):
    calibration = from_references(values, values, len(values))
    low, high = sorted((one, other))
    assert 0 <= calibration.score(low) <= calibration.score(high) <= 1


@given(scores)
@settings(max_examples=100)
def test_the_score_at_the_threshold_is_a_half(values):
    calibration = from_references(values, values, len(values))
    assert calibration.score(calibration.threshold) == 0.5
    assert calibration.score(calibration.threshold * 1.01) > 0.5 > calibration.score(calibration.threshold * 0.99)


def test_no_distance_at_all_scores_nothing():
    assert Calibration().score(0.0) == 0.0
    assert Calibration().score(-1e-9) == 0.0


def test_a_wider_spread_makes_the_score_gentler():
    narrow, wide = (Calibration(image=NormalRange(0.0, width, 9.0)) for width in (0.05, 0.5))
    assert 0.5 < wide.score(0.55) < narrow.score(0.55)


@given(scores, st.floats(0.1, 10))
@settings(max_examples=60)
def test_the_bound_scales_with_the_scores(values, factor):
    plain, scaled = (from_references(v, v, len(values)) for v in (values, [factor * value for value in values]))
    assert scaled.threshold == pytest.approx(factor * plain.threshold, rel=1e-6)
    assert scaled.image.width == pytest.approx(plain.image.width, rel=1e-6)


def test_score_and_map_have_bounds_of_their_own():
    calibration = from_references([0.1, 0.11, 0.12], [0.5, 0.6, 0.9], 3)
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
    alike, apart = from_references([1.0] * 3, [1.0] * 3, 1), from_references([0.5, 1.0, 2.0], [1.0] * 3, 1)
    assert apart.image.width == pytest.approx(alike.image.width)
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
    calibration = from_references(values, values, 3)
    assert calibration == at_rate(calibration, FALSE_POSITIVE_RATE)


def test_the_spread_lies_between_the_priors_and_the_references_own():
    values = np.exp(np.random.default_rng(0).normal(0, 0.3, 30))
    few, many = (from_normal(some, some).image.width / math.sqrt(1 + 1 / len(some)) for some in (values[:3], values))
    own = float(np.log(values).std(ddof=1))
    assert PRIOR_SPREAD < few < float(np.log(values[:3]).std(ddof=1))
    assert few < many < own
    assert many == pytest.approx(own, rel=0.1)


@pytest.mark.parametrize("references", [1, 2, 5, 20])
def test_identical_references_stay_finite(references):
    calibration = from_references([0.0] * references, [0.0] * references, references)
    assert 0 < calibration.threshold < 1e-5
    assert calibration.score(0.0) == 0.0
    assert calibration.score(calibration.threshold) == 0.5
    assert calibration.score(0.1) == pytest.approx(1.0)


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
    calibration = from_normal(seen, seen)
    for score in (0.3, 0.37, 0.5):
        assert calibration.normal_percentile(score) == pytest.approx(100 * np.mean(coming < score), abs=8)
    assert calibration.normal_percentile(0.0) == 0.0
    assert Calibration().normal_percentile(0.5) is None


distinct = st.lists(st.integers(2, 10_000), min_size=1, max_size=24, unique=True).map(
    lambda values: [value / 1000 for value in values]
)


@given(distinct, st.floats(0.001, 0.5))
@settings(max_examples=60)
def test_the_percentile_at_the_threshold_is_what_the_rate_leaves(values, rate):
    calibration = at_rate(from_normal(values, values), rate)
    assert calibration.normal_percentile(calibration.threshold) == pytest.approx(100 * (1 - rate), abs=1e-6)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1])
def test_fifty_normal_images_keep_the_rate(rate):
    random, chances = np.random.default_rng(4), []
    for _ in range(400):
        seen = np.exp(random.normal(0, 0.15, 50))
        chances.append(norm.sf(math.log(at_rate(from_normal(seen, seen), rate).threshold) / 0.15))
    assert np.mean(chances) == pytest.approx(rate, abs=0.01)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1])
def test_many_normal_images_keep_the_rate_where_their_scores_are_skewed(rate):
    """A tenth of the pieces lies far off, so that no bell shape fits."""

    def scores(count):
        return np.exp(random.normal(0, 0.05, count) + 0.4 * random.exponential(1, count) * (random.random(count) < 0.1))

    random, shares = np.random.default_rng(5), []
    for _ in range(40):
        seen, coming = scores(200), scores(2000)
        shares.append(np.mean(coming > at_rate(from_normal(seen, seen), rate).threshold))
    assert np.mean(shares) == pytest.approx(rate, abs=0.02)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, math.nan])
def test_a_rate_outside_its_limits_is_refused(rate):
    with pytest.raises(InputError, match=r"allowed is above 0 and below 1"):
        at_rate(from_normal([1.0, 2.0], [1.0, 2.0]), rate)


def test_no_rate_can_be_kept_where_no_normal_image_was_seen():
    with pytest.raises(InputError, match="seen no normal image"):
        at_rate(Calibration(), 0.01)


def test_the_rule_says_how_thresholds_were_chosen_and_what_was_seen():
    calibration = at_rate(from_normal([1.0, 2.0], [1.0, 2.0]), 0.05)
    assert (calibration.rule, calibration.seen) == ("false-positive rate 0.05", "2 normal images")
    assert at_rate(calibration, 0.1).rule == "false-positive rate 0.1"
    assert from_references([1.0] * 3, [1.0] * 3, 1).seen == "1 reference, varied"


SCORES, LABELS = [1, 2, 3, 4, 5, 6, 7, 8], [0, 0, 0, 1, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("rule", "cost", "expected"),
    [("f1", 1, 6.5), ("youden", 1, 6.5), ("recall", 1, 3.5), ("cost", 1, 6.5), ("cost", 3, 3.5), ("cost", 0.1, 6.5)],
)
def test_each_rule_finds_its_best_threshold(rule, cost, expected):
    assert best_threshold(SCORES, LABELS, rule, cost) == expected


def merit(rule, threshold, scores, labels, cost):
    called = np.asarray(scores) > threshold
    tp, fp = np.sum(called & labels), np.sum(called & ~labels)
    fn = np.sum(~called & labels)
    if rule == "f1":
        return 2 * tp / (2 * tp + fp + fn)
    if rule == "youden":
        return tp / labels.sum() - fp / max((~labels).sum(), 1)
    return -fp - (cost * fn if rule == "cost" else 1e9 * fn)


@given(
    st.lists(st.tuples(st.sampled_from([0.02, 0.1, 0.2, 0.25, 0.7, 1.5]), st.booleans()), min_size=2, max_size=14),
    st.sampled_from(["f1", "youden", "recall", "cost"]),
    st.sampled_from([0.2, 1.0, 7.0]),
)
@settings(max_examples=200)
def test_no_other_threshold_is_better(pairs, rule, cost):
    scores, labels = [score for score, _ in pairs], np.array([label for _, label in pairs])
    if labels.all() or not labels.any():
        with pytest.raises(InputError, match="at least one of each"):
            best_threshold(scores, labels, rule, cost)
        return
    found = best_threshold(scores, labels, rule, cost)
    assert found > 0
    best = max(merit(rule, value, scores, labels, cost) for value in (0.05, 0.15, 0.22, 0.5, 1.0, 2.0, 1e-6))
    assert merit(rule, found, scores, labels, cost) >= best - 1e-12


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3]), min_size=9, max_size=40))
@settings(max_examples=40)
def test_percentiles_rise_and_bounds_fall_where_images_score_alike(values):
    image = from_normal(values, values).image
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
        chances.append(math.exp(-((10 * math.log(at_rate(from_normal(seen, seen), rate).threshold)) ** (1 / 1.5))))
    assert np.mean(chances) == pytest.approx(rate, abs=0.012)

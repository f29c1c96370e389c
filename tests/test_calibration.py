"""Thresholds from references and generated damage: where they lie, what a score means, and what is left unsure."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sowa.core.calibration import (
    Calibration,
    Damaged,
    at_rate,
    decide,
    from_normal,
    from_references,
    moved,
    verdict_of,
    zero_shot,
)
from sowa.errors import InputError

scores = st.lists(st.floats(2e-3, 10), min_size=1, max_size=12)
factors = st.lists(st.floats(0.8, 20), min_size=1, max_size=12)


def damaged(values: list[float], factors: list[float]) -> Damaged:
    """References that damage makes so many times as far from the bank."""
    middle = float(np.exp(np.mean(np.log(values))))
    return Damaged.of([middle * factor for factor in factors], [middle * factor for factor in factors], len(values))


def calibrated(values: list[float], apart: float = 3.0, references: int | None = None) -> Calibration:
    return from_references(values, values, references or len(values), damaged(values, [apart]))


@given(scores, factors, st.floats(1e-5, 100), st.floats(1e-5, 100))
@settings(max_examples=100)
def test_a_score_rises_with_the_raw_score_within_its_bounds(values, apart, one, other):
    calibration = from_references(values, values, len(values), damaged(values, apart))
    low, high = sorted((one, other))
    assert 0 <= calibration.score(low) <= calibration.score(high) <= 1


@given(scores, factors)
@settings(max_examples=100)
def test_the_score_at_the_threshold_is_a_half_and_unsure_lies_around_it(values, apart):
    calibration = from_references(values, values, len(values), damaged(values, apart))
    assert calibration.score(calibration.threshold) == pytest.approx(0.5)
    assert calibration.unsure[0] <= calibration.threshold <= calibration.unsure[1]
    assert calibration.threshold >= math.exp(calibration.image.centre) * (1 - 1e-9)


def test_no_distance_at_all_scores_nothing():
    assert Calibration().score(0.0) == 0.0
    assert Calibration().score(-1e-9) == 0.0


@given(scores, factors, st.floats(0.1, 10))
@settings(max_examples=60)
def test_thresholds_scale_with_the_scores(values, apart, factor):
    plain, scaled = (
        from_references(some, some, len(some), damaged(some, apart))
        for some in (values, [factor * value for value in values])
    )
    assert scaled.threshold == pytest.approx(factor * plain.threshold, rel=1e-6)
    assert scaled.pixel_threshold == pytest.approx(factor * plain.pixel_threshold, rel=1e-6)
    assert scaled.width == pytest.approx(plain.width, rel=1e-6)


def test_plainer_damage_moves_the_threshold_up_and_the_score_rises_more_gently():
    near, far = calibrated([1.0, 1.05, 0.95, 1.0], 1.5), calibrated([1.0, 1.05, 0.95, 1.0], 6.0)
    assert far.threshold > near.threshold > 1.0
    assert far.width > near.width


def test_normal_images_farther_apart_leave_more_unsure():
    alike, apart = calibrated([1.0, 1.02, 0.98, 1.0], 3.0), calibrated([1.0, 1.6, 0.6, 1.0], 3.0)
    shares = [math.log(one.unsure[1] / one.unsure[0]) for one in (alike, apart)]
    assert shares[1] > shares[0] > 0


def test_where_more_parts_are_bad_the_threshold_is_lower():
    calibration = calibrated([1.0, 1.05, 0.95])
    few, even, many = (decide(calibration, prior) for prior in (0.1, 0.5, 0.9))
    assert few.threshold > even.threshold > many.threshold
    assert even == calibration
    # By Bayes' rule the odds of one score change as the prior's do.
    odds = [one.score(even.threshold) / (1 - one.score(even.threshold)) for one in (few, even, many)]
    assert odds == pytest.approx([1 / 9, 1.0, 9.0])


def test_the_fewer_verdicts_may_be_wrong_the_more_is_unsure():
    calibration = calibrated([1.0, 1.05, 0.95])
    bands = [decide(calibration, wrong=wrong).unsure for wrong in (0.5, 0.2, 0.05, 0.0)]
    assert bands[0] == (calibration.threshold, calibration.threshold)
    assert all(a[0] >= b[0] and a[1] <= b[1] for a, b in pairwise(bands))
    assert bands[-1][0] < bands[1][0]


def test_a_verdict_is_unsure_strictly_within_the_band():
    assert [verdict_of(raw, 2.0, (1.0, 3.0)) for raw in (0.5, 1.0, 1.5, 2.5, 3.0, 4.0)] == [
        "normal", "normal", "unsure", "unsure", "anomalous", "anomalous",
    ]  # fmt: skip
    assert [verdict_of(raw, 2.0, (2.0, 2.0)) for raw in (2.0, 2.1)] == ["normal", "anomalous"]


def test_what_lies_between_two_thresholds_is_unsure():
    calibration = calibrated([1.0, 1.05, 0.95])
    higher = moved(calibration, calibration.unsure[1] * 2, 1.0, "because")
    assert higher.unsure == (calibration.unsure[0], higher.threshold)
    assert higher.rule == "because"


@pytest.mark.parametrize("references", [1, 2, 5, 20])
def test_identical_references_stay_finite(references):
    none = [0.0] * references
    calibration = from_references(none, none, references, Damaged.of([0.0], [0.0], references))
    assert 0 < calibration.threshold < 1e-4
    assert calibration.score(0.0) == 0.0
    assert calibration.score(0.1) == pytest.approx(1.0)


def test_a_lower_false_positive_rate_needs_a_higher_threshold_and_more_are_missed():
    calibration = calibrated([1.0, 1.1, 0.9, 1.0])
    called = [at_rate(calibration, rate) for rate in (0.2, 0.05, 0.01)]
    assert called[0].threshold < called[1].threshold < called[2].threshold
    assert called[0].missed <= called[1].missed <= called[2].missed


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("images", [1, 4, 100])
def test_a_rate_is_what_is_expected_of_it(rate, images):
    values = np.exp(np.random.default_rng(0).normal(0, 0.1, images)).tolist()
    calibration = from_normal(values, values, damaged(values, [2.0]))
    assert at_rate(calibration, rate).false_alarms == pytest.approx(rate, rel=1e-3)


def test_few_images_can_vouch_for_less_than_many():
    """With four references the bound for one false alarm in a hundred lies farther out than with a hundred alike."""

    def bound(count):
        values = np.exp(0.1 * np.tile([-1.0, 1.0], count // 2)).tolist()
        return at_rate(from_normal(values, values, damaged(values, [2.0])), 0.01).threshold

    assert bound(4) > bound(16) > bound(100)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, math.nan])
def test_a_rate_outside_its_limits_is_refused(rate):
    with pytest.raises(InputError, match=r"allowed is above 0 and below 1"):
        at_rate(calibrated([1.0, 2.0]), rate)


@pytest.mark.parametrize(("name", "value"), [("prior", 0.0), ("prior", 1.0), ("wrong", -0.1), ("wrong", 0.6)])
def test_a_share_outside_its_limits_is_refused(name, value):
    with pytest.raises(InputError, match=rf"{value}, allowed is"):
        decide(calibrated([1.0, 2.0]), **{name: value})


@pytest.mark.parametrize("values", [(), (math.nan,)])
def test_damage_that_tells_nothing_is_refused(values):
    with pytest.raises(ValueError, match="one or more"):
        Damaged(values, (1.0,))


def test_nothing_is_decided_where_no_normal_image_was_seen():
    for asked in (lambda: at_rate(Calibration(), 0.01), lambda: decide(Calibration())):
        with pytest.raises(InputError, match="seen no normal image"):
            asked()
    assert (Calibration().false_alarms, Calibration().missed, Calibration().normal_percentile(0.5)) == (None,) * 3


def test_without_references_an_image_s_own_patches_move_the_boundary():
    plain, own = zero_shot(4, 0.0), zero_shot(4, 2.0)
    assert (plain.threshold, plain.pixel_threshold) == (0.5, 2.0)
    assert own.threshold > plain.threshold
    assert own.unsure[0] < own.threshold < own.unsure[1]


def test_the_rule_says_how_thresholds_were_chosen_and_what_was_seen():
    calibration = at_rate(from_normal([1.0, 2.0], [1.0, 2.0], damaged([1.0, 2.0], [3.0])), 0.05)
    assert (calibration.rule, calibration.seen) == ("false-positive rate 0.05", "2 normal images")
    assert at_rate(calibration, 0.1).rule == "false-positive rate 0.1"
    assert calibrated([1.0] * 3, references=1).seen == "1 reference, varied"

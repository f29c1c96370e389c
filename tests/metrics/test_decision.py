"""What a threshold makes of scores: beside scikit-learn, and where a kind of image is missing."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score, recall_score

from sowa.metrics import PixelMetrics, decision_metrics

judged = st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=4, max_size=40).filter(
    lambda pairs: len({label for _, label in pairs}) == 2
)


@given(judged, st.integers(0, 9))
@settings(max_examples=60)
def test_accuracy_and_rates_are_scikit_learns(pairs, threshold):
    scores, labels = np.array(pairs).T
    found = decision_metrics(scores, labels, threshold, (threshold, threshold)).metrics()
    called = scores > threshold
    assert found["image_BalancedAccuracy"].value == pytest.approx(balanced_accuracy_score(labels, called))
    assert found["image_TPR"].value == pytest.approx(recall_score(labels, called))
    assert found["image_FPR"].value == pytest.approx(1 - recall_score(labels, called, pos_label=0))
    assert found["image_Unsure"].value == 0
    assert found["image_SureBalancedAccuracy"] == found["image_BalancedAccuracy"]


@given(judged, st.integers(1, 4), st.integers(5, 8))
@settings(max_examples=60)
def test_what_lies_within_the_band_counts_as_unsure_alone(pairs, low, high):
    scores, labels = np.array(pairs).T
    found = decision_metrics(scores, labels, 4.5, (low, high)).metrics()
    within = (scores > low) & (scores < high)
    shares = [within[labels == kind].mean() for kind in (0, 1)]
    assert found["image_Unsure"].value == pytest.approx(np.mean(shares))
    sure = ~within
    if len(set(labels[sure])) == 2:
        expected = balanced_accuracy_score(labels[sure], scores[sure] > 4.5)
        assert found["image_SureBalancedAccuracy"].value == pytest.approx(expected)
    else:
        assert math.isnan(found["image_SureBalancedAccuracy"].value)


def test_a_kind_that_is_missing_leaves_its_metrics_undefined_with_the_reason():
    found = decision_metrics([1.0, 2.0], [0, 0], 1.5, (1.4, 1.6)).metrics()
    assert found["image_FPR"].value == 0.5
    assert found["image_TPR"].why == "no anomalous image"
    assert found["image_BalancedAccuracy"].why == "no anomalous image"


def test_f1_of_pixels_is_scikit_learns_and_undefined_without_an_anomalous_one():
    random = np.random.default_rng(0)
    anomaly_map, mask = random.random((20, 30)).astype(np.float32), random.random((20, 30)) > 0.8
    pixels = PixelMetrics()
    pixels.update(anomaly_map, mask)
    for threshold in (-1.0, 0.3, 0.9, 2.0):
        expected = f1_score(mask.ravel(), (anomaly_map > threshold).ravel(), zero_division=0)
        assert pixels.f1(threshold).value == pytest.approx(expected)
    empty = PixelMetrics()
    empty.update(anomaly_map, np.zeros_like(mask))
    assert empty.f1(0.5).why == "no anomalous pixel"

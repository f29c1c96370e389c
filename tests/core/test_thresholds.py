"""The threshold that labelled images and a rule ask for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sowa.core.thresholds import best_threshold
from sowa.errors import InputError

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

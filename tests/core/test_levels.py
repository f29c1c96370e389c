"""What levels count: alike where nothing tells, more where damage stands out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sowa.core.levels import level_weights

NORMAL = np.array([[0.1, 0.12, 0.11], [0.1, 0.12, 0.11]])


@given(scales=st.lists(st.floats(1e-3, 1.0), min_size=2, max_size=5))
def test_without_damage_all_levels_show_as_much_of_normal_images_as_before_together(scales: list[float]):
    normal = np.random.default_rng(0).uniform(0.5, 1, (len(scales), 6)) * np.array(scales)[:, None]
    usual = np.exp(np.log(normal).mean(axis=1))
    shown = usual * np.array(level_weights(normal, None, 4))
    np.testing.assert_allclose(shown, usual.mean(), rtol=1e-3)


def test_a_level_that_sees_damage_better_counts_more():
    few, many = level_weights(NORMAL, NORMAL * np.array([[1.2], [1.5]]), 3)
    assert many > 4 * few > 0


def test_a_level_that_sees_less_in_damage_than_in_normal_images_hardly_counts():
    blind, seeing = level_weights(NORMAL, NORMAL * np.array([[0.5], [3.0]]), 3)
    assert 0 < blind < 0.01 * seeing


def test_how_large_a_level_s_distances_are_doesn_t_matter():
    scales = np.array([[1.0], [7.0]])
    shown = np.array(level_weights(NORMAL * scales, 2 * NORMAL * scales, 3)) * scales[:, 0]
    np.testing.assert_allclose(shown[0], shown[1], rtol=1e-5)


def test_copies_among_references_and_a_single_one_have_weights():
    assert np.isfinite(level_weights(np.zeros((2, 3)), NORMAL, 3)).all()
    assert np.isfinite(level_weights(NORMAL, 2 * NORMAL, 1)).all()


BESIDE_LEVELS = np.vstack([NORMAL, [[5.0, 5.5, 5.2]]])  # two levels, and what else is told of an image


@pytest.mark.parametrize(("stands_out", "expected"), [(1.01, 0.0), (1.5, None), (9.0, 0.5)])
def test_what_is_told_beside_the_levels_counts_within_limits_and_changes_none(
    stands_out: float, expected: float | None
) -> None:
    damaged = BESIDE_LEVELS * np.array([[1.5], [1.5], [stands_out]])
    *levels, beside = level_weights(BESIDE_LEVELS, damaged, 3, levels=2)
    assert tuple(levels) == level_weights(NORMAL, damaged[:2], 3)
    usual = np.exp(np.log(BESIDE_LEVELS).mean(axis=1))
    share = beside * usual[2] / (np.array(levels) * usual[:2]).sum()
    if expected is None:
        assert 0.1 < share < 0.5
    else:
        assert share == pytest.approx(expected, rel=1e-4)

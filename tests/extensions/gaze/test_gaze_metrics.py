"""Metrics of saliency maps against scikit-learn, slow oracles and what must hold for any map; and the baselines."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from sowa.errors import InputError
from sowa.extensions.gaze.baselines import CentreBias, human_consistency, uniform
from sowa.extensions.gaze.density import Screen, fixation_density
from sowa.extensions.gaze.fixations import Fixation, Gaze, Viewing
from sowa.extensions.gaze.metrics import EPS, GazeMetrics, Score, auc_judd, cc, gaze_metrics, kl, nss, sim

Map = NDArray[np.float64]
SIZE = (6, 7)
tied = arrays(np.float64, SIZE, elements=st.integers(-3, 3).map(float))
shares = arrays(np.float64, SIZE, elements=st.integers(0, 9).map(float)).filter(np.any)
looks = st.lists(
    st.builds(Fixation, st.floats(0, 7, exclude_max=True), st.floats(0, 6, exclude_max=True)), min_size=1, max_size=9
)
scales = st.floats(0.01, 100)
shifts = st.floats(-10, 10)


def spread(values: Map) -> bool:
    return bool(values.min() < values.max())


@given(values=tied, fixations=looks)
def test_auc_is_scikit_learns_with_ties_too(values: Map, fixations: list[Fixation]) -> None:
    hit = np.zeros(SIZE, bool)
    for each in fixations:
        hit[int(each.y), int(each.x)] = True
    assert auc_judd(values, fixations).value == pytest.approx(roc_auc_score(hit.ravel(), values.ravel()))


@given(values=tied, fixations=looks, scale=scales, shift=shifts)
def test_auc_depends_on_the_order_alone(values: Map, fixations: list[Fixation], scale: float, shift: float) -> None:
    expected = auc_judd(values, fixations).value
    assert auc_judd(np.exp(scale * 0.1 * values + shift), fixations).value == expected
    assert auc_judd(-values, fixations).value == pytest.approx(1 - expected)


@given(values=tied.filter(spread), fixations=looks)
def test_nss_is_the_mean_standard_score_at_every_fixation(values: Map, fixations: list[Fixation]) -> None:
    standard = (values - np.mean(values)) / np.std(values)
    expected = sum(standard[int(each.y)][int(each.x)] for each in fixations) / len(fixations)
    assert nss(values, fixations).value == pytest.approx(expected, abs=1e-9)


@given(values=tied.filter(spread), other=tied.filter(spread))
def test_cc_is_numpys(values: Map, other: Map) -> None:
    expected = np.corrcoef(values.ravel(), other.ravel())[0, 1]
    assert cc(values, other).value == pytest.approx(expected, abs=1e-9)
    assert cc(other, values).value == pytest.approx(expected, abs=1e-9)


@given(values=tied.filter(spread), other=tied.filter(spread), fixations=looks, scale=scales, shift=shifts)
def test_cc_and_nss_do_not_depend_on_units(
    values: Map, other: Map, fixations: list[Fixation], scale: float, shift: float
) -> None:
    assert cc(scale * values + shift, other).value == pytest.approx(cc(values, other).value, abs=1e-6)
    assert nss(scale * values + shift, fixations).value == pytest.approx(nss(values, fixations).value, abs=1e-6)


@given(values=shares, other=shares, scale=scales)
def test_sim_and_kl_compare_shares(values: Map, other: Map, scale: float) -> None:
    p, q = other / other.sum(), values / values.sum()
    common = sum(min(a, b) for a, b in zip(p.flat, q.flat, strict=True))
    apart = sum(a * math.log(EPS + a / (b + EPS)) for a, b in zip(p.flat, q.flat, strict=True))
    assert sim(scale * values, other).value == pytest.approx(common)
    assert kl(scale * values, other).value == pytest.approx(apart, abs=1e-9)
    assert 0 <= sim(values, other).value <= 1
    assert kl(values, other).value >= 0
    if np.allclose(p, q):
        assert sim(values, other).value == pytest.approx(1)
        assert kl(values, other).value == pytest.approx(0, abs=1e-9)
    else:
        assert sim(values, other).value < 1
        assert kl(values, other).value > 1e-6


def test_kl_is_bounded_where_the_map_is_0() -> None:
    assert kl(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])).value == pytest.approx(-math.log(EPS))


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (auc_judd(np.eye(2), []), "no fixation"),
        (auc_judd(np.ones((1, 1)), [Fixation(0, 0)]), "every pixel is fixated"),
        (nss(np.eye(2), []), "no fixation"),
        (nss(np.full((3, 3), 0.1), [Fixation(0, 0)]), "the map is constant"),
        (cc(np.full((3, 3), 0.1), np.eye(3)), "the map is constant"),
        (cc(np.eye(3), np.full((3, 3), 0.1)), "the density is constant"),
        (sim(np.zeros((3, 3)), np.eye(3)), "the map is 0 everywhere"),
        (kl(np.eye(3), np.zeros((3, 3))), "the density is 0 everywhere"),
    ],
)
def test_what_is_undefined_is_no_number_and_says_why(found: Score, why: str) -> None:
    assert math.isnan(float(found))
    assert found.why == why


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: auc_judd(np.array([[0.0, math.nan]]), [Fixation(0, 0)]), "NaN or infinity"),
        (lambda: nss(np.zeros(3), [Fixation(0, 0)]), r"shape is \(3,\)"),
        (lambda: cc(np.eye(2), np.eye(3)), r"\(2, 2\) and the density's \(3, 3\)"),
        (lambda: sim(-np.eye(2), np.eye(2)), "holds -1"),
        (lambda: kl(np.eye(2), -np.eye(2)), "the density holds -1"),
        (lambda: auc_judd(np.eye(2), [Fixation(2, 0)]), "lie outside"),
    ],
)
def test_what_is_no_map_is_refused(call: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        call()


def test_tiny_maps_are_maps_too() -> None:
    tiny = np.array([[1e-200, 3e-200], [2e-200, 5e-200]])
    assert cc(tiny, tiny).value == pytest.approx(1)
    assert sim(tiny, tiny).value == pytest.approx(1)


def test_means_leave_out_what_is_undefined() -> None:
    fixations, density = [Fixation(0, 0)], np.eye(2)
    some = gaze_metrics(np.array([[0.9, 0.2], [0.1, 0.4]]), fixations, density)
    flat = gaze_metrics(np.ones((2, 2)), fixations, density)
    mean = GazeMetrics.mean([flat, some], "nothing")
    assert list(mean.metrics()) == ["AUC", "NSS", "CC", "SIM", "KL"]
    assert mean.NSS == some.NSS
    assert mean.AUC.value == pytest.approx((some.AUC.value + 0.5) / 2)
    assert GazeMetrics.mean([flat], "nothing").CC.why == "the map is constant"
    assert GazeMetrics.mean([], "nothing").AUC.why == "nothing"


def test_the_centre_bias_is_the_gaussian_of_the_fixations_that_it_was_fitted_to() -> None:
    chance = np.random.default_rng(0)
    wanted = CentreBias(mean_x=0.4, mean_y=0.6, std_x=0.1, std_y=0.05)
    sizes = {"a": (100, 300), "b": (500, 40)}
    viewings = []
    for image, (height, width) in sizes.items():
        places = chance.normal((0.4, 0.6), (0.1, 0.05), (4000, 2)) * (width, height)
        viewings.append(Viewing(image, "Ada", tuple(Fixation(x, y) for x, y in places.tolist())))
    found = CentreBias.fit(Gaze(tuple(viewings)), sizes)
    assert vars(found) == pytest.approx(vars(wanted), abs=0.005)
    density = wanted.density((100, 300))
    assert density.sum() == pytest.approx(1)
    assert np.unravel_index(density.argmax(), density.shape) == pytest.approx((60, 120), abs=1)
    for gaze, told in (
        (Gaze((Viewing("a", "Ada", (Fixation(1, 1),)),)), "1 fixation"),
        (Gaze(()), "0 fixation"),
        (Gaze((Viewing("c", "Ada", (Fixation(1, 1),)),)), "size of c"),
    ):
        with pytest.raises(InputError, match=told):
            CentreBias.fit(gaze, sizes)
    with pytest.raises(InputError, match="deviations above 0"):
        CentreBias(std_x=0)


def test_baselines_are_what_they_say() -> None:
    density = CentreBias().density((60, 80))
    looks = [Fixation(40, 30), Fixation(35, 28)]
    assert auc_judd(density, looks).value > 0.95
    assert auc_judd(uniform((60, 80)), looks).value == 0.5
    assert kl(uniform((60, 80)), density).value > 0
    assert density[30, 8] > density[4, 40] > 0  # wider than it is high, as images are


def test_people_who_look_alike_tell_where_another_looks() -> None:
    degree = Screen().pixels_per_degree / 8
    places = {"Ada": (20, 20), "Bo": (22, 21), "Cy": (70, 50)}
    alike, apart = (
        [Viewing("a", name, (Fixation(*places[name]),)) for name in names] for names in (("Ada", "Bo"), ("Ada", "Cy"))
    )
    found = human_consistency(alike, (60, 80), degree)
    ada, bo = (fixation_density(viewing.fixations, (60, 80), degree) for viewing in alike)
    expected = GazeMetrics.mean(
        [gaze_metrics(bo, alike[0].fixations, ada), gaze_metrics(ada, alike[1].fixations, bo)], ""
    )
    assert found == expected
    assert found.NSS.value > human_consistency(apart, (60, 80), degree).NSS.value
    again = [*alike[:1], Viewing("a", "Ada", (Fixation(1, 1),)), Viewing("a", "Bo", ())]
    assert human_consistency(again, (60, 80), degree).AUC.why == "1 observer(s), needed are two"

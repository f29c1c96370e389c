"""The metrics against scikit-learn, slow oracles, and the numbers recorded from the authors' code."""

import json
import math
import subprocess
import sys
from itertools import product
from pathlib import Path
from random import Random

import numpy as np
import pytest
from conftest import RECORDING
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.slow_metrics import (
    TIED,
    DataSet,
    Map,
    Mask,
    accumulate,
    approx,
    data_sets,
    few,
    flat,
    region_data,
    regions_of,
    slow_aupro,
    slow_aupro_authors,
    slow_f1_max,
    smooth_data,
)
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

from sowa.metrics import (
    AUPRO_LIMIT,
    Aupro,
    MetricValue,
    PixelMetrics,
    PixelMetricsResult,
    curve,
    image_curves,
    image_metrics,
    pixel_metrics,
)
from sowa.metrics.histogram import ScoreHistograms, count_keys, count_pixels, keys_of, pack, rows_by_dropped_bits

either_aupro: st.SearchStrategy[Aupro] = st.sampled_from(["standard", "authors"])


def numbers(result: PixelMetricsResult) -> list[float]:
    return [value.value for value in result.metrics().values()]


# --- pixel metrics --------------------------------------------------------------------------------


@few
@given(data_sets())
def test_pixel_metrics_equal_scikit_learn(data: DataSet) -> None:
    labels, scores = flat(data)
    result = pixel_metrics(*data)
    both, some = labels.any() and not labels.all(), labels.any()
    assert result.pixel_AUROC.value == approx(roc_auc_score(labels, scores) if both else math.nan)
    assert result.pixel_AP.value == approx(average_precision_score(labels, scores) if some else math.nan)
    assert result.pixel_F1Max.value == approx(slow_f1_max(labels, scores) if some else math.nan)
    assert result.n_regions == sum(len(regions_of(mask)) for mask in data[1])
    assert (result.n_anomalous_pixels, result.n_normal_pixels) == (labels.sum(), (~labels).sum())


@few
@given(data_sets())
def test_aupro_equals_slow_oracle(data: DataSet) -> None:
    assert pixel_metrics(*data).pixel_AUPRO.value == approx(slow_aupro(*data))


@settings(few, max_examples=40)
@given(data_sets(max_images=3))
def test_authors_aupro_equals_slow_oracle(data: DataSet) -> None:
    result = pixel_metrics(*data, aupro="authors")
    assert result.aupro == "authors"
    assert result.pixel_AUPRO.value == approx(slow_aupro_authors(*data))


@few
@given(region_data())
def test_regions_of_every_kind_equal_scikit_learn_and_slow_oracle(data: DataSet) -> None:
    labels, scores = flat(data)
    result = pixel_metrics(*data)
    assert result.n_regions == sum(len(regions_of(mask)) for mask in data[1])
    assert result.pixel_AUPRO.value == approx(slow_aupro(*data))
    if labels.any() and not labels.all():
        assert result.pixel_AUROC.value == approx(roc_auc_score(labels, scores))
        assert result.pixel_AP.value == approx(average_precision_score(labels, scores))
        assert result.pixel_F1Max.value == approx(slow_f1_max(labels, scores))


@few
@given(st.lists(region_data(), min_size=2, max_size=5), st.integers(1, 60), st.integers(2, 200))
def test_data_sets_may_be_added_one_after_another(many: list[DataSet], buffer_pixels: int, max_scores: int) -> None:
    merged = [m for maps, _ in many for m in maps], [m for _, masks in many for m in masks]
    exact = pixel_metrics(*merged).metrics()
    assert numbers(accumulate(merged, buffer_pixels=buffer_pixels).compute()) == approx(
        [value.value for value in exact.values()], 1e-12
    )
    streamed = accumulate(merged, buffer_pixels=buffer_pixels, max_scores=max_scores)
    for name, value in streamed.compute().metrics().items():
        assert value.why == exact[name].why
        if value.why is None:
            assert value.error_bound is not None
            assert abs(value.value - exact[name].value) <= value.error_bound + 1e-12
    assert streamed.stored_scores <= max_scores


@few
@given(data_sets(), st.integers(2, 40))
def test_the_scores_left_out_of_the_curve_change_nothing(data: DataSet, max_scores: int) -> None:
    histograms = ScoreHistograms(2, max_scores, buffer_pixels=10)
    normal, anomalous = histograms.all
    for anomaly_map, mask in zip(*data, strict=True):
        keys = keys_of(anomaly_map)
        normal.add_group(keys[~mask])
        anomalous.add_group(keys[mask])
        histograms.merge_if_full()
    histograms.merge()
    if not anomalous.n_pixels:
        return
    corners = curve.ScoreCurve.of(normal, anomalous, curve.corner_keys(normal, anomalous))
    everything = curve.ScoreCurve.of(normal, anomalous, curve.all_keys(normal, anomalous))
    for metric in (curve.auroc, curve.average_precision, curve.f1_max, curve.aupro):
        assert metric(corners) == approx(metric(everything), 1e-12)


@few
@given(
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 3)), min_size=1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 32),
)
def test_counting_and_sorting_give_the_same_rows(pixels: list[tuple[int, int]], base: int, dropped_bits: int) -> None:
    keys, groups = np.array([key for key, _ in pixels], np.uint32), np.array([group for _, group in pixels])
    near = np.uint32(base) ^ (keys & np.uint32(7))  # few possible keys: counted; the others are mostly sorted
    for some, shares in product((keys, near), (1 / np.arange(1.0, 5.0), np.full(4, 0.25))):
        rows = count_pixels(pack(some, groups), shares, dropped_bits)
        expected: dict[int, list[float]] = {}
        for key, group in zip(some.tolist(), groups, strict=True):
            expected.setdefault(key >> dropped_bits << dropped_bits, []).append(shares[group])
        assert rows.keys.tolist() == sorted(expected)
        assert rows.counts.tolist() == [len(expected[key]) for key in sorted(expected)]
        assert rows.weights == approx([sum(expected[key]) for key in sorted(expected)], 1e-12)
        ungrouped = count_keys(some.copy(), dropped_bits)
        assert np.array_equal(ungrouped.keys, rows.keys)
        assert np.array_equal(ungrouped.counts, rows.counts)


@few
@given(st.sets(st.integers(0, 2**32 - 1), max_size=20))
def test_how_many_keys_remain_is_known_before_bits_are_dropped(keys: set[int]) -> None:
    found = rows_by_dropped_bits(np.array(sorted(keys), np.uint32))
    assert found.tolist() == [len({key >> bits for key in keys}) for bits in range(33)]


@pytest.mark.parametrize("seed", range(3))
def test_both_aupros_on_continuous_scores(seed: int) -> None:
    data = smooth_data(n_images=3, side=16, seed=seed)
    assert pixel_metrics(*data).pixel_AUPRO.value == approx(slow_aupro(*data))
    assert pixel_metrics(*data, aupro="authors").pixel_AUPRO.value == approx(slow_aupro_authors(*data))


@pytest.mark.parametrize(
    ("rows", "n_regions"),
    [
        (["#..", ".#.", "..#"], 1),  # diagonals touch
        (["#.#", "...", "#.#"], 4),  # regions of one pixel
        (["##.", "...", ".##"], 2),
        (["###", "###", "###"], 1),  # the whole image
        (["...", "...", "..."], 0),
        (["#.#", "#.#", "###"], 1),
    ],
)
def test_regions_are_eight_connected(rows: list[str], n_regions: int) -> None:
    mask = np.array([[c == "#" for c in row] for row in rows])
    normal = np.zeros((3, 3), bool)
    maps = [np.arange(9, dtype=np.float32).reshape(3, 3), np.arange(9, 0, -1, dtype=np.float32).reshape(3, 3)]
    result = pixel_metrics(maps, [mask, normal])
    assert result.n_regions == n_regions
    assert result.pixel_AUPRO.value == approx(slow_aupro(maps, [mask, normal]))


def test_small_regions_count_as_much_as_large_ones() -> None:
    mask = np.zeros((10, 10), bool)
    mask[:5, :5] = mask[9, 9] = True
    found_large = np.zeros((10, 10), np.float32)
    found_large[:5, :5] = 1
    # PRO is 1/2 at FPR 0, then rises to 1 at FPR 1: the mean of 0.5 and 0.5 + 0.3 / 2 up to the limit.
    assert pixel_metrics([found_large], [mask]).pixel_AUPRO.value == approx((0.5 + 0.65) / 2)


def test_constant_maps() -> None:
    mask = np.eye(4, dtype=bool)
    maps = [np.full((4, 4), 0.25, np.float32)]
    assert numbers(pixel_metrics(maps, [mask])) == approx([0.5, 0.25, 0.4, 0.15])
    authors = pixel_metrics(maps, [mask], aupro="authors").pixel_AUPRO
    assert (math.isnan(authors.value), authors.why) == (True, "all scores are equal")


def test_perfect_maps() -> None:
    mask = np.eye(4, dtype=bool)
    assert numbers(pixel_metrics([mask.astype(np.float32)], [mask])) == approx([1, 1, 1, 1])


@pytest.mark.parametrize("seed", range(3))
def test_curves_have_few_points_and_the_areas_of_their_metrics(seed: int) -> None:
    accumulator = accumulate(data := smooth_data(seed=seed))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 3000)
    scores = rng.normal(size=3000) + labels
    found = image_curves(scores, labels)
    pro = accumulator.pro_curve()
    assert pro is not None
    for drawn in (*found.values(), pro):
        assert 100 < len(drawn.x) == len(drawn.y) <= 300
        assert (np.diff(drawn.x) >= 0).all()
    assert auc(found["ROC"].x, found["ROC"].y) == pytest.approx(roc_auc_score(labels, scores), abs=2e-3)
    assert auc(found["PR"].x, found["PR"].y) == pytest.approx(average_precision_score(labels, scores), abs=1e-2)
    assert (pro.x[0], pro.y[0], pro.x[-1]) == (0, 0, AUPRO_LIMIT)
    assert auc(pro.x, pro.y) / AUPRO_LIMIT == pytest.approx(slow_aupro(*data), abs=2e-3)


def test_a_short_curve_keeps_all_its_corners() -> None:
    found = image_curves([1, 2, 3, 4], [0, 1, 0, 1])
    assert list(zip(found["ROC"].x, found["ROC"].y, strict=True)) == [(0, 0), (0, 0.5), (0.5, 0.5), (0.5, 1), (1, 1)]


def test_curves_that_are_undefined_are_left_out() -> None:
    assert image_curves([1, 2], [0, 0]) == {}
    assert list(image_curves([1, 2], [1, 1])) == ["PR"]
    assert PixelMetrics().pro_curve() is None
    for anomalous in (False, True):
        one_kind = PixelMetrics()
        one_kind.update(np.ones((2, 2)), np.full((2, 2), anomalous))
        assert one_kind.pro_curve() is None


def test_undefined_metrics_are_nan_with_a_reason() -> None:
    scores = np.arange(4, dtype=np.float32).reshape(2, 2)
    for result, why in [
        (pixel_metrics([scores], [np.zeros((2, 2), bool)]), "no anomalous pixel"),
        (pixel_metrics([], []), "no pixels"),
        (pixel_metrics([np.zeros((0, 3))], [np.zeros((0, 3), bool)]), "no pixels"),
    ]:
        assert all(math.isnan(value) for value in numbers(result))
        assert {value.why for value in result.metrics().values()} == {why}
    full = pixel_metrics([scores], [np.ones((2, 2), bool)])
    assert (full.pixel_AUROC.why, full.pixel_AUPRO.why) == ("no normal pixel", "no normal pixel")
    assert (full.pixel_AP.value, full.pixel_F1Max.value) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ([0, 0, 0, 1], "have the same FPR"),  # all normal pixels at the lowest score
        ([5, 5, 5, 0], "no threshold has a mean FPR under 0.3"),  # all normal pixels above every threshold
    ],
)
def test_authors_aupro_says_why_it_is_undefined(row: list[float], why: str) -> None:
    result = pixel_metrics([np.array([row], np.float32)], [np.array([[0, 0, 0, 1]], bool)], aupro="authors")
    assert math.isnan(result.pixel_AUPRO.value)
    assert why in str(result.pixel_AUPRO.why)
    assert result.pixel_AUROC.why is None


def test_authors_aupro_of_a_range_too_narrow_for_steps() -> None:
    scores = np.array([[0.0, 1e-45, 0.0]], np.float32)
    value = pixel_metrics([scores], [np.array([[0, 1, 0]], bool)], aupro="authors").pixel_AUPRO
    assert "no 200 steps" in str(value.why)


@pytest.mark.parametrize(("lowest", "highest"), [(0, 200), (0.1, 0.8), (-3.3, 1.7)])
def test_authors_aupro_where_scores_lie_on_thresholds(lowest: float, highest: float) -> None:
    low, high = np.float32(lowest), np.float32(highest)
    on_threshold = np.append(np.arange(low, high, (high - low) / 200), high).astype(np.float32)
    mask = np.random.default_rng(0).random((1, len(on_threshold))) < 0.3
    data = [on_threshold[None]], [mask]
    assert pixel_metrics(*data, aupro="authors").pixel_AUPRO.value == approx(slow_aupro_authors(*data))


def test_authors_aupro_leaves_out_images_without_normal_pixels() -> None:
    maps, masks = smooth_data(n_images=2, side=16)
    maps.append(maps[1] + np.float32(0.25))
    masks.append(np.ones((16, 16), bool))
    assert pixel_metrics(maps, masks, "authors").pixel_AUPRO.value == approx(slow_aupro_authors(maps, masks))


# --- invariance -----------------------------------------------------------------------------------


@few
@given(data_sets(), st.randoms(use_true_random=False), st.integers(1, 40), either_aupro)
def test_order_and_buffer_size_change_nothing(data: DataSet, random: Random, buffer_pixels: int, aupro: Aupro) -> None:
    order = list(range(len(data[0])))
    random.shuffle(order)
    expected = numbers(accumulate(data).compute(aupro))
    buffered = accumulate(data, order, buffer_pixels=buffer_pixels)
    assert numbers(buffered.compute(aupro)) == approx(expected, 1e-12)


@few
@given(data_sets(), st.integers(0, 2**32 - 1))
def test_increasing_transforms_change_nothing(data: DataSet, seed: int) -> None:
    _, scores = flat(data)
    old = np.unique(scores)
    new = np.cumsum(np.random.default_rng(seed).integers(1, 9, len(old))).astype(np.float32) / 8 - 3
    moved = [new[np.searchsorted(old, a)] for a in data[0]]
    assert numbers(pixel_metrics(moved, data[1])) == approx(numbers(pixel_metrics(*data)), 1e-12)


@few
@given(data_sets(), st.sampled_from([0.25, 2.0, 64.0]))
def test_exact_scaling_does_not_change_the_authors_aupro(data: DataSet, factor: float) -> None:
    normalised = [np.where(np.abs(a) < 1e-30, np.float32(0), a) for a in data[0]]
    scaled = [a * np.float32(factor) for a in normalised]
    expected = numbers(pixel_metrics(normalised, data[1], aupro="authors"))
    assert numbers(pixel_metrics(scaled, data[1], aupro="authors")) == approx(expected, 1e-12)


@few
@given(data_sets(), either_aupro)
def test_every_image_twice_changes_nothing(data: DataSet, aupro: Aupro) -> None:
    maps, masks = data
    twice = pixel_metrics(maps * 2, masks * 2, aupro)
    assert numbers(twice) == approx(numbers(pixel_metrics(maps, masks, aupro)), 1e-12)


@few
@given(data_sets())
def test_transposing_changes_nothing(data: DataSet) -> None:
    turned = pixel_metrics([a.T for a in data[0]], [m.T for m in data[1]])
    assert numbers(turned) == approx(numbers(pixel_metrics(*data)), 1e-12)


@few
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=30))
def test_keys_keep_order_and_ties(values: list[float]) -> None:
    scores = np.array(values, np.float32)
    keys = keys_of(scores)
    assert np.array_equal(keys[:, None] < keys, scores[:, None] < scores)
    assert np.array_equal(keys[:, None] == keys, scores[:, None] == scores)


def test_compute_can_be_repeated_and_continued() -> None:
    data = smooth_data()
    accumulator = accumulate((data[0][:3], data[1][:3]))
    early = accumulator.compute()
    assert accumulator.compute() == early
    for anomaly_map, mask in zip(data[0][3:], data[1][3:], strict=True):
        accumulator.update(anomaly_map, mask)
    assert numbers(accumulator.compute()) == approx(numbers(pixel_metrics(*data)), 1e-12)


# --- bounded memory -------------------------------------------------------------------------------


@pytest.mark.parametrize("max_scores", [2, 3, 40, 500, 4000])
@pytest.mark.parametrize("buffer_pixels", [1000, 2**21])
def test_beyond_the_cap_the_error_stays_within_its_bound(max_scores: int, buffer_pixels: int) -> None:
    data = smooth_data()
    exact = pixel_metrics(*data).metrics()
    accumulator = PixelMetrics(max_scores, buffer_pixels)
    for anomaly_map, mask in zip(*data, strict=True):
        accumulator.update(anomaly_map, mask)
        if buffer_pixels == 1000:  # each image of 48 x 48 fills the buffer
            assert accumulator.stored_scores <= max_scores
    coarse = accumulator.compute()
    assert accumulator.stored_scores <= max_scores
    assert coarse.resolution > 0
    for name, value in coarse.metrics().items():
        assert value.error_bound is not None
        assert abs(value.value - exact[name].value) <= value.error_bound + 1e-12
        assert value.error_bound > 0
        assert value.error_bound < 0.05 or max_scores < 500


@few
@given(data_sets(), st.integers(2, 6))
def test_error_bounds_hold_on_ties(data: DataSet, max_scores: int) -> None:
    exact = pixel_metrics(*data).metrics()
    accumulator = accumulate(data, max_scores=max_scores)
    for name, value in accumulator.compute().metrics().items():
        assert value.why == exact[name].why
        if value.why is None:
            assert value.error_bound is not None
            assert abs(value.value - exact[name].value) <= value.error_bound + 1e-12


def ulps(base: float, *steps: int) -> list[float]:
    """The float32 numbers that many steps above base."""
    return [float(np.float32(base) + n * np.spacing(np.float32(base))) for n in steps]


def test_error_bounds_are_reached_where_defects_come_first() -> None:
    # One bit is dropped: the defect and the best two normal pixels, a tenth of them, become one score.
    normal = ulps(1, 0) * 2 + ulps(0.5, 0) * 9 + ulps(0.5, 1) * 9
    scores, mask = np.array([ulps(1, 1) + normal], np.float32), np.arange(21)[None] < 1
    assert numbers(pixel_metrics([scores], [mask])) == approx([1, 1, 1, 1])
    coarse = accumulate(([scores], [mask]), max_scores=3).compute()
    assert coarse.resolution == 2**-22
    assert numbers(coarse) == approx([0.95, 1 / 3, 0.5, 0.25 / 0.3])
    bounds = [value.error_bound for value in coarse.metrics().values()]
    assert bounds == approx([0.05, 2 / 3, 0.5, 0.05 / 0.3])


def test_error_bound_of_ap_where_defects_come_last() -> None:
    # Two bits are dropped: one normal pixel and the three defects right below it become one score.
    scores = np.array([ulps(2, 0) * 6 + ulps(1, 3, 2, 1, 0)], np.float32)
    mask = np.arange(10)[None] > 6
    exact = pixel_metrics([scores], [mask]).pixel_AP
    coarse = accumulate(([scores], [mask]), max_scores=3).compute().pixel_AP
    assert (exact.value, coarse.value) == approx(((1 / 8 + 2 / 9 + 3 / 10) / 3, 3 / 10))
    assert coarse.error_bound == approx(3 / 10 - 1 / 8)


def test_coarse_results_do_not_depend_on_order_or_buffer() -> None:
    data = smooth_data()
    expected = accumulate(data, max_scores=300).compute()
    for order, buffer_pixels in [([5, 4, 3, 2, 1, 0], 1), ([2, 5, 0, 1, 4, 3], 5000)]:
        other = accumulate(data, order, max_scores=300, buffer_pixels=buffer_pixels).compute()
        assert other.resolution == expected.resolution
        assert numbers(other) == approx(numbers(expected), 1e-12)


def test_up_to_the_cap_nothing_is_merged() -> None:
    data = smooth_data()
    stored = accumulate(data)
    exact = stored.compute()
    at_cap = accumulate(data, max_scores=stored.stored_scores).compute()
    below = accumulate(data, max_scores=stored.stored_scores - 1).compute()
    assert at_cap == exact
    assert exact.resolution == 0
    assert {value.error_bound for value in exact.metrics().values()} == {0.0}
    assert 0 < below.resolution <= 2**-20


def test_coarse_authors_aupro_is_close_and_names_no_bound() -> None:
    data = smooth_data()
    exact = pixel_metrics(*data, aupro="authors").pixel_AUPRO
    coarse = accumulate(data, max_scores=4000).compute("authors").pixel_AUPRO
    assert coarse.error_bound is None
    assert coarse.value == approx(exact.value, 0.01)


# --- image metrics --------------------------------------------------------------------------------


@few
@given(st.lists(st.tuples(st.sampled_from(TIED), st.booleans()), min_size=1, max_size=30))
def test_image_metrics_equal_scikit_learn(pairs: list[tuple[float, bool]]) -> None:
    scores, labels = [s for s, _ in pairs], [y for _, y in pairs]
    result = image_metrics(scores, labels)
    if not any(labels):
        assert {value.why for value in result.metrics().values()} == {"only normal images"}
        return
    auroc = math.nan if all(labels) else roc_auc_score(labels, scores)
    precision, recall, _ = precision_recall_curve(labels, scores)
    with np.errstate(invalid="ignore"):
        f1_max = np.nanmax(2 * precision * recall / (precision + recall))
    expected = [auroc, average_precision_score(labels, scores), f1_max]
    assert [value.value for value in result.metrics().values()] == approx(expected)
    assert result.n_images == len(pairs)


def test_image_metrics_say_why_they_are_undefined() -> None:
    assert image_metrics([0.1, 0.2], [True, True]).image_AUROC.why == "only anomalous images"
    assert image_metrics([], []).image_AP.why == "no images"


def test_image_metrics_take_iterators() -> None:
    assert image_metrics(iter([0.1, 0.9]), iter([0, 1])).image_AUROC == MetricValue(1.0)


# --- the authors' recorded numbers ----------------------------------------------------------------


def test_recorded_numbers_of_the_authors() -> None:
    expected = json.loads(RECORDING.with_suffix(".json").read_text())["metrics"]
    with np.load(RECORDING) as arrays:
        maps, masks = arrays["metrics/maps"], arrays["metrics/masks"].astype(bool)
        scores = arrays["metrics/image_scores"]
    found = image_metrics(scores, (mask.any() for mask in masks)).metrics()
    found |= pixel_metrics(maps, masks, aupro="authors").metrics()
    names = {name: name.lower().replace("_", "-").replace("f1max", "f1-max") for name in found}
    assert {names[name]: metric.value for name, metric in found.items()} == approx(expected, 1e-6)


# --- values and errors ----------------------------------------------------------------------------


def test_metric_values() -> None:
    undefined = MetricValue.undefined("no images")
    assert undefined.to_json() is None
    assert MetricValue.of(1 + 1e-15).to_json() == 1.0
    assert float(MetricValue.of(0.5)) == 0.5
    for value, why in [(1.5, None), (-0.5, None), (math.nan, None), (0.5, "a reason")]:
        with pytest.raises(ValueError, match="0\\.\\.1, or NaN with a reason"):
            MetricValue(value, why)


ZEROS, MASK = np.zeros((2, 3), np.float32), np.zeros((2, 3), bool)


@pytest.mark.parametrize(
    ("anomaly_map", "mask", "message"),
    [
        (ZEROS, np.zeros((3, 2), bool), r"image 1: the anomaly map has shape \(2, 3\) and the mask \(3, 2\)"),
        (ZEROS[None], MASK[None], r"image 1: the anomaly map has shape \(1, 2, 3\)"),
        (np.where(np.eye(2, 3), np.nan, ZEROS), MASK, "image 1: 2 of 6 anomaly map scores are NaN"),
        (ZEROS - np.float32(np.inf), MASK, "image 1: 6 of 6"),
        (np.full((2, 3), 1e300), MASK, "image 1: 6 of 6 .* in float32"),
        (ZEROS, ZEROS, "image 1: the mask is float32, not boolean: binarise it"),
    ],
)
def test_bad_pixels_are_refused_and_leave_no_trace(anomaly_map: Map, mask: Mask, message: str) -> None:
    good = np.arange(6, dtype=np.float32).reshape(2, 3), np.eye(2, 3, dtype=bool)
    accumulator = PixelMetrics()
    accumulator.update(*good)
    with pytest.raises(ValueError, match=message) as raised:
        accumulator.update(anomaly_map, mask)
    assert "\n" not in str(raised.value)
    assert accumulator.compute() == pixel_metrics([good[0]], [good[1]])


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.1, 0.2], [True], r"scores \(2,\) and labels \(1,\)"),
        ([0.1, math.nan, math.inf], [0, 1, 0], "2 of 3 image scores are NaN .* first at index 1"),
        ([0.1, 0.2], [0, 2], "image label 2 at index 1 is unknown"),
        ([0.1, 0.2], ["good", "bad"], "image labels are of type"),
    ],
)
def test_bad_image_scores_are_refused(scores: list[float], labels: list[bool], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        image_metrics(scores, labels)


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="max_scores is 1"):
        PixelMetrics(max_scores=1)
    with pytest.raises(ValueError, match="buffer_pixels is 0"):
        PixelMetrics(buffer_pixels=0)
    with pytest.raises(ValueError, match="aupro is 'paper', allowed are standard, authors"):
        PixelMetrics().compute("paper")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="1 masks but more maps"):
        pixel_metrics([ZEROS, ZEROS], [MASK])
    with pytest.raises(ValueError, match="0 maps but more masks"):
        pixel_metrics([], [MASK])


@few
@given(data_sets(), st.integers(1, 40), st.sampled_from([3, 2**22]))
def test_standard_metrics_do_not_need_image_rates(data: DataSet, buffer_pixels: int, max_scores: int) -> None:
    plain = PixelMetrics(max_scores, buffer_pixels, image_rates=False)
    for anomaly_map, mask in zip(*data, strict=True):
        plain.update(anomaly_map, mask)
    assert plain.compute() == accumulate(data, buffer_pixels=buffer_pixels, max_scores=max_scores).compute()
    with pytest.raises(ValueError, match="needs false positive rates by image: leave image_rates=False out"):
        plain.compute("authors")


def test_masks_may_be_integers() -> None:
    maps, masks = smooth_data(n_images=2)
    assert pixel_metrics(maps, [m * np.uint8(255) for m in masks]) == pixel_metrics(maps, masks)


def test_importing_is_light() -> None:
    heavy = "torch sklearn scipy skimage cv2"
    code = f"import sys, sowa.metrics; print([m for m in '{heavy}'.split() if m in sys.modules])"
    path = Path(__file__).resolve().parents[1] / "src"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=path)
    assert run.stdout.strip() == "[]"

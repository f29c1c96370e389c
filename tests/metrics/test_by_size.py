"""Metrics by defect size against a loop over thresholds and regions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.slow_metrics import DataSet, Map, approx, data_sets, few, flat, region_data, regions_of
from sklearn.metrics import average_precision_score, roc_auc_score

from sowa.metrics import AUPRO_LIMIT, SIZE_EDGES, OfSize, PixelMetricsBySize, pixel_metrics

EDGES = (0.05, 0.2)


def by_size(data: DataSet, edges: tuple[float, ...] = EDGES, **options: int) -> list[OfSize]:
    accumulator = PixelMetricsBySize(edges, **options)
    for anomaly_map, mask in zip(*data, strict=True):
        accumulator.update(anomaly_map, mask)
    return accumulator.compute()


def scores_of_regions(data: DataSet, smallest: float, largest: float) -> list[Map]:
    """The scores of each region of that size."""
    found = []
    for anomaly_map, mask in zip(*data, strict=True):
        for yx in regions_of(mask):
            share = len(yx) / mask.size
            if smallest <= share < largest or share == largest == 1:
                found.append(anomaly_map[yx[:, 0], yx[:, 1]])
    return found


def slow_aupro(normal: Map, regions: list[Map]) -> float:
    """Every distinct threshold, one segment at a time."""
    area, last_fpr, last_pro = 0.0, 0.0, 0.0
    for threshold in np.unique(np.concatenate([normal, *regions]))[::-1]:
        fpr = float(np.mean(normal >= threshold))
        pro = float(np.mean([np.mean(region >= threshold) for region in regions]))
        cut = min(fpr, AUPRO_LIMIT)
        if cut > last_fpr:
            at_cut = last_pro + (pro - last_pro) * (cut - last_fpr) / (fpr - last_fpr)
            area += (cut - last_fpr) * (at_cut + last_pro) / 2
        last_fpr, last_pro = fpr, pro
    return area / AUPRO_LIMIT


@few
@given(st.one_of(data_sets(), region_data()))
def test_only_regions_of_the_size_count_and_others_are_left_out(data: DataSet) -> None:
    labels, scores = flat(data)
    normal = scores[~labels]
    ranges = by_size(data)
    assert [(one.smallest, one.largest) for one in ranges] == [(0.0, 0.05), (0.05, 0.2), (0.2, 1.0)]
    for one in ranges:
        regions = scores_of_regions(data, one.smallest, one.largest)
        result = one.metrics
        assert (result.n_regions, result.n_normal_pixels) == (len(regions), len(normal))
        if not regions or not len(normal):
            assert math.isnan(result.pixel_AUPRO.value)
            assert result.pixel_AUPRO.why
            continue
        anomalous = np.concatenate(regions)
        truth, values = np.arange(len(normal) + len(anomalous)) >= len(normal), np.concatenate((normal, anomalous))
        assert result.pixel_AUROC.value == approx(roc_auc_score(truth, values))
        assert result.pixel_AP.value == approx(average_precision_score(truth, values))
        assert result.pixel_AUPRO.value == approx(slow_aupro(normal, regions))


@few
@given(region_data())
def test_a_single_range_gives_the_plain_metrics(data: DataSet) -> None:
    (everything,) = by_size(data, edges=())
    assert everything.metrics == pixel_metrics(*data)


@few
@given(region_data(), st.integers(4, 40), st.integers(1, 50))
def test_error_bounds_hold_beyond_the_cap(data: DataSet, max_scores: int, buffer_pixels: int) -> None:
    for exact, coarse in zip(
        by_size(data), by_size(data, max_scores=max_scores, buffer_pixels=buffer_pixels), strict=True
    ):
        for name, value in coarse.metrics.metrics().items():
            expected = exact.metrics.metrics()[name]
            assert value.why == expected.why
            if value.why is None:
                assert value.error_bound is not None
                assert abs(value.value - expected.value) <= value.error_bound + 1e-12


def test_a_region_on_an_edge_belongs_to_the_larger_range() -> None:
    masks = [np.zeros((20, 50), bool) for _ in range(3)]
    masks[0][3, 4] = True  # a thousandth
    masks[1][:10, :5] = True  # a twentieth
    masks[2][:] = True
    counts = [one.metrics.n_regions for one in by_size(([np.zeros((20, 50), np.float32)] * 3, masks), SIZE_EDGES)]
    assert counts == [0, 1, 0, 2]


def test_bad_options_and_pixels_are_refused() -> None:
    for edges in ((0.2, 0.1), (0.0, 0.5), (0.5, 1.0), (math.nan,)):
        with pytest.raises(ValueError, match="ascending shares of the image between 0 and 1"):
            PixelMetricsBySize(edges)
    with pytest.raises(ValueError, match="max_scores is 4: give at least 5"):
        PixelMetricsBySize(max_scores=4)
    with pytest.raises(ValueError, match="image 0: the mask is float64"):
        PixelMetricsBySize().update(np.zeros((2, 2)), np.zeros((2, 2)))

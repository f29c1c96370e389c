"""Bootstrap intervals against a plain loop that puts every resample together image by image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.slow_metrics import TIED, DataSet, approx, data_sets, few, region_data
from scipy.stats import norm

from sowa.metrics import (
    Interval,
    MetricValue,
    PixelBootstrap,
    bootstrap,
    bootstrap_images,
    image_metrics,
    pixel_metrics,
)

slower = settings(few, max_examples=25)


def of_pixels(data: DataSet, max_bins: int = 2**11) -> PixelBootstrap:
    accumulator = PixelBootstrap(max_bins)
    for anomaly_map, mask in zip(*data, strict=True):
        accumulator.update(anomaly_map, mask)
    return accumulator


def check(interval: Interval, values: Sequence[MetricValue], level: float) -> None:
    defined = [value.value for value in values if value.why is None]
    assert (interval.resamples, interval.undefined) == (len(defined), len(values) - len(defined))
    assert interval.level == level
    if not defined:
        assert math.isnan(interval.low)
        assert math.isnan(interval.high)
        assert interval.why
        assert interval.to_json() is None
        return
    expected = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    assert [interval.low, interval.high] == interval.to_json()
    assert interval.to_json() == approx(list(expected), interval.error_bound + 1e-9)


@slower
@given(st.lists(st.tuples(st.sampled_from(TIED), st.booleans()), min_size=1, max_size=12), st.integers(0, 99))
def test_image_intervals_equal_a_plain_loop(pairs: list[tuple[float, bool]], seed: int) -> None:
    scores, labels = np.array([s for s, _ in pairs]), np.array([y for _, y in pairs])
    drawn = [np.repeat(np.arange(len(pairs)), times) for times in bootstrap.draw(len(pairs), 15, seed)]
    results = [image_metrics(scores[chosen], labels[chosen]).metrics() for chosen in drawn]
    for name, interval in bootstrap_images(scores, labels, 15, 0.8, seed).items():
        check(interval, [result[name] for result in results], 0.8)
        assert interval.error_bound == 0


@slower
@given(st.one_of(data_sets(), region_data()), st.integers(0, 99), st.sampled_from([1, 3, 20, 2048]))
def test_pixel_intervals_equal_a_plain_loop_within_their_error(data: DataSet, seed: int, max_bins: int) -> None:
    maps, masks = data
    drawn = [np.repeat(np.arange(len(maps)), times) for times in bootstrap.draw(len(maps), 10, seed)]
    results = [pixel_metrics([maps[i] for i in chosen], [masks[i] for i in chosen]).metrics() for chosen in drawn]
    for name, interval in of_pixels(data, max_bins).intervals(10, 0.9, seed).items():
        check(interval, [result[name] for result in results], 0.9)
        assert interval.error_bound == 0 or max_bins < 2048


def test_every_resample_holds_as_many_images_as_the_data_set() -> None:
    weights = bootstrap.draw(7, 200, seed=0)
    assert weights.shape == (200, 7)
    assert set(weights.sum(axis=1)) == {7}
    assert weights.mean() == pytest.approx(1)
    assert weights.var() == pytest.approx(1 - 1 / 7, abs=0.1)  # of draws with replacement


def test_a_seed_gives_the_same_interval_again_and_another_seed_another() -> None:
    rng = np.random.default_rng(0)
    labels, scores = np.arange(40) % 2, rng.normal(size=40)
    assert bootstrap_images(scores, labels, seed=3) == bootstrap_images(scores, labels, seed=3)
    assert bootstrap_images(scores, labels, seed=3) != bootstrap_images(scores, labels, seed=4)
    maps = [np.float32(rng.normal(size=(5, 5))) for _ in range(8)]
    accumulator = of_pixels((maps, [rng.random((5, 5)) < 0.2 for _ in maps]))
    assert accumulator.intervals(50, seed=3) == accumulator.intervals(50, seed=3)
    assert accumulator.intervals(50, seed=3) != accumulator.intervals(50, seed=4)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    maps = [np.float32(rng.normal(size=(5, 5))) for _ in range(8)]
    data = maps, [rng.random((5, 5)) < 0.2 for _ in maps]
    expected = of_pixels(data, 50).intervals(100)
    monkeypatch.setattr(bootstrap, "_BLOCK", 700)
    found = of_pixels(data, 50).intervals(100)
    for name, interval in found.items():
        assert interval.to_json() == approx(expected[name].to_json(), 1e-12)
        assert interval.error_bound == approx(expected[name].error_bound, 1e-12)
        assert interval.resamples == 100


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 2
    truth = norm.cdf(1.0 / math.sqrt(2))  # AUROC of two Gaussians one deviation apart
    covered = []
    for _ in range(300):
        interval = bootstrap_images(rng.normal(size=80) + labels, labels, 200, 0.9)["image_AUROC"]
        covered.append(interval.low <= truth <= interval.high)
    assert 0.85 <= np.mean(covered) <= 0.95


def test_a_higher_level_and_fewer_images_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    scores = rng.normal(size=400) + labels

    def width(n: int, level: float) -> float:
        interval = bootstrap_images(scores[:n], labels[:n], level=level)["image_AUROC"]
        return interval.high - interval.low

    assert width(400, 0.5) < width(400, 0.95) < width(40, 0.95)
    assert 2 < width(40, 0.95) / width(400, 0.95) < 5  # about the root of ten


def test_resamples_without_the_metric_are_left_out_and_counted() -> None:
    found = bootstrap_images([0.1, 0.2, 0.9], [0, 0, 1], 1000)
    # The one anomalous image is missing in (2/3)**3 of the resamples, and alone in (1/3)**3.
    assert found["image_AP"].undefined == pytest.approx(1000 * 8 / 27, abs=60)
    assert found["image_AUROC"].undefined == pytest.approx(1000 * 9 / 27, abs=60)
    assert all(one.resamples + one.undefined == 1000 for one in found.values())


def test_metrics_that_no_resample_has_are_undefined_with_a_reason() -> None:
    normal = np.zeros((3, 3), np.float32), np.zeros((3, 3), bool)
    empty = np.zeros((0, 3), np.float32), np.zeros((0, 3), bool)
    for intervals in (
        bootstrap_images([0.1, 0.2], [0, 0], 10),
        bootstrap_images([], [], 10),
        of_pixels(([normal[0]], [normal[1]])).intervals(10),
        of_pixels(([empty[0]], [empty[1]])).intervals(10),
        PixelBootstrap().intervals(10),
    ):
        for interval in intervals.values():
            check(interval, [MetricValue.undefined("as it is")] * 10, 0.95)


def test_bad_options_are_refused() -> None:
    for wrong in ({"resamples": 0}, {"level": 0.0}, {"level": 1.0}, {"level": math.nan}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} is"):
            bootstrap_images([0.1], [1], **wrong)
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} is"):
            PixelBootstrap().intervals(**wrong)
    with pytest.raises(ValueError, match="max_bins is 0"):
        PixelBootstrap(0)
    with pytest.raises(ValueError, match="image 1: the mask is float64"):
        of_pixels(([np.zeros((2, 2))] * 2, [np.zeros((2, 2), bool), np.zeros((2, 2))]))

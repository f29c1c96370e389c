"""Simulated observers: that they search as the model says, and say that they are none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sowa.errors import InputError
from sowa.extensions.gaze.density import Screen, fixation_density
from sowa.extensions.gaze.fixations import Fixation, Viewing, read_csv, write_csv
from sowa.extensions.gaze.metrics import auc_judd
from sowa.extensions.gaze.observers import Scene, Searcher, simulate, vary

SAME = Searcher(variety=0)
NEAR = Screen(distance_cm=15)  # a small image fills much of what is seen: 9.5 pixels per degree


@pytest.fixture(scope="module")
def mask() -> np.ndarray:
    """A defect of 4 x 6 cells aside of the middle of an image of 32 x 32, each of 7.5 pixels."""
    found = np.zeros((240, 240), dtype=bool)
    found[30:60, 180:225] = True
    return found


def all_fixations(viewings: list[Viewing]) -> list[Fixation]:
    return [each for viewing in viewings for each in viewing.fixations]


def on(mask: np.ndarray, fixations: list[Fixation]) -> float:
    """Share of fixations on a mask."""
    return float(np.mean([mask[int(each.y), int(each.x)] for each in fixations]))


def run(mask: np.ndarray, searcher: Searcher = SAME, observers: int = 40) -> list[Viewing]:
    return simulate("a.png", mask, observers, 0, searcher, NEAR)


def test_they_are_called_simulated_and_are_the_same_every_time(mask: np.ndarray, tmp_path: Path) -> None:
    found = simulate("a.png", mask, 3, seed=1)
    assert [each.observer for each in found] == ["simulated-01", "simulated-02", "simulated-03"]
    assert found == simulate("a.png", mask, 3, seed=1)
    assert found == simulate("a.png", mask, 5, seed=1)[:3]  # others don't disturb
    assert found != simulate("a.png", mask, 3, seed=2)
    assert found[0].fixations != simulate("b.png", mask, 1, seed=1)[0].fixations
    assert len({each.fixations for each in found}) == 3
    assert {type(each.duration_ms) for each in all_fixations(found)} == {float}
    write_csv(tmp_path / "gaze.csv", found)
    assert list(read_csv(tmp_path / "gaze.csv").viewings) == found


def test_they_look_at_what_stands_out(mask: np.ndarray) -> None:
    found = all_fixations(run(mask))
    assert on(mask, found) > 10 * mask.mean()
    assert auc_judd(fixation_density(found, mask.shape, 10), all_fixations(run(mask, observers=50)[40:])).value > 0.8
    assert all(0 <= each.x < 240 and 0 <= each.y < 240 for each in found)


def test_a_search_ends_at_a_target_that_is_seen_clearly(mask: np.ndarray) -> None:
    sharp = run(mask, replace(SAME, visibility=50, half=1e6, scatter=0))
    assert {len(viewing.fixations) for viewing in sharp} == {1}
    assert on(mask, all_fixations(sharp)) == 1
    blind = run(mask, replace(SAME, visibility=1e-3, most=7))
    assert {len(viewing.fixations) for viewing in blind} == {7}


def test_cells_that_turned_out_empty_are_left_alone(mask: np.ndarray) -> None:
    sharp = replace(SAME, visibility=6, half=1.5, most=8, guidance=0, scatter=0)
    for viewing in simulate("a.png", np.zeros_like(mask), 10, 0, sharp, NEAR):
        places = [(each.x, each.y) for each in viewing.fixations]
        steps = np.hypot(*np.diff(places, axis=0).T) / NEAR.pixels_per_degree
        assert len(set(places)) == len(places) == 8
        assert steps.min() > 1


def test_without_anything_that_stands_out_there_is_no_target(mask: np.ndarray) -> None:
    found = run(np.zeros_like(mask), replace(SAME, visibility=20, most=9))
    assert {len(viewing.fixations) for viewing in found} == {9}


def test_the_visibility_halves_every_so_many_degrees() -> None:
    scene = Scene(np.zeros((32, 32)), NEAR)
    middle = np.array([0.5, 0.5])
    seen = scene.visibility(middle, Searcher(visibility=4, half=2)).reshape(32, 32)
    assert seen[0, 0] == pytest.approx(4)
    assert seen[19, 0] == pytest.approx(2, rel=0.01)  # 19 pixels are 2 degrees
    assert seen[0, 19] == seen[19, 0]


def test_the_prior_mixes_the_middle_with_what_stands_out(mask: np.ndarray) -> None:
    scene = Scene(mask.astype(float), NEAR)
    assert scene.prior(0.3).sum() == pytest.approx(1)
    inside = scene.priority_G > 0
    assert scene.prior(0.3)[inside].sum() == pytest.approx(0.3 + 0.7 * scene.centre_G[inside].sum())
    np.testing.assert_array_equal(Scene(np.zeros((240, 240)), NEAR).prior(0.3), scene.centre_G)


@pytest.mark.parametrize(
    ("option", "low", "high"), [("certainty", 0.05, 0.999), ("most", 2, 12), ("guidance", 1.0, 0.0), ("half", 9.0, 1.0)]
)
def test_options_make_searches_shorter_or_longer(mask: np.ndarray, option: str, low: float, high: float) -> None:
    short, long = (len(all_fixations(run(mask, replace(SAME, **{option: value})))) for value in (low, high))
    assert short < 0.9 * long


def test_the_eye_lands_and_rests_as_it_is_told(mask: np.ndarray) -> None:
    found = all_fixations(run(mask, replace(SAME, scatter=0, rest_spread=0)))
    assert {each.duration_ms for each in found} == {230}
    assert {each.x % 7.5 for each in found} == {3.75}  # 32 cells of 7.5 pixels: their middles
    assert len({each.x for each in all_fixations(run(mask))}) > 32
    rests = [each.duration_ms or 0 for each in all_fixations(run(mask, replace(SAME, rest_ms=300)))]
    assert np.median(rests) == pytest.approx(300, rel=0.1)
    assert np.std(np.log(rests)) == pytest.approx(0.35, rel=0.15)


def test_observers_differ_and_keep_their_ways() -> None:
    chance = np.random.default_rng(0)
    people = [vary(Searcher(), chance) for _ in range(400)]
    for name in ("visibility", "half", "guidance", "rest_ms"):
        logs = np.log([getattr(each, name) / getattr(Searcher(), name) for each in people])
        assert (logs.mean(), logs.std()) == (pytest.approx(0, abs=0.03), pytest.approx(0.2, rel=0.1))
    assert vary(SAME, chance) == SAME


def test_an_observer_is_the_same_on_every_image(mask: np.ndarray) -> None:
    slow = replace(Searcher(), rest_spread=0)
    rests = [[viewing.fixations[0].duration_ms for viewing in simulate(name, mask, 4, 0, slow)] for name in ("a", "b")]
    assert rests[0] == rests[1]
    assert len(set(rests[0])) == 4


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (300, 7), (5, 5)])
def test_images_of_any_shape_are_searched(shape: tuple[int, int]) -> None:
    for viewing in simulate("a.png", np.ones(shape), 3, 0):
        assert viewing.fixations
        assert all(0 <= each.x < shape[1] and 0 <= each.y < shape[0] for each in viewing.fixations)


@pytest.mark.parametrize(
    ("priority", "observers", "seed", "told"),
    [
        (np.zeros(4), 1, 0, r"shape \(4,\)"),
        (np.full((2, 2), -1.0), 1, 0, "finite numbers of 0 and more"),
        (np.full((2, 2), np.nan), 1, 0, "finite numbers of 0 and more"),
        (np.ones((2, 2)), 0, 0, "0 observers"),
        (np.ones((2, 2)), 1, -1, "seed -1"),
    ],
)
def test_what_cannot_be_searched_is_refused(priority: np.ndarray, observers: int, seed: int, told: str) -> None:
    with pytest.raises(InputError, match=told):
        simulate("a.png", priority, observers, seed)


@pytest.mark.parametrize(
    ("name", "value"),
    [("visibility", 0), ("half", np.inf), ("scatter", -1), ("guidance", 1.1), ("certainty", 0), ("most", 0)],
)
def test_a_searcher_that_cannot_be_is_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"searcher {name} is"):
        Searcher(**{name: value})

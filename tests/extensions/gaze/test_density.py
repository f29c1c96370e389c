"""From fixations to densities, and from pixels to cells."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from sowa.errors import InputError
from sowa.extensions.gaze.density import Screen, density_of, fixation_density, pixels, pool, read_density
from sowa.extensions.gaze.fixations import Fixation, Gaze, Viewing

sides = st.integers(1, 40)


def test_it_is_the_blurred_map_of_fixations() -> None:
    places = [(20, 30), (41, 12), (41, 12), (60, 50)]
    counts = np.zeros((64, 80))
    for column, row in places:
        counts[row, column] += 1
    expected = gaussian_filter(counts, 5.0, mode="constant", truncate=20)
    found = fixation_density([Fixation(x + 0.5, y + 0.5) for x, y in places], (64, 80), pixels_per_degree=5)
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-5, atol=1e-12)


@given(
    places=st.lists(st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)), min_size=1, max_size=5),
    height=sides,
    width=sides,
    sigma=st.floats(0.2, 50),
)
def test_it_sums_to_1_and_is_never_negative(
    places: list[tuple[float, float]], height: int, width: int, sigma: float
) -> None:
    found = fixation_density([Fixation(x * width, y * height) for x, y in places], (height, width), sigma)
    assert found.shape == (height, width)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)


def test_a_long_look_counts_more_where_it_is_wanted() -> None:
    looks = [Fixation(10, 10, 100), Fixation(50, 10, 300)]
    alike, weighed = (fixation_density(looks, (20, 60), 3, by_duration=by) for by in (False, True))
    assert alike[:, :30].sum() == pytest.approx(0.5, abs=1e-3)
    assert weighed[:, :30].sum() == pytest.approx(0.25, abs=1e-3)
    for unknown in ([Fixation(1, 1)], [Fixation(1, 1, 0)]):
        with pytest.raises(InputError, match="can't weigh fixations"):
            fixation_density(unknown, (20, 60), 3, by_duration=True)


def test_sigma_is_in_degrees() -> None:
    look = [Fixation(100, 100)]
    one, two = (fixation_density(look, (201, 201), 10, sigma=sigma)[100] for sigma in (1.0, 2.0))
    columns = np.arange(201) + 0.5 - 100
    assert math.sqrt((one * columns**2).sum() / one.sum()) == pytest.approx(10, rel=1e-3)
    assert math.sqrt((two * columns**2).sum() / two.sum()) == pytest.approx(20, rel=1e-3)


def test_a_degree_is_what_the_screen_makes_of_it() -> None:
    assert Screen().pixels_per_degree == pytest.approx(37.9, abs=0.1)
    assert Screen(distance_cm=120).pixels_per_degree == pytest.approx(2 * Screen().pixels_per_degree)
    assert Screen(width_cm=10, width_px=100, distance_cm=57.29).pixels_per_degree == pytest.approx(10, rel=1e-3)
    with pytest.raises(InputError, match="distance_cm is 0"):
        Screen(distance_cm=0)


def test_what_has_no_density_is_refused() -> None:
    with pytest.raises(InputError, match="no fixation"):
        fixation_density([], (20, 60), 3)
    with pytest.raises(InputError, match=r"1 of 2 fixations lie outside of an image 60 wide .* \(60, 1\)"):
        fixation_density([Fixation(1, 1), Fixation(60, 1)], (20, 60), 3)
    with pytest.raises(InputError, match="sigma is 0"):
        fixation_density([Fixation(1, 1)], (20, 60), 3, sigma=0)


def test_a_fixation_hits_the_pixel_that_it_lies_in() -> None:
    rows, columns = pixels([Fixation(0, 0), Fixation(59.99, 19.99), Fixation(3.5, 7.2)], (20, 60))
    assert (rows.tolist(), columns.tolist()) == ([0, 19, 7], [0, 59, 3])


@given(height=sides, width=sides, rows=sides, columns=sides, seed=st.integers(0, 99))
def test_a_grid_holds_what_the_pixels_held(height: int, width: int, rows: int, columns: int, seed: int) -> None:
    density = np.random.default_rng(seed).random((height, width))
    found = pool(density / density.sum(), (rows, columns))
    assert found.shape == (rows, columns)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)


def test_cells_are_sums_of_their_pixels() -> None:
    density = np.random.default_rng(0).random((6, 8))
    np.testing.assert_allclose(pool(density, (3, 2)), density.reshape(3, 2, 2, 4).sum(axis=(1, 3)))
    np.testing.assert_allclose(pool(density, (6, 8)), density)
    np.testing.assert_allclose(pool(density, (12, 16)), np.kron(density, np.full((2, 2), 0.25)))
    np.testing.assert_allclose(pool(np.array([[1.0, 2.0, 3.0]]), (1, 2)), [[2.0, 4.0]])
    with pytest.raises(InputError, match="0 x 2"):
        pool(density, (0, 2))


def test_a_grey_image_is_a_density(tmp_path: Path) -> None:
    values = np.array([[0, 50], [100, 50]], np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    np.testing.assert_allclose(read_density(tmp_path / "a.png"), values / 200)
    Image.new("L", (4, 4)).save(tmp_path / "black.png")
    Image.new("RGB", (4, 4), "red").save(tmp_path / "red.png")
    for name, told in (("black", "black everywhere"), ("red", "is coloured")):
        with pytest.raises(InputError, match=told):
            read_density(tmp_path / f"{name}.png")


def test_an_images_density_comes_from_all_observers_or_from_its_map(tmp_path: Path) -> None:
    looks = [Fixation(10, 10, 100), Fixation(50, 10, 300)]
    gaze = Gaze(tuple(Viewing("a", name, (look,)) for name, look in zip(("Ada", "Bo"), looks, strict=True)))
    expected = fixation_density(looks, (20, 60), 3, 2.0, by_duration=True)
    np.testing.assert_array_equal(density_of(gaze, "a", (20, 60), 3, 2.0, by_duration=True), expected)
    with pytest.raises(InputError, match="no fixation"):
        density_of(gaze, "b", (20, 60), 3)
    values = np.array([[0, 50], [100, 50]], np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    drawn = Gaze((), densities={"a": tmp_path / "a.png"})
    np.testing.assert_allclose(density_of(drawn, "a", (4, 2), 3), np.repeat(values / 400, 2, axis=0))

"""Heat maps over images."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from sowa.detector.render import (
    COOLEST,
    HOTTEST,
    OPACITY,
    OUTLINE,
    STEPS,
    enlarge_mask,
    heat,
    heat_map,
    heat_png,
    overlay,
    side_by_side,
)

SIZES = [(1, 1), (1, 50), (33, 7), (200, 300)]


def original(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", SIZES)
def test_an_overlay_has_the_image_s_size(size: tuple[int, int]) -> None:
    anomaly_map = np.linspace(0, 4, 64, dtype=np.float32).reshape(8, 8)
    drawn = overlay(original(*size), anomaly_map, anomaly_map > 2, 2.0)
    assert drawn.shape == (*size, 3)
    assert drawn.dtype == np.uint8


def test_a_cool_map_leaves_the_image_as_it_is() -> None:
    image = original(20, 30)
    cool = np.full((8, 8), COOLEST * 2.0, np.float32)
    np.testing.assert_array_equal(overlay(image, cool, np.zeros((8, 8), bool), 2.0), image)


def test_the_image_itself_is_never_drawn_upon() -> None:
    image = original(20, 30)
    before = image.copy()
    overlay(image, np.full((8, 8), 9.0, np.float32), np.ones((8, 8), bool), 1.0)
    np.testing.assert_array_equal(image, before)


def test_colours_follow_the_threshold_and_not_the_map_s_own_extremes() -> None:
    _, cool = heat_map(np.array([[0.0, 0.4]], np.float32), 1.0, (1, 2))
    _, hot = heat_map(np.array([[0.0, HOTTEST]], np.float32), 1.0, (1, 2))
    assert cool.max() == 0
    assert hot.max() == pytest.approx(OPACITY)


def test_the_hotter_the_map_the_redder_and_denser_the_colour() -> None:
    values = np.linspace(COOLEST, HOTTEST, 16, dtype=np.float32)[None]
    colours, opacity = heat_map(values, 1.0, (1, 16))
    assert np.all(np.diff(opacity[0, :, 0]) > 0)
    assert colours[0, -1, 0] > colours[0, -1, 2]  # RGB: the hottest is red
    assert colours[0, 1, 2] > colours[0, -1, 2]


def test_heat_lies_where_the_map_is_high() -> None:
    anomaly_map = np.zeros((8, 8), np.float32)
    anomaly_map[:4, 4:] = 5.0  # above, to the right
    image = np.zeros((80, 160, 3), np.uint8)
    drawn = overlay(image, anomaly_map, np.zeros((8, 8), bool), 1.0).sum(axis=2)
    assert drawn[:30, 90:].min() > 0
    assert drawn[50:].max() == 0
    assert drawn[:, :70].max() == 0


def test_the_mask_is_outlined() -> None:
    mask = np.zeros((8, 8), bool)
    mask[2:6, 2:6] = True
    drawn = overlay(np.zeros((64, 64, 3), np.uint8), np.zeros((8, 8), np.float32), mask, 1.0)
    outlined = (drawn == OUTLINE).all(axis=2)
    assert outlined.any()
    assert not outlined[28:36, 28:36].any()
    assert not outlined[:8].any()


@pytest.mark.parametrize("size", SIZES)
def test_a_full_mask_stays_full_and_an_empty_one_empty_at_every_size(size: tuple[int, int]) -> None:
    assert (enlarge_mask(np.ones((8, 8), bool), size) == 255).all()
    assert (enlarge_mask(np.zeros((8, 8), bool), size) == 0).all()


def test_a_mask_at_its_own_size_is_unchanged() -> None:
    mask = np.random.default_rng(0).random((8, 8)) > 0.5
    np.testing.assert_array_equal(enlarge_mask(mask, (8, 8)), mask * np.uint8(255))


def test_images_side_by_side_have_one_height_and_a_white_gap() -> None:
    row = side_by_side([np.zeros((10, 20, 3), np.uint8), np.zeros((40, 20, 3), np.uint8)], height=20, gap=4)
    assert row.shape == (20, 40 + 4 + 10, 3)
    assert (row[:, 40:44] == 255).all()
    assert (row[:, :40] == 0).all()


def test_a_very_flat_image_still_has_a_column_beside_others() -> None:
    assert side_by_side([np.zeros((1000, 1, 3), np.uint8)], height=20).shape == (20, 1, 3)


def test_heat_is_tied_to_the_threshold() -> None:
    assert heat(np.array([0, 3 * COOLEST, 3 * HOTTEST, 99], np.float32), 3.0).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("opaque", [False, True])
def test_a_small_heat_map_is_lighter_where_it_is_hotter_and_clear_where_it_is_cold(opaque: bool) -> None:
    ramp = np.linspace(0, 1, STEPS, dtype=np.float32)
    data = heat_png(np.stack([ramp, np.full_like(ramp, np.nan)]), opaque)
    drawn = np.array(Image.open(BytesIO(data)).convert("RGBA"))
    assert drawn.shape == (2, STEPS, 4)
    assert (np.diff(drawn[0, :, :3] @ [0.2126, 0.7152, 0.0722]) > 0).all()
    assert (np.diff(drawn[0, :, 3].astype(int)) > 0).all() != opaque
    assert drawn[0, [0, -1], 3].tolist() == [255 * opaque, 255]
    assert not drawn[1, :, 3].any()
    assert len(data) < 500

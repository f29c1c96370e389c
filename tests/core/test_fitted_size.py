"""The size at which images are seen, from their own."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sowa.core.image_size import SIDES, check_budget, fitted_size
from sowa.errors import InputError

SIDE = st.integers(16, 5000)
PATCH = (16, 16)


@given(height=SIDE, width=SIDE, side=st.sampled_from(SIDES))
def test_whole_patches_the_own_aspect_and_no_more_pixels_than_there_are(height, width, side):
    found = fitted_size([(height, width)], side, PATCH)
    assert all(length % 16 == 0 and length >= 16 for length in found)
    scale = min(1.0, side / math.sqrt(height * width))
    for length, own in zip(found, (height, width), strict=True):
        assert abs(length - own * scale) <= 8 or length == 16


def test_the_median_image_counts():
    mixed = [(100, 200), (480, 640), (480, 640), (480, 640), (4000, 100)]
    assert fitted_size(mixed, 640, PATCH) == fitted_size([(480, 640)], 640, PATCH) == (480, 640)


def test_of_two_halves_the_size_lies_between():
    assert fitted_size([(320, 320), (640, 640)], 640, PATCH) == (512, 512)  # of pixels the mean, so 506


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.inf, math.nan])
def test_a_time_that_is_none(seconds):
    with pytest.raises(InputError, match=r"allowed is above 0, such as 0\.2"):
        check_budget(seconds)

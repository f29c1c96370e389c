"""Alignment and maps against torch, scipy and the formulas of METHOD.md sections 4 and 6."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch import Tensor

from sowa.core.maps import smooth, upsample
from sowa.model.alignment import level_map, similarity, text_probabilities


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def slow_bilinear(values_hw: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The corners of the grid lie on the corners of the image; between them straight lines."""
    (h, w), (height, width) = values_hw.shape, size
    out = np.zeros(size)
    for row in range(height):
        for column in range(width):
            y = row * (h - 1) / (height - 1) if height > 1 else 0.0
            x = column * (w - 1) / (width - 1) if width > 1 else 0.0
            top, left = min(int(y), h - 1), min(int(x), w - 1)
            below, right = min(top + 1, h - 1), min(left + 1, w - 1)
            down, across = y - top, x - left
            out[row, column] = (1 - down) * (
                (1 - across) * values_hw[top, left] + across * values_hw[top, right]
            ) + down * ((1 - across) * values_hw[below, left] + across * values_hw[below, right])
    return out


def test_similarity_of_patches_is_the_cosine_with_the_text_of_the_images_own_class():
    patches, text = random(3, 5, 8), random(3, 2, 8, seed=1) * 4
    found = similarity(patches, text)
    expected = [
        [[F.cosine_similarity(patch, state, dim=0) for state in states] for patch in image]
        for image, states in zip(patches, text, strict=True)
    ]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_similarity_of_an_image_is_that_of_its_only_patch():
    feature, text = random(3, 8), random(3, 2, 8, seed=1)
    torch.testing.assert_close(similarity(feature, text), similarity(feature[:, None], text)[:, 0])
    assert similarity(feature, text).shape == (3, 2)


def test_similarity_doesnt_depend_on_lengths_and_stays_within_one():
    feature, text = random(4, 8), random(4, 2, 8, seed=1)
    found = similarity(feature, text)
    torch.testing.assert_close(similarity(feature * 7, text * 0.1), found)
    torch.testing.assert_close(similarity(text[:, 0], text)[:, 0], torch.ones(4))
    torch.testing.assert_close(similarity(-text[:, 1], text)[:, 1], -torch.ones(4))


def test_text_probabilities_are_the_softmax_of_similarities_over_the_temperature():
    feature, text = random(4, 8), random(4, 2, 8, seed=1)
    found = text_probabilities(feature, text, 0.07)
    normal, abnormal = F.cosine_similarity(feature[:, None], text, dim=-1).unbind(dim=1)
    torch.testing.assert_close(found[:, 1], 1 / (1 + torch.exp((normal - abnormal) / 0.07)))
    torch.testing.assert_close(found.sum(dim=1), torch.ones(4))
    assert not torch.allclose(text_probabilities(feature, text, 1.0), found)


@pytest.mark.parametrize(("grid", "size"), [((3, 4), (9, 11)), ((2, 2), (5, 5)), ((1, 3), (4, 6)), ((5, 5), (3, 2))])
def test_upsampling_is_bilinear_with_the_corners_aligned(grid, size):
    values = random(2, grid[0] * grid[1])
    maps = upsample(values, grid, size)
    for found, patches in zip(maps, values, strict=True):
        expected = slow_bilinear(patches.view(grid).double().numpy(), size)
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_upsampling_keeps_corners_bounds_and_the_grid_itself():
    values = random(1, 12)
    maps, grid = upsample(values, (3, 4), (17, 23))[0], values.view(3, 4)
    assert torch.equal(maps[[0, 0, -1, -1], [0, -1, 0, -1]], grid[[0, 0, -1, -1], [0, -1, 0, -1]])
    assert maps.min() >= values.min() - 1e-6
    assert maps.max() <= values.max() + 1e-6
    torch.testing.assert_close(upsample(values, (3, 4), (3, 4))[0], grid)


def test_a_level_map_is_the_softmax_over_two_enlarged_states():
    similarities = random(2, 12, 2)
    enlarged = F.interpolate(
        similarities.transpose(1, 2).reshape(2, 2, 3, 4), size=(10, 12), mode="bilinear", align_corners=True
    )
    found = level_map(similarities, (3, 4), (10, 12))
    torch.testing.assert_close(found, enlarged.softmax(dim=1)[:, 1], atol=1e-6, rtol=1e-6)


def test_a_level_map_rises_with_the_abnormal_similarity():
    equal = torch.full((1, 4, 2), 0.3)
    torch.testing.assert_close(level_map(equal, (2, 2), (4, 4)), torch.full((1, 4, 4), 0.5))
    abnormal = equal + torch.tensor([0.0, 0.2])
    assert (level_map(abnormal, (2, 2), (4, 4)) > 0.5).all()


@pytest.mark.parametrize("shape", [(40, 50), (17, 16), (15, 40), (5, 3), (1, 1), (1, 20), (64, 2)])
@pytest.mark.parametrize("sigma", [4.0, 0.7, 2.13])
def test_smoothing_is_scipys_gaussian_even_where_the_kernel_is_longer_than_the_side(shape, sigma):
    maps = random(3, *shape)
    expected = [gaussian_filter(m.double().numpy(), sigma, mode="reflect", truncate=4.0) for m in maps]
    np.testing.assert_allclose(smooth(maps, sigma).numpy(), np.stack(expected), atol=2e-6)


@given(st.integers(1, 30), st.integers(1, 30), st.floats(0.2, 8.0), st.integers(0, 99))
@settings(max_examples=60)
def test_smoothing_is_scipys_gaussian_for_any_shape_and_sigma(height, width, sigma, seed):
    maps = random(1, height, width, seed=seed)
    expected = gaussian_filter(maps[0].double().numpy(), sigma, mode="reflect", truncate=4.0)
    np.testing.assert_allclose(smooth(maps, sigma)[0].numpy(), expected, atol=2e-6)


def test_smoothing_mirrors_the_border_pixel_too():
    maps = torch.zeros(1, 1, 30)
    maps[0, 0, 0] = 1.0
    inner = torch.zeros(1, 1, 60)
    inner[0, 0, 29] = inner[0, 0, 30] = 1.0  # d c b a | a b c d
    torch.testing.assert_close(smooth(maps, 2.0)[0, 0], smooth(inner, 2.0)[0, 0, 30:], atol=1e-6, rtol=1e-5)


def test_no_sigma_means_no_smoothing():
    maps = random(1, 5, 5)
    assert torch.equal(smooth(maps, 0.0), maps)
    assert not torch.allclose(smooth(maps, 0.5), maps)


def test_smoothing_keeps_the_mean_and_a_constant():
    maps = random(2, 20, 33)
    torch.testing.assert_close(smooth(maps, 4.0).mean(dim=(1, 2)), maps.mean(dim=(1, 2)), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(smooth(torch.full((1, 9, 7), 0.3), 4.0), torch.full((1, 9, 7), 0.3))

"""Large images seen through windows of the backbone's own size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sowa
from sowa.core.config import Settings
from sowa.core.tiling import OVERLAP, join_windows, window_places
from sowa.core.types import Features
from sowa.data import read_image, resize_image
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.errors import InputError


@given(st.integers(2, 9), st.integers(0, 40), st.integers(1, 5))
def test_windows_cover_everything_on_the_grid_and_overlap(patches: int, more: int, patch: int) -> None:
    window, length = patches * patch, (patches + more) * patch
    tops = [top for top, _ in window_places((length, window), (window, window), (patch, patch))]
    assert tops[0] == 0
    assert tops[-1] == length - window
    assert all(top % patch == 0 for top in tops)
    steps = np.diff(tops)
    assert (steps > 0).all()
    assert (steps <= window * (1 - OVERLAP) + patch).all()


def test_an_image_smaller_than_a_window_is_refused() -> None:
    with pytest.raises(ValueError, match="less than a window"):
        window_places((32, 64), (64, 64), (16, 16))


def observed(seed: int, grid: tuple[int, int], patch: int) -> Features:
    random = torch.Generator().manual_seed(seed)
    size = grid[0] * patch, grid[1] * patch
    return Features(
        patches=(torch.rand(2, grid[0] * grid[1], 3, generator=random),),
        grid=grid,
        size=size,
        level_maps=(torch.rand(2, *size, generator=random),),
        abnormal_probability=torch.rand(2, generator=random),
    )


def test_windows_that_don_t_overlap_are_laid_side_by_side() -> None:
    left, right = observed(0, (2, 2), 4), observed(1, (2, 2), 4)
    whole = join_windows([left, right], [(0, 0), (0, 8)], (8, 16), (4, 4))
    assert (whole.grid, whole.size) == ((2, 4), (8, 16))
    grid = whole.patches[0].unflatten(1, whole.grid)
    torch.testing.assert_close(grid[:, :, :2], left.patches[0].unflatten(1, (2, 2)))
    torch.testing.assert_close(grid[:, :, 2:], right.patches[0].unflatten(1, (2, 2)))
    torch.testing.assert_close(whole.level_maps[0], torch.cat([left.level_maps[0], right.level_maps[0]], dim=2))
    most = torch.maximum(left.abnormal_probability, right.abnormal_probability)
    torch.testing.assert_close(whole.abnormal_probability, most)


def test_overlapping_windows_are_averaged() -> None:
    left, right = observed(0, (2, 2), 4), observed(1, (2, 2), 4)
    whole = join_windows([left, right], [(0, 0), (0, 4)], (8, 12), (4, 4))
    grid, (one, other) = (
        whole.patches[0].unflatten(1, (2, 3)),
        (o.patches[0].unflatten(1, (2, 2)) for o in (left, right)),
    )
    torch.testing.assert_close(grid[:, :, 1], (one[:, :, 1] + other[:, :, 0]) / 2)
    torch.testing.assert_close(grid[:, :, 0], one[:, :, 0])
    torch.testing.assert_close(
        whole.level_maps[0][:, :, 4:8], (left.level_maps[0][:, :, 4:] + right.level_maps[0][:, :, :4]) / 2
    )


def test_without_prompts_there_are_no_maps() -> None:
    one = observed(0, (2, 2), 4)
    bare = Features(one.patches, one.grid, one.size)
    whole = join_windows([bare, bare], [(0, 0), (0, 8)], (8, 16), (4, 4))
    assert whole.level_maps is None
    assert whole.abnormal_probability is None


@pytest.fixture(scope="module")
def tiled(tiny_backbone: str, normal: Path) -> sowa.Sowa:
    return sowa.Sowa.from_pretrained(tiny_backbone, settings=Settings(image_size=(96, 128), tiled=True)).fit(normal)


def test_each_window_is_seen_as_an_image_of_the_backbone_s_size(tiled: sowa.Sowa, judged: Path) -> None:
    image = resize_image(read_image(judged / "good" / "000.png"), (96, 128))
    whole = tiled.encoder.encode(image[None], prompts=True)
    assert (whole.grid, whole.size) == ((6, 8), (96, 128))
    plain = TorchEncoder(tiled.encoder.network, trained=tiled.encoder.trained)
    corner = plain.encode(image[None, :64, :64], prompts=True)
    torch.testing.assert_close(
        whole.patches[0].unflatten(1, (6, 8))[:, 0, 0], corner.patches[0].unflatten(1, (4, 4))[:, 0, 0]
    )
    torch.testing.assert_close(whole.level_maps[0][:, :16, :16], corner.level_maps[0][:, :16, :16])


def test_a_tiled_detector_is_saved_and_judges_the_same(tiled: sowa.Sowa, judged: Path, tmp_path: Path) -> None:
    loaded = sowa.Sowa.load(tiled.save(tmp_path / "tiled.sowa"))
    assert (loaded.encoder.tiled, loaded.image_size) == (True, (96, 128))
    before, after = ([p.raw_score for p in detector.predict(judged / "good")] for detector in (tiled, loaded))
    np.testing.assert_allclose(after, before, rtol=1e-5)
    (prediction, *_) = loaded.predict(judged / "good")
    assert prediction.anomaly_map.shape == (96, 128)
    assert prediction.level_maps.shape == (4, 6, 8)


def test_tiles_without_a_size_double_the_backbone_s(tiny_backbone: str) -> None:
    assert sowa.Sowa.from_pretrained(tiny_backbone, settings=Settings(tiled=True)).image_size == (128, 128)


@pytest.mark.parametrize("size", [(64, 64), (32, 128), (64, 48)])
def test_tiles_need_a_larger_image(tiny_backbone: str, size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="tiles are of 64 x 64"):
        sowa.Sowa.from_pretrained(tiny_backbone, settings=Settings(image_size=size, tiled=True))

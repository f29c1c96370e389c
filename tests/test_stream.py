"""Images from wherever a user has them: what a source stands for, and how it is read ahead."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sowa.data.batches import PREFETCHED, read_batches
from sowa.data.sources import ImageSource, image_sources
from sowa.data.views import variants
from sowa.errors import InputError

RANDOM = np.random.default_rng(0)


def noise(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images, of which the second is broken, one in a folder further down."""
    for index in range(3):
        Image.fromarray(noise(10 + index, 20, 3)).save(tmp_path / f"{index}.png")
    (tmp_path / "1.png").write_bytes(b"no image")
    (tmp_path / "deeper").mkdir()
    Image.fromarray(noise(8, 8, 3)).save(tmp_path / "deeper" / "3.bmp")
    return tmp_path


def read(wanted: Any, size: tuple[int, int] = (4, 6), batch_size: int = 2, **options: Any) -> tuple[list, list[str]]:
    skipped: list[tuple[str, str]] = []
    batches = list(read_batches(wanted, size, batch_size, skipped, **options))
    return batches, [name for name, _ in skipped]


def test_a_folder_a_file_and_a_pattern_name_their_images_by_path(folder: Path) -> None:
    names = [str(folder / name) for name in ("0.png", "1.png", "2.png", "deeper/3.bmp")]
    assert [image.name for image in image_sources(folder)] == names
    assert [image.name for image in image_sources(str(folder))] == names
    assert [image.name for image in image_sources(folder / "2.png")] == names[2:3]
    assert [image.name for image in image_sources(f"{folder}/*.png")] == names[:3]
    assert [image.name for image in image_sources(f"{folder}/**/*.bmp")] == names[3:]


def test_a_list_may_mix_everything_and_arrays_are_numbered_by_their_place_in_it(folder: Path) -> None:
    mixed = [noise(4, 5, 3), folder / "deeper", torch.zeros(2, 3, 4, 5), Image.new("L", (5, 4)), [noise(4, 5)]]
    names = [image.name for image in image_sources(mixed)]
    deeper = str(folder / "deeper" / "3.bmp")
    assert names == ["array-0000", deeper, "array-0002", "array-0003", "array-0004", "array-0005"]


@pytest.mark.parametrize(
    ("source", "count"),
    [
        (noise(4, 5, 3), 1),
        (noise(4, 5), 1),
        (noise(7, 4, 5, 3), 7),
        (Image.new("RGBA", (5, 4)), 1),
        (Image.new("I;16", (5, 4)), 1),
        (torch.rand(3, 4, 5), 1),
        (torch.rand(6, 3, 4, 5), 6),
        (torch.zeros(3, 4, 5, dtype=torch.uint8), 1),
        (torch.rand(3, 4, 5, requires_grad=True), 1),
        (torch.rand(3, 4, 5, dtype=torch.float16), 1),
        ((noise(4, 5, 3), noise(4, 5)), 2),
    ],
)
def test_arrays_tensors_and_pillow_images_become_colour_images(source: Any, count: int) -> None:
    found = image_sources(source)
    assert [image.read().shape for image in found] == [(4, 5, 3)] * count
    assert all(image.read().dtype == np.uint8 for image in found)


def test_a_tensor_means_the_same_image_as_its_array() -> None:
    array = noise(4, 5, 3)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    np.testing.assert_array_equal(image_sources(tensor)[0].read(), array)
    np.testing.assert_array_equal(image_sources(tensor.float() / 255)[0].read(), array)


def test_a_grey_array_has_three_equal_channels() -> None:
    grey = noise(4, 5)
    np.testing.assert_array_equal(image_sources(grey)[0].read(), np.stack([grey] * 3, axis=-1))


@pytest.mark.parametrize(
    "source",
    [
        None,
        5,
        {},
        b"folder",
        [None],
        np.zeros((4, 5, 4), np.uint8),
        np.zeros((4, 5, 3), np.float64),
        np.zeros((4, 5, 3), np.int64),
        np.zeros(4, np.uint8),
        torch.zeros(1, 4, 5),
        torch.zeros(4, 5, 3, dtype=torch.bool),
        (image for image in []),
    ],
)
def test_what_is_no_image_is_refused_with_what_would_be_one(source: Any) -> None:
    with pytest.raises(InputError, match="isn't understood; give"):
        image_sources(source)


@pytest.mark.parametrize("source", [[], (), [[]]])
def test_an_empty_list_is_refused(source: Any) -> None:
    with pytest.raises(InputError, match="empty"):
        image_sources(source)


@pytest.mark.parametrize("shape", [(0, 0, 3), (0, 5, 3), (5, 0, 3), (0, 5), (0, 4, 5, 3)])
def test_an_image_without_pixels_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError):
        image_sources(np.zeros(shape, np.uint8))


def test_an_empty_batch_of_tensors_is_refused() -> None:
    with pytest.raises(InputError):
        image_sources(torch.zeros(0, 3, 4, 5))


def test_a_tensor_of_nan_is_refused() -> None:
    with pytest.raises(InputError):
        image_sources(torch.full((3, 4, 5), float("nan")))


def test_a_tensor_of_half_precision_brain_floats_is_read_or_refused() -> None:
    try:
        found = image_sources(torch.zeros(3, 4, 5, dtype=torch.bfloat16))
    except InputError:
        return
    assert found[0].read().shape == (4, 5, 3)


def test_a_missing_path_in_a_list_is_refused_by_name(folder: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        image_sources([folder, folder / "nowhere"])


def test_batches_stay_full_where_an_image_is_broken(folder: Path) -> None:
    batches, skipped = read(image_sources(folder))
    assert [len(batch.sources) for batch in batches] == [2, 1]
    assert skipped == [str(folder / "1.png")]


def test_batches_keep_the_order_and_each_image_s_own_size(folder: Path) -> None:
    batches, _ = read(image_sources(folder), batch_size=3)
    names = [Path(image.name).name for batch in batches for image in batch.sources]
    assert names == ["0.png", "2.png", "3.bmp"]
    assert batches[0].sizes == [(10, 20), (12, 20), (8, 8)]
    assert batches[0].images.shape == (3, 4, 6, 3)
    assert batches[0].images.dtype == np.uint8


def test_order_is_kept_over_many_images_of_very_different_size() -> None:
    wanted = image_sources([np.full((1 + 400 * (index % 3), 40, 3), index, np.uint8) for index in range(50)])
    batches, _ = read(wanted, batch_size=7)
    assert [int(image[0, 0, 0]) for batch in batches for image in batch.images] == list(range(50))


def test_a_limit_takes_the_first_readable_ones(folder: Path) -> None:
    batches, skipped = read(image_sources(folder), limit=2)
    assert [Path(image.name).name for image in batches[0].sources] == ["0.png", "2.png"]
    assert len(batches) == 1
    assert skipped == [str(folder / "1.png")]


def test_only_so_many_images_are_read_ahead() -> None:
    taken = []

    def endless() -> Iterator[ImageSource]:
        while True:
            taken.append(1)
            yield ImageSource("p", noise(4, 4, 3))

    batches = read_batches(endless(), (4, 4), 2, [])
    next(batches)
    assert len(taken) <= 2 + PREFETCHED
    next(batches)
    assert len(taken) <= 4 + PREFETCHED
    batches.close()


def test_a_reader_that_is_given_up_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    batches = read_batches(image_sources([noise(4, 4, 3)] * 40), (4, 4), 1, [])
    next(batches)
    batches.close()
    del batches
    assert threading.active_count() == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")
def test_a_pipe_named_like_an_image_is_skipped_and_doesn_t_block(folder: Path) -> None:
    os.mkfifo(folder / "4.png")
    _, skipped = read(image_sources(folder))
    assert str(folder / "4.png") in skipped


def test_variants_of_a_plain_image_differ_in_brightness_alone() -> None:
    for varied, brightness in zip(variants(np.full((9, 7, 3), 100, np.uint8)), (1.07, 0.93, 1.0), strict=True):
        assert varied.shape == (9, 7, 3)
        assert abs(int(varied.min()) - 100 * brightness) <= 1
        assert varied.min() == varied.max()


def test_an_image_of_one_pixel_has_variants() -> None:
    assert variants(np.zeros((1, 1, 3), np.uint8)).shape == (3, 1, 1, 3)

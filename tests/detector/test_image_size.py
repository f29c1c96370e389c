"""`fit` chooses at which size images are seen where the backbone lets it."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import sowa
from sowa.core.config import Settings
from sowa.errors import InputError


def images(height: int, width: int, count: int = 2) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [rng.integers(256, size=(height, width, 3), dtype=np.uint8) for _ in range(count)]


def fitted(shown: list[NDArray[np.uint8]], **settings: object) -> sowa.Sowa:
    detector = sowa.Sowa.from_pretrained("mini:random", settings=Settings(**settings))  # type: ignore[arg-type]
    return detector.fit(shown, augment=())


def test_images_are_seen_as_they_are_and_maps_have_their_size() -> None:
    detector = fitted(images(64, 128))
    assert detector.image_size == (64, 128)
    assert detector.predict(images(64, 128))[0].anomaly_map.shape == (64, 128)


def test_a_file_keeps_the_size(tmp_path: Path) -> None:
    detector = fitted(images(64, 128))
    loaded = sowa.Sowa.load(detector.save(tmp_path / "part.sowa"))
    assert loaded.image_size == (64, 128)
    shown = images(64, 128)[0]
    assert loaded.predict(shown)[0].raw_score == pytest.approx(detector.predict(shown)[0].raw_score, abs=1e-6)


def test_another_product_is_seen_at_its_own_size() -> None:
    detector = fitted(images(64, 128))
    assert detector.fit(images(128, 64), augment=()).image_size == (128, 64)


def test_a_fit_that_fails_keeps_the_size(tmp_path: Path) -> None:
    detector = fitted(images(64, 128))
    (tmp_path / "broken.png").write_bytes(b"broken")
    with pytest.raises(InputError):
        detector.fit([*images(128, 64, 1), tmp_path / "broken.png"], k_shot=2)
    assert detector.image_size == (64, 128)
    assert len(detector.references_) == 2


def test_a_size_that_is_given_is_kept() -> None:
    assert fitted(images(64, 128), image_size=(96, 96)).image_size == (96, 96)


def test_fast_is_at_most_384_squared_and_otherwise_640_squared() -> None:
    large = images(1000, 1000, 1)
    assert fitted(large, fast=True).image_size == (384, 384)
    assert fitted(large).image_size == (640, 640)


def test_no_time_at_all_is_the_smallest_and_much_time_the_largest() -> None:
    large = images(1000, 500, 1)
    assert fitted(large, seconds_per_image=1e-9).image_size == (544, 272)
    assert fitted(large, seconds_per_image=1e9).image_size == (912, 448)


def test_a_backbone_with_a_size_of_its_own_keeps_it(tiny_backbone: str) -> None:
    detector = sowa.Sowa.from_pretrained(tiny_backbone).fit(images(64, 128))
    assert detector.image_size == (64, 64)


@pytest.mark.parametrize("limit", [{"fast": True}, {"seconds_per_image": 0.5}])
def test_a_limit_beside_a_fixed_size_is_refused(tiny_backbone: str, limit: dict[str, float]) -> None:
    for name, settings in ((tiny_backbone, limit), ("mini:random", {"image_size": (64, 64), **limit})):
        detector = sowa.Sowa.from_pretrained(name, settings=Settings(**settings))  # type: ignore[arg-type]
        with pytest.raises(InputError, match="leave them out"):
            detector.fit(images(64, 64))


def test_a_limit_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="seconds per image is 0"):
        fitted(images(64, 64), seconds_per_image=0.0)

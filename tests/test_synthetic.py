"""The generator of surfaces and defects: determinism, masks, product lines, the written data set."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sowa.errors import InputError
from sowa.synthetic import (
    CATEGORIES,
    DAMAGE_TYPES,
    DEFECT_TYPES,
    SyntheticImage,
    damage,
    defect_types,
    generate,
    write_dataset,
)

SIZE = 96
COMBINATIONS = [(category, kind) for category in CATEGORIES for kind in defect_types(category)]


def difference(one: SyntheticImage, two: SyntheticImage) -> np.ndarray:
    return np.abs(one.image.astype(int) - two.image.astype(int)).max(axis=2)


def distance_to(mask: np.ndarray) -> np.ndarray:
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)


def test_there_is_enough_to_choose_from():
    assert len(CATEGORIES) >= 12
    assert len(DEFECT_TYPES) >= 8
    used = {kind for category in CATEGORIES for kind in defect_types(category)}
    assert used == set(DEFECT_TYPES)
    assert "missing_part" in defect_types("blister_pack")
    assert "missing_part" not in defect_types("wood")


@pytest.mark.parametrize("category", CATEGORIES)
def test_normal_image(category):
    made = generate(category, size=SIZE, seed=3)
    assert made.image.shape == (SIZE, SIZE, 3)
    assert made.image.dtype == np.uint8
    assert made.mask.shape == (SIZE, SIZE)
    assert made.mask.dtype == np.bool_
    assert not made.mask.any()
    assert (made.category, made.defect_type, made.seed) == (category, None, 3)
    assert made.image.std() > 3, "a flat image"
    assert (made.image == 255).all(axis=2).mean() < 0.05, "overexposed"


@pytest.mark.parametrize("category", CATEGORIES)
def test_same_arguments_same_bits(category):
    for kind in (None, defect_types(category)[-1]):
        one, two = (generate(category, defect_type=kind, size=SIZE, seed=7, style_seed=2) for _ in range(2))
        np.testing.assert_array_equal(one.image, two.image)
        np.testing.assert_array_equal(one.mask, two.mask)


@pytest.mark.parametrize("category", CATEGORIES)
def test_pieces_differ_less_than_product_lines(category):
    """Pieces of one product line share their colours; over several lines colours spread more."""

    def colours(pairs: list[tuple[int, int]]) -> np.ndarray:
        made = [generate(category, size=64, seed=seed, style_seed=style).image for seed, style in pairs]
        return np.array([image.mean(axis=(0, 1)) for image in made])

    pieces, lines = colours([(seed, 0) for seed in range(4)]), colours([(0, style) for style in range(4)])
    assert len(np.unique(pieces, axis=0)) == 4
    assert pieces.std(axis=0).max() < lines.std(axis=0).max()


@pytest.mark.parametrize(("category", "kind"), COMBINATIONS)
def test_defect_shows_in_its_mask_and_nowhere_else(category, kind):
    normal = generate(category, size=SIZE, seed=5, style_seed=1)
    defective = generate(category, defect_type=kind, size=SIZE, seed=5, style_seed=1)
    mask, change = defective.mask, difference(normal, defective)
    assert 6 <= mask.sum() <= 0.5 * mask.size
    far = distance_to(mask) > 18  # a compressed block and a soft shadow's reach
    assert change[mask].mean() > 8
    assert change[mask].mean() > 4 * change[far].mean()
    assert np.quantile(change[far], 0.999) <= 14


def test_noise_lies_on_the_defect_too():
    """A hole or a crumb is part of the scene: its pixels carry the sensor's noise, no flat paste."""
    for kind in ("hole", "stain", "discoloration"):
        made = generate("leather", defect_type=kind, size=192, seed=1, severity=1.0)
        inner = cv2.erode(made.mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        grey = made.image.astype(float).mean(axis=2)
        fine = grey - cv2.GaussianBlur(grey, (0, 0), 1.0)
        assert fine[inner].std() > 0.3


def test_severity_makes_defects_larger():
    def area(severity: float) -> float:
        made = (
            generate("painted_steel", defect_type=kind, size=SIZE, seed=seed, severity=severity)
            for kind in ("scratch", "stain", "corrosion")
            for seed in range(6)
        )
        return float(sum(one.mask.sum() for one in made))

    assert area(1.0) > 1.3 * area(0.1)


@settings(max_examples=25, derandomize=True)
@given(
    combination=st.sampled_from(COMBINATIONS),
    seed=st.integers(0, 2**40),
    style_seed=st.integers(0, 2**31),
    height=st.integers(64, 130),
    width=st.integers(64, 130),
    severity=st.none() | st.floats(0, 1),
)
def test_any_seed_and_size(combination, seed, style_seed, height, width, severity):
    category, kind = combination
    made = generate(
        category,
        defect_type=kind,
        size=(height, width),
        seed=seed,
        style_seed=style_seed,
        severity=severity,
    )
    assert made.image.shape == (height, width, 3)
    assert made.mask.shape == (height, width)
    assert 6 <= made.mask.sum() <= 0.5 * made.mask.size


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"category": "cheese"}, ["'cheese'", "choose one of", "wood"]),
        ({"category": "wood", "defect_type": "mould"}, ["'mould'", "choose one of", "crack"]),
        ({"category": "wood", "defect_type": "missing_part"}, ["wood cannot have a missing_part", "choose"]),
        ({"category": "wood", "size": 63}, ["63", "at least 64"]),
        ({"category": "wood", "size": (128, 10)}, ["(128, 10)", "at least 64"]),
        ({"category": "wood", "seed": -1}, ["seed -1", "0 or more"]),
        ({"category": "wood", "style_seed": -4}, ["style_seed -4", "0 or more"]),
        ({"category": "wood", "severity": 1.5}, ["severity 1.5", "0..1"]),
    ],
)
def test_bad_input_is_named(arguments, words):
    with pytest.raises(ValueError, match=r".") as caught:
        generate(**arguments)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_dataset_layout(tmp_path):
    calls = []
    root = write_dataset(
        tmp_path / "set",
        ["wood", "washer_tray"],
        train=2,
        test=(1, 1),
        size=64,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert root == tmp_path / "set"
    files = tree(root)
    expected = set()
    for category in ("wood", "washer_tray"):
        expected |= {f"{category}/train/good/{name}.png" for name in ("000", "001")}
        expected.add(f"{category}/test/good/000.png")
        for kind in defect_types(category):
            expected |= {
                f"{category}/test/{kind}/000.png",
                f"{category}/ground_truth/{kind}/000_mask.png",
            }
    assert set(files) == expected
    images = sum("ground_truth" not in name for name in files)
    assert calls == [(done, images) for done in range(1, images + 1)]
    mask = cv2.imread(str(root / "wood/ground_truth/stain/000_mask.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (64, 64)
    assert set(np.unique(mask)) == {0, 255}
    first = cv2.imread(str(root / "wood/train/good/000.png"))[..., ::-1]
    np.testing.assert_array_equal(first, generate("wood", size=64).image)
    assert len({data for name, data in files.items() if "mask" not in name}) == images, "an image twice"


def test_dataset_written_again_is_the_same(tmp_path):
    def write() -> dict[str, bytes]:
        return tree(write_dataset(tmp_path, ["wood"], train=1, test=(1, 1), size=64))

    kept = tmp_path / "wood" / "notes.txt"
    before = write()
    kept.write_text("mine", encoding="utf-8")
    after = write()
    assert after.pop("wood/notes.txt") == b"mine"
    assert after == before


def test_interrupted_write_leaves_no_half_file(tmp_path, monkeypatch):
    def broken(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(ValueError, match="disk full"):
        write_dataset(tmp_path, ["wood"], train=1, test=(0, 0), size=64)
    assert tree(tmp_path) == {}


def test_dataset_refuses_bad_input_before_writing(tmp_path):
    with pytest.raises(ValueError, match="train -1"):
        write_dataset(tmp_path, ["wood"], train=-1)
    with pytest.raises(ValueError, match="'cheese'"):
        write_dataset(tmp_path, ["wood", "cheese"])
    with pytest.raises(ValueError, match="at least 64"):
        write_dataset(tmp_path, ["wood"], size=12)
    assert tree(tmp_path) == {}


def photograph(seed: int = 0) -> np.ndarray:
    return generate("wood", size=(128, 160), seed=seed).image


@pytest.mark.parametrize("defect_type", DAMAGE_TYPES)
@pytest.mark.parametrize("severity", [0.1, 0.9])
def test_damage_changes_an_image_where_its_mask_says(defect_type, severity):
    image = photograph()
    before = image.copy()
    made = damage(image, defect_type, seed=3, severity=severity)
    assert (made.image.shape, made.image.dtype, made.mask.shape) == (image.shape, np.uint8, image.shape[:2])
    np.testing.assert_array_equal(image, before)
    change = np.abs(made.image.astype(int) - image).max(axis=-1)
    assert 0 < made.mask.mean() < 0.5
    assert change[made.mask].mean() > 6
    # A defect is lit, so that its surroundings may change a little; far away nothing does.
    assert change[~made.mask].max() < 255 * 0.15
    assert (change[~made.mask] == 0).mean() > 0.3


def test_damage_is_the_same_for_the_same_seed_and_stays_in_its_region():
    region = np.zeros((128, 160), bool)
    region[:, 100:] = True
    one, two = (damage(photograph(), "scratch", seed=5, region=region) for _ in range(2))
    np.testing.assert_array_equal(one.image, two.image)
    assert not np.array_equal(one.image, damage(photograph(), "scratch", seed=6, region=region).image)
    assert not one.mask[:, :90].any()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"defect_type": "burr"}, "'burr' can't be put on an image; choose one of ['scratch'"),
        ({"severity": 1.5}, "severity 1.5 is outside 0..1"),
        ({"seed": -1}, "seed -1 is negative"),
        ({"image": np.zeros((40, 200, 3), np.uint8)}, "shape (40, 200, 3)"),
        ({"image": np.zeros((128, 160), np.uint8)}, "shape (128, 160)"),
        ({"image": np.zeros((128, 160, 3))}, "type float64"),
        ({"region": np.zeros((8, 8), bool)}, "region of shape (8, 8)"),
    ],
)
def test_damage_refuses_bad_input(arguments, told):
    with pytest.raises(InputError) as caught:
        damage(**{"image": photograph(), "defect_type": "scratch", **arguments})
    assert told in str(caught.value)

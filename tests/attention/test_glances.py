"""Looking at some of the tiles of real images: banks, early features, scenes made of them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sowa
from sowa.data import read_image, resize_image
from sowa.errors import InputError
from sowa.extensions.glances.early import EarlyBank
from sowa.extensions.glances.examples import FIRST, PART, Product
from sowa.extensions.glances.eyes import Eyes
from sowa.extensions.glances.known import Known, Seen
from sowa.extensions.glances.look import (
    at_random,
    by_distance,
    by_early,
    by_either,
    by_saliency,
    learned,
    look,
    play,
    raster,
)
from sowa.extensions.glances.looking import Looking
from sowa.extensions.glances.policy import GlancePolicy, load_policy, save_policy
from sowa.extensions.glances.scale import Scale
from sowa.extensions.glances.scene import Replay, Scene
from sowa.extensions.glances.train import Learning, train

SIZE = (96, 128)  # of the tiny backbone's 64: 2 x 3 tiles, 6 x 8 patches


@pytest.fixture(scope="module")
def images(normal: Path) -> list[np.ndarray]:
    return [resize_image(read_image(path), SIZE) for path in sorted(normal.iterdir())]


@pytest.fixture(scope="module")
def tiled(tiny_backbone: str, images: list[np.ndarray]) -> sowa.Sowa:
    detector = sowa.Sowa.from_pretrained(tiny_backbone, image_size=SIZE, tiled=True, precision="fp32")
    return detector.fit(images[:3], augment=("hflip",))


@pytest.fixture(scope="module")
def known(tiled: sowa.Sowa, images: list[np.ndarray]) -> Known:
    return Known.learn(Eyes(tiled), images[:3], tiled.bank_, tiled.augment_)


def test_all_tiles_are_full_tiling(known: Known, tiled: sowa.Sowa, images: list[np.ndarray]) -> None:
    glances = look(known, images[4], len(known.eyes.tiles), at_random(1))
    assert sorted(glances.order) == list(range(6))
    expected = tiled.bank_.distances(tiled.observe(images[4][None], prompts=False).patches)[:, 0]
    torch.testing.assert_close(glances.distances, expected, atol=1e-5, rtol=1e-4)


def test_a_reference_is_looked_at_without_itself(known: Known, tiled: sowa.Sowa, images: list[np.ndarray]) -> None:
    glances = look(known, images[1], 6, raster, leave_out=1)
    patches = tiled.observe(images[1][None], prompts=False).patches
    expected = tiled.bank_.distances(patches, torch.tensor([1]))[:, 0]
    torch.testing.assert_close(glances.distances, expected, atol=1e-5, rtol=1e-4)
    overview = known.eyes.overview(images[1])
    assert known.coarse(overview).max() < 1e-3 < known.coarse(overview, 1).mean()


def test_what_is_known_is_kept(known: Known, images: list[np.ndarray]) -> None:
    tensors = known.tensors()
    again = Known.from_tensors(known.eyes, known.bank, tensors)
    first, second = (look(one, images[4], 2, raster).distances for one in (known, again))
    assert torch.equal(first, second)
    overviews, early = tensors["overviews"], tensors["early_features"]
    for wrong in (torch.empty(0), overviews[:, :2], overviews[:, :, 1:]):
        with pytest.raises(InputError, match="overviews are of shape"):
            Known.from_tensors(known.eyes, known.bank, tensors | {"overviews": wrong})
    for wrong in (torch.empty(0), early[:2], early[:, 1:], early[:, :, 1:]):
        with pytest.raises(InputError, match="early features are of shape"):
            Known.from_tensors(known.eyes, known.bank, tensors | {"early_features": wrong})
    for name in ("overviews", "early_features"):
        with pytest.raises(InputError, match="aren't finite"):
            Known.from_tensors(known.eyes, known.bank, tensors | {name: tensors[name] / 0})


def test_a_speck_stands_out_to_the_first_layers(known: Known, images: list[np.ndarray]) -> None:
    """Where it lies; a reference knows itself unless it's left out."""
    speck = images[1].copy()
    speck[40:43, 100:103] = 255
    overview = known.eyes.overview(speck)
    plain, found = (known.early_distances(each) for each in (known.eyes.overview(images[1]), overview))
    assert np.unravel_index(int((found - plain).argmax()), known.eyes.tiles.grid) in [(2, 6), (3, 6), (2, 7), (3, 7)]
    assert plain.max() < 1e-3 < known.early_distances(overview, leave_out=1).min()
    first = look(known, speck, 1, by_early).order[0]
    assert 2 * 8 + 6 in known.eyes.tiles.patches[first]


def test_the_last_row_and_column_of_an_odd_grid_are_seen_too(tiny_backbone: str) -> None:
    eyes = Eyes(sowa.Sowa.from_pretrained(tiny_backbone, image_size=(80, 112), tiled=True))  # 5 x 7 patches
    plain = np.full((80, 112, 3), 90, np.uint8)
    corner = plain.copy()
    corner[64:, 96:] = 255
    bank = EarlyBank(eyes.overview(plain).early[None])
    found = eyes.of_cells(bank.distances(eyes.overview(corner).early)).unflatten(0, eyes.tiles.grid)
    assert np.unravel_index(int(found.argmax()), found.shape) == (4, 6)


@given(st.integers(1, 4), st.integers(1, 2), st.integers(0, 99))
def test_early_features_lie_as_far_as_a_plain_loop_finds(references: int, views: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    known = random.normal(size=(references, views * 5, 3)).astype(np.float32)
    seen, left_out = random.normal(size=(5, 3)).astype(np.float32), int(random.integers(references))
    spread = known.std(axis=(0, 1), ddof=1)
    for leave_out in (None, left_out):
        others = [each for index, each in enumerate(known) if index != leave_out]
        expected = [
            min((np.linalg.norm((cell - one) / spread) for each in others for one in each), default=0.0)
            for cell in seen
        ]
        found = EarlyBank(torch.from_numpy(known)).distances(torch.from_numpy(seen), leave_out)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_a_replay_is_a_live_look(known: Known, images: list[np.ndarray]) -> None:
    scene = Scene.of(known, Seen.of(known.eyes, images[4]))
    for order in (raster, by_saliency, by_distance, by_either, learned(load_policy(), may_stop=False)):
        live = look(known, images[4], 3, order)
        replay = Looking(Replay(scene), 3)
        assert live.order == tuple(play(replay, order).order)
        torch.testing.assert_close(live.distances, replay.sight.distances, atol=1e-3, rtol=2e-3)


def test_a_scene_s_file(known: Known, images: list[np.ndarray], tmp_path: Path) -> None:
    mask = np.zeros(SIZE, bool)
    mask[:9, :9] = True
    scene = Scene.of(known, Seen.of(known.eyes, images[5]), mask)
    scene.save(tmp_path / "scene.safetensors")
    loaded = Scene.load(tmp_path / "scene.safetensors")
    assert loaded.tiles == scene.tiles
    assert loaded.anomalous
    assert loaded.shows[0]
    torch.testing.assert_close(loaded.table, scene.table)
    np.testing.assert_array_equal(loaded.coarse, scene.coarse)
    assert all(torch.equal(a, b) for a, b in zip(*(s.scale.tensors().values() for s in (loaded, scene)), strict=True))


def test_generated_scenes_are_made_once_and_learned_from(tiny_backbone: str, tmp_path: Path) -> None:
    product = Product("wood", 1, SIZE, normal=1, anomalous=2)
    made = product.scenes(tmp_path, tiny_backbone)
    assert [scene.anomalous for scene in made] == [False, True, True]
    first, *others = sorted(tmp_path.rglob("*.safetensors"))
    first.unlink()
    before = [path.stat().st_mtime_ns for path in others]
    again = product.scenes(tmp_path, tiny_backbone)
    assert [path.stat().st_mtime_ns for path in others] == before
    torch.testing.assert_close(again[0].table, made[0].table)
    policy, (played,) = train(made, made, Learning(rounds=1, steps=64))
    assert 0 <= played.glances <= 2
    save_policy(tmp_path / "policy.safetensors", policy, {})


def test_a_small_defect_lies_on_a_part_of_the_image() -> None:
    own, small = (Product("wood", 1, (600, 600), 0, 2, own) for own in (True, False))
    assert not np.array_equal(own.image(0)[1], small.image(0)[1])
    assert np.array_equal(own.image(1)[1], small.image(1)[1])
    image, mask = small.image(0)
    rows, columns = np.nonzero(mask)
    assert max(np.ptp(rows), np.ptp(columns)) < PART
    far = np.abs(np.arange(600) - rows.mean()) > PART
    assert np.array_equal(image[far], small.reference(FIRST)[far])


def test_what_wasn_t_looked_at_stays_as_the_overview_has_it(known: Known, images: list[np.ndarray]) -> None:
    views = [look(known, images[4], glances, raster).distances for glances in (1, 2, 6)]
    assert all(torch.isfinite(view).all() for view in views)
    for before, after in pairwise(views):
        assert (before != after).any()
    inside = known.eyes.tiles.patches[1]
    outside = np.setdiff1d(np.arange(48), inside)
    torch.testing.assert_close(views[0][:, outside], views[1][:, outside])


def test_a_bank_of_its_own_and_a_single_reference(tiled: sowa.Sowa, images: list[np.ndarray]) -> None:
    for count in (1, 2):
        known = Known.learn(Eyes(tiled), images[:count], keep=0.5)
        assert known.bank.features.shape[1:3] == (count, 24)
        assert len(look(known, images[4], 2, GlancePolicy().eval()).order) <= 2


def test_bad_input(known: Known, tiled: sowa.Sowa, tiny_backbone: str, images: list[np.ndarray]) -> None:
    with pytest.raises(InputError, match="isn't tiled"):
        Eyes(sowa.Sowa.from_pretrained(tiny_backbone))
    with pytest.raises(InputError, match="glances are 0"):
        look(known, images[0], 0, raster)
    with pytest.raises(InputError, match="image of shape"):
        look(known, images[0][:64], 2, raster)
    with pytest.raises(InputError, match="2 images were given, needed are 3"):
        Known.learn(known.eyes, images[:2], tiled.bank_)
    with pytest.raises(InputError, match="0 images"):
        Known.learn(known.eyes, [])
    tensors = known.scale.tensors()
    assert Scale.from_tensors(tensors, 4, 6).place.shape == (6,)
    for name, value in {"whole": torch.tensor([torch.nan, 1.0]), "place": torch.zeros(5)}.items():
        with pytest.raises(InputError, match=f"a '{name}' of shape"):
            Scale.from_tensors(tensors | {name: value}, 4, 6)

"""The prediction of how many shots, and the traits that it reads."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sowa
from sowa.core.config import ModelConfig, Settings
from sowa.data.sources import image_sources
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.errors import InputError
from sowa.shots.config import ShotsConfig
from sowa.shots.feature_folder import FeatureFolder
from sowa.shots.folds import cross_validate
from sowa.shots.meta import MeasuredProduct, MeasuredProducts, predict_curve, shipped_products
from sowa.shots.pool import Pool
from sowa.shots.traits import names, traits
from sowa.synthetic import write_dataset

GRID, LEVELS, WIDTH = (6, 6), 2, 16
SHOTS = (1, 2, 4, 8, 16)


def patches(count: int, seed: int = 0) -> torch.Tensor:
    """Unit vectors (L, N, P, E) without any likeness."""
    drawn = torch.randn(LEVELS, count, GRID[0] * GRID[1], WIDTH, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(drawn, dim=-1)


def named(unit: torch.Tensor) -> dict[str, float]:
    return dict(zip(names(LEVELS), traits(unit, GRID), strict=True))


@given(seed=st.integers(0, 99), count=st.integers(3, 8))
def test_traits_do_not_depend_on_the_order_of_images(seed: int, count: int) -> None:
    unit = patches(count, seed)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    np.testing.assert_allclose(traits(unit[:, order], GRID), traits(unit, GRID), atol=1e-4)


def test_equal_images_are_one_kind_that_nothing_is_added_to() -> None:
    found = named(patches(1).expand(-1, 5, -1, -1))
    assert found["modes"] == pytest.approx(np.log(1 / 5), abs=0.02)
    assert found["coverage"] == pytest.approx(0, abs=1e-6)
    assert found["spread"] == pytest.approx(0, abs=1e-6)


def test_two_kinds_of_images_count_two_and_cover_each_other_badly() -> None:
    one, two = patches(1, 1).expand(-1, 4, -1, -1), patches(1, 2).expand(-1, 4, -1, -1)
    both = named(torch.cat([one, two], dim=1))
    assert named(one)["modes"] < both["modes"] - np.log(4 / 8) < named(patches(8))["modes"] - np.log(4 / 8)
    assert both["coverage"] < -1  # with seven others there is one of its kind, with one there may not be


def test_an_image_that_repeats_itself_is_texture() -> None:
    repeating = patches(6)[:, :, :1].expand(-1, -1, GRID[0] * GRID[1], -1)
    assert named(repeating)["texture"] < -5
    assert named(patches(6))["texture"] > -0.5


def test_parts_that_lie_elsewhere_in_each_image_are_not_aligned() -> None:
    part = patches(1)
    still = part.expand(-1, 4, -1, -1) + 0.1 * patches(4, 1)
    moved = torch.cat([part.roll(index * 7, dims=2) for index in range(4)], dim=1) + 0.1 * patches(4, 1)
    aligned, scattered = (named(torch.nn.functional.normalize(unit, dim=-1)) for unit in (still, moved))
    assert aligned["alignment"] == pytest.approx(0, abs=0.05)
    assert scattered["alignment"] > 1


def known(count: int = 40) -> MeasuredProducts:
    """Products whose first trait alone says how steeply accuracy rises with shots."""
    random = np.random.default_rng(0)
    tasks = []
    for index in range(count):
        seen = random.normal(size=3)
        curve = 0.8 + 0.1 * np.tanh(seen[0]) * (np.log2(SHOTS) - 2) / 2
        tasks.append(MeasuredProduct(f"product {index}", f"group {index % 4}", tuple(seen), tuple(curve)))
    return MeasuredProducts(SHOTS, ("steepness", "nothing", "nothing too"), 4, tuple(tasks))


def test_a_forecast_follows_what_was_measured_and_says_how_sure_it_is() -> None:
    rising, falling = (known().forecast(np.array([slope, 0.0, 0.0]), SHOTS) for slope in (1.0, -1.0))
    assert np.all(np.diff(rising.mean) > 0)
    assert np.all(np.diff(falling.mean) < 0)
    np.testing.assert_allclose(rising.mean, 0.8 + 0.1 * np.tanh(1) * (np.log2(SHOTS) - 2) / 2, atol=0.03)
    assert rising.distance < 1
    strange = known().forecast(np.array([0.0, 9.0, 9.0]), SHOTS)
    assert strange.distance > 1
    assert strange.error[0] > rising.error[0]
    between = known().forecast(np.array([1.0, 0.0, 0.0]), (2, 3, 4)).mean
    assert between[0] < between[1] < between[2]


def test_a_group_is_left_out_whole() -> None:
    left = known().without("group 1")
    assert len(left.tasks) == 30
    assert "group 1" not in {task.group for task in left.tasks}


def test_what_ships_was_learned_of_other_products_than_it_is_judged_on() -> None:
    shipped = shipped_products()
    assert shipped.traits == names(4)
    assert len(shipped.tasks) > 40
    assert {len(task.curve) for task in shipped.tasks} == {len(shipped.shots)}
    assert all(0 <= value <= 1 for task in shipped.tasks for value in task.curve)
    assert not {"tile", "toothbrush", "macaroni1"} & {task.group for task in shipped.tasks}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_dataset(tmp_path_factory.mktemp("product"), ["wood"], train=10, test=(0, 0), size=96)
    return root / "wood" / "train" / "good"


def test_a_handful_of_good_images_is_all_that_is_encoded(tiny_backbone: str, good: Path) -> None:
    pool = Pool(TorchEncoder.from_pretrained(tiny_backbone), image_sources(good))
    shipped = shipped_products()
    choice = predict_curve(pool, ShotsConfig(), known=shipped)
    assert (choice.encoded, choice.fits, choice.labels) == (shipped.images, 0, "none")
    assert [point.shots for point in choice.points] == list(SHOTS)
    assert all(0 <= point.low <= point.mean <= point.high <= 1 for point in choice.points)
    highest = max(point.mean for point in choice.points)
    assert choice.chosen == next(point.shots for point in choice.points if point.mean >= highest - 0.005)
    assert json.loads(json.dumps(choice.to_dict()))["method"] == "meta"
    assert "don't rely on it" in choice.reason  # a random backbone is unlike anything that was measured


def test_as_many_images_are_encoded_as_the_traits_were_read_from(tiny_backbone: str, good: Path) -> None:
    detector, shipped = sowa.Sowa.from_pretrained(tiny_backbone), shipped_products()
    for count in (3, 6):
        choice = predict_curve(
            Pool(detector.encoder, image_sources(good)),
            ShotsConfig(),
            known=replace(shipped, images=count),
        )
        assert choice.encoded == count
        assert f"as {count} images and what was measured" in choice.reason


def test_traits_are_read_anew_where_they_are_of_another_number_of_images(
    tiny_backbone: str, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_from_file_location("pretrain_shots", Path(__file__).parents[1] / "pretrain" / "shots.py")
    assert spec
    assert spec.loader
    shots = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "pretrain_shots", shots)
    spec.loader.exec_module(shots)
    encoder, target = TorchEncoder.from_pretrained(tiny_backbone), tmp_path / "shots.json"
    monkeypatch.setattr(shots, "IMAGES", 4)
    monkeypatch.setattr(TorchEncoder, "from_pretrained", lambda name: encoder)
    products = [shots.Product("oak", "wood", partial(lambda found: (found, None), image_sources(good)))]
    monkeypatch.setattr(shots, "products", lambda corpus, data: iter(products))
    old = MeasuredProduct("oak", "wood", (0.0,) * 10, (0.5, 0.6, 0.7, 0.8, 0.9))
    target.write_text(json.dumps(MeasuredProducts(SHOTS, names(4), 8, (old,)).to_dict()))
    shots.main(tmp_path, tmp_path, target)
    pool = Pool(encoder, image_sources(good))
    expected = traits(pool.features(pool.readable(range(4))), encoder.grid)
    anew = MeasuredProducts.read(target)
    assert anew.images == 4
    assert anew.tasks == (replace(old, traits=tuple(np.round(expected, 4).tolist())),)


@pytest.mark.parametrize(
    ("count", "candidates", "told"),
    [(2, SHOTS, "2 normal images can be read, needed are 3"), (10, (1, 32), "candidates are [1, 32]")],
)
def test_what_meta_cannot_tell(
    tiny_backbone: str, good: Path, count: int, candidates: tuple[int, ...], told: str
) -> None:
    pool = Pool(TorchEncoder.from_pretrained(tiny_backbone), image_sources(good)[:count])
    with pytest.raises(InputError, match=told.replace("[", r"\[").replace("]", r"\]")):
        predict_curve(pool, ShotsConfig(candidates))


def test_meta_learned_of_four_levels(tiny_backbone: str, good: Path) -> None:
    detector = sowa.Sowa.from_pretrained(tiny_backbone, config=ModelConfig(levels=(1, 3)))
    with pytest.raises(InputError, match="is read at 2; take another --method"):
        predict_curve(Pool(detector.encoder, image_sources(good)), ShotsConfig())


def test_a_run_that_was_stopped_goes_on_with_what_was_encoded(tiny_backbone: str, good: Path, tmp_path: Path) -> None:
    detector = sowa.Sowa.from_pretrained(tiny_backbone)
    config = ShotsConfig((1, 2, 4), folds=2, draws=2)

    def run(size: tuple[int, int] | None = None) -> tuple[int, object]:
        own = detector if size is None else sowa.Sowa.from_pretrained(tiny_backbone, settings=Settings(image_size=size))
        choice = cross_validate(
            Pool(own.encoder, image_sources(good), folder=FeatureFolder(tmp_path, own.encoder)), config
        )
        return choice.encoded, choice.points

    encoded, points = run()
    assert encoded == 20  # ten, and ten with a defect
    assert run() == (0, points)
    broken, lost = sorted(tmp_path.iterdir())[:2]
    broken.write_bytes(broken.read_bytes()[:1000])
    lost.unlink()
    assert run() == (2, points)
    assert run((96, 96))[0] == 20  # seen at another size they are others

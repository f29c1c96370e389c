"""The scripts that make the policy: its environment, its training, and what it's trained on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from extensions.glances.recorded import at_random, highest, raster, recorded
from sowa.errors import InputError
from sowa.extensions.glances.game import RecordedImage, ReplayState, TileOrder, play
from sowa.extensions.glances.policy import GlancePolicy, save_policy
from sowa.extensions.glances.tiles import TileLayout
from sowa.synthetic.large import ProductLine

SCRIPTS = Path(__file__).parents[3] / "pretrain"
SIZE = (96, 128)  # 2 x 3 tiles of the tiny backbone


@pytest.fixture(scope="module", autouse=True)
def scripts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        before = set(sys.modules)
        yield
        for name in set(sys.modules) - before:  # short names belong to the scripts alone
            if Path(getattr(sys.modules[name], "__file__", None) or ".").parent == SCRIPTS:
                del sys.modules[name]


@pytest.fixture(scope="module")
def images() -> list[RecordedImage]:
    return [recorded(seed) for seed in range(40)]


@pytest.fixture(scope="module")
def quick(scripts: None) -> Any:
    from glance_ppo import PPOSettings

    return PPOSettings(rounds=2, steps=1024, learning_rate=1e-2)


@pytest.fixture(scope="module")
def trained(images: list[RecordedImage], quick: Any) -> GlancePolicy:
    from glance_ppo import train

    return train(images, images, quick)[0]


# The environment


@pytest.mark.parametrize("glances", [None, 3])
def test_the_environment_is_one_of_gymnasium_s(images: list[RecordedImage], glances: int | None) -> None:
    from glance_environment import GlanceEnv

    check_env(GlanceEnv(images, glances=glances), skip_render_check=True)


def test_a_seed_decides_the_episode(images: list[RecordedImage]) -> None:
    from glance_environment import GlanceEnv

    first, second = (GlanceEnv(images).reset(seed=3)[0] for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_no_tile_is_encoded_twice(images: list[RecordedImage]) -> None:
    from glance_environment import GlanceEnv

    env = GlanceEnv(images, glances=4)
    observed, _ = env.reset(seed=0)
    assert observed["allowed"].tolist() == [1] * 17
    for step, tile in enumerate((3, 0, 7)):
        observed, _, ended, _, _ = env.step(np.int64(tile))
        assert not ended
        assert observed["allowed"].sum() == 17 - step - 1
        assert observed["tiles"][tile, 0] == 1
    assert env.step(np.int64(3))[1:3] == (-1.0, True)


def test_what_is_rewarded() -> None:
    from glance_environment import GlanceEnv, Reward

    image = recorded(1)
    (place,) = np.flatnonzero(image.shows_defect)
    reward = Reward(verdict=1, place=0.5, glance=0.1)
    env = GlanceEnv([image], reward, glances=3)
    env.reset(seed=0)
    other = (place + 1) % 16
    assert env.step(np.int64(other))[1] == pytest.approx(-0.1)
    assert env.step(np.int64(place))[1] == pytest.approx(-0.1 + 0.5)
    _, given, ended, _, _ = env.step(np.int64(16))
    assert ended
    assert given > 0.9  # the defect stands out, so the verdict is right
    assert reward.total(image, env.state) == pytest.approx(0.5 - 0.2 + given)
    missed = play(ReplayState(image, 2), lambda state: None)
    assert reward.total(image, missed) < -0.9
    normal = recorded(0)
    assert reward.total(normal, play(ReplayState(normal, 2), raster)) > 0.7


def test_an_episode_ends_with_the_last_glance(images: list[RecordedImage]) -> None:
    from glance_environment import GlanceEnv

    env = GlanceEnv(images, glances=2)
    env.reset(seed=0)
    assert not env.step(np.int64(0))[2]
    assert env.step(np.int64(1))[2]


def test_images_with_fewer_tiles_are_filled_up(images: list[RecordedImage]) -> None:
    from glance_environment import GlanceEnv

    few = TileLayout((8, 8), (4, 4), ((0, 0), (0, 4), (4, 0), (4, 4)))
    env = GlanceEnv([recorded(1, few), images[0]], glances=9)
    counts = {int(env.reset(seed=seed)[0]["present"].sum()) for seed in range(9)}
    assert counts == {4, 16}
    while (observed := env.reset()[0])["present"].sum() == 16:
        pass
    assert observed["allowed"].tolist() == [1] * 4 + [0] * 12 + [1]
    assert not observed["tiles"][4:].any()


@pytest.mark.parametrize(("count", "glances"), [(0, None), (1, 0)])
def test_a_game_needs_images_and_glances(images: list[RecordedImage], count: int, glances: int | None) -> None:
    from glance_environment import GlanceEnv

    with pytest.raises(InputError, match="at least one of each"):
        GlanceEnv(images[:count], glances=glances)


# Training


def test_a_trained_policy_beats_chance_and_the_plain_orders(trained: GlancePolicy) -> None:
    from glance_environment import Reward
    from glance_ppo import evaluate

    others = [recorded(seed) for seed in range(1000, 1040)]

    def found(order: TileOrder) -> float:
        states = [play(ReplayState(image, 2), order) for image in others]
        pairs = zip(others, states, strict=True)
        return float(np.mean([image.shows_defect[state.order].any() for image, state in pairs if image.anomalous]))

    by_evidence = [highest(name) for name in ("saliency_peak", "peak", "early_peak")]
    plain = max(found(order) for order in (at_random(0), raster, *by_evidence))
    assert found(trained.order(may_stop=False)) > plain + 0.4
    assert evaluate(trained, others, Reward()).image_AUROC > 0.9


def test_the_same_seed_gives_the_same_policy_also_in_two_runs(
    images: list[RecordedImage], quick: Any, trained: GlancePolicy, tmp_path: Path
) -> None:
    from glance_ppo import PPOSettings, train

    state = tmp_path / "state.safetensors"

    def stop(evaluation: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(images, images, quick, checkpoint=state, report=stop)
    again, curve = train(images, images, quick, checkpoint=state)
    assert len(curve) == quick.rounds
    for name, tensor in trained.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    with pytest.raises(InputError, match="another training"):
        train(images, images, PPOSettings(rounds=2, steps=1024), checkpoint=state)


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"steps": 100}, {"learning_rate": 0}, {"entropy": -1}, {"seed": -1}])
def test_settings_that_can_t_be(wrong: dict[str, float]) -> None:
    from glance_ppo import PPOSettings

    with pytest.raises(InputError, match="needed are"):
        PPOSettings(**wrong)


def test_products_are_recorded_once_and_learned_from(tiny_backbone: str, tmp_path: Path) -> None:
    from glance_ppo import PPOSettings, train
    from glances import recordings

    product = ProductLine("wood", 1, SIZE, normal=1, anomalous=2)
    made = recordings(product, tmp_path, tiny_backbone)
    assert [image.anomalous for image in made] == [False, True, True]
    first, *others = sorted(tmp_path.rglob("*.safetensors"))
    first.unlink()
    before = [path.stat().st_mtime_ns for path in others]
    again = recordings(product, tmp_path, tiny_backbone)
    assert [path.stat().st_mtime_ns for path in others] == before
    torch.testing.assert_close(again[0].table, made[0].table)
    policy, (evaluation,) = train(made, made, PPOSettings(rounds=1, steps=64))
    assert 0 <= evaluation.glances <= 2
    save_policy(tmp_path / "policy.safetensors", policy, {})

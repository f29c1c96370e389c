"""Choosing tiles as a game: tiles, scenes, the environment, and the policy that learns it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from sowa.errors import InputError
from sowa.extensions.glances.environment import GlanceEnv, Reward
from sowa.extensions.glances.look import Order, at_random, by_distance, by_early, by_saliency, learned, play, raster
from sowa.extensions.glances.looking import COARSE, FEATURES, WHOLE, Looking
from sowa.extensions.glances.policy import GlancePolicy, load_policy, save_policy
from sowa.extensions.glances.scale import Scale
from sowa.extensions.glances.scene import Replay, Scene, shares
from sowa.extensions.glances.tiles import Tiles
from sowa.extensions.glances.train import Learning, judge, train

GRID = Tiles((8, 8), (2, 2), tuple((row, column) for row in range(0, 8, 2) for column in range(0, 8, 2)))
USUAL = np.array([np.log(0.2), 0.3], np.float32)
PLAIN = np.array([0, 1], np.float32)
SCALE = Scale(
    found=USUAL,
    levels=np.tile([np.log(0.1), 0.3], (2, 1)).astype(np.float32),
    peak=PLAIN,
    mean=PLAIN,
    place=np.zeros(16, np.float32),
    early_place=np.zeros(16, np.float32),
    early_spread=np.ones(1, np.float32),
    whole=USUAL,
    fill=np.tile(PLAIN, (2, 1)),
)


def toy(seed: int, tiles: Tiles = GRID) -> Scene:
    """Every second scene has a defect in one tile, which the overview's mean distance tells, but not the highest."""
    random = np.random.default_rng(seed)
    table = torch.full((2, 64, 2), 0.1, dtype=torch.float16)
    coarse = random.normal(0, 0.3, (len(tiles), COARSE)).astype(np.float32)
    place = int(random.integers(len(tiles)))
    coarse[place, 1] += 4
    share = np.zeros(len(tiles), np.float32)
    if seed % 2:
        table[:, tiles.patches[place], 1] = 0.4
        share[place] = 1
    return Scene(tiles, SCALE, coarse, table, share)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [toy(seed) for seed in range(40)]


@pytest.fixture(scope="module")
def trained(scenes: list[Scene]) -> GlancePolicy:
    return train(scenes, scenes, QUICK)[0]


QUICK = Learning(rounds=2, steps=1024, learning_rate=1e-2)


# Tiles


def test_tiles_know_who_shows_what() -> None:
    tiles = Tiles((4, 5), (3, 3), ((0, 0), (0, 2), (1, 0), (1, 2)))
    assert tiles.patches[3].tolist() == [7, 8, 9, 12, 13, 14, 17, 18, 19]
    assert tiles.shown.reshape(4, 5).tolist() == [[1, 1, 2, 1, 1], [2, 2, 4, 2, 2], [2, 2, 4, 2, 2], [1, 1, 2, 1, 1]]
    bits = np.zeros(20, np.int64)
    for patches, own in zip(tiles.patches, tiles.bits, strict=True):
        assert not (bits[patches] & own).any()
        bits[patches] |= own
    assert (bits == (1 << tiles.shown) - 1).all()
    assert tiles.beside.sum() == 12
    assert tiles.centres.tolist() == [[-1, -1], [-1, 1], [1, -1], [1, 1]]


def test_a_defect_s_share_of_each_tile() -> None:
    mask = np.zeros((32, 32), bool)
    assert not shares(mask, GRID).any()
    mask[:4, 6:10] = True  # half in the first tile, half in the second
    assert shares(mask, GRID)[:3].tolist() == [0.5, 0.5, 0]


# The game


@pytest.mark.parametrize("glances", [None, 3])
def test_the_environment_is_one_of_gymnasium_s(scenes: list[Scene], glances: int | None) -> None:
    check_env(GlanceEnv(scenes, glances=glances), skip_render_check=True)


def test_a_seed_decides_the_episode(scenes: list[Scene]) -> None:
    first, second = (GlanceEnv(scenes).reset(seed=3)[0] for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_no_tile_is_looked_at_twice(scenes: list[Scene]) -> None:
    env = GlanceEnv(scenes, glances=4)
    observed, _ = env.reset(seed=0)
    assert observed["allowed"].tolist() == [1] * 17
    for step, tile in enumerate((3, 0, 7)):
        observed, _, ended, _, _ = env.step(np.int64(tile))
        assert not ended
        assert observed["allowed"].sum() == 17 - step - 1
        assert observed["tiles"][tile, 0] == 1
    assert env.step(np.int64(3))[1:3] == (-1.0, True)


def test_what_is_rewarded() -> None:
    scene = toy(1)
    (place,) = np.flatnonzero(scene.shows)
    reward = Reward(verdict=1, place=0.5, glance=0.1)
    env = GlanceEnv([scene], reward, glances=3)
    env.reset(seed=0)
    other = (place + 1) % 16
    assert env.step(np.int64(other))[1] == pytest.approx(-0.1)
    assert env.step(np.int64(place))[1] == pytest.approx(-0.1 + 0.5)
    _, given, ended, _, _ = env.step(np.int64(16))
    assert ended
    assert given > 0.9  # the defect stands out, so the verdict is right
    assert reward.total(scene, env.looking) == pytest.approx(0.5 - 0.2 + given)
    missed = play(Looking(Replay(scene), 2), lambda looking: None)
    assert reward.total(scene, missed) < -0.9
    normal = toy(0)
    assert reward.total(normal, play(Looking(Replay(normal), 2), raster)) > 0.7


def test_an_episode_ends_with_the_last_glance(scenes: list[Scene]) -> None:
    env = GlanceEnv(scenes, glances=2)
    env.reset(seed=0)
    assert not env.step(np.int64(0))[2]
    assert env.step(np.int64(1))[2]


def test_scenes_with_fewer_tiles_are_filled_up(scenes: list[Scene]) -> None:
    few = Tiles((8, 8), (4, 4), ((0, 0), (0, 4), (4, 0), (4, 4)))
    env = GlanceEnv([toy(1, few), scenes[0]], glances=9)
    seen = {int(env.reset(seed=seed)[0]["there"].sum()) for seed in range(9)}
    assert seen == {4, 16}
    while (observed := env.reset()[0])["there"].sum() == 16:
        pass
    assert observed["allowed"].tolist() == [1] * 4 + [0] * 12 + [1]
    assert not observed["tiles"][4:].any()


@pytest.mark.parametrize(("count", "glances"), [(0, None), (1, 0)])
def test_a_game_needs_scenes_and_glances(scenes: list[Scene], count: int, glances: int | None) -> None:
    with pytest.raises(InputError, match="at least one of each"):
        GlanceEnv(scenes[:count], glances=glances)


# The policy


@given(st.integers(1, 30), st.integers(0, 99))
def test_any_number_of_tiles_in_any_order(count: int, seed: int) -> None:
    torch.manual_seed(0)
    policy = GlancePolicy()
    torch.nn.init.normal_(policy.choice.weight)
    random = torch.Generator().manual_seed(seed)
    tiles, whole = (torch.rand(shape, generator=random) for shape in ((1, count, FEATURES), (1, WHOLE)))
    ones = torch.ones(1, count + 1)
    logits, value = policy(tiles, whole, ones[:, 1:], ones)
    order = torch.randperm(count, generator=random)
    turned, same = policy(tiles[:, order], whole, ones[:, 1:], ones)
    torch.testing.assert_close(turned[:, :-1], logits[:, order])
    torch.testing.assert_close(same, value)
    filled, there = torch.cat([tiles, torch.zeros(1, 2, FEATURES)], dim=1), torch.tensor([[1.0] * count + [0.0] * 2])
    allowed = torch.cat([there, torch.ones(1, 1)], dim=1)
    torch.testing.assert_close(policy(filled, whole, there, allowed)[0][:, :count], logits[:, :-1])


def test_a_trained_policy_beats_chance_and_the_plain_orders(trained: GlancePolicy) -> None:
    others = [toy(seed) for seed in range(1000, 1040)]

    def found(order: Order) -> float:
        looked = [play(Looking(Replay(scene), 2), order) for scene in others]
        return float(np.mean([s.shows[one.order].any() for s, one in zip(others, looked, strict=True) if s.anomalous]))

    plain = max(found(order) for order in (at_random(0), raster, by_saliency, by_distance, by_early))
    assert found(learned(trained, may_stop=False)) > plain + 0.4
    assert judge(trained, others, Reward()).image_AUROC > 0.9


def test_the_same_seed_gives_the_same_policy_also_in_two_runs(
    scenes: list[Scene], trained: GlancePolicy, tmp_path: Path
) -> None:
    state = tmp_path / "state.safetensors"

    def stop(played: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(scenes, scenes, QUICK, checkpoint=state, report=stop)
    again, curve = train(scenes, scenes, QUICK, checkpoint=state)
    assert len(curve) == QUICK.rounds
    for name, tensor in trained.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    with pytest.raises(InputError, match="another training"):
        train(scenes, scenes, Learning(rounds=2, steps=1024), checkpoint=state)


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"steps": 100}, {"learning_rate": 0}, {"entropy": -1}, {"seed": -1}])
def test_learning_that_can_t_be(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="needed are"):
        Learning(**wrong)


def test_a_policy_s_file(trained: GlancePolicy, tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    save_policy(path, trained, {"rounds": 2})
    loaded = load_policy(path)
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in trained.state_dict().items())
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="wasn't written by this package"):
        load_policy(path)
    with pytest.raises(InputError, match="is no file"):
        load_policy(tmp_path / "none.safetensors")


def test_the_package_s_own_policy_looks_at_tiles() -> None:
    looking = play(Looking(Replay(toy(1)), 5), learned(load_policy(), may_stop=False))
    assert len(set(looking.order)) == 5


def test_a_tile_that_isn_t_open_can_t_be_chosen() -> None:
    with pytest.raises(ValueError, match="choose an open one"):
        play(Looking(Replay(toy(0)), 3), lambda looking: 0)

"""The network that chooses tiles, and its file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from extensions.glances.recorded import highest, recorded
from sowa.errors import InputError
from sowa.extensions.glances.features import IMAGE_FEATURES, TILE_FEATURES
from sowa.extensions.glances.game import ReplayState, play
from sowa.extensions.glances.policy import GlancePolicy, load_policy, save_policy


@given(st.integers(1, 30), st.integers(0, 99))
def test_any_number_of_tiles_in_any_order(count: int, seed: int) -> None:
    torch.manual_seed(0)
    policy, width = GlancePolicy(), len(TILE_FEATURES)
    torch.nn.init.normal_(policy.choice.weight)
    random = torch.Generator().manual_seed(seed)
    shapes = ((1, count, width), (1, len(IMAGE_FEATURES)))
    tiles, image = (torch.rand(shape, generator=random) for shape in shapes)
    ones = torch.ones(1, count + 1)
    logits, value = policy(tiles, image, ones[:, 1:], ones)
    order = torch.randperm(count, generator=random)
    permuted, same = policy(tiles[:, order], image, ones[:, 1:], ones)
    torch.testing.assert_close(permuted[:, :-1], logits[:, order])
    torch.testing.assert_close(same, value)
    filled, present = torch.cat([tiles, torch.zeros(1, 2, width)], dim=1), torch.tensor([[1.0] * count + [0.0] * 2])
    allowed = torch.cat([present, torch.ones(1, 1)], dim=1)
    torch.testing.assert_close(policy(filled, image, present, allowed)[0][:, :count], logits[:, :-1])


def test_an_untrained_policy_takes_what_looks_most_unusual_first() -> None:
    image = recorded(3)
    orders = GlancePolicy().order(may_stop=False), highest("highest_peak")
    first, second = (play(ReplayState(image, 5), order).order for order in orders)
    assert first == second


def test_a_policy_s_file(tmp_path: Path) -> None:
    path, policy = tmp_path / "policy.safetensors", GlancePolicy()
    save_policy(path, policy, {"rounds": 2})
    loaded = load_policy(path)
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in policy.state_dict().items())
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="wasn't written by this package"):
        load_policy(path)
    with pytest.raises(InputError, match="is no file"):
        load_policy(tmp_path / "none.safetensors")


def test_weights_that_are_not_a_policy_s(tmp_path: Path) -> None:
    policy = GlancePolicy()
    with torch.no_grad():
        policy.stop.bias += torch.nan
    save_policy(tmp_path / "policy.safetensors", policy, {})
    with pytest.raises(InputError, match="aren't finite"):
        load_policy(tmp_path / "policy.safetensors")
    policy.stop = torch.nn.Linear(3, 1)
    save_policy(tmp_path / "policy.safetensors", policy, {})
    with pytest.raises(InputError, match="another shape"):
        load_policy(tmp_path / "policy.safetensors")


def test_the_package_s_own_policy_chooses_tiles() -> None:
    state = play(ReplayState(recorded(1), 5), load_policy().order(may_stop=False))
    assert len(set(state.order)) == 5

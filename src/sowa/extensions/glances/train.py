"""Proximal policy optimisation of the choice of tiles (Schulman et al. 2017), by stable-baselines3.

Needs the extra ``rl``. Training goes in rounds; each begins from what the last one left, weights and optimiser, so a
run that was stopped after some rounds ends where it would have ended.

Shapes: B moments, A actions.
"""

# ruff: noqa: N815 (the field writes its metrics with capitals)

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.distributions import CategoricalDistribution, Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor

from sowa.core.files import read_safetensors, write_safetensors
from sowa.errors import InputError
from sowa.extensions.glances.environment import GlanceEnv, Reward
from sowa.extensions.glances.look import Order, learned, play
from sowa.extensions.glances.looking import Looking
from sowa.extensions.glances.policy import GlancePolicy
from sowa.extensions.glances.scene import Replay, Scene
from sowa.metrics import image_metrics

FORMAT = "sowa-glances-training"
PART = 3  # a policy is judged by what it does with a third of the tiles
Tensors = dict[str, Tensor]
MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # what Adam remembers of each weight


@dataclass(frozen=True)
class Learning:
    """``rounds`` of ``steps`` glances each, in ``environments`` at once. ``entropy`` is what undecided choices gain."""

    rounds: int = 8
    steps: int = 8192
    environments: int = 8
    learning_rate: float = 5e-4
    entropy: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        counts = self.rounds, self.steps, self.environments
        if min(counts) < 1 or self.seed < 0 or self.steps % (self.environments * 2):
            raise InputError(
                f"rounds, steps and environments are {counts}, seed is {self.seed}; needed are 1 and more, steps a "
                "multiple of twice the environments, and a seed of 0 or more"
            )
        if not 0 < self.learning_rate < math.inf or not 0 <= self.entropy < math.inf:
            raise InputError(
                f"learning rate is {self.learning_rate}, entropy {self.entropy}; needed are above 0 and 0 or more"
            )


@dataclass(frozen=True)
class Played:
    """What a policy does on scenes with a third of the tiles at most: the mean ``reward`` and number of ``glances``,
    the share of defects ``found``, and ``image_AUROC`` of the scores, None where scenes are of one kind; ``filled``
    is that when it may not stop by itself."""

    reward: float
    glances: float
    found: float | None
    image_AUROC: float | None
    filled: float | None


class SharedPolicy(ActorCriticPolicy):
    """`GlancePolicy` as stable-baselines3 wants it. What isn't allowed has no chance."""

    def _build(self, lr_schedule: Callable[[float], float]) -> None:
        self.network = GlancePolicy()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=lr_schedule(1), eps=1e-5)

    def _told(self, obs: Any) -> tuple[CategoricalDistribution, Tensor]:
        logits_BA, value_B = self.network(obs["tiles"], obs["whole"], obs["there"], obs["allowed"])
        return CategoricalDistribution(logits_BA.shape[1]).proba_distribution(logits_BA), value_B[:, None]

    def forward(self, obs: Any, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Actions (B,), values (B, 1) and the logarithm of each action's chance (B,)."""
        distribution, value_B1 = self._told(obs)
        action_B = distribution.get_actions(deterministic=deterministic)
        return action_B, value_B1, distribution.log_prob(action_B)

    def evaluate_actions(self, obs: Any, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values (B, 1), the logarithm of each action's chance (B,) and the entropy (B,)."""
        distribution, value_B1 = self._told(obs)
        return value_B1, distribution.log_prob(actions), distribution.entropy()

    def get_distribution(self, obs: Any) -> Distribution:
        """Of actions."""
        return self._told(obs)[0]

    def predict_values(self, obs: Any) -> Tensor:
        """(B, 1)."""
        return self._told(obs)[1]


def train(
    scenes: Sequence[Scene],
    held_out: Sequence[Scene],
    learning: Learning | None = None,
    reward: Reward | None = None,
    checkpoint: Path | None = None,
    report: Callable[[Played], None] = lambda played: None,
) -> tuple[GlancePolicy, list[Played]]:
    """The policy of the round that did best on ``held_out``, and what each round's did there.

    The same scenes and seed give the same policy on the same machine; Python's and numpy's global generators are seeded
    too. After every round the state is written to
    ``checkpoint``; where it's there already, training goes on from it. Raises InputError where that was written for
    something else.
    """
    learning, reward = learning or Learning(), reward or Reward()
    said = {"learning": asdict(learning), "reward": asdict(reward), "scenes": len(scenes), "held_out": len(held_out)}
    with torch.random.fork_rng():
        algorithm = _algorithm(scenes, reward, learning)
        best, curve = _resumed(algorithm, checkpoint, said)
        for number in range(len(curve), learning.rounds):
            algorithm.set_random_seed(learning.seed + number)
            rate = learning.learning_rate * (1 - number / learning.rounds)
            algorithm.lr_schedule = partial(_constant, rate)
            algorithm.learn(learning.steps)
            network = _network(algorithm)
            curve.append(judge(network, held_out, reward))
            if curve[-1].reward >= max(played.reward for played in curve):
                best = {name: tensor.clone() for name, tensor in network.state_dict().items()}
            if checkpoint:
                _keep(checkpoint, algorithm, best, curve, said)
            report(curve[-1])
    policy = GlancePolicy()
    policy.load_state_dict(best)
    return policy.eval(), curve


def judge(policy: GlancePolicy, scenes: Sequence[Scene], reward: Reward) -> Played:
    """What a policy does on scenes, each with a third of its tiles at most."""
    free, full = ([_played(scene, learned(policy, may_stop)) for scene in scenes] for may_stop in (True, False))
    labels = [scene.anomalous for scene in scenes]
    areas = (image_metrics([one.standing for one in each], labels).image_AUROC.to_json() for each in (free, full))
    pairs = list(zip(scenes, free, strict=True))
    found = [scene.shows[looking.order].any() for scene, looking in pairs if scene.anomalous]
    return Played(
        float(np.mean([reward.total(scene, looking) for scene, looking in pairs])),
        float(np.mean([len(looking.order) for looking in free])),
        float(np.mean(found)) if found else None,
        *areas,
    )


def _played(scene: Scene, order: Order) -> Looking:
    return play(Looking(Replay(scene), max(1, len(scene.tiles) // PART)), order)


def _algorithm(scenes: Sequence[Scene], reward: Reward, learning: Learning) -> PPO:
    make = partial(GlanceEnv, scenes, reward)
    return PPO(
        SharedPolicy,
        DummyVecEnv([make] * learning.environments),
        n_steps=min(128, learning.steps // learning.environments),
        batch_size=min(256, learning.steps),
        n_epochs=4,
        gamma=1.0,
        gae_lambda=0.95,
        ent_coef=learning.entropy,
        seed=learning.seed,
        device="cpu",
    )


def _constant(rate: float, left: float) -> float:
    return rate


def _network(algorithm: PPO) -> GlancePolicy:
    assert isinstance(algorithm.policy, SharedPolicy)
    return algorithm.policy.network


def _keep(path: Path, algorithm: PPO, best: Tensors, curve: Sequence[Played], said: dict[str, Any]) -> None:
    state = algorithm.policy.optimizer.state_dict()["state"]
    tensors = {f"adam.{index}.{name}": state[index][name] for index in state for name in MOMENTS}
    tensors |= {f"policy.{name}": tensor for name, tensor in _network(algorithm).state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    whole = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    write_safetensors(path, whole, FORMAT, said | {"curve": [asdict(played) for played in curve]})


def _resumed(algorithm: PPO, path: Path | None, said: dict[str, Any]) -> tuple[Tensors, list[Played]]:
    """The best weights so far and the curve, after loading the state of ``path`` where there is one."""
    if path is None or not path.exists():
        return {}, []
    tensors, metadata = read_safetensors(path, FORMAT)
    curve = metadata.pop("curve")
    if metadata != json.loads(json.dumps(said)):
        raise InputError(f"{path} is the state of another training; delete it or give another place")
    optimizer = algorithm.policy.optimizer
    state = optimizer.state_dict()
    weights = range(len(state["param_groups"][0]["params"]))
    state["state"] = {index: {name: tensors[f"adam.{index}.{name}"] for name in MOMENTS} for index in weights}
    optimizer.load_state_dict(state)
    _network(algorithm).load_state_dict(_part(tensors, "policy."))
    return _part(tensors, "best."), [Played(**played) for played in curve]


def _part(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

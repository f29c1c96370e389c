"""Proximal policy optimisation of the glances' policy (Schulman et al. 2017), by stable-baselines3.

Training goes in rounds; each begins from what the last one left, weights and optimiser, so a run that was stopped after
some rounds ends where it would have ended.

Shapes: B states, A actions.
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
from glance_environment import GlanceEnv, Reward
from stable_baselines3 import PPO
from stable_baselines3.common.distributions import CategoricalDistribution, Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor

from sowa.core.files import read_safetensors, write_safetensors
from sowa.errors import InputError
from sowa.extensions.glances.game import RecordedImage, ReplayState, TileOrder, play
from sowa.extensions.glances.policy import GlancePolicy
from sowa.metrics import image_metrics

FORMAT = "sowa-glances-training"
EVALUATED_PART = 3  # a policy is evaluated by what it does with a third of the tiles
Tensors = dict[str, Tensor]
ADAM_STATE = ("exp_avg", "exp_avg_sq", "step")  # of each weight


@dataclass(frozen=True)
class PPOSettings:
    """``rounds`` of ``steps`` each, in ``environments`` at once; ``entropy`` is the weight of its bonus."""

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
class Evaluation:
    """What a policy does with a third of the tiles at most.

    Attributes:
        reward: mean over images.
        glances: mean number of encoded tiles.
        found: share of defects that an encoded tile shows, None without any.
        image_AUROC: of the scores, None where images are of one kind.
        filled: the same where the policy may not stop by itself.
    """

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

    def _evaluated(self, obs: Any) -> tuple[CategoricalDistribution, Tensor]:
        logits_BA, value_B = self.network(obs["tiles"], obs["image"], obs["present"], obs["allowed"])
        return CategoricalDistribution(logits_BA.shape[1]).proba_distribution(logits_BA), value_B[:, None]

    def forward(self, obs: Any, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Actions (B,), values (B, 1) and the logarithm of each action's chance (B,)."""
        distribution, value_B1 = self._evaluated(obs)
        action_B = distribution.get_actions(deterministic=deterministic)
        return action_B, value_B1, distribution.log_prob(action_B)

    def evaluate_actions(self, obs: Any, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values (B, 1), the logarithm of each action's chance (B,) and the entropy (B,)."""
        distribution, value_B1 = self._evaluated(obs)
        return value_B1, distribution.log_prob(actions), distribution.entropy()

    def get_distribution(self, obs: Any) -> Distribution:
        """Of actions."""
        return self._evaluated(obs)[0]

    def predict_values(self, obs: Any) -> Tensor:
        """(B, 1)."""
        return self._evaluated(obs)[1]


def train(
    images: Sequence[RecordedImage],
    held_out: Sequence[RecordedImage],
    settings: PPOSettings | None = None,
    reward: Reward | None = None,
    checkpoint: Path | None = None,
    report: Callable[[Evaluation], None] = lambda evaluation: None,
) -> tuple[GlancePolicy, list[Evaluation]]:
    """Trains a policy. The same images and seed give the same policy on the same machine; Python's and numpy's global
    generators are seeded too.

    Args:
        images: played in training.
        held_out: images on which the best round is chosen.
        settings: of the optimisation.
        reward: of the game.
        checkpoint: where the state is written after every round; where it's there already, training goes on from it.
        report: is told each round's evaluation.

    Returns:
        The policy of the round with the highest reward on ``held_out``, and every round's evaluation there.

    Raises:
        InputError: the checkpoint was written by another training.
    """
    settings, reward = settings or PPOSettings(), reward or Reward()
    run = {"learning": asdict(settings), "reward": asdict(reward), "images": len(images), "held_out": len(held_out)}
    with torch.random.fork_rng():
        algorithm = _algorithm(images, reward, settings)
        best, curve = _resumed(algorithm, checkpoint, run)
        for number in range(len(curve), settings.rounds):
            _train_round(algorithm, settings, number)
            network = _network(algorithm)
            curve.append(evaluate(network, held_out, reward))
            if curve[-1].reward >= max(evaluation.reward for evaluation in curve):
                best = {name: tensor.clone() for name, tensor in network.state_dict().items()}
            if checkpoint:
                _save_state(checkpoint, algorithm, best, curve, run)
            report(curve[-1])
    policy = GlancePolicy()
    policy.load_state_dict(best)
    return policy.eval(), curve


def evaluate(policy: GlancePolicy, images: Sequence[RecordedImage], reward: Reward) -> Evaluation:
    """What a policy does on images, with a third of the tiles of each at most."""
    free, full = ([_played(image, policy.order(may_stop)) for image in images] for may_stop in (True, False))
    labels = [image.anomalous for image in images]
    areas = (image_metrics([state.z_score for state in each], labels).image_AUROC.to_json() for each in (free, full))
    pairs = list(zip(images, free, strict=True))
    found = [image.shows_defect[state.order].any() for image, state in pairs if image.anomalous]
    return Evaluation(
        float(np.mean([reward.total(image, state) for image, state in pairs])),
        float(np.mean([len(state.order) for state in free])),
        float(np.mean(found)) if found else None,
        *areas,
    )


def _played(image: RecordedImage, order: TileOrder) -> ReplayState:
    return play(ReplayState(image, max(1, len(image.layout) // EVALUATED_PART)), order)


def _algorithm(images: Sequence[RecordedImage], reward: Reward, settings: PPOSettings) -> PPO:
    make = partial(GlanceEnv, images, reward)
    return PPO(
        SharedPolicy,
        DummyVecEnv([make] * settings.environments),
        n_steps=min(128, settings.steps // settings.environments),
        batch_size=min(256, settings.steps),
        n_epochs=4,
        gamma=1.0,
        gae_lambda=0.95,
        ent_coef=settings.entropy,
        seed=settings.seed,
        device="cpu",
    )


def _train_round(algorithm: PPO, settings: PPOSettings, number: int) -> None:
    algorithm.set_random_seed(settings.seed + number)
    rate = settings.learning_rate * (1 - number / settings.rounds)
    algorithm.lr_schedule = partial(_constant, rate)
    algorithm.learn(settings.steps)


def _constant(rate: float, left: float) -> float:
    return rate


def _network(algorithm: PPO) -> GlancePolicy:
    assert isinstance(algorithm.policy, SharedPolicy)
    return algorithm.policy.network


def _save_state(path: Path, algorithm: PPO, best: Tensors, curve: Sequence[Evaluation], run: dict[str, Any]) -> None:
    state = algorithm.policy.optimizer.state_dict()["state"]
    tensors = {f"adam.{index}.{name}": state[index][name] for index in state for name in ADAM_STATE}
    tensors |= {f"policy.{name}": tensor for name, tensor in _network(algorithm).state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    whole = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    write_safetensors(path, whole, FORMAT, run | {"curve": [asdict(evaluation) for evaluation in curve]})


def _resumed(algorithm: PPO, path: Path | None, run: dict[str, Any]) -> tuple[Tensors, list[Evaluation]]:
    """The best weights so far and the curve, after loading the state of ``path`` where there is one."""
    if path is None or not path.exists():
        return {}, []
    tensors, metadata = read_safetensors(path, FORMAT)
    curve = metadata.pop("curve")
    if metadata != json.loads(json.dumps(run)):
        raise InputError(f"{path} is the state of another training; delete it or give another place")
    optimizer = algorithm.policy.optimizer
    state = optimizer.state_dict()
    weights = range(len(state["param_groups"][0]["params"]))
    state["state"] = {index: {name: tensors[f"adam.{index}.{name}"] for name in ADAM_STATE} for index in weights}
    optimizer.load_state_dict(state)
    _network(algorithm).load_state_dict(_part(tensors, "policy."))
    return _part(tensors, "best."), [Evaluation(**evaluation) for evaluation in curve]


def _part(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

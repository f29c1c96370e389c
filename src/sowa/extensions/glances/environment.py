"""The game of glances for reinforcement learning: look at tiles, one after the other, and stop with a verdict.

Shapes: T tiles of the largest scene, F features of a tile, G of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sowa.errors import InputError
from sowa.extensions.glances.looking import FEATURES, LIMIT, PLACE, UNIT, WHOLE, Looking
from sowa.extensions.glances.scene import Replay, Scene

Observed = dict[str, Any]
END = LIMIT / UNIT


@dataclass(frozen=True)
class Reward:
    """``verdict`` is given at the end where it's right and taken where it's wrong, in parts where it's neither,
    ``place`` when a tile with the defect is looked at for the first time; a glance costs ``glance``. The verdict is
    undecided where a score lies ``bound`` standard deviations above that of good images."""

    verdict: float = 1.0
    place: float = 1.0
    glance: float = 0.03
    bound: float = 2.0

    def at_end(self, scene: Scene, looking: Looking) -> float:
        """For the verdict."""
        sign = 1 if scene.anomalous else -1
        return self.verdict * sign * float(np.tanh(looking.standing - self.bound))

    def total(self, scene: Scene, looking: Looking) -> float:
        """For everything, of an image that isn't looked at any further."""
        found = bool(scene.shows[looking.order].any())
        return self.at_end(scene, looking) + self.place * found - self.glance * len(looking.order)


class GlanceEnv(gym.Env[Observed, np.int64]):
    """Episodes over ``scenes``: each draws one, turns it over or not, and so many glances as may be made at most.

    An action is a tile, or T to stop. What is observed: ``tiles`` (T, F) and ``whole`` (G,) of
    `sowa.extensions.glances.looking.View`, zeros where a scene has fewer tiles, ``there`` (T,) which tiles it has, and
    ``allowed`` (T + 1,) which actions there are. Another action ends the episode with a wrong verdict. ``glances``
    fixes the number of glances; by default each episode draws it from 1 to the number of its tiles.

    Raises InputError where there is no scene, or a number of glances that can't be.
    """

    def __init__(self, scenes: Sequence[Scene], reward: Reward | None = None, glances: int | None = None) -> None:
        if not scenes or (glances is not None and glances < 1):
            raise InputError(f"{len(scenes)} scenes and {glances} glances, needed is at least one of each")
        self.scenes, self.reward, self.glances = list(scenes), reward or Reward(), glances
        self.tiles = max(len(scene.tiles) for scene in scenes)
        self.action_space = spaces.Discrete(self.tiles + 1)
        self.observation_space: spaces.Dict = spaces.Dict(
            {
                "tiles": spaces.Box(-END, END, (self.tiles, FEATURES), np.float32),
                "whole": spaces.Box(-END, END, (WHOLE,), np.float32),
                "there": spaces.MultiBinary(self.tiles),
                "allowed": spaces.MultiBinary(self.tiles + 1),
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observed, dict[str, Any]]:
        """Another scene, before the first glance."""
        super().reset(seed=seed)
        drawn = self.scenes[int(self.np_random.integers(len(self.scenes)))]
        glances = self.glances or int(self.np_random.integers(1, len(drawn.tiles) + 1))
        self.scene = drawn
        self.looking = Looking(Replay(drawn), glances)
        self._turned_2 = self.np_random.choice(np.array([-1.0, 1.0], np.float32), 2)
        return self._observe(), {}

    def step(self, action: np.int64) -> tuple[Observed, float, bool, bool, dict[str, Any]]:
        """Looks at a tile, or ends the episode."""
        looking, tile = self.looking, int(action)
        if tile != self.tiles and not (tile < len(self.scene.tiles) and looking.open[tile]):
            return self._observe(), -self.reward.verdict, True, False, {}
        given = 0.0
        if tile != self.tiles:
            looking.look(tile)
            given -= self.reward.glance
            if self.scene.shows[tile] and not self.scene.shows[looking.order[:-1]].any():
                given += self.reward.place
        ended = tile == self.tiles or not looking.open.any()
        if ended:
            given += self.reward.at_end(self.scene, looking)
        return self._observe(), given, ended, False, {}

    def _observe(self) -> Observed:
        view, count = self.looking.view(), len(self.scene.tiles)
        tiles_TF = np.zeros((self.tiles, FEATURES), np.float32)
        tiles_TF[:count] = view.tiles
        tiles_TF[:, PLACE] *= self._turned_2
        there_T, allowed_A = np.zeros(self.tiles, np.int8), np.zeros(self.tiles + 1, np.int8)
        there_T[:count], allowed_A[:count], allowed_A[-1] = 1, view.open, 1
        return {"tiles": tiles_TF, "whole": view.whole, "there": there_T, "allowed": allowed_A}

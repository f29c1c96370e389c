"""The game of glances as an environment of gymnasium, over recorded images.

Shapes: T tiles of the image with most, F features of a tile, G of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sowa.errors import InputError
from sowa.extensions.glances.features import IMAGE_FEATURES, LIMIT, POSITION, TILE_FEATURES, UNIT
from sowa.extensions.glances.game import GlanceState, RecordedImage, ReplayState

Observed = dict[str, Any]
END = LIMIT / UNIT


@dataclass(frozen=True)
class Reward:
    """What an episode gives.

    Attributes:
        verdict: at its end, times how far the image's score lies on the right side of the bound (tanh, -1..1).
        place: when a tile that shows the defect is encoded for the first time.
        glance: what every tile costs.
        bound: z-score between normal and anomalous.
    """

    verdict: float = 1.0
    place: float = 1.0
    glance: float = 0.03
    bound: float = 2.0

    def at_end(self, image: RecordedImage, state: GlanceState) -> float:
        """For the verdict."""
        sign = 1 if image.anomalous else -1
        return self.verdict * sign * float(np.tanh(state.z_score - self.bound))

    def total(self, image: RecordedImage, state: GlanceState) -> float:
        """Of a whole episode that ends in this state."""
        found = bool(image.shows_defect[state.order].any())
        return self.at_end(image, state) + self.place * found - self.glance * len(state.order)


class GlanceEnv(gym.Env[Observed, np.int64]):
    """Each episode draws an image, whether positions are mirrored, and how many tiles may be encoded at most.

    An action is a tile, or T to stop. Observed are ``tiles`` (T, F) and ``image`` (G,) of
    `sowa.extensions.glances.features.StateFeatures`, zeros where an image has fewer tiles, ``present`` (T,), which
    tiles it has, and ``allowed`` (T + 1,), which actions. Another action ends the episode with a wrong verdict.

    Args:
        images: to draw from.
        reward: by default `Reward`'s own.
        glances: how many tiles may be encoded; by default each episode draws it from 1 to all.

    Raises:
        InputError: there is no image, or ``glances`` are below 1.
    """

    def __init__(
        self, images: Sequence[RecordedImage], reward: Reward | None = None, glances: int | None = None
    ) -> None:
        if not images or (glances is not None and glances < 1):
            raise InputError(f"{len(images)} images and {glances} glances, needed is at least one of each")
        self.images, self.reward, self.glances = list(images), reward or Reward(), glances
        self.tiles = max(len(image.layout) for image in images)
        self.action_space = spaces.Discrete(self.tiles + 1)
        self.observation_space: spaces.Dict = spaces.Dict(
            {
                "tiles": spaces.Box(-END, END, (self.tiles, len(TILE_FEATURES)), np.float32),
                "image": spaces.Box(-END, END, (len(IMAGE_FEATURES),), np.float32),
                "present": spaces.MultiBinary(self.tiles),
                "allowed": spaces.MultiBinary(self.tiles + 1),
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observed, dict[str, Any]]:
        """Another image, before the first tile."""
        super().reset(seed=seed)
        self.image = self.images[int(self.np_random.integers(len(self.images)))]
        glances = self.glances or int(self.np_random.integers(1, len(self.image.layout) + 1))
        self.state = ReplayState(self.image, glances)
        self._mirrored_2 = self.np_random.choice(np.array([-1.0, 1.0], np.float32), 2)
        return self._observe(), {}

    def step(self, action: np.int64) -> tuple[Observed, float, bool, bool, dict[str, Any]]:
        """Encodes a tile, or ends the episode."""
        state, tile = self.state, int(action)
        if tile != self.tiles and not (tile < len(self.image.layout) and state.available[tile]):
            return self._observe(), -self.reward.verdict, True, False, {}
        given = 0.0
        if tile != self.tiles:
            state.step(tile)
            given -= self.reward.glance
            shows = self.image.shows_defect
            if shows[tile] and not shows[state.order[:-1]].any():
                given += self.reward.place
        ended = tile == self.tiles or not state.available.any()
        if ended:
            given += self.reward.at_end(self.image, state)
        return self._observe(), given, ended, False, {}

    def _observe(self) -> Observed:
        features, count = self.state.features(), len(self.image.layout)
        tiles_TF = np.zeros((self.tiles, len(TILE_FEATURES)), np.float32)
        tiles_TF[:count] = features.tiles
        tiles_TF[:, POSITION] *= self._mirrored_2
        present_T, allowed_A = np.zeros(self.tiles, np.int8), np.zeros(self.tiles + 1, np.int8)
        present_T[:count], allowed_A[:count], allowed_A[-1] = 1, features.available, 1
        return {"tiles": tiles_TF, "image": features.image, "present": present_T, "allowed": allowed_A}

"""What is usual, and what the policy observes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from extensions.glances.recorded import STATISTICS, recorded
from sowa.errors import InputError
from sowa.extensions.glances.features import (
    FILE_NAMES,
    IMAGE_FEATURES,
    LIMIT,
    OVERVIEW_WEIGHT,
    TILE_FEATURES,
    UNIT,
    ReferenceStatistics,
)
from sowa.extensions.glances.game import ReplayState
from sowa.extensions.glances.references import FittedReferences


def test_statistics_of_a_file(references: FittedReferences) -> None:
    tensors = references.statistics.tensors()
    again = ReferenceStatistics.from_tensors(tensors, 4, 6)
    assert again.overview_peak_here.shape == (6,)
    assert all(np.array_equal(getattr(again, field), getattr(references.statistics, field)) for field in FILE_NAMES)
    for name, value in {"whole": torch.tensor([torch.nan, 1.0]), "place": torch.zeros(5)}.items():
        with pytest.raises(InputError, match=f"a '{name}' of shape"):
            ReferenceStatistics.from_tensors(tensors | {name: value}, 4, 6)


def test_an_overview_s_distances_are_brought_to_those_of_tiles() -> None:
    """By offset and slope of their logarithms, and then towards the median."""
    line = np.array([[0.5, 2.0], [0.0, 1.0]], np.float32)
    overview = torch.tensor([[0.1, 0.2, 0.4], [0.3, 0.2, 0.1]])
    logs = line[:, :1] + line[:, 1:] * np.log(overview.numpy())
    expected = np.exp(logs[:, [1]] + OVERVIEW_WEIGHT * (logs - logs[:, [1]]))
    found = replace(STATISTICS, tile_from_overview=line).estimate(overview)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert 0 < OVERVIEW_WEIGHT < 1


def test_features_of_a_state() -> None:
    state = ReplayState(recorded(1), 3)
    evidence, names = state.overview_evidence, list(TILE_FEATURES)
    state.overview_evidence[2] = 100  # far beyond what counts
    before = state.features()
    assert (before.tiles.shape, before.image.shape) == ((16, len(TILE_FEATURES)), (len(IMAGE_FEATURES),))
    assert before.tiles[2, names.index("highest_peak")] == LIMIT / UNIT
    assert sorted(before.tiles[:, names.index("rank")]) == pytest.approx(np.arange(16) / 15)
    np.testing.assert_allclose(before.tiles[0, names.index("mean")], evidence[0, 1] / UNIT)
    assert before.image[IMAGE_FEATURES.index("left")] == pytest.approx(3 / 16)
    state.step(2)
    after = state.features()
    assert after.tiles[:, 0].tolist() == [0, 0, 1, *[0] * 13]
    assert not after.available[2]
    assert after.available.sum() == 15
    assert after.image[IMAGE_FEATURES.index("left")] == pytest.approx(2 / 16)
    assert after.image[IMAGE_FEATURES.index("encoded")] == pytest.approx(1 / 16)
    assert after.image[IMAGE_FEATURES.index("best_score")] == after.tiles[2, names.index("score")]

"""The core says the same of numpy's arrays as of torch's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sowa.core import arrays
from sowa.core.config import ModelConfig, PromptConfig
from sowa.core.maps import smooth, upsample
from sowa.core.memory import MemoryBank
from sowa.core.scoring import judge_few_shot, judge_zero_shot, paper_scores, self_distances, top_mean
from sowa.core.tiling import join_windows
from sowa.core.types import Features, Judgement

GRID, SIZE = (5, 7), (40, 63)


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def both(*values: Any) -> tuple[list[Any], list[Any]]:
    return list(values), [torch.from_numpy(value) for value in values]


def patches(seed: int, images: int = 2) -> list[np.ndarray]:
    return [random(images, 35, 16, seed=seed + level) - 0.5 for level in range(3)]


def encoded(kind: int, seed: int = 0, prompts: bool = True) -> Features:
    """Features of two images in numpy (0) or torch (1)."""

    def turned(values: Sequence[np.ndarray]) -> tuple[Any, ...]:
        return tuple(both(*values)[kind])

    maps = turned([random(2, *SIZE, seed=seed + 20 + level) for level in range(3)]) if prompts else None
    chance = turned([random(2, seed=seed + 30)])[0] if prompts else None
    return Features(turned(patches(seed)), GRID, SIZE, maps, chance)


def close(one: Any, other: Any, atol: float = 2e-5) -> None:
    np.testing.assert_allclose(arrays.to_numpy(one), arrays.to_numpy(other), atol=atol)


@pytest.mark.parametrize("fraction", [1.0, 0.3])
@pytest.mark.parametrize("leave_out", [None, 2])
def test_banks_are_built_and_searched_alike(fraction: float, leave_out: int | None) -> None:
    found = []
    for kind in (0, 1):
        bank = MemoryBank.build([both(*patches(40 + 10 * part))[kind] for part in range(2)], 4, fraction)
        query = both(*patches(7))[kind]
        found.append((bank.features, bank.distances(query, leave_out), bank.distances_by_image(query)))
    for one, other in zip(*found, strict=True):
        close(one, other)


@given(seed=st.integers(0, 20), height=st.integers(1, 60), width=st.integers(1, 60), sigma=st.floats(0.1, 6))
def test_maps_are_enlarged_and_blurred_alike(seed: int, height: int, width: int, sigma: float) -> None:
    (own,), (tensor,) = both(random(2, 35, seed=seed))
    one, other = (upsample(values, GRID, (height, width)) for values in (own, tensor))
    close(one, other)
    close(smooth(one, sigma), smooth(other, sigma))


@given(height=st.integers(1, 40), width=st.integers(1, 40), rows=st.integers(1, 9), columns=st.integers(1, 9))
def test_maps_are_pooled_alike(height: int, width: int, rows: int, columns: int) -> None:
    (own,), (tensor,) = both(random(2, 3, height, width))
    close(arrays.average_pool(own, (rows, columns)), arrays.average_pool(tensor, (rows, columns)))


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 9))
def test_the_largest_are_the_same_in_order(count: int, more: int, seed: int) -> None:
    (own,), (tensor,) = both(random(4, count + more, seed=seed))
    close(arrays.largest(own, count), arrays.largest(tensor, count), atol=0)
    for one, other in zip(arrays.highest(own), arrays.highest(tensor), strict=True):
        close(one, other, atol=0)


def test_unit_vectors_are_alike_and_zero_stays_zero() -> None:
    vectors = random(3, 5, 8)
    vectors[0, 0] = 0
    (own,), (tensor,) = both(vectors)
    close(arrays.unit(own), arrays.unit(tensor))
    assert not arrays.unit(own)[0, 0].any()


@pytest.mark.parametrize("prompts", [True, False])
def test_a_bank_s_verdict_is_the_same(prompts: bool) -> None:
    config = ModelConfig(prompt=PromptConfig(map_weight=0.3))
    verdicts: list[Judgement] = []
    for kind in (0, 1):
        bank, features = MemoryBank.build([both(*patches(40))[kind]], 2), encoded(kind, prompts=prompts)
        verdicts.append(judge_few_shot(features, bank.distances(features.patches), config))
    one, other = verdicts
    for name in ("raw_scores", "maps", "level_maps", "patch_scores", "map_maxima"):
        close(getattr(one, name), getattr(other, name))
    assert all(part.dtype == np.float32 for part in (one.raw_scores, one.maps, one.level_maps))


def test_the_prompts_verdict_is_the_same() -> None:
    config = ModelConfig(prompt=PromptConfig(self_weight=2.0))
    one, other = (judge_zero_shot(encoded(kind), config).numpy() for kind in (0, 1))
    for name in ("raw_scores", "maps", "level_maps"):
        close(getattr(one, name), getattr(other, name))


def test_scores_are_the_same() -> None:
    (values, chance, maxima), tensors = both(random(3, 9, 11), random(6), random(6, seed=1))
    close(top_mean(values, 0.1), top_mean(tensors[0], 0.1))
    close(paper_scores(chance, maxima), paper_scores(*tensors[1:]))
    close(self_distances(both(*patches(3))[0]), self_distances(both(*patches(3))[1]))


def test_windows_are_joined_alike() -> None:
    places, patch = [(0, 0), (0, 18)], (8, 9)
    one, other = (join_windows([encoded(kind), encoded(kind, seed=3)], places, (40, 81), patch) for kind in (0, 1))
    for name in ("patches", "level_maps"):
        for part, same in zip(getattr(one, name), getattr(other, name), strict=True):
            close(part, same)
    close(one.abnormal_probability, other.abnormal_probability)

"""The memory bank against brute force and scikit-learn."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from sowa.core.memory import MemoryBank, normalise
from sowa.extensions.faiss import ApproximateIndex


def patches(levels: int, images: int, count: int, width: int, seed: int = 0) -> tuple[Tensor, ...]:
    random = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(images, count, width, generator=random) * 3 for _ in range(levels))


def bank_of(features: tuple[Tensor, ...]) -> MemoryBank:
    return MemoryBank.build([features], len(features[0]))


def brute_force(query: tuple[Tensor, ...], memory: tuple[Tensor, ...]) -> Tensor:
    """One patch at a time: the smallest 1 - cosine over all patches of all references of its level."""
    distances = torch.empty(len(query), *query[0].shape[:2], dtype=torch.float64)
    for level, (asked, known) in enumerate(zip(query, memory, strict=True)):
        for image in range(asked.shape[0]):
            for patch in range(asked.shape[1]):
                cosine = F.cosine_similarity(asked[image, patch].double(), known.flatten(0, 1).double(), dim=-1)
                distances[level, image, patch] = (1 - cosine).min()
    return distances


def test_distances_equal_brute_force():
    query, memory = patches(3, 2, 5, 8), patches(3, 4, 5, 8, seed=1)
    found = bank_of(memory).distances(query)
    assert found.shape == (3, 2, 5)
    torch.testing.assert_close(found.double(), brute_force(query, memory), atol=1e-6, rtol=1e-5)


def test_distances_equal_scikit_learns_nearest_neighbours():
    query, memory = patches(2, 3, 20, 16), patches(2, 5, 20, 16, seed=1)
    found = bank_of(memory).distances(query)
    for level in range(2):
        known = NearestNeighbors(n_neighbors=1, metric="cosine").fit(memory[level].flatten(0, 1).numpy())
        expected, _ = known.kneighbors(query[level].flatten(0, 1).numpy())
        np.testing.assert_allclose(found[level].flatten().numpy(), expected[:, 0], atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 25, 60, 1 << 24])
@pytest.mark.parametrize("leave_out", [None, 0, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_distances_dont_depend_on_how_the_bank_is_cut(monkeypatch, chunk, leave_out, precision):
    query, bank = patches(2, 2, 5, 8), bank_of(patches(2, 5, 5, 8, seed=1))
    expected = bank.distances(query, leave_out, precision)
    monkeypatch.setattr("sowa.core.search.CHUNK", chunk)
    torch.testing.assert_close(bank.distances(query, leave_out, precision), expected, atol=1e-6, rtol=1e-6)


def test_no_images_distances_depend_on_the_others_of_its_batch():
    query, bank = patches(2, 3, 5, 8), bank_of(patches(2, 4, 5, 8, seed=1))
    together = bank.distances(query)
    for image in range(3):
        alone = bank.distances([level[image : image + 1] for level in query])
        torch.testing.assert_close(alone[:, 0], together[:, image], atol=1e-6, rtol=1e-6)


def test_a_bank_is_the_same_however_its_images_were_batched():
    features = patches(2, 5, 3, 8)
    batches = [[level[:2] for level in features], [level[2:] for level in features]]
    together, split = bank_of(features), MemoryBank.build(batches, 5)
    assert len(together) == len(split) == 5
    assert torch.equal(together.features, split.features)
    assert together.features.shape == (2, 5, 3, 8)


def test_a_bank_may_turn_out_smaller_than_was_expected():
    features = patches(2, 2, 3, 8)
    bank = MemoryBank.build([features], 10)
    assert len(bank) == 2
    assert torch.equal(bank.features, bank_of(features).features)


def test_the_bank_holds_unit_vectors_whatever_the_lengths_of_the_patches():
    features = patches(2, 2, 3, 8)
    bank = bank_of(features)
    torch.testing.assert_close(bank.features.norm(dim=-1), torch.ones(2, 2, 3))
    longer = bank_of(tuple(level * 100 for level in features))
    torch.testing.assert_close(longer.distances(features), bank.distances(features), atol=1e-6, rtol=1e-6)


def test_a_reference_lies_at_no_distance_from_its_own_bank():
    features = patches(2, 3, 5, 8)
    distances = bank_of(features).distances(features)
    assert distances.min() >= 0
    assert distances.max() < 1e-6


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_leaving_a_reference_out_is_as_having_a_bank_without_it(precision):
    features = patches(2, 4, 5, 8)
    for image in range(4):
        found = bank_of(features).distances([level[image : image + 1] for level in features], image, precision)
        others = [index for index in range(4) if index != image]
        without = bank_of(tuple(level[others] for level in features))
        expected = without.distances([level[image : image + 1] for level in features], precision=precision)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
        assert found.min() > 1e-3


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_without_its_only_image_a_bank_is_as_far_as_can_be(precision):
    features = patches(2, 1, 5, 8)
    assert (bank_of(features).distances(features, 0, precision) == 2).all()


def test_distances_reach_from_none_to_two():
    memory = torch.tensor([[[[1.0, 0.0]]]])
    query = [torch.tensor([[[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]]])]
    assert MemoryBank(memory).distances(query)[0, 0].tolist() == pytest.approx([0, 1, 2])


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 4), st.integers(1, 6))
@settings(max_examples=60)
def test_more_references_never_put_a_patch_farther_away(seed, few, more, width):
    query, memory = patches(2, 2, 3, width, seed), patches(2, few + more, 3, width, seed + 1)
    small = bank_of(tuple(level[:few] for level in memory)).distances(query)
    large = bank_of(memory).distances(query)
    assert (large <= small + 1e-6).all()
    assert large.min() >= 0
    assert small.max() <= 2 + 1e-6


def test_levels_arent_mixed_up():
    query = patches(2, 1, 3, 8)
    swapped = bank_of(query[::-1]).distances(query)
    assert bank_of(query).distances(query).max() < 1e-6
    assert swapped.max() > 1e-2


def test_a_bank_of_another_shape_or_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 3\), needed is \(levels, images, patches, width\)"):
        MemoryBank(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="at least one image"):
        MemoryBank.build([], 3)


def greedy(unit: np.ndarray, known: np.ndarray, count: int) -> list[int]:
    """The slow oracle: one by one the patch whose nearest known or chosen one is farthest."""
    chosen: list[int] = []
    for _ in range(count):
        held = np.concatenate([known, unit[chosen]])
        nearest = [min(1 - patch @ other for other in held) for patch in unit]
        chosen.append(int(np.argmax(nearest)))
    return chosen


def test_kept_patches_are_the_greedy_ones():
    memory = patches(2, 3, 12, 8)
    bank = MemoryBank.build([memory], 3, patch_fraction=0.25).features.double().numpy()
    assert bank.shape == (2, 3, 3, 8)
    unit = F.normalize(torch.stack(memory).double(), dim=-1).numpy()
    for level in range(2):
        first = unit[level, 0][np.argmax((unit[level, 0] @ unit[level, 0].T).mean(axis=1))]
        np.testing.assert_allclose(bank[level, 0, 0], first, atol=1e-6)
        for image in (1, 2):
            known = bank[level, :image].reshape(-1, 8)
            expected = unit[level, image][greedy(unit[level, image], known, 3)]
            np.testing.assert_allclose(bank[level, image], expected, atol=1e-6)


@given(keep=st.floats(0.001, 1.0), count=st.integers(1, 30))
@settings(max_examples=30)
def test_any_share_keeps_at_least_one_patch_and_only_known_ones(keep, count):
    memory = patches(1, 2, count, 4)
    bank = MemoryBank.build([memory], 2, keep).features
    assert bank.shape[2] == max(1, round(keep * count))
    assert (bank_of(memory).distances(tuple(bank)) < 1e-5).all()


def test_an_index_finds_nearly_the_nearest():
    centres = torch.randn(40, 32, generator=torch.Generator().manual_seed(5))
    memory = tuple(centres[torch.arange(400) % 40].view(4, 100, 32) + 0.3 * one for one in patches(2, 4, 100, 32))
    query = tuple(centres[:30].view(1, 30, 32) + 0.3 * one for one in patches(2, 1, 30, 32, seed=1))
    bank = bank_of(memory)
    exact = bank.distances(query)
    bank.index = ApproximateIndex(bank.features)
    found = bank.distances(query)
    assert found.shape == exact.shape
    assert (found >= exact - 2e-3).all()  # it's held in 16 bits
    assert ((found - exact) < 2e-3).float().mean() > 0.9
    left_out = bank.distances(query, torch.tensor([1]))  # which no index knows of
    assert torch.equal(left_out, bank_of(memory).distances(query, torch.tensor([1])))


def test_one_reference_that_is_left_out_leaves_nothing_to_compare_with() -> None:
    bank, query = bank_of(patches(2, 1, 5, 8)), patches(2, 1, 5, 8, seed=1)
    for precision in ("fp32", "bf16"):
        assert (bank.distances(query, torch.tensor([0]), precision) == 2).all()


@given(st.integers(0, 10_000), st.integers(1, 5), st.sampled_from([8, 64, 256]), st.floats(0, 5))
@example(1, 3, 8, 5.0)
@settings(max_examples=60)
def test_what_half_precision_finds_is_nearly_the_nearest_and_never_nearer(seed, count, width, alike):
    centre = torch.randn(width, generator=torch.Generator().manual_seed(seed)) * alike
    query, memory = (tuple(level + centre for level in patches(2, count, 12, width, s)) for s in (seed, seed + 1))
    bank = bank_of(memory)
    exact, found = bank.distances(query), bank.distances(query, precision="bf16")
    assert (found >= exact - 1e-6).all()
    # Both of two patches that are compared err by twice 2^-9 of 1; only over many components does that average out.
    assert (found <= exact * 1.02 + (2**-7 if width == 8 else 1e-3)).all()
    assert bank.distances(memory, precision="bf16").max() < 1e-3


def test_half_precision_errs_by_thousandths_of_a_distance() -> None:
    generator = torch.Generator().manual_seed(0)
    centre = torch.randn(2, 1, 1, 256, generator=generator)
    bank = MemoryBank(normalise((centre + torch.randn(2, 3, 20, 256, generator=generator)).unbind()))
    query = (centre + torch.randn(2, 4, 20, 256, generator=generator)).unbind()
    exact, half = (bank.distances_by_image(query, precision) for precision in ("fp32", "bf16"))
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, rtol=0.006, atol=0)
    assert not torch.equal(half, exact)


def test_weights_multiply_what_each_level_finds_however_it_is_asked():
    query, memory = patches(2, 3, 5, 8), patches(2, 4, 5, 8, seed=1)
    plain, weighed = bank_of(memory), bank_of(memory)
    weighed.weights = (2.0, 0.5)
    expected = plain.distances(query) * torch.tensor([2.0, 0.5])[:, None, None]
    torch.testing.assert_close(weighed.distances(query), expected)
    torch.testing.assert_close(weighed.distances_by_image(query).amin(dim=-1), expected, atol=1e-6, rtol=1e-5)
    as_arrays = MemoryBank(weighed.features.numpy(), weighed.weights)
    np.testing.assert_allclose(as_arrays.distances([part.numpy() for part in query]), expected.numpy(), atol=1e-6)

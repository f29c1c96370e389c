"""Maps and scores against the formulas of METHOD.md section 6."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from sowa.core.config import ModelConfig, PromptConfig
from sowa.core.maps import upsample
from sowa.core.memory import MemoryBank
from sowa.core.scoring import (
    few_shot_map,
    few_shot_scores,
    judge_few_shot,
    judge_zero_shot,
    level_scores,
    paper_scores,
    self_distances,
    top_mean,
    zero_shot_map,
)
from sowa.core.types import Features, Judgement

GRID, SIZE, SIGMA = (3, 4), (24, 32), 4.0
CONFIG = ModelConfig(sigma=SIGMA)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def observation(images: int = 3, prompts: bool = True) -> Features:
    return Features(
        patches=tuple(random(images, 12, 8, seed=level) - 0.5 for level in range(2)),
        grid=GRID,
        size=SIZE,
        level_maps=tuple(random(images, *SIZE, seed=9 + level) for level in range(2)) if prompts else None,
        abnormal_probability=random(images, seed=7) if prompts else None,
    )


def part(whole: Features, index: int) -> Features:
    cut = slice(index, index + 1)
    return Features(
        patches=tuple(level[cut] for level in whole.patches),
        grid=whole.grid,
        size=whole.size,
        level_maps=None if whole.level_maps is None else tuple(level[cut] for level in whole.level_maps),
        abnormal_probability=None if whole.abnormal_probability is None else whole.abnormal_probability[cut],
    )


@pytest.fixture
def bank() -> MemoryBank:
    return MemoryBank.build([tuple(random(2, 12, 8, seed=20 + level) - 0.5 for level in range(2))], 2)


def test_the_zero_shot_score_counts_as_much_as_is_said(bank: MemoryBank) -> None:
    features, config = observation(), ModelConfig(prompt=PromptConfig(self_weight=2.0))
    distances = bank.distances(features.patches)
    plain, weighed = (judge_few_shot(features, distances, config, zero_shot_weight=weight) for weight in (0.0, 0.3))
    expected = plain.raw_scores + 0.3 * judge_zero_shot(features, config).raw_scores
    torch.testing.assert_close(weighed.raw_scores, expected)
    torch.testing.assert_close(weighed.maps, plain.maps)
    with pytest.raises(ValueError, match="encode with prompts"):
        judge_few_shot(observation(prompts=False), distances, config, zero_shot_weight=0.3)


def test_the_zero_shot_map_is_the_smoothed_sum_over_levels():
    levels = [random(2, *SIZE), random(2, *SIZE, seed=1)]
    expected = [
        gaussian_filter((a + b).double().numpy(), SIGMA, mode="reflect", truncate=4.0)
        for a, b in zip(*levels, strict=True)
    ]
    np.testing.assert_allclose(zero_shot_map(levels, SIGMA).numpy(), np.stack(expected), atol=1e-5)


def test_the_few_shot_map_is_the_sum_of_the_enlarged_levels():
    distances = random(3, 2, 12)
    expected = sum(upsample(level, GRID, SIZE) for level in distances)
    torch.testing.assert_close(few_shot_map(distances, GRID, SIZE), expected)


def test_top_mean_is_the_mean_of_the_highest_hundredth_of_each_map():
    maps = random(3, 40, 50)
    expected = [np.sort(image.numpy().ravel())[-20:].mean() for image in maps]
    assert top_mean(maps).tolist() == pytest.approx(expected)
    halves = [np.sort(image.numpy().ravel())[-1000:].mean() for image in maps]
    assert top_mean(maps, 0.5).tolist() == pytest.approx(halves)


def test_top_mean_takes_at_least_one_pixel():
    maps = random(2, 4, 4)
    assert torch.equal(top_mean(maps), maps.amax(dim=(1, 2)))


def test_paper_scores_mix_the_probability_with_the_maximum_scaled_over_the_test_set():
    probability, maximum = torch.tensor([0.2, 0.9, 0.5]), torch.tensor([1.0, 3.0, 2.5])
    expected = [0.5 * (0.2 + 0.0), 0.5 * (0.9 + 1.0), 0.5 * (0.5 + 0.75)]
    assert paper_scores(probability, maximum).tolist() == pytest.approx(expected)


def test_a_paper_score_depends_on_the_other_images():
    probability, maximum = torch.tensor([0.2, 0.9, 0.5]), torch.tensor([1.0, 3.0, 2.5])
    assert paper_scores(probability[:2], maximum[:2])[0] != paper_scores(probability[1:], maximum[1:])[0]
    assert paper_scores(probability[1:], maximum[1:])[1] != paper_scores(probability, maximum)[2]


def test_without_a_bank_the_verdict_is_the_prompts_own():
    seen = observation()
    verdict = judge_zero_shot(seen, CONFIG)
    torch.testing.assert_close(verdict.maps, zero_shot_map(seen.level_maps, SIGMA))
    mean_map = top_mean(verdict.maps) / 2  # of two levels
    torch.testing.assert_close(verdict.raw_scores, (seen.abnormal_probability + mean_map) / 2)
    assert verdict.level_maps.shape == (3, 2, *GRID)
    blocks = torch.stack(seen.level_maps).view(2, 3, 3, 8, 4, 8).mean(dim=(3, 5))
    torch.testing.assert_close(verdict.level_maps, blocks.transpose(0, 1))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_zero_shot_score_reaches_from_none_to_one(value):
    seen = Features((), GRID, SIZE, (torch.full((1, *SIZE), value),) * 3, torch.tensor([value]))
    assert judge_zero_shot(seen, CONFIG).raw_scores.item() == pytest.approx(value)


@pytest.mark.parametrize("chunk", [1 << 24, 200])
def test_a_patch_is_as_far_from_its_image_as_from_the_nearest_thirtieth_of_it(chunk, monkeypatch):
    monkeypatch.setattr("sowa.core.scoring.CHUNK", chunk)
    patches = [random(2, 64, 8, seed=level) - 0.5 for level in range(3)]
    expected = np.empty((3, 2, 64))
    for level, image, patch in np.ndindex(expected.shape):
        of_image = patches[level][image].double().numpy()
        own, others = of_image[patch], np.delete(of_image, patch, axis=0)
        cosines = others @ own / np.linalg.norm(others, axis=1) / np.linalg.norm(own)
        expected[level, image, patch] = 1 - np.sort(cosines)[-2:].mean()
    np.testing.assert_allclose(self_distances(patches).numpy(), expected, atol=1e-5)
    alike = torch.ones(1, 64, 8)
    alike[0, 5] = -1
    assert self_distances([alike])[0, 0].argmax() == 5
    assert self_distances([torch.ones(1, 1, 8)]).tolist() == [[[0.0]]]


def test_what_is_unlike_the_rest_of_its_image_adds_to_the_zero_shot_score_alone(bank):
    seen, weighed = observation(), ModelConfig(sigma=SIGMA, prompt=PromptConfig(self_weight=2.0))
    published, verdict = judge_zero_shot(seen, CONFIG), judge_zero_shot(seen, weighed)
    own = few_shot_scores(self_distances(seen.patches))
    torch.testing.assert_close(verdict.raw_scores, published.raw_scores + 2 * own)
    assert torch.equal(verdict.maps, published.maps)
    distances = bank.distances(seen.patches)
    assert torch.equal(
        judge_few_shot(seen, distances, weighed).raw_scores, judge_few_shot(seen, distances, CONFIG).raw_scores
    )


def test_without_prompts_the_verdict_is_the_memory_banks(bank):
    seen = observation(prompts=False)
    distances = bank.distances(seen.patches)
    verdict = judge_few_shot(seen, bank.distances(seen.patches), CONFIG)
    torch.testing.assert_close(verdict.maps, few_shot_map(distances, GRID, SIZE))
    worst = sum(top_mean(of_level) for of_level in distances)  # each level's own, of patches, not of pixels
    torch.testing.assert_close(verdict.raw_scores, worst)
    assert torch.equal(verdict.level_maps, distances.view(2, 3, *GRID).transpose(0, 1))


def test_with_both_maps_and_levels_are_added_and_the_memory_gives_the_score(bank):
    seen = observation()
    together, zero_shot = judge_few_shot(seen, bank.distances(seen.patches), CONFIG), judge_zero_shot(seen, CONFIG)
    few_shot = judge_few_shot(Features(seen.patches, GRID, SIZE), bank.distances(seen.patches), CONFIG)
    torch.testing.assert_close(together.maps, few_shot.maps + zero_shot.maps)
    torch.testing.assert_close(together.level_maps, few_shot.level_maps + zero_shot.level_maps)
    assert torch.equal(together.raw_scores, few_shot.raw_scores)
    quarter = judge_few_shot(
        seen, bank.distances(seen.patches), ModelConfig(sigma=SIGMA, prompt=PromptConfig(map_weight=0.25))
    )
    torch.testing.assert_close(quarter.maps, few_shot.maps + 0.25 * zero_shot.maps)
    torch.testing.assert_close(quarter.level_maps, few_shot.level_maps + 0.25 * zero_shot.level_maps)


def test_a_left_out_reference_isnt_compared_with(bank):
    seen = Features(tuple(bank.features), GRID, SIZE)
    assert judge_few_shot(seen, bank.distances(seen.patches), CONFIG).maps.abs().max() < 1e-5
    distances = bank.distances(seen.patches, 0)
    left_out = judge_few_shot(seen, distances, CONFIG)
    torch.testing.assert_close(left_out.level_maps, distances.unflatten(2, GRID).transpose(0, 1))
    assert left_out.raw_scores[0] > 0.1
    assert left_out.raw_scores[1] < 1e-5


@pytest.mark.parametrize(("prompts", "with_bank"), [(True, True), (True, False), (False, True)])
def test_no_images_verdict_depends_on_the_others_of_its_batch(bank, prompts, with_bank):
    def verdict(seen: Features) -> Judgement:
        config = ModelConfig(sigma=SIGMA, prompt=PromptConfig(self_weight=1.0))
        if not with_bank:
            return judge_zero_shot(seen, config)
        return judge_few_shot(seen, bank.distances(seen.patches), config)

    seen = observation(prompts=prompts)
    together = verdict(seen)
    for index in range(3):
        alone = verdict(part(seen, index))
        torch.testing.assert_close(alone.raw_scores[0], together.raw_scores[index])
        torch.testing.assert_close(alone.maps[0], together.maps[index])
        torch.testing.assert_close(alone.level_maps[0], together.level_maps[index])


def test_with_neither_bank_nor_prompts_there_is_nothing_to_judge_by():
    with pytest.raises(ValueError, match="prompts are needed"):
        judge_zero_shot(observation(prompts=False), CONFIG)


def test_level_scores_add_up_to_the_score():
    distances = random(3, 2, 200)
    torch.testing.assert_close(level_scores(distances).sum(dim=0), few_shot_scores(distances))

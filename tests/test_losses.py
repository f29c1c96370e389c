"""The losses against METHOD.md section 5, written out pixel by pixel."""

import math

import pytest
import torch
from torch import Tensor

from sowa.model.types import NetworkOutput
from sowa.training.losses import dice, focal, losses


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def masks_like(maps: Tensor, seed: int = 5) -> Tensor:
    return (random(*maps.shape, seed=seed) > 0.7).float()


def slow_focal(map_S_HW: list[list[float]], mask: list[int]) -> float:
    """Of flat pixels: one-hot target clamped, pt = sum(onehot * p) + 1e-5, mean of (1 - pt)^2 * (-log pt)."""
    total = 0.0
    for normal, abnormal, truth in zip(*map_S_HW, mask, strict=True):
        onehot = [min(max(float(truth == state), 1e-5), 1 - 1e-5) for state in (0, 1)]
        pt = onehot[0] * normal + onehot[1] * abnormal + 1e-5
        total += (1 - pt) ** 2 * -math.log(pt)
    return total / len(mask)


def slow_dice(probabilities: list[list[float]], masks: list[list[float]]) -> float:
    """1 - mean over images of (2 * sum(p * m) + 1) / (sum p + sum m + 1)."""
    coefficients = [
        (2 * sum(p * m for p, m in zip(image, mask, strict=True)) + 1) / (sum(image) + sum(mask) + 1)
        for image, mask in zip(probabilities, masks, strict=True)
    ]
    return 1 - sum(coefficients) / len(coefficients)


def slow_cross_entropy(probabilities: list[list[float]], labels: list[int]) -> float:
    """Softmax cross-entropy of what are probabilities already."""
    total = 0.0
    for (normal, abnormal), label in zip(probabilities, labels, strict=True):
        chosen = math.exp((normal, abnormal)[label]) / (math.exp(normal) + math.exp(abnormal))
        total -= math.log(chosen)
    return total / len(labels)


def output_of(level_maps: tuple[Tensor, ...], text_probs: Tensor) -> NetworkOutput:
    nothing = torch.empty(0)
    return NetworkOutput(nothing, nothing, text_probs, (), (), (), level_maps, (1, 1))


def test_focal_loss_follows_the_formula():
    maps = random(3, 4, 5)
    masks = masks_like(maps)
    expected = slow_focal([(1 - maps).flatten().tolist(), maps.flatten().tolist()], masks.flatten().int().tolist())
    assert focal(maps, masks).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("probability", [0.0, 1.0])
@pytest.mark.parametrize("truth", [0.0, 1.0])
def test_focal_loss_stays_finite_and_differentiable_at_the_ends(probability, truth):
    maps = torch.full((1, 2, 2), probability, requires_grad=True)
    loss = focal(maps, torch.full((1, 2, 2), truth))
    loss.backward()
    assert loss.item() == pytest.approx(
        slow_focal([[1 - probability] * 4, [probability] * 4], [int(truth)] * 4), rel=1e-4, abs=1e-9
    )
    assert maps.grad.isfinite().all()


def test_focal_loss_cares_less_for_what_is_nearly_right_the_larger_gamma_is():
    maps, masks = torch.full((1, 2, 2), 0.9), torch.ones(1, 2, 2)
    values = [focal(maps, masks, gamma).item() for gamma in (0.0, 2.0, 4.0)]
    assert values[0] == pytest.approx(-math.log(0.9), rel=1e-3)
    assert values[0] > values[1] > values[2]


def test_dice_loss_follows_the_formula():
    maps = random(3, 4, 5)
    masks = masks_like(maps)
    expected = slow_dice(maps.flatten(1).tolist(), masks.flatten(1).tolist())
    assert dice(maps, masks).item() == pytest.approx(expected, rel=1e-5)


def test_dice_loss_is_averaged_over_images_and_not_over_pixels():
    maps, masks = torch.stack([torch.ones(4, 4), torch.zeros(4, 4)]), torch.ones(2, 4, 4)
    assert dice(maps, masks).item() == pytest.approx(1 - (1 + 1 / 17) / 2)


def test_dice_loss_vanishes_for_the_mask_itself_even_an_empty_one():
    masks = torch.stack([torch.zeros(4, 4), torch.eye(4)])
    assert dice(masks, masks).item() == pytest.approx(0, abs=1e-6)


def test_the_parts_add_up_over_levels_and_states():
    maps = tuple(random(2, 4, 5, seed=level) for level in range(3))
    masks = masks_like(maps[0])
    text_probs, labels = random(2, 1, seed=8), torch.tensor([1, 0])
    text_probs = torch.cat([text_probs, 1 - text_probs], dim=1)
    parts = losses(output_of(maps, text_probs), labels, masks)
    flat = masks.flatten(1)
    focals = [
        slow_focal([(1 - level).flatten().tolist(), level.flatten().tolist()], masks.flatten().int().tolist())
        for level in maps
    ]
    dices = [
        slow_dice(level.flatten(1).tolist(), flat.tolist())
        + slow_dice((1 - level).flatten(1).tolist(), (1 - flat).tolist())
        for level in maps
    ]
    assert parts.cross_entropy.item() == pytest.approx(slow_cross_entropy(text_probs.tolist(), [1, 0]), rel=1e-5)
    assert parts.focal.item() == pytest.approx(sum(focals), rel=1e-5)
    assert parts.dice.item() == pytest.approx(sum(dices), rel=1e-5)
    assert parts.total.item() == pytest.approx(
        slow_cross_entropy(text_probs.tolist(), [1, 0]) + sum(focals) + sum(dices), rel=1e-5
    )


def test_the_softmax_acts_twice_so_certainty_still_costs():
    certain = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    parts = losses(output_of((torch.zeros(2, 1, 1),), certain), torch.tensor([0, 1]), torch.zeros(2, 1, 1))
    assert parts.cross_entropy.item() == pytest.approx(math.log(1 + math.exp(-1)), rel=1e-5)


def test_a_better_map_costs_less():
    masks = masks_like(torch.zeros(2, 6, 6))
    text_probs, labels = torch.full((2, 2), 0.5), torch.tensor([1, 1])

    def cost(certainty: float) -> float:
        maps = 0.5 + certainty * (masks - 0.5)
        return losses(output_of((maps,), text_probs), labels, masks).total.item()

    assert cost(0.9) < cost(0.5) < cost(0.0) < cost(-0.5)

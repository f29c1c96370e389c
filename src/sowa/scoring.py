"""Maps and scores of pictures (METHOD.md section 6), and the threshold that the references alone give.

Shapes: L levels, B images, P = h * w patches, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sowa.memory import MemoryBank
from sowa.model.maps import smooth, upsample
from sowa.types import Judgement, Observation

TOP_FRACTION = 0.01


def zero_shot_map(level_maps: Sequence[Tensor], sigma: float) -> Tensor:
    """Sum over levels of the abnormal probability, smoothed: L times (B, H, W) to (B, H, W) in 0..L."""
    return smooth(torch.stack(tuple(level_maps)).sum(dim=0), sigma)


def few_shot_map(distances_LBP: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Sum over levels of the distance to the memory bank, not smoothed: (L, B, P) to (B, H, W) in 0..2L.

    Interpolation is linear, so the levels are summed before they are enlarged.
    """
    return upsample(distances_LBP.sum(dim=0), grid, size)


def top_mean(maps_BHW: Tensor, fraction: float = TOP_FRACTION) -> Tensor:
    """Mean of the highest ``fraction`` of each map's pixels (B,): sharp, yet not one pixel's noise."""
    pixels = maps_BHW.flatten(1)
    return pixels.topk(max(1, round(fraction * pixels.shape[1])), dim=1).values.mean(dim=1)


def paper_scores(abnormal_probability: Tensor, map_maximum: Tensor) -> Tensor:
    """Image scores as the authors publish few-shot results, for reproduction only.

    ``abnormal_probability`` and ``map_maximum`` (N,) belong to the whole test set of one category: the minimum and
    maximum over all its images enter every score, so no score of one image exists.
    """
    low, high = map_maximum.min(), map_maximum.max()
    return 0.5 * (abnormal_probability + (map_maximum - low) / (high - low))


def judge(
    observation: Observation, bank: MemoryBank | None, sigma: float, leave_out: Tensor | None = None
) -> Judgement:
    """Raw scores and maps of a batch, each picture by itself (inductive).

    With a memory bank the map is the sum of the few-shot and, where there are trained prompts, the zero-shot map; the
    raw score is the mean of its highest hundredth. Without a bank, map and score are the zero-shot ones, as published.
    ``leave_out`` (B,) names a reference image that each picture isn't compared with.
    """
    zero_shot = None
    if observation.level_maps is not None:
        zero_shot = zero_shot_map(observation.level_maps, sigma)
    if bank is None:
        if zero_shot is None or observation.abnormal_probability is None or observation.level_maps is None:
            raise ValueError("a detector without memory bank needs prompts: observe with prompts, or fit first")
        levels = F.adaptive_avg_pool2d(torch.stack(observation.level_maps), observation.grid)
        return Judgement(observation.abnormal_probability, zero_shot, levels)
    distances_LBP = bank.distances(observation.patches, leave_out)
    maps = few_shot_map(distances_LBP, observation.grid, observation.size)
    if zero_shot is not None:
        maps = maps + zero_shot
    return Judgement(top_mean(maps), maps, distances_LBP.unflatten(2, observation.grid))

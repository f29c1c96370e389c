"""Maps and scores of pictures (METHOD.md section 6), and the threshold that the references alone give.

Shapes: L levels, B images, P = h * w patches, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sowa.config import ModelConfig
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


def few_shot_scores(distances_LBP: Tensor) -> Tensor:
    """Scores (B,) of pictures by the distances of their patches: sum over levels of the mean of the highest hundredth.

    Each level finds its own worst patches. Four-shot image AUROC of three auxiliary data sets | ten generated products,
    by the stem of ``mini``: 0.933 | 0.868 where the levels are summed before, 0.934 | 0.871 so.
    """
    return torch.stack([top_mean(distances_BP) for distances_BP in distances_LBP]).sum(dim=0)


def top_mean(values: Tensor, fraction: float = TOP_FRACTION) -> Tensor:
    """Mean of the highest ``fraction`` of each picture's values, (B, ...) to (B,): sharp, yet not one pixel's noise."""
    values_BN = values.flatten(1)
    return values_BN.topk(max(1, round(fraction * values_BN.shape[1])), dim=1).values.mean(dim=1)


def paper_scores(abnormal_probability: Tensor, map_maximum: Tensor) -> Tensor:
    """Image scores as the authors publish few-shot results, for reproduction only.

    ``abnormal_probability`` and ``map_maximum`` (N,) belong to the whole test set of one category: the minimum and
    maximum over all its images enter every score, so no score of one image exists.
    """
    low, high = map_maximum.min(), map_maximum.max()
    return 0.5 * (abnormal_probability + (map_maximum - low) / (high - low).clamp(min=torch.finfo(high.dtype).tiny))


def judge(observation: Observation, distances_LBP: Tensor | None, config: ModelConfig) -> Judgement:
    """Raw scores and maps of a batch, each picture by itself (inductive).

    The map is the published one: zero-shot where there are prompts, plus few-shot where there is a bank; with both,
    zero-shot counts ``config.prompt.map_weight``. The score is the mean of the highest hundredth of what the authors
    take the maximum of and scale by all test images. With a bank it is that of the distances alone, of patches, since
    enlarging flattens a defect of one patch: adding the prompts' score lowered four-shot image AUROC on the embedded
    backbone (0.906 to 0.863 on auxiliary data, 0.906 to 0.903 on generated products). Without one it is the mean of the
    abnormal probability and of that of the map, in 0..1.
    ``distances_LBP`` (L, B, P) come from the memory bank, None without one; where the configuration says so, what
    stands out of a picture counts more, and where defects are expected, what looks like none of them counts less and
    the prompts have no say.

    Raises ValueError where there is neither a bank nor prompts.
    """
    if distances_LBP is None:
        return _zero_shot(observation, config.sigma)
    if config.saliency_weight and observation.saliency is not None:
        distances_LBP = distances_LBP * (config.saliency_weight * observation.saliency).exp()
    if observation.damage is not None:
        distances_LBP = distances_LBP * observation.damage
    few_shot = Judgement(
        raw_scores=few_shot_scores(distances_LBP),
        maps=few_shot_map(distances_LBP, observation.grid, observation.size),
        level_maps=distances_LBP.unflatten(2, observation.grid),
    )
    if observation.level_maps is None or observation.damage is not None:
        return few_shot
    zero_shot, map_weight = _zero_shot(observation, config.sigma), config.prompt.map_weight
    return Judgement(
        few_shot.raw_scores,
        few_shot.maps + map_weight * zero_shot.maps,
        few_shot.level_maps + map_weight * zero_shot.level_maps,
    )


def _zero_shot(observation: Observation, sigma: float) -> Judgement:
    if observation.level_maps is None or observation.abnormal_probability is None:
        raise ValueError("without a memory bank prompts are needed: observe with prompts, or fit first")
    maps = zero_shot_map(observation.level_maps, sigma)
    levels = F.adaptive_avg_pool2d(torch.stack(observation.level_maps), observation.grid)
    scores = 0.5 * (observation.abnormal_probability + top_mean(maps) / len(observation.level_maps))
    return Judgement(scores, maps, levels)

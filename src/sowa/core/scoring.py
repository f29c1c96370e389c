"""Maps and scores of images (METHOD.md section 6), and the threshold that the references alone give.

Shapes: L levels, B images, P = h * w patches, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sowa.core.config import ModelConfig
from sowa.core.maps import smooth, upsample
from sowa.core.memory import CHUNK, normalise
from sowa.core.types import Judgement, Observation

TOP_FRACTION = 0.01
ALIKE = 1 / 30  # of an image's patches: so many others a normal one resembles
# Of an image's score by its own patches, for each level: what parts normal and anomalous images of fourteen
# generated products and three auxiliary data sets best, by `mini` with earlier prompts. Balanced accuracy 0.80, by
# prompts alone 0.72. With the present ones nineteen other generated products are parted best by 0.26.
SELF_BOUNDARY = 0.27


def zero_shot_map(level_maps: Sequence[Tensor], sigma: float) -> Tensor:
    """Sum over levels of the abnormal probability, smoothed: L times (B, H, W) to (B, H, W) in 0..L."""
    return smooth(torch.stack(tuple(level_maps)).sum(dim=0), sigma)


def few_shot_map(distances_LBP: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Sum over levels of the distance to the memory bank, not smoothed: (L, B, P) to (B, H, W) in 0..2L.

    Interpolation is linear, so the levels are summed before they are enlarged.
    """
    return upsample(distances_LBP.sum(dim=0), grid, size)


def few_shot_scores(distances_LBP: Tensor) -> Tensor:
    """Scores (B,) of images by the distances of their patches: sum over levels of the mean of the highest hundredth.

    Each level finds its own worst patches. Four-shot image AUROC of three auxiliary data sets | ten generated products,
    by the stem of ``mini``: 0.933 | 0.868 where the levels are summed before, 0.934 | 0.871 so.
    """
    return torch.stack([top_mean(distances_BP) for distances_BP in distances_LBP]).sum(dim=0)


def self_distances(patches: Sequence[Tensor]) -> Tensor:
    """How far patches L times (B, P, E) lie from the others of their image, (L, B, P) in 0..2: mean of 1 - cosine to
    the nearest thirtieth of them.

    A surface repeats itself, and a part is made of few things. What nothing else in the image resembles is suspect,
    and no other image is needed to see it.
    """
    unit_LBPE = normalise(patches)
    _, images, count, _ = unit_LBPE.shape
    others = max(1, round(ALIKE * count))
    levels = []
    for unit_BPE in unit_LBPE:
        parts = unit_BPE.split(max(1, CHUNK // (images * count)), dim=1)
        cosines = (part @ unit_BPE.transpose(1, 2) for part in parts)
        nearest = (each.topk(min(others + 1, count), dim=-1).values[..., 1:] for each in cosines)  # the first is itself
        levels.append(torch.cat([(1 - each).sum(dim=-1) for each in nearest], dim=1) / others)
    return torch.stack(levels).clamp(min=0)


def top_mean(values: Tensor, fraction: float = TOP_FRACTION) -> Tensor:
    """Mean of the highest ``fraction`` of each image's values, (B, ...) to (B,): sharp, yet not one pixel's noise."""
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
    """Raw scores and maps of a batch, each image by itself (inductive).

    The map is the published one: zero-shot where there are prompts, plus few-shot where there is a bank; with both,
    zero-shot counts ``config.prompt.map_weight``. The score is the mean of the highest hundredth of what the authors
    take the maximum of and scale by all test images. With a bank it is that of the distances alone, of patches, since
    enlarging flattens a defect of one patch: adding the prompts' score lowered four-shot image AUROC on the embedded
    backbone (0.906 to 0.863 on auxiliary data, 0.906 to 0.903 on generated products). Without one it is the mean of the
    abnormal probability and of that of the map, in 0..1, plus ``config.prompt.self_weight`` times what stands out among
    the image's own patches: with `mini` zero-shot image AUROC 0.779 to 0.881 on nineteen generated products, 0.749 to
    0.819 on three auxiliary data sets, 0.521 to 0.690 on photographs of twenty kinds of object with generated damage.
    ``distances_LBP`` (L, B, P) come from the memory bank, None without one; where the configuration says so, what
    stands out of an image counts more, and where defects are expected, what looks like none of them counts less and
    the prompts have no say.

    Raises ValueError where there is neither a bank nor prompts.
    """
    if distances_LBP is None:
        return _zero_shot(observation, config)
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
    maps, level_maps = _zero_shot_maps(observation.level_maps, observation.grid, config.sigma)
    map_weight = config.prompt.map_weight
    return Judgement(
        few_shot.raw_scores, few_shot.maps + map_weight * maps, few_shot.level_maps + map_weight * level_maps
    )


def _zero_shot(observation: Observation, config: ModelConfig) -> Judgement:
    if observation.level_maps is None or observation.abnormal_probability is None:
        raise ValueError("without a memory bank prompts are needed: observe with prompts, or fit first")
    maps, level_maps = _zero_shot_maps(observation.level_maps, observation.grid, config.sigma)
    scores = 0.5 * (observation.abnormal_probability + top_mean(maps) / len(observation.level_maps))
    if self_weight := config.prompt.self_weight:
        scores = scores + self_weight * few_shot_scores(self_distances(observation.patches))
    return Judgement(scores, maps, level_maps)


def _zero_shot_maps(maps: Sequence[Tensor], grid: tuple[int, int], sigma: float) -> tuple[Tensor, Tensor]:
    """The map (B, H, W) of levels L times (B, H, W), and what each level shows on ``grid``, (L, B, h, w)."""
    return zero_shot_map(maps, sigma), F.adaptive_avg_pool2d(torch.stack(tuple(maps)), grid)

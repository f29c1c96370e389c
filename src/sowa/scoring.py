"""Maps and scores of pictures (METHOD.md section 6), and the threshold that the references alone give.

Shapes: L levels, B images, P = h * w patches, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sowa.model.maps import smooth, upsample

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
    """Mean of the highest ``fraction`` of each map's pixels (B,): as sharp as the maximum, yet not one pixel's noise."""
    pixels = maps_BHW.flatten(1)
    return pixels.topk(max(1, round(fraction * pixels.shape[1])), dim=1).values.mean(dim=1)


def paper_scores(abnormal_probability: Tensor, map_maximum: Tensor) -> Tensor:
    """Image scores as the authors publish few-shot results, for reproduction only.

    ``abnormal_probability`` and ``map_maximum`` (N,) belong to the whole test set of one category: the minimum and
    maximum over all its images enter every score, so no score of one image exists.
    """
    low, high = map_maximum.min(), map_maximum.max()
    return 0.5 * (abnormal_probability + (map_maximum - low) / (high - low))

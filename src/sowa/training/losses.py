"""Training losses (METHOD.md section 5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sowa.model.types import NetworkOutput

SMOOTH = 1e-5


@dataclass(frozen=True)
class Losses:
    """The three parts, each a scalar, and their sum."""

    cross_entropy: Tensor
    focal: Tensor
    dice: Tensor

    @property
    def total(self) -> Tensor:
        """What is minimised."""
        return self.cross_entropy + self.focal + self.dice


def focal(abnormal_BHW: Tensor, mask_BHW: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss of the probability of the abnormal state against a 0/1 mask, averaged over pixels.

    The one-hot target is clamped to 1e-5 .. 1 - 1e-5 and 1e-5 is added to the probability of the truth.
    """
    truth = torch.where(mask_BHW > 0, abnormal_BHW, 1 - abnormal_BHW)
    pt = (1 - SMOOTH) * truth + SMOOTH * (1 - truth) + SMOOTH
    return ((1 - pt) ** gamma * -pt.log()).mean()


def dice(probability_BHW: Tensor, mask_BHW: Tensor) -> Tensor:
    """1 - mean over images of the dice coefficient, with 1 added above and below."""
    hits = (probability_BHW * mask_BHW).sum(dim=(1, 2))
    total = probability_BHW.sum(dim=(1, 2)) + mask_BHW.sum(dim=(1, 2))
    return 1 - ((2 * hits + 1) / (total + 1)).mean()


def losses(output: NetworkOutput, labels: Tensor, masks: Tensor) -> Losses:
    """All losses of a batch: ``labels`` (B,) 0 or 1, ``masks`` (B, H, W) 0 or 1.

    The probabilities of the whole image go through a softmax once more inside the cross-entropy, as published.
    """
    masks = masks.to(output.text_probs.dtype)
    focal_sum = torch.stack([focal(map_BHW, masks) for map_BHW in output.level_maps]).sum()
    dice_sum = torch.stack([dice(map_BHW, masks) + dice(1 - map_BHW, 1 - masks) for map_BHW in output.level_maps]).sum()
    return Losses(F.cross_entropy(output.text_probs, labels), focal_sum, dice_sum)

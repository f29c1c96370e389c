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
    """The three parts, each a scalar, and their sum.

    Attributes:
        cross_entropy: Of the whole image's state.
        focal: Of the levels' maps, summed over levels.
        dice: Likewise, of both states.
    """

    cross_entropy: Tensor
    focal: Tensor
    dice: Tensor

    @property
    def total(self) -> Tensor:
        """What is minimised."""
        return self.cross_entropy + self.focal + self.dice


def focal(abnormal_BHW: Tensor, mask_BHW: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss of the probability of the abnormal state against a mask, averaged over pixels (METHOD.md section 5).

    The one-hot target is clamped to 1e-5 .. 1 - 1e-5 and 1e-5 is added to the probability of the truth.

    Args:
        abnormal_BHW: Probability of the abnormal state, (B, H, W) in 0..1.
        mask_BHW: 0 or 1, (B, H, W).
        gamma: How little pixels count that are right already, 0 or more.

    Example:
        >>> import torch
        >>> mask = torch.tensor([[[0.0, 1.0]]])
        >>> bool(focal(mask * 0.8 + 0.1, mask) < focal(torch.full((1, 1, 2), 0.5), mask))
        True
    """
    truth = torch.where(mask_BHW > 0, abnormal_BHW, 1 - abnormal_BHW)
    pt = (1 - SMOOTH) * truth + SMOOTH * (1 - truth) + SMOOTH
    return ((1 - pt) ** gamma * -pt.log()).mean()


def dice(probability_BHW: Tensor, mask_BHW: Tensor) -> Tensor:
    """1 - mean over images of the dice coefficient, with 1 added above and below (METHOD.md section 5).

    Args:
        probability_BHW: (B, H, W) in 0..1.
        mask_BHW: 0 or 1, (B, H, W).

    Returns:
        A scalar in 0..1.

    Example:
        >>> import torch
        >>> mask = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
        >>> dice(mask, mask).item(), round(dice(1 - mask, mask).item(), 3)
        (0.0, 0.8)
    """
    hits = (probability_BHW * mask_BHW).sum(dim=(1, 2))
    total = probability_BHW.sum(dim=(1, 2)) + mask_BHW.sum(dim=(1, 2))
    return 1 - ((2 * hits + 1) / (total + 1)).mean()


def losses(output: NetworkOutput, labels: Tensor, masks: Tensor) -> Losses:
    """All losses of a batch (METHOD.md section 5).

    The probabilities of the whole image go through a softmax once more inside the cross-entropy, as published.

    Args:
        output: Of the network.
        labels: (B,), 0 or 1.
        masks: (B, H, W), 0 or 1.
    """
    masks = masks.to(output.text_probs.dtype)
    focal_sum = torch.stack([focal(map_BHW, masks) for map_BHW in output.level_maps]).sum()
    dice_sum = torch.stack([dice(map_BHW, masks) + dice(1 - map_BHW, 1 - masks) for map_BHW in output.level_maps]).sum()
    return Losses(F.cross_entropy(output.text_probs, labels), focal_sum, dice_sum)

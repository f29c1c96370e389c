"""Alignment of what the vision tower sees with what the prompts say (paper section 3.4, METHOD.md section 4).

Shapes: B images, P = h * w patches, H x W pixels, E joint width, S = 2 states.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sowa.core.maps import upsample
from sowa.core.types import ABNORMAL, NORMAL


def similarity(features: Tensor, class_text: Tensor) -> Tensor:
    """Cosine similarity of image or patch features with the text of each state (paper section 3.4).

    Args:
        features: (B, E) or (B, P, E), of any length.
        class_text: (B, S, E), of any length.

    Returns:
        (B, S) or (B, P, S), each in -1..1.

    Example:
        >>> similarity(torch.tensor([[2.0, 0.0]]), torch.tensor([[[1.0, 0.0], [0.0, 3.0]]])).tolist()
        [[1.0, 0.0]]
    """
    # In full precision: the two states often differ in the third digit only.
    with torch.autocast(features.device.type, enabled=False):
        text_BES = F.normalize(class_text.float(), dim=-1).transpose(-2, -1)
        features = F.normalize(features.float(), dim=-1)
        if features.ndim == 2:
            return (features[:, None] @ text_BES)[:, 0]
        return features @ text_BES


def text_probabilities(image_feature: Tensor, class_text: Tensor, temperature: float) -> Tensor:
    """Probability of each state of the whole image, (B, S) in 0..1 (paper section 3.4).

    Args:
        image_feature: (B, E).
        class_text: (B, S, E).
        temperature: Cosines are divided by it, above 0.
    """
    return (similarity(image_feature, class_text) / temperature).softmax(dim=-1)


def level_map(similarities: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Similarities of one level (B, P, S) to the probability of the abnormal state (B, H, W).

    Interpolation is linear and a softmax over two states is a sigmoid of their difference, so one map is enlarged
    instead of two.

    Args:
        similarities: Of patches with the text of each state, (B, P, S).
        grid: (h, w) with h * w = P.
        size: (H, W) in pixels.
    """
    return torch.sigmoid(upsample(similarities[..., ABNORMAL] - similarities[..., NORMAL], grid, size))

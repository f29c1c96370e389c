"""Alignment of what the vision tower sees with what the prompts say (paper section 3.4, METHOD.md section 4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def similarity(features: Tensor, class_text: Tensor) -> Tensor:
    """Cosine similarity of image or patch features with the text of each state.

    ``features`` (B, E) or (B, P, E) and ``class_text`` (B, S, E) give (B, S) or (B, P, S), each in -1..1.
    """
    # In full precision: the two states often differ in the third digit only.
    with torch.autocast(features.device.type, enabled=False):
        text_BES = F.normalize(class_text.float(), dim=-1).transpose(-2, -1)
        features = F.normalize(features.float(), dim=-1)
        if features.ndim == 2:
            return (features[:, None] @ text_BES)[:, 0]
        return features @ text_BES


def text_probabilities(image_feature: Tensor, class_text: Tensor, temperature: float) -> Tensor:
    """Probability of each state of the whole image, (B, S)."""
    return (similarity(image_feature, class_text) / temperature).softmax(dim=-1)

"""What a network found at every cell, to the boxes of an image.

Shapes: M cells, C classes, n boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import batched_nms

CANDIDATES, MOST = 1000, 300
OVERLAP = 0.5  # of two boxes of a class that overlap more, in parts of their union, the likelier stays


@dataclass(frozen=True)
class Boxes:
    """Boxes of one image, the likeliest first.

    Attributes:
        xyxy: (n, 4).
        scores: (n,) in 0..1.
        labels: (n,) numbers of classes.
    """

    xyxy: Tensor
    scores: Tensor
    labels: Tensor


def decode(boxes: Tensor, objectness: Tensor, logits: Tensor, extent: tuple[float, float], least: float) -> Boxes:
    """The boxes of one image, of what the network found at M cells.

    A score is the geometric mean of how sure it is that something is there and what it is. Of boxes of one class that
    overlap all but the likeliest are left out.

    Args:
        boxes: (M, 4).
        objectness: Logits, (M,).
        logits: Of classes, (M, C).
        extent: (width, height) of the image, in the boxes' unit.
        least: Boxes below this score are left out, 0..1.
    """
    scores_MC = (objectness.sigmoid()[:, None] * logits.sigmoid()).sqrt()
    flat = scores_MC.flatten()
    scores, places = flat.topk(min(CANDIDATES, len(flat)))
    places = places[scores >= least]
    scores = scores[scores >= least]
    cells, labels = places // scores_MC.shape[1], places % scores_MC.shape[1]
    limit = torch.tensor([*extent, *extent], device=boxes.device)
    xyxy = torch.minimum(boxes[cells].clamp(min=0), limit)
    kept = batched_nms(xyxy, scores, labels, OVERLAP)[:MOST]
    return Boxes(xyxy[kept], scores[kept], labels[kept])

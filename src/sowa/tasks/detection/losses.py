"""Which cells are to find which box, and what it costs where they don't.

Shapes: B images, M cells, C classes, n boxes of an image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou, complete_box_iou_loss

from sowa.tasks.detection.network import Cells, Found

LARGEST = 8.0  # sides in cells of what a level is to find; larger things are left to the next one
NEAR = 1.5  # cells this near to a box's centre are to find it
BOX_WEIGHT = 2.0


@torch.no_grad()
def assign(cells: Cells, boxes: Tensor) -> Tensor:
    """For each cell the number of the box that it's to find, -1 for none: (M,).

    A box belongs to the level whose cells are fine enough for it, there to the cells around its centre, and at least to
    the nearest. Where two boxes want a cell the smaller has it.

    Args:
        cells: M of them.
        boxes: (n, 4) in patches.
    """
    chosen = torch.full((len(cells.centres),), -1, dtype=torch.long, device=cells.centres.device)
    if not len(boxes):
        return chosen
    low, high = boxes[:, :2], boxes[:, 2:]
    size = (high - low).prod(dim=1).sqrt()
    by_level = torch.stack([cells.sides[cells.level == level][0] for level in cells.level.unique()])
    level = torch.bucketize(size, by_level[:-1] * LARGEST)
    offset = (cells.centres[:, None] - (low + high) / 2).abs() / cells.sides[:, None, None]
    inside = ((cells.centres[:, None] > low) & (cells.centres[:, None] < high)).all(dim=2)
    distance = offset.amax(dim=2).masked_fill(cells.level[:, None] != level, torch.inf)
    wanted = ((distance <= NEAR) & inside) | (distance == distance.amin(dim=0))
    cost = size.expand(len(chosen), -1).masked_fill(~wanted, torch.inf)
    smallest, which = cost.min(dim=1)
    return torch.where(smallest.isfinite(), which, chosen)


def quality_focal(logits: Tensor, quality: Tensor) -> Tensor:
    """Focal loss with a target between 0 and 1, summed (Li et al., 2020, generalized focal loss, equation 5).

    Args:
        logits: Of any shape.
        quality: The same shape, 0..1.

    Example:
        >>> quality_focal(torch.zeros(2), torch.full((2,), 0.5)).item()
        0.0
    """
    weight = (quality - logits.sigmoid()).abs().square()
    return (weight * F.binary_cross_entropy_with_logits(logits, quality, reduction="none")).sum()


def box_losses(
    found: Found, logits: Tensor, boxes: Sequence[Tensor], labels: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses of objectness, boxes and classes, each per cell that is to find something.

    Args:
        found: At M cells of B images.
        logits: Of classes, (B, M, C).
        boxes: Of each image, (n, 4) in patches.
        labels: Of each image, (n, C), 1 for every name that fits.
    """
    objectness = box = kind = found.boxes.sum() * 0
    count = 0
    for place, (targets, names) in enumerate(zip(boxes, labels, strict=True)):
        chosen = assign(found.cells, targets)
        busy = chosen >= 0
        quality = torch.zeros_like(found.objectness[place])
        if busy.any():
            predicted, wanted = found.boxes[place][busy], targets[chosen[busy]]
            quality[busy] = box_iou(predicted.detach(), wanted).diagonal().clamp(0, 1)
            box = box + complete_box_iou_loss(predicted, wanted, reduction="sum")
            kind = kind + F.binary_cross_entropy_with_logits(logits[place][busy], names[chosen[busy]], reduction="sum")
        objectness = objectness + quality_focal(found.objectness[place], quality)
        count += int(busy.sum())
    per = max(count, 1)
    return objectness / per, BOX_WEIGHT * box / per, kind / per

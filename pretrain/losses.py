"""What the transformer of ``mini`` is trained for. Shapes: B images, P patches, D width, M side of a mask."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sowa.core.scoring import few_shot_scores

DEFECTIVE = 0.06  # share of a patch that a defect must cover; what is covered less belongs to neither side
HARD = 0.1  # share of the normal patches, the farthest, that a defective one must beat
MARGIN = 0.25  # in mean distances of those
CELL = 4  # side of a patch in pixels of a mask


def coverage(masks: Tensor) -> Tensor:
    """Masks (B, M, M) to the share of each patch that is covered, (B, P)."""
    return F.avg_pool2d(masks, CELL).flatten(1)


def nearest(queries: Tensor, references: Tensor) -> Tensor:
    """Distance of patches (B, P, D) to the nearest of references (K, R, D): min(1 - cosine), (B, P)."""
    memory = F.normalize(references, dim=-1).flatten(0, 1)
    unit = F.normalize(queries, dim=-1)
    return torch.stack([1 - (query @ memory.T).amax(-1) for query in unit])


def few_shot_loss(levels: list[Tensor], masks: Tensor, shots: int) -> Tensor:
    """Of one episode, L x (N, P, D), references first: defective patches and images must lie farther than normal."""
    count = len(levels[0])
    distances = torch.stack([nearest(level[shots:], _half(level[:shots])) for level in levels])
    distance = distances.sum(0)
    covered = coverage(masks[shots:count])
    normal, defective = distance[covered == 0], distance[covered >= DEFECTIVE]
    if len(defective) == 0:
        return distance.sum() * 0
    hard = normal.topk(max(1, round(HARD * len(normal)))).values
    unit = MARGIN * hard.detach().mean()
    hard = hard[torch.randperm(len(hard))[:256]]
    patches = F.softplus((hard - defective[:, None]) / unit).mean()
    scores = few_shot_scores(distances)
    flawed = (covered >= DEFECTIVE).any(1)
    images = F.softplus((scores[~flawed] - scores[flawed][:, None]) / unit).mean()
    return 0.5 * patches + 0.5 * images


def _half(references: Tensor) -> Tensor:
    """Half of the reference patches, drawn anew each time: half the work, and no patch to lean on."""
    chosen = torch.randperm(references.shape[1])[: references.shape[1] // 2]
    return references[:, chosen]


def dense_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross-entropy and dice of patch logits (L, B, P): is this patch defective?"""
    covered = coverage(masks)
    target, known = (covered >= DEFECTIVE).float(), (covered == 0) | (covered >= DEFECTIVE)
    weight = torch.where(target > 0, 5.0, 1.0) * known
    entropy = F.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none")
    probability = logits.sigmoid() * known
    overlap = 2 * (probability * target).sum(-1) + 1
    dice = 1 - overlap / (probability.sum(-1) + target.sum(-1) + 1)
    return (entropy * weight).sum() / weight.sum() / len(logits) + 0.5 * dice[:, target.any(1)].mean()


def class_loss(features: Tensor, scores: Tensor, names: Tensor, hidden: Tensor, scale: Tensor) -> Tensor:
    """Divergence of what features (B, D) say of the ``names`` (1000, D) from the class ``scores`` (B, 1000).

    Classes ``hidden`` aren't learned.
    """
    scores = scores.index_fill(1, hidden, -torch.inf)
    logits = (scale * F.normalize(features, dim=-1) @ names.T).index_fill(1, hidden, -1e4)
    return 0.3 * F.kl_div(logits.log_softmax(-1), scores.softmax(-1), reduction="batchmean")

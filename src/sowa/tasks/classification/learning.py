"""Training of a classifier's head, and how its parts are weighed: by images that were held out.

Shapes: N images, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sowa.core.progress import Report, silent
from sowa.model.backbone import Backbone
from sowa.tasks.classification.config import ClassifyConfig
from sowa.tasks.classification.evidence import ONE_SHOT, Gaussians, weigh_names
from sowa.tasks.classification.network import Head, middle
from sowa.tasks.classification.open_set import centres, nearness, text_centres, threshold_of
from sowa.tasks.classification.pooled_features import PooledFeatures
from sowa.tasks.classification.weighing import Weights, fold_of, weigh

BATCH, DECAY, SMOOTHING = 24, 0.05, 0.1
SHARPNESS = 30.0  # of cosines while training
FOLDS = 3
TRAINED_FROM = 4  # shots; of fewer too little can be held out to see whether training helps


def train(
    head: Head,
    pooled: PooledFeatures,
    labels: Tensor,
    backbone: Backbone,
    config: ClassifyConfig,
    report: Report = silent,
    label: str = "train",
) -> list[float]:
    """Trains adapters, pooling and prompts on every image, in place; the loss of each step.

    Args:
        head: That is trained.
        pooled: N images.
        labels: (N,) numbers of classes.
        backbone: That the head is on.
        config: Steps, learning rate and seed.
        report: Told of the progress.
        label: What that is called.
    """
    frozen = [backbone.attention(level) for level in range(len(backbone.levels))]
    optimizer = torch.optim.AdamW(head.parameters(), lr=config.learning_rate, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    device, order, losses = head.into.weight.device, np.random.default_rng(config.seed), list[float]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # dropout
        head.train()
        for step in range(config.steps):
            chosen = order.permutation(len(labels))[:BATCH]
            features, tokens = pooled.features[chosen].to(device), pooled.tokens[:, chosen].to(device)
            logits = SHARPNESS * head(features, tokens, frozen, backbone)
            loss = F.cross_entropy(logits, labels[chosen].to(device), label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            report(label, step + 1, config.steps)
    head.eval()
    return losses


@torch.no_grad()
def cosines(head: Head, pooled: PooledFeatures, backbone: Backbone) -> Tensor:
    """Of every image with every class's words, (N, C), on the CPU.

    Args:
        head: That looks.
        pooled: N images.
        backbone: That the head is on.
    """
    frozen, device = [backbone.attention(level) for level in range(len(backbone.levels))], head.into.weight.device
    words, parts = head.words(backbone), []
    for start in range(0, len(pooled.features), 64):
        part = slice(start, start + 64)
        visual = head.embed(pooled.features[part].to(device), pooled.tokens[:, part].to(device), frozen)
        parts.append((visual @ words.T).cpu())
    return torch.cat(parts)


@dataclass(frozen=True)
class ClassifierState:
    """What was learned of classes.

    Attributes:
        head: Untrained where training didn't help.
        gaussians: What images tell of classes.
        weights: What both kinds of evidence count.
        temperature: What logits of `ONE_SHOT` sharpness are divided by.
        centres: (C, E), what `nearness` compares images with.
        text_centres: (C, E), likewise.
        known: The nearness from which on an image is of a class.
        trained: Whether training the head helped images held out.
    """

    head: Head
    gaussians: Gaussians
    weights: Weights
    temperature: float
    centres: Tensor
    text_centres: Tensor
    known: float
    trained: bool


def learn(
    pooled: PooledFeatures,
    labels: Tensor,
    names: Sequence[str],
    backbone: Backbone,
    config: ClassifyConfig,
    report: Report = silent,
) -> ClassifierState:
    """Learns classes from images of each. With one shot nothing is trained, since nothing can be held out.

    Args:
        pooled: N images.
        labels: (N,) numbers of classes.
        names: Of the classes.
        backbone: That read them.
        config: How.
        report: Told of the progress.
    """
    classes, levels, side = len(names), middle(pooled.tokens), math.isqrt(pooled.tokens.shape[2])
    head = new_head(names, side, backbone, config)
    with torch.no_grad():
        words = head.words(backbone).float().cpu()
    text_logits = pooled.features @ words.T
    name_weight = weigh_names(text_logits, labels)
    named = text_centres(words, name_weight.share)
    shots = int(torch.bincount(labels, minlength=classes).min())
    fold = fold_of(labels, min(FOLDS, max(shots, 2)), config.seed)
    visual_logits, near = _held_out(pooled, levels, labels, fold, name_weight.share, named)
    out = fold >= 0
    weights, trained = Weights(ONE_SHOT, name_weight.sharpness), False
    if out.any():
        weights = weigh(visual_logits[out], text_logits[out], labels[out])
    if shots >= TRAINED_FROM and config.steps:
        trial = new_head(names, side, backbone, config)
        better = _trial(
            trial, _Evidence(pooled, labels, visual_logits, text_logits), fold == 0, backbone, config, report
        )
        if better:
            train(head, pooled, labels, backbone, config, report)
            weights, trained = better, True
    middles = centres(pooled.features, labels, classes)
    return ClassifierState(
        head=head,
        gaussians=Gaussians.fit(pooled, levels, labels, classes, name_weight.share),
        weights=weights,
        temperature=ONE_SHOT / weights.visual,
        centres=middles,
        text_centres=named,
        known=threshold_of(near[out], middles, named),
        trained=trained,
    )


def new_head(names: Sequence[str], side: int, backbone: Backbone, config: ClassifyConfig) -> Head:
    """An untrained head; its adapters start from the seed.

    Args:
        names: Of the classes.
        side: Of the coarse grid.
        backbone: That it's on.
        config: Learned words and seed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        head = Head(names, side, backbone.width, len(backbone.levels), backbone, config.length)
    return head.to(next(backbone.parameters()).device).eval()


@dataclass(frozen=True)
class _Evidence:
    """Of N images: what was encoded, their ``labels`` (N,), and the logits (N, C) of frozen features and of names."""

    pooled: PooledFeatures
    labels: Tensor
    visual_logits: Tensor
    text_logits: Tensor


def _trial(
    head: Head, found: _Evidence, out: Tensor, backbone: Backbone, config: ClassifyConfig, report: Report
) -> Weights | None:
    """Trains ``head`` without the images that are ``out`` (N,): the weights that suit it, None where it doesn't help
    them."""
    pooled, labels = found.pooled, found.labels
    inside, outside = (torch.nonzero(part)[:, 0].tolist() for part in (~out, out))
    train(head, pooled.take(inside), labels[inside], backbone, config, report, "train, held out")
    trained = weigh(found.visual_logits[outside], cosines(head, pooled.take(outside), backbone), labels[outside])
    untrained = weigh(found.visual_logits[outside], found.text_logits[outside], labels[outside])
    return trained if trained.loss < untrained.loss else None


def _held_out(
    pooled: PooledFeatures, levels: Tensor, labels: Tensor, fold: Tensor, share: float, text_centres: Tensor
) -> tuple[Tensor, Tensor]:
    """Logits (N, C) and nearness (N,) of each image, by the images of the other folds; zeros in no fold."""
    classes = len(text_centres)
    visual_logits, near = torch.zeros(len(labels), classes), torch.zeros(len(labels))
    for number in range(int(fold.max()) + 1):
        out = fold == number
        rest = torch.nonzero(~out)[:, 0].tolist()
        gaussians = Gaussians.fit(pooled.take(rest), levels[rest], labels[rest], classes, share)
        visual_logits[out] = gaussians(pooled.features[out], levels[out])
        near[out] = nearness(pooled.features[out], centres(pooled.features[rest], labels[rest], classes), text_centres)
    return visual_logits, near

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
from sowa.tasks.classification.evidence import ONE_SHOT, Gaussians, worth_of_names
from sowa.tasks.classification.looks import Looks
from sowa.tasks.classification.network import Head, middle
from sowa.tasks.classification.open_set import centres, hints, nearness, threshold_of
from sowa.tasks.classification.weighing import Weights, fold_of, weigh

BATCH, DECAY, SMOOTHING = 24, 0.05, 0.1
SHARPNESS = 30.0  # of cosines while training
FOLDS = 3
TRAINED_FROM = 4  # shots; of fewer too little can be held out to see whether training helps


def train(
    head: Head,
    looks: Looks,
    labels: Tensor,
    backbone: Backbone,
    config: ClassifyConfig,
    report: Report = silent,
    label: str = "train",
) -> list[float]:
    """Trains adapters, pooling and prompts on every image of ``looks``, in place; the loss of each step."""
    frozen = [backbone.attention(level) for level in range(len(backbone.levels))]
    optimizer = torch.optim.AdamW(head.parameters(), lr=config.learning_rate, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    device, order, losses = head.into.weight.device, np.random.default_rng(config.seed), list[float]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # dropout
        head.train()
        for step in range(config.steps):
            chosen = order.permutation(len(labels))[:BATCH]
            features, tokens = looks.features[chosen].to(device), looks.tokens[:, chosen].to(device)
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
def cosines(head: Head, looks: Looks, backbone: Backbone) -> Tensor:
    """Of every image with every class's words, (N, C), on the CPU."""
    frozen, device = [backbone.attention(level) for level in range(len(backbone.levels))], head.into.weight.device
    words, parts = head.words(backbone), []
    for start in range(0, len(looks.features), 64):
        part = slice(start, start + 64)
        seen = head.see(looks.features[part].to(device), looks.tokens[:, part].to(device), frozen)
        parts.append((seen @ words.T).cpu())
    return torch.cat(parts)


@dataclass(frozen=True)
class Learned:
    """What was learned of classes.

    ``trained`` says whether training the head helped images held out; the head is untrained where it didn't.
    ``temperature`` is what logits of `ONE_SHOT` sharpness are divided by. ``centres`` and ``hints`` (C, E) are what
    `nearness` compares images with, and ``known`` the nearness from which on an image is of a class.
    """

    head: Head
    gaussians: Gaussians
    weights: Weights
    temperature: float
    centres: Tensor
    hints: Tensor
    known: float
    trained: bool


def learn(
    looks: Looks,
    labels: Tensor,
    names: Sequence[str],
    backbone: Backbone,
    config: ClassifyConfig,
    report: Report = silent,
) -> Learned:
    """Learns classes from images of each. With one shot nothing is trained, since nothing can be held out."""
    classes, levels, side = len(names), middle(looks.tokens), math.isqrt(looks.tokens.shape[2])
    head = new_head(names, side, backbone, config)
    with torch.no_grad():
        words = head.words(backbone).float().cpu()
    told = looks.features @ words.T
    worth = worth_of_names(told, labels)
    hinted = hints(words, worth.share)
    shots = int(torch.bincount(labels, minlength=classes).min())
    fold = fold_of(labels, min(FOLDS, max(shots, 2)), config.seed)
    seen, near = _held_out(looks, levels, labels, fold, worth.share, hinted)
    out = fold >= 0
    weights, trained = Weights(ONE_SHOT, worth.sharpness), False
    if out.any():
        weights = weigh(seen[out], told[out], labels[out])
    if shots >= TRAINED_FROM and config.steps:
        trial = new_head(names, side, backbone, config)
        better = _trial(trial, looks, labels, fold == 0, seen, told, backbone, config, report)
        if better:
            train(head, looks, labels, backbone, config, report)
            weights, trained = better, True
    middles = centres(looks.features, labels, classes)
    return Learned(
        head=head,
        gaussians=Gaussians.fit(looks, levels, labels, classes, worth.share),
        weights=weights,
        temperature=ONE_SHOT / weights.seen,
        centres=middles,
        hints=hinted,
        known=threshold_of(near[out], middles, hinted),
        trained=trained,
    )


def new_head(names: Sequence[str], side: int, backbone: Backbone, config: ClassifyConfig) -> Head:
    """An untrained head for a coarse grid of that side; its adapters start from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        head = Head(names, side, backbone.width, len(backbone.levels), backbone, config.length)
    return head.to(next(backbone.parameters()).device).eval()


def _trial(
    head: Head,
    looks: Looks,
    labels: Tensor,
    out: Tensor,
    seen: Tensor,
    told: Tensor,
    backbone: Backbone,
    config: ClassifyConfig,
    report: Report,
) -> Weights | None:
    """Trains ``head`` without the images that are ``out`` (N,): the weights that suit it, None where it doesn't help
    them."""
    inside, outside = (torch.nonzero(part)[:, 0].tolist() for part in (~out, out))
    train(head, looks.take(inside), labels[inside], backbone, config, report, "train, held out")
    trained = weigh(seen[outside], cosines(head, looks.take(outside), backbone), labels[outside])
    untrained = weigh(seen[outside], told[outside], labels[outside])
    return trained if trained.loss < untrained.loss else None


def _held_out(
    looks: Looks, levels: Tensor, labels: Tensor, fold: Tensor, share: float, hinted: Tensor
) -> tuple[Tensor, Tensor]:
    """Logits (N, C) and nearness (N,) of each image, by the images of the other folds; zeros in no fold."""
    classes = len(hinted)
    seen, near = torch.zeros(len(labels), classes), torch.zeros(len(labels))
    for number in range(int(fold.max()) + 1):
        out = fold == number
        rest = torch.nonzero(~out)[:, 0].tolist()
        gaussians = Gaussians.fit(looks.take(rest), levels[rest], labels[rest], classes, share)
        seen[out] = gaussians(looks.features[out], levels[out])
        near[out] = nearness(looks.features[out], centres(looks.features[rest], labels[rest], classes), hinted)
    return seen, near

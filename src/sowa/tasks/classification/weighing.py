"""How evidence is weighed: by images that were held out of it, fold by fold.

Logits of an image are ``visual`` times what frozen features say (`Gaussians`) plus ``text`` times the cosines with the
classes' words, trained where that helped. Shapes: N images, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

USUAL = 20.0
VISUAL = tuple(float(value) for value in np.geomspace(2, 60, 12))
TEXT = (0.0, 2.0, 4.0, 7.0, 10.0, 14.0, 20.0, 28.0, 40.0)


@dataclass(frozen=True)
class Weights:
    """What the two kinds of evidence count.

    Attributes:
        visual: That of images.
        text: That of names.
        loss: The mean of held-out images by it.
    """

    visual: float
    text: float
    loss: float = float("nan")

    def __call__(self, visual_NC: Tensor, text_NC: Tensor) -> Tensor:
        """Logits (N, C)."""
        return self.visual * visual_NC + self.text * text_NC


def weigh(visual_NC: Tensor, text_NC: Tensor, labels: Tensor) -> Weights:
    """The weights by which held-out images are likeliest; of equal ones those that count names less.

    What few images say of the sharpness is drawn towards `USUAL`, as one more image would.

    Args:
        visual_NC: Logits by images, (N, C).
        text_NC: Cosines with names, (N, C).
        labels: (N,) numbers of classes.
    """
    found = [
        Weights(visual, text, float(F.cross_entropy(visual * visual_NC + text * text_NC, labels)))
        for text in TEXT
        for visual in VISUAL
    ]
    return min(found, key=lambda each: each.loss * len(labels) + 0.5 * math.log(each.visual / USUAL) ** 2)


def fold_of(labels: Tensor, folds: int, seed: int) -> Tensor:
    """The fold (N,) in which each image is held out, -1 for the only image of its class, which never is.

    Args:
        labels: (N,) numbers of classes.
        folds: How many.
        seed: That deals images out.
    """
    order, found = np.random.default_rng(seed), torch.full((len(labels),), -1)
    for label in labels.unique():
        own = order.permutation(torch.nonzero(labels == label)[:, 0].numpy())
        if len(own) > 1:
            found[torch.from_numpy(own)] = torch.arange(len(own)) % folds
    return found

"""None of these: how an image that is of no class is told.

A classifier that has seen images asks how near the class feature lies to the nearest class's and, as far as names
tell the classes apart, to the nearest name; it compares that with images that were held out. With names alone, other
names stand for everything else: ImageNet's classes but those that mean nearly the same as one that was given (after
Jiang et al., 2024, who mine negative labels).

Shapes: N images, C classes, V other names, E joint width.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sowa.tasks.classification.evidence import class_means

NONE = "none of these"
KNOWN_KEPT = 0.95  # share of held-out images of known classes that stay known
SAME = 0.6  # cosine from which on two names mean nearly the same
SHARPNESS = 40.0  # of cosines with names
NAMED = 0.5  # what the cosine with the nearest name counts at most beside that with the nearest class
EVEN_SHARES = 2.0  # from so many times what chance would give them on, one of the given names is meant


def centres(features_NE: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Class features of each class, unit vectors (C, E).

    Args:
        features_NE: Of images, (N, E).
        labels: (N,) numbers of classes.
        classes: C.
    """
    return F.normalize(class_means(features_NE, labels, classes), dim=-1)


def text_centres(names_CE: Tensor, share: float) -> Tensor:
    """Names as they count for `nearness`, (C, E): less where they take less than a quarter of the uncertainty away.

    Args:
        names_CE: Unit vectors, (C, E).
        share: Of the uncertainty that they take away, 0..1.
    """
    return names_CE * min(NAMED, 2 * max(share, 0.0))


def nearness(features_NE: Tensor, centres_CE: Tensor, text_CE: Tensor) -> Tensor:
    """Cosine with the nearest class, and what the nearest name adds, (N,).

    Args:
        features_NE: Of images, (N, E).
        centres_CE: As of `centres`.
        text_CE: As of `text_centres`.
    """
    return (features_NE @ centres_CE.T).amax(dim=1) + (features_NE @ text_CE.T).amax(dim=1)


def threshold_of(held_out: Tensor, centres_CE: Tensor, text_CE: Tensor) -> float:
    """The nearness above which an image is of a known class.

    Args:
        held_out: (N,), of images that weren't in their centres; where there are none, with one shot, the classes'
            nearness to each other stands in, which is a guess.
        centres_CE: As of `centres`.
        text_CE: As of `text_centres`.
    """
    if len(held_out):
        return float(np.quantile(held_out.numpy(), 1 - KNOWN_KEPT))
    classes = range(len(centres_CE))
    others = [[each for each in classes if each != own] for own in classes]
    between = [nearness(centres_CE[own : own + 1], centres_CE[rest], text_CE[rest]) for own, rest in enumerate(others)]
    return float(torch.cat(between).mean())


def others_than(names_CE: Tensor, vocabulary_VE: Tensor) -> Tensor:
    """Those of a vocabulary that mean something else than each name: some of its rows.

    Args:
        names_CE: Unit vectors, (C, E).
        vocabulary_VE: Unit vectors, (V, E).
    """
    return vocabulary_VE[(vocabulary_VE @ names_CE.T).amax(dim=1) < SAME]


def named(features_NE: Tensor, names_CE: Tensor, others_VE: Tensor) -> Tensor:
    """How many times their even share the given names get of all names' probability, (N,).

    Args:
        features_NE: Of images, (N, E).
        names_CE: The given names, (C, E).
        others_VE: Other names, (V, E).
    """
    logits = SHARPNESS * features_NE @ torch.cat([names_CE, others_VE]).T
    shares = logits.softmax(dim=1)[:, : len(names_CE)].sum(dim=1)
    return shares * (len(names_CE) + len(others_VE)) / len(names_CE)

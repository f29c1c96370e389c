"""Words that name things: which of them fit a label, and what may be asked for in training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

ASKED = 64  # names that a batch is asked for; more tell no more and take longer


def fits(query: str, label: str) -> bool:
    """Whether all words of a query are in a label.

    Args:
        query: What is asked for.
        label: What a box is called.

    Example:
        >>> fits("red star", "big red star"), fits("star", "big red star"), fits("blue star", "big red star")
        (True, True, False)
    """
    return set(query.split()) <= set(label.split())


def parts(label: str) -> tuple[str, ...]:
    """What may be asked for to find a label: some or all of its words, in their order.

    Example:
        >>> sorted(parts("red star"))
        ['red', 'red star', 'star']
    """
    words = label.split()
    return tuple(" ".join(some) for count in range(1, len(words) + 1) for some in combinations(words, count))


def all_parts(labels: Iterable[str]) -> tuple[str, ...]:
    """The parts of all labels, each once, sorted."""
    return tuple(sorted({part for label in labels for part in parts(label)}))


def asked(labels: Sequence[Sequence[str]], known: Sequence[str], random: np.random.Generator) -> tuple[str, ...]:
    """Names to ask a batch of images for: what is in them first, then others, `ASKED` in all.

    Args:
        labels: Of each image.
        known: All names.
        random: Draws the others.
    """
    there = all_parts(label for of in labels for label in of)
    if len(there) >= ASKED:
        return tuple(random.permutation(there)[:ASKED].tolist())
    others = [name for name in known if name not in set(there)]
    drawn = random.permutation(len(others))[: ASKED - len(there)]
    return (*there, *(others[index] for index in drawn))


def truth(labels: Sequence[str], names: Sequence[str], phrases: bool) -> Tensor:
    """Which names fit each label, (n, C) of 0 and 1.

    Args:
        labels: n of them.
        names: C of them.
        phrases: Whether they fit as `fits` says; else only the same word does.

    Example:
        >>> truth(["red star"], ["star", "red star"], phrases=True).tolist()
        [[1.0, 1.0]]
    """
    rows = [[fits(name, label) if phrases else name == label for name in names] for label in labels]
    return torch.tensor(rows, dtype=torch.float32).reshape(len(labels), len(names))

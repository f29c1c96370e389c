"""Choose among samples: a split, and the reference images of a few-shot run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from sowa.core.types import NORMAL, Sample
from sowa.errors import InputError

T = TypeVar("T")


def split(samples: Iterable[Sample], name: str) -> list[Sample]:
    """The samples of one split, in their order.

    Args:
        samples: Of any splits.
        name: "train" or "test".

    Raises:
        InputError: another name.
    """
    if name not in ("train", "test"):
        raise InputError(f"split is {name!r}, allowed are train and test")
    return [sample for sample in samples if sample.split == name]


def draw(items: Sequence[T], count: int, seed: int) -> list[T]:
    """So many of the items in random order; for one seed a larger count extends a smaller one.

    Args:
        items: What to draw from.
        count: How many, 0 to all.
        seed: 0 or more; the same seed draws the same.

    Raises:
        InputError: ``count`` or ``seed`` is negative, or there are fewer than ``count`` items.

    Example:
        >>> three = draw("abcdefgh", 3, seed=0)
        >>> draw("abcdefgh", 5, seed=0)[:3] == three
        True
    """
    if count < 0 or seed < 0:
        raise InputError(f"k-shot is {count} and seed is {seed}, both must be 0 or more")
    if count > len(items):
        raise InputError(
            f"k-shot is {count}, but there are only {len(items)} normal images to choose from: "
            f"choose k-shot 0 to {len(items)} or add normal images"
        )
    return [items[index] for index in np.random.default_rng(seed).permutation(len(items))[:count]]


def choose_references(samples: Iterable[Sample], k_shot: int, seed: int) -> list[Sample]:
    """The reference images of one category: random among its normal train images.

    For one seed a larger ``k_shot`` extends a smaller one, and the order in which the samples come doesn't matter.

    Args:
        samples: Of one category, of any splits and labels.
        k_shot: How many, 0 to all.
        seed: 0 or more; that draws them.

    Raises:
        InputError: ``k_shot`` or ``seed`` is negative, or there are fewer than ``k_shot`` such images.
    """
    normal = [sample for sample in split(samples, "train") if sample.label == NORMAL]
    return draw(sorted(normal, key=lambda sample: sample.image_path), k_shot, seed)

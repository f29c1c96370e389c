"""Student's t distribution for whole degrees of freedom, which has a closed form.

Abramowitz and Stegun (1964), 26.7.3 and 26.7.4.
"""

from __future__ import annotations

import math
from collections.abc import Callable

FAR = 4.0  # beyond, less than a ten-thousandth of the distribution is left, but for very few degrees of freedom
PRECISION = 1e-17
HALVINGS = 200  # of an interval: more than the digits of any float


def cumulative(freedom: int, t: float) -> float:
    """The share of the distribution that lies below ``t``, 0..1, to the last digits in the lower tail too.

    Args:
        freedom: Degrees of freedom, 1 and more.
        t: The value.

    Example:
        >>> round(cumulative(4, 2.132), 3)
        0.95
    """
    tail = _upper_tail(freedom, abs(t))
    return tail if t < 0 else 1 - tail


def _upper_tail(freedom: int, t: float) -> float:
    """The share that lies above a ``t`` of 0 and more.

    The central share is a finite series. The infinite one beyond it sums to what is left, so far out, where the central
    share is nearly all and what it leaves is rounding, the rest of the series is summed instead.
    """
    odd, squared = freedom % 2, freedom / (freedom + t * t)  # of the cosine
    sine, angle = t / math.sqrt(freedom + t * t), math.atan(t / math.sqrt(freedom))
    factor = 2 / math.pi * sine if odd else sine
    term, total = math.sqrt(squared) if odd else 1.0, 0.0
    order = 1 + odd
    while order < freedom:
        total += term
        term *= squared * order / (order + 1)
        order += 2
    if t < FAR:
        return 0.5 * (1 - factor * total - (2 / math.pi * angle if odd else 0.0))
    rest = 0.0
    while term > rest * PRECISION:
        rest += term
        term *= squared * order / (order + 1)
        order += 2
    return 0.5 * factor * rest


def quantile(freedom: int, share: float) -> float:
    """The value below which ``share`` of the distribution lies, the inverse of `cumulative`.

    Args:
        freedom: Degrees of freedom, 1 and more.
        share: Above 0 and below 1.

    Example:
        >>> round(quantile(4, 0.95), 3)
        2.132
    """
    reach = 1.0
    while cumulative(freedom, -reach) > min(share, 1 - share):
        reach *= 2
    return falling_root(lambda t: share - cumulative(freedom, t), -reach, reach)


def falling_root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function that falls from ``low`` to ``high`` passes zero, to the last digit, by halving."""
    for _ in range(HALVINGS):
        middle = low + (high - low) / 2
        if middle in (low, high):
            break
        if function(middle) > 0:
            low = middle
        else:
            high = middle
    return low + (high - low) / 2

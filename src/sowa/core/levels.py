"""What each level counts, as a product's references tell.

A level whose patches differ much anyway would drown one where a defect alone stands out, and one that doesn't see
defects of this product at all would only add noise. Left-out references show the first, the same with generated damage
the second (benchmarks/results/mini.md).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sowa.core.decision import Traits
from sowa.core.normal_range import bank_shift, logarithms, range_of_references

POWER = 4
"""Of how far damage stands out at a level, in standard deviations: levels that tell count, others hardly."""
BESIDE = (0.02, 0.5)
"""Times what all levels together count: what else is told of an image counts at least and at most so much. Less isn't
worth its time, and a share of the evidence that is larger can't be vouched for by a few references."""
LEAST = 0.1
"""Standard deviations: damage that stands out less doesn't take a level out altogether."""


def level_weights(
    normal_LB: NDArray[np.float64],
    damaged_LN: NDArray[np.float64] | None,
    references: int,
    levels: int | None = None,
) -> tuple[float, ...]:
    """What to multiply each level's distances by, so that together they show as much of normal images as before.

    Args:
        normal_LB: What each level says of references left out of the bank, or of variants of a single one.
        damaged_LN: What it says of the same with generated damage; without it all levels count alike.
        references: So many the bank holds.
        levels: So many rows are levels; what else is told of an image, in the rows behind them, is weighed as they are,
            within the limits of `BESIDE`, but changes nothing of theirs. None means all.

    Returns:
        One for each row; 0 for one behind the levels that tells less than that.

    Example:
        >>> normal = np.array([[0.1, 0.11], [0.4, 0.44]])  # one level shows everything fourfold
        >>> level_weights(normal, 2 * normal, 2)  # both see damage as well
        (2.5, 0.625)
    """
    levels = len(normal_LB) if levels is None else levels
    usual_L = np.exp([logarithms(own).mean() for own in normal_LB])
    evidence_L = np.ones(len(normal_LB))
    if damaged_LN is not None:
        seen = [range_of_references(own, references) for own in normal_LB]
        told = [Traits.of(logarithms(own) + bank_shift(references), r) for own, r in zip(damaged_LN, seen, strict=True)]
        least_L = np.where(np.arange(len(told)) < levels, LEAST, 0.0)
        evidence_L = np.maximum([traits.damage / traits.spread for traits in told], least_L)
    shares_L = evidence_L**POWER
    least, most = (times * shares_L[:levels].sum() for times in BESIDE)
    beside = shares_L[levels:]  # a view: what is set here is set there
    beside[:] = np.where(beside < least, 0, np.minimum(beside, most))
    weights_L = usual_L[:levels].sum() / shares_L[:levels].sum() * shares_L / usual_L
    return tuple(float(f"{weight:.6g}") for weight in weights_L.tolist())

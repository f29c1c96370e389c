"""A threshold from the reference images alone.

How far a normal picture lies from the memory bank is seen by leaving each reference image out of the bank in turn. Few
references say little about the spread, so it is drawn towards what other products show: distances of normal pictures
are spread by some 8 % (standard deviation of their logarithm on the embedded backbone: 0.04-0.07 on glass edges,
0.09-0.17 on commutators, 0.14-0.22 on fibre lay-up, 0.04-0.23 on generated products).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sowa.types import Calibration

PRIOR_SPREAD = 0.08
PRIOR_WEIGHT = 4  # counts as much as this many further reference images
# Variants of one reference lie nearer to it than other pieces do: mean and deviation, over products, of how far they
# miss the centre of normal pictures, in logarithms (three real and seven generated products, three references each).
CENTRE_SHIFT, CENTRE_SPREAD = 0.2, 0.22
BANK_GAIN = 0.14  # so much does the logarithm of a distance fall when the bank grows e-fold (same data)
FALSE_POSITIVE_RATE = 0.01
SMALLEST = 1e-6  # keeps the logarithm of a distance of zero finite: identical references


def calibrate(
    raw_scores: Sequence[float],
    map_maxima: Sequence[float],
    references: int,
    false_positive_rate: float = FALSE_POSITIVE_RATE,
) -> Calibration:
    """Calibration from raw scores and map maxima of left-out references, or of variants of a single one.

    The threshold is the upper prediction bound for one more normal picture: it is exceeded at ``false_positive_rate``
    (0..1) where normal pictures are spread log-normally. ``references`` is the size of the bank; the fewer of them were
    left out, the wider the bound.
    """
    threshold, spread = _bound(raw_scores, references, false_positive_rate)
    pixel_threshold, _ = _bound(map_maxima, references, false_positive_rate)
    return Calibration(threshold, pixel_threshold, spread)


def _bound(values: Sequence[float], references: int, false_positive_rate: float) -> tuple[float, float]:
    """Prediction bound and spread, with a scaled-inverse-chi-squared prior on the variance of the logarithm."""
    from scipy.stats import t

    logs = np.log(np.maximum(np.asarray(values, dtype=np.float64), SMALLEST))
    alone = references == 1
    seen = 1 if alone else len(logs)  # variants of a single reference show neither spread nor centre of products
    centre = logs.mean() + (CENTRE_SHIFT if alone else -BANK_GAIN * np.log(references / (references - 1)))
    squares = 0.0 if alone else ((logs - logs.mean()) ** 2).sum()
    freedom = PRIOR_WEIGHT + seen - 1
    spread = float(np.sqrt((PRIOR_WEIGHT * PRIOR_SPREAD**2 + squares) / freedom))
    quantile = float(t.ppf(1 - false_positive_rate, freedom))
    width = np.hypot(spread * np.sqrt(1 + 1 / seen), CENTRE_SPREAD if alone else 0.0)
    return float(np.exp(centre + quantile * width)), spread

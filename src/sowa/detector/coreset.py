"""Which of many normal images make the best few references.

Greedy: each further image is the one that brings the normal images nearest to the bank, judged by the score that
the detector itself gives. (PatchCore, Roth et al. 2022, section 3.2, chooses patches so; here whole images are
chosen, since shots are counted in images.)

Shapes: L levels, N candidates, P patches of an image, E joint width.
"""

from __future__ import annotations

from sowa.core.arrays import Array, namespace
from sowa.core.memory import MemoryBank
from sowa.core.progress import Report, silent
from sowa.core.scoring import few_shot_scores

CANDIDATES = 64  # their distances to each other are held at once, and take time with their square


def choose(features_LNPE: Array, count: int, report: Report = silent) -> list[int]:
    """Indices of ``count`` candidates, the best one first, of 1 to N; ``features_LNPE`` are unit vectors."""
    candidates = features_LNPE.shape[1]
    found = []
    for index in range(candidates):
        found.append(MemoryBank(features_LNPE[:, index : index + 1]).distances(tuple(features_LNPE)))
        report("choose references", index + 1, candidates)
    chosen: list[int] = []
    xp = namespace(features_LNPE)
    nearest_LNP = xp.full_like(found[0], xp.inf)
    while len(chosen) < count:
        costs = {
            index: float(xp.mean(few_shot_scores(xp.minimum(nearest_LNP, distances_LNP))))
            for index, distances_LNP in enumerate(found)
            if index not in chosen
        }
        best = min(costs, key=costs.__getitem__)
        chosen.append(best)
        nearest_LNP = xp.minimum(nearest_LNP, found[best])
    return chosen

"""Which of many normal pictures make the best few references.

Greedy: each further picture is the one that brings the normal pictures nearest to the bank, judged by the score that
the detector itself gives. (PatchCore, Roth et al. 2022, section 3.2, chooses patches so; here whole pictures are
chosen, since shots are counted in pictures.)

Shapes: L levels, N candidates, P patches of a picture, P' of all its views, E joint width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sowa.memory import MemoryBank
from sowa.progress import Report, silent
from sowa.scoring import top_mean

CANDIDATES = 64  # their distances to each other are held at once, and take time with their square


def choose(features_LNPE: Tensor, patches: int, count: int, report: Report = silent) -> list[int]:
    """Indices of ``count`` candidates, the best one first, from 1 to N.

    ``features_LNPE`` (L, N, P', E) are unit vectors; the first ``patches`` of a picture are those of its plain view.
    """
    candidates = features_LNPE.shape[1]
    query = features_LNPE[:, :, :patches]
    found = []
    for index in range(candidates):
        found.append(MemoryBank(features_LNPE[:, index : index + 1]).distances(tuple(query)))
        report("choose references", index + 1, candidates)
    chosen: list[int] = []
    nearest_LNP = torch.full_like(found[0], torch.inf)
    while len(chosen) < count:
        costs = {
            index: float(top_mean(torch.minimum(nearest_LNP, distances_LNP).sum(dim=0)).mean())
            for index, distances_LNP in enumerate(found)
            if index not in chosen
        }
        best = min(costs, key=costs.__getitem__)
        chosen.append(best)
        nearest_LNP = torch.minimum(nearest_LNP, found[best])
    return chosen

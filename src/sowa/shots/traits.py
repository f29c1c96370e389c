"""What a few normal images tell of their product: how alike they are, at which level, and in which way.

Shapes: L levels, N images, P = h * w patches of an image, E joint width.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sowa.core.memory import MemoryBank
from sowa.core.scoring import few_shot_scores, top_mean

FEWEST = 3  # images without which nothing can be told of how much a further one brings
NEIGHBOURS = 2  # patches of the same image this near in both directions are alike in any image
LOWEST = 1e-4  # distances below it are rounding


def names(levels: int) -> tuple[str, ...]:
    """What each of the numbers of `traits` is, for a backbone with so many levels."""
    return (
        *(f"distance at level {level + 1}" for level in range(levels)),
        "coverage",
        "spread",
        "peak",
        "texture",
        "alignment",
        "modes",
    )


@torch.inference_mode()
def traits(unit_LNPE: Tensor, grid: tuple[int, int]) -> NDArray[np.float64]:
    """The traits of a product, in the order of `names`: logarithms, so that they add up.

    - distance: how far the worst hundredth of an image lies from another image, level by level;
    - coverage: what all others bring over a single one, for each doubling of their number;
    - spread: how differently far images lie from the others, standard deviation;
    - peak: the worst hundredth of an image against its average patch;
    - texture: how far a patch is from the rest of its own image, against how far from another; low where the
      image repeats itself;
    - alignment: how far it is from the same place of another image, against the nearest place; 0 where all parts
      lie alike;
    - modes: how many kinds of images there seem to be, against their number (exponential of the entropy of the
      eigenvalues of their similarity).

    Args:
        unit_LNPE: Unit vectors of at least `FEWEST` images, (L, N, P, E).
        grid: How the patches lie, (h, w) with h * w = P.
    """
    count = unit_LNPE.shape[1]
    by_image_LNPN = MemoryBank(unit_LNPE).distances_by_image(tuple(unit_LNPE))
    others = ~torch.eye(count, dtype=torch.bool)
    pairs_LNN = torch.stack(
        [torch.stack([top_mean(level[:, :, other]) for other in range(count)], dim=1) for level in by_image_LNPN]
    )
    single_LN = pairs_LNN[:, others].unflatten(1, (count, count - 1)).mean(dim=2)
    left_out_LNP = by_image_LNPN.masked_fill(~others[:, None], torch.inf).amin(dim=3)
    left_out = _log(few_shot_scores(left_out_LNP))
    coverage = (left_out.mean() - _log(single_LN.sum(dim=0)).mean()) / np.log2(count - 1)
    nearest = by_image_LNPN.transpose(2, 3)[:, others].mean()
    values = [
        *_log(single_LN.mean(dim=1)).tolist(),
        float(coverage),
        float(left_out.std()),
        float(left_out.mean() - _log(left_out_LNP.mean(dim=2).sum(dim=0)).mean()),
        float(_log(_within(unit_LNPE, grid)) - _log(nearest)),
        float(_log(_in_place(unit_LNPE)) - _log(nearest)),
        float(np.log(_modes(pairs_LNN.sum(dim=0).numpy()) / count)),
    ]
    return np.array(values)


def _log(values: Tensor) -> Tensor:
    return values.double().clamp(min=LOWEST).log()


def _within(unit_LNPE: Tensor, grid: tuple[int, int]) -> Tensor:
    """Mean distance of a patch to the nearest one of its own image that isn't beside it."""
    rows, columns = (torch.arange(side) for side in grid)
    place = torch.cartesian_prod(rows, columns)
    beside_PP = (place[:, None] - place).abs().amax(dim=2) <= NEIGHBOURS
    beside_PP &= ~beside_PP.all(dim=1)  # in an image of so few patches all are beside each other
    cosine_LNPP = unit_LNPE @ unit_LNPE.transpose(2, 3)
    return (1 - cosine_LNPP.masked_fill(beside_PP, -1.0).amax(dim=3)).clamp(min=0).mean()


def _in_place(unit_LNPE: Tensor) -> Tensor:
    """Mean distance of a patch to that of another image at the same place."""
    count = unit_LNPE.shape[1]
    sums_LPE = unit_LNPE.sum(dim=1)  # the sum over pairs of different images is that over all, less the same ones
    cosines = (sums_LPE.square().sum(dim=2) - count) / (count * (count - 1))
    return (1 - cosines).clamp(min=0).mean()


def _modes(distances_NN: NDArray[np.float64]) -> float:
    """Effective number of kinds among N images, 1 to N."""
    both = (distances_NN + distances_NN.T) / 2
    np.fill_diagonal(both, 0)
    scale = both[np.triu_indices(len(both), 1)].mean()
    similarity = np.exp(-both / max(scale, LOWEST)) / len(both)
    values = np.linalg.eigvalsh(similarity).clip(min=1e-12)
    return float(np.exp(-(values * np.log(values)).sum()))

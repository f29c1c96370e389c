"""What distances mean for a product: statistics of its references, each against the others.

Shapes: K images, T tiles, P patches of the whole image, p patches of a tile, L levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sowa.core.calibration import SMALLEST, from_references
from sowa.core.scoring import few_shot_scores, top_mean
from sowa.errors import InputError
from sowa.extensions.glances.tiles import Tiles

Array = NDArray[np.float32]
NARROWEST = 0.05  # spread of a logarithm; a handful of references may agree better by chance
PLACES = 4  # of the mean of all tiles count as many images as this for what is usual at one place
# So much of what stands out of an overview counts where no tile was looked at. Image AUROC with a third of the tiles on
# 13 generated products that were learned and chosen on (small defects alone), in the order of the overview's distances:
# all of it 0.895 (0.782), this 0.907 (0.816), nothing 0.909 (0.821); of saliency 0.873 (0.752), 0.885 (0.778), 0.829
# (0.688).
UNSEEN = 0.75
TYPICAL, HIGH = 0.5, 0.99  # quantiles at which distances of the overview are brought to those of tiles


@dataclass(frozen=True)
class Scale:
    """What is usual for good images. All but ``fill`` are of logarithms; pairs are centre and spread.

    ``found`` (2,) of a tile's score, ``levels`` (L, 2) of its levels, ``peak`` (2,) and ``mean`` (2,) of the overview's
    distances in a tile, ``place`` (T,) the centre of ``peak`` at each place, ``early_place`` (T,) and
    ``early_spread`` (1,) centre and spread of the highest distance of early features, ``whole`` (2,) of an image's
    score when all tiles are seen. ``fill`` (L, 2) is offset and slope that bring the logarithm of an overview's
    distance to that of a tile.
    """

    found: Array
    levels: Array
    peak: Array
    mean: Array
    place: Array
    early_place: Array
    early_spread: Array
    whole: Array
    fill: Array

    @classmethod
    def of(
        cls,
        tiles_KTLp: Tensor,
        coarse_KLP: Tensor,
        early_KP: Tensor,
        whole_K: Tensor,
        tiles: Tiles,
        references: int,
    ) -> Self:
        """From K looks at references that the bank didn't hold: distances of each tile seen alone, of overviews and of
        early features on the grid of the whole image, and the scores of the whole images. ``references`` is how
        many the bank holds.
        """
        levels_KTL = logs(top_mean(tiles_KTLp.flatten(0, 2))).reshape(*tiles_KTLp.shape[:3])
        peak_KT, mean_KT = coarse_evidence(coarse_KLP, tiles)
        early_KT = peaks(early_KP, tiles)
        scores = whole_K.tolist()
        whole = from_references(scores, scores, references).image
        assert whole is not None
        return cls(
            found=usual(np.log(np.exp(levels_KTL).sum(axis=2))),
            levels=np.stack([usual(values) for values in np.moveaxis(levels_KTL, 2, 0)]),
            peak=usual(peak_KT),
            mean=usual(mean_KT),
            place=_per_place(peak_KT),
            early_place=_per_place(early_KT),
            early_spread=usual(early_KT)[1:],
            whole=np.array([whole.centre, whole.width], np.float32),
            fill=_fill(tiles_KTLp, coarse_KLP),
        )

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], levels: int, tiles: int) -> Self:
        """Of what `tensors` gave, for so many levels and tiles. Raises InputError where a field is missing, of another
        shape or not finite."""
        shapes: dict[str, tuple[int, ...]] = {field.name: (2,) for field in fields(cls)}
        shapes |= {
            "levels": (levels, 2),
            "fill": (levels, 2),
            "place": (tiles,),
            "early_place": (tiles,),
            "early_spread": (1,),
        }
        for name, shape in shapes.items():
            tensor = tensors.get(name, torch.empty(0))
            if tuple(tensor.shape) != shape or not torch.isfinite(tensor).all():
                raise InputError(
                    f"what is usual of glances has a {name!r} of shape {tuple(tensor.shape)}, needed are finite "
                    f"numbers {shape}; fit the detector anew"
                )
        return cls(**{name: tensors[name].numpy() for name in shapes})

    def tensors(self) -> dict[str, Tensor]:
        """For a file."""
        return {field.name: torch.from_numpy(getattr(self, field.name)) for field in fields(self)}

    def filled(self, coarse_LP: Tensor) -> Tensor:
        """Distances of an overview as tiles would have them, (L, P), drawn towards what is typical of the image."""
        offset_L, slope_L = torch.from_numpy(self.fill).to(coarse_LP).unbind(dim=1)
        log_LP = offset_L[:, None] + slope_L[:, None] * coarse_LP.clamp(min=SMALLEST).log()
        typical_L1 = log_LP.median(dim=1, keepdim=True).values
        return (typical_L1 + UNSEEN * (log_LP - typical_L1)).exp()


def logs(values: Tensor) -> Array:
    """Logarithms, those of nothing finite."""
    return np.asarray(values.clamp(min=SMALLEST).log().float().cpu().numpy())


def usual(values: Array) -> Array:
    """Centre and spread, (2,)."""
    return np.array([values.mean(), max(float(values.std()), NARROWEST)], np.float32)


def spread(coarse_Lq: Tensor, small: tuple[int, int], large: tuple[int, int]) -> Tensor:
    """Distances of an overview's patches (L, q) on the grid of the whole image, (L, P)."""
    maps = coarse_Lq.unflatten(1, small)[None]
    return F.interpolate(maps, size=large, mode="bilinear", align_corners=False)[0].flatten(1)


def coarse_evidence(coarse_KLP: Tensor, tiles: Tiles) -> tuple[Array, Array]:
    """Logarithms of the highest and of the mean distance in each tile, all levels together, (K, T) each."""
    together_KP = coarse_KLP.sum(dim=1).cpu()
    return peaks(together_KP, tiles), logs(together_KP[:, torch.from_numpy(tiles.patches)].mean(dim=2))


def peaks(distances_KP: Tensor, tiles: Tiles) -> Array:
    """Logarithms of the highest distance in each tile, (K, T)."""
    return logs(distances_KP.cpu()[:, torch.from_numpy(tiles.patches)].amax(dim=2))


def score(distances_LP: Tensor) -> float:
    """Of a whole image by its patches, as `sowa.core.scoring` has it."""
    return float(few_shot_scores(distances_LP[:, None])[0])


def _per_place(peak_KT: Array) -> Array:
    """What is usual in each tile, (T,), drawn to the mean of all."""
    place_T = (peak_KT.sum(axis=0) + PLACES * peak_KT.mean()) / (len(peak_KT) + PLACES)
    return np.asarray(place_T, dtype=np.float32)


def _fill(tiles_KTLp: Tensor, coarse_KLP: Tensor) -> Array:
    """Offset and slope (L, 2) that bring two quantiles of the overviews' distances to those of the tiles."""
    pairs = []
    for level in range(coarse_KLP.shape[1]):
        seen, coarse = (
            np.quantile(logs(values[:, :, level] if values.ndim == 4 else values[:, level]), (TYPICAL, HIGH))
            for values in (tiles_KTLp, coarse_KLP)
        )
        slope = float(np.clip((seen[1] - seen[0]) / max(coarse[1] - coarse[0], NARROWEST), 0, 2))
        pairs.append((seen[0] - slope * coarse[0], slope))
    return np.array(pairs, np.float32)

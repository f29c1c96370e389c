"""An image while it is looked at: what is known before the first glance, and what each further tile shows.

`Live` encodes a tile when it's looked at; `sowa.extensions.glances.scene.Replay` has done so before.

Shapes: T tiles, P patches of the whole image, p patches of a tile, L levels, C and E pieces of evidence.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from torch import Tensor

from sowa.core.scoring import top_mean
from sowa.extensions.glances.banks import enlarged
from sowa.extensions.glances.eyes import Image, Overview
from sowa.extensions.glances.known import Known
from sowa.extensions.glances.scale import Array, Scale, coarse_evidence, logs, peaks
from sowa.extensions.glances.tiles import Joined, Tiles
from sowa.model.saliency import standardise

PEAK, SALIENCY, EARLY, EITHER = 0, 3, 5, 6  # of coarse evidence


class Sight(Protocol):
    """One image that can be looked at; ``coarse`` (T, C) as `coarse_of` makes it."""

    tiles: Tiles
    scale: Scale
    coarse: Array

    @property
    def distances(self) -> Tensor:
        """Of all patches (L, P), those not seen yet filled from the overview."""
        ...

    def look(self, tile: int) -> Tensor:
        """Looks at a tile; returns the distances of its patches (L, p), which ``distances`` now has too."""
        ...


class Live:
    """An image (H, W, 3) uint8 of the detector's size, encoded tile by tile as they are looked at.

    ``leave_out`` is a reference that it isn't compared with.
    """

    def __init__(self, known: Known, image: Image, leave_out: int | None = None) -> None:
        self.known, self.image, self.leave_out = known, image, leave_out
        self.tiles, self.scale = known.eyes.tiles, known.scale
        overview = known.eyes.overview(image)
        coarse_LP = known.coarse(overview, leave_out)
        self.coarse = coarse_of(coarse_LP, known.early_distances(overview, leave_out), overview, known)
        self.distances = known.scale.filled(coarse_LP)
        self._joined = Joined(self.tiles)

    def look(self, tile: int) -> Tensor:
        """As `Sight.look`."""
        patches_LpE = self._joined.add(tile, self.known.eyes.tile(self.image, tile))
        distances_Lp = self.known.distances(patches_LpE, self.leave_out)
        self.distances[:, self.tiles.patches[tile]] = distances_Lp
        return distances_Lp


def coarse_of(coarse_LP: Tensor, early_P: Tensor, overview: Overview, known: Known) -> Array:
    """What an overview tells of each tile, (T, C): highest and mean distance and the highest for its place in about
    standard deviations of good images; highest and mean saliency in those of the image's tiles; the highest
    distance of early features for its place; and the higher of this and the first.

    ``coarse_LP`` and ``early_P`` are distances of the overview's patches and of its early features on the grid of the
    whole image.
    """
    tiles, scale, eyes = known.eyes.tiles, known.scale, known.eyes
    (peak_T,), (mean_T,) = coarse_evidence(coarse_LP[None], tiles)
    saliency_P = enlarged(eyes, overview.saliency[None])[0].cpu()
    inside_Tp = saliency_P[tiles.patches]
    highest_T = (peak_T - scale.peak[0]) / scale.peak[1]
    early_T = (peaks(early_P[None], tiles)[0] - scale.early_place) / scale.early_spread
    columns = [
        highest_T,
        (mean_T - scale.mean[0]) / scale.mean[1],
        (peak_T - scale.place) / scale.peak[1],
        standardise(inside_Tp.amax(dim=1)).numpy(),
        standardise(inside_Tp.mean(dim=1)).numpy(),
        early_T,
        np.maximum(highest_T, early_T),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def evidence(distances_Lp: Tensor, scale: Scale) -> Array:
    """What a tile shows, (E,), in about standard deviations of good tiles: its score, the highest and the mean of its
    levels' scores."""
    levels_L = logs(top_mean(distances_Lp))
    found = (np.log(np.exp(levels_L).sum()) - scale.found[0]) / scale.found[1]
    apart_L = (levels_L - scale.levels[:, 0]) / scale.levels[:, 1]
    return np.array([found, apart_L.max(), apart_L.mean()], np.float32)

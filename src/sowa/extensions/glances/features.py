"""What the policy observes: distances to the references, standardised by what is usual among references themselves.

Shapes: K images, T tiles, P patches of the whole image, p patches of a tile, L levels; C values of overview evidence,
N of tile evidence, F features of a tile, G of the image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sowa.core.normal_range import SMALLEST, range_of_references
from sowa.core.scoring import few_shot_scores, top_mean
from sowa.errors import InputError
from sowa.extensions.glances.tiles import Mask, TileLayout
from sowa.model.saliency import standardise

Array = NDArray[np.float32]

OVERVIEW_EVIDENCE = ("peak", "mean", "peak_here", "saliency_peak", "saliency_mean", "early_peak", "highest_peak")
"""What the overview tells of a tile, C values, see `overview_evidence`."""
TILE_EVIDENCE = ("score", "highest_level", "mean_level")
"""What a tile itself tells once it's encoded, N values, see `tile_evidence`."""
TILE_FEATURES = (
    *("encoded", "rank", "row", "column", "overlapping_encoded"),
    *TILE_EVIDENCE,
    *OVERVIEW_EVIDENCE,
    "overlapping_score",
)
"""What the policy observes of each tile, F values."""
IMAGE_FEATURES = ("left", "encoded", "z_score", "highest", "highest_left", "best_score", "mean_score")
"""What the policy observes of the image, G values."""
HIGHEST = OVERVIEW_EVIDENCE.index("highest_peak")
POSITION = slice(TILE_FEATURES.index("row"), TILE_FEATURES.index("column") + 1)

LIMIT = 10.0  # standard deviations; what is beyond counts as much
UNIT = 4.0  # so many standard deviations are 1 to the network
NARROWEST = 0.05  # spread of a logarithm; a handful of references may agree better by chance
PRIOR_IMAGES = 4  # as many images as this the mean of all tiles counts for what is usual of one tile
# How much an overview's distances count, against their median, where no tile is encoded. Chosen on the products that
# the policy learned on and was chosen on: benchmarks/results/glances.md.
OVERVIEW_WEIGHT = 0.75
TYPICAL, HIGH = 0.5, 0.99  # quantiles at which an overview's distances are brought to those of tiles
FILE_NAMES = {
    "tile_score": "found",
    "level_score": "levels",
    "overview_peak": "peak",
    "overview_mean": "mean",
    "overview_peak_here": "place",
    "early_peak_here": "early_place",
    "early_peak_spread": "early_spread",
    "image_score": "whole",
    "tile_from_overview": "fill",
}
"""What detectors' files call the fields of `ReferenceStatistics`."""


@dataclass(frozen=True)
class ReferenceStatistics:
    """What is usual for normal images: centre and spread of logarithms, each reference against the others.

    Attributes:
        tile_score: of a tile's score, (2,).
        level_score: of its score at each level, (L, 2).
        overview_peak: of the highest distance of the overview inside a tile, (2,).
        overview_mean: of the mean distance of the overview inside a tile, (2,).
        overview_peak_here: centre of ``overview_peak`` for each tile, (T,).
        early_peak_here: centre of the highest distance of early features inside each tile, (T,).
        early_peak_spread: spread of the same, (1,).
        image_score: of an image's score with all tiles encoded, (2,).
        tile_from_overview: offset and slope, (L, 2), from the logarithm of an overview's distance to that of a tile.
    """

    tile_score: Array
    level_score: Array
    overview_peak: Array
    overview_mean: Array
    overview_peak_here: Array
    early_peak_here: Array
    early_peak_spread: Array
    image_score: Array
    tile_from_overview: Array

    @classmethod
    def of(
        cls,
        tiles_KTLp: Tensor,
        overview_KLP: Tensor,
        early_KP: Tensor,
        scores_K: Tensor,
        layout: TileLayout,
        references: int,
    ) -> Self:
        """Statistics of K normal images, from their distances to references that they aren't themselves.

        Args:
            tiles_KTLp: distances of each tile, encoded alone.
            overview_KLP: distances of the overviews, at the patches of the whole image.
            early_KP: distances of early features, at the same patches.
            scores_K: scores of the images with all tiles joined.
            layout: where the tiles lie.
            references: how many references the banks hold.
        """
        level_KTL = logs(top_mean(tiles_KTLp.flatten(0, 2))).reshape(*tiles_KTLp.shape[:3])
        peak_KT, mean_KT = _log_peaks_and_means(overview_KLP, layout)
        early_KT = _log_peaks(early_KP, layout)
        scores = scores_K.tolist()
        image = range_of_references(scores, references)
        return cls(
            tile_score=_centre_and_spread(np.log(np.exp(level_KTL).sum(axis=2))),
            level_score=np.stack([_centre_and_spread(values) for values in np.moveaxis(level_KTL, 2, 0)]),
            overview_peak=_centre_and_spread(peak_KT),
            overview_mean=_centre_and_spread(mean_KT),
            overview_peak_here=_centres(peak_KT),
            early_peak_here=_centres(early_KT),
            early_peak_spread=_centre_and_spread(early_KT)[1:],
            image_score=np.array([image.centre, image.width], np.float32),
            tile_from_overview=_tile_from_overview(tiles_KTLp, overview_KLP),
        )

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], levels: int, tiles: int) -> Self:
        """What `tensors` gave, for so many levels and tiles. Raises InputError where a tensor is missing, of another
        shape or not finite."""
        shapes: dict[str, tuple[int, ...]] = {field.name: (2,) for field in fields(cls)}
        shapes |= dict.fromkeys(("level_score", "tile_from_overview"), (levels, 2))
        shapes |= dict.fromkeys(("overview_peak_here", "early_peak_here"), (tiles,))
        shapes["early_peak_spread"] = (1,)
        found = {}
        for field, shape in shapes.items():
            name = FILE_NAMES[field]
            tensor = tensors.get(name, torch.empty(0))
            if tuple(tensor.shape) != shape or not torch.isfinite(tensor).all():
                raise InputError(
                    f"the statistics of references have a {name!r} of shape {tuple(tensor.shape)}, needed are finite "
                    f"numbers {shape}; fit the detector anew"
                )
            found[field] = tensor.numpy()
        return cls(**found)

    def tensors(self) -> dict[str, Tensor]:
        """All fields for a file, by `FILE_NAMES`."""
        return {name: torch.from_numpy(getattr(self, field)) for field, name in FILE_NAMES.items()}

    def estimate(self, overview_LP: Tensor) -> Tensor:
        """Distances of an overview as those of tiles, (L, P), drawn towards the image's median."""
        offset_L, slope_L = torch.from_numpy(self.tile_from_overview).to(overview_LP).unbind(dim=1)
        log_LP = offset_L[:, None] + slope_L[:, None] * overview_LP.clamp(min=SMALLEST).log()
        median_L1 = log_LP.median(dim=1, keepdim=True).values
        return (median_L1 + OVERVIEW_WEIGHT * (log_LP - median_L1)).exp()

    def z_score(self, distances_LP: Tensor) -> float:
        """An image's score by the distances of its patches, in about standard deviations of normal images."""
        centre, spread = self.image_score
        return float((np.log(max(image_score(distances_LP), SMALLEST)) - centre) / spread)


def overview_evidence(
    statistics: ReferenceStatistics,
    layout: TileLayout,
    overview_LP: Tensor,
    early_P: Tensor,
    saliency_P: Tensor,
) -> Array:
    """What an overview tells of each tile, (T, C), in about standard deviations of normal images.

    In the order of `OVERVIEW_EVIDENCE`: highest and mean distance inside the tile; the highest against what is usual
    of this tile; highest and mean saliency, in standard deviations of the image's tiles; the highest distance of early
    features against what is usual of this tile; and the higher of this and the first.

    Args:
        statistics: what is usual.
        layout: where the tiles lie.
        overview_LP: distances of the overview, at the patches of the whole image.
        early_P: distances of early features, at the same patches.
        saliency_P: saliency, at the same patches, on the CPU.
    """
    (peak_T,), (mean_T,) = _log_peaks_and_means(overview_LP[None], layout)
    (early_T,) = _log_peaks(early_P[None], layout)
    saliency_Tp = saliency_P[layout.patches]
    peaks_T = (peak_T - statistics.overview_peak[0]) / statistics.overview_peak[1]
    early_peaks_T = (early_T - statistics.early_peak_here) / statistics.early_peak_spread
    columns = [
        peaks_T,
        (mean_T - statistics.overview_mean[0]) / statistics.overview_mean[1],
        (peak_T - statistics.overview_peak_here) / statistics.overview_peak[1],
        standardise(saliency_Tp.amax(dim=1)).numpy(),
        standardise(saliency_Tp.mean(dim=1)).numpy(),
        early_peaks_T,
        np.maximum(peaks_T, early_peaks_T),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def tile_evidence(statistics: ReferenceStatistics, distances_Lp: Tensor) -> Array:
    """What an encoded tile tells, (N,), in about standard deviations of normal tiles: its score, and the highest and
    the mean of its levels' scores."""
    level_L = logs(top_mean(distances_Lp))
    together = (np.log(np.exp(level_L).sum()) - statistics.tile_score[0]) / statistics.tile_score[1]
    apart_L = (level_L - statistics.level_score[:, 0]) / statistics.level_score[:, 1]
    return np.array([together, apart_L.max(), apart_L.mean()], np.float32)


@dataclass(frozen=True)
class StateFeatures:
    """What the policy observes of one state.

    Attributes:
        tiles: `TILE_FEATURES` of each tile, (T, F), all about -2.5 to 2.5.
        image: `IMAGE_FEATURES`, (G,), the same.
        available: which tiles may be chosen, (T,).
    """

    tiles: Array
    image: Array
    available: Mask


def state_features(
    layout: TileLayout,
    overview_TC: Array,
    tile_TN: Array,
    order: Sequence[int],
    available_T: Mask,
    left: int,
    z_score: float,
) -> StateFeatures:
    """Features of an image of which some tiles are encoded.

    Args:
        layout: where the tiles lie.
        overview_TC: `overview_evidence`.
        tile_TN: `tile_evidence` of encoded tiles, zeros of the others.
        order: the tiles encoded so far.
        available_T: which tiles may be chosen.
        left: how many more tiles may be encoded.
        z_score: `ReferenceStatistics.z_score` of the distances so far.
    """
    encoded_T = np.zeros(len(layout), bool)
    encoded_T[list(order)] = True
    highest_T, scores_n = overview_TC[:, HIGHEST], tile_TN[list(order), 0]
    image = [
        z_score,
        highest_T.max(),
        highest_T[~encoded_T].max(initial=-LIMIT),
        scores_n.max(initial=-LIMIT) if len(scores_n) else 0,
        scores_n.mean() if len(scores_n) else 0,
    ]
    image_G = np.concatenate([[left / len(layout), encoded_T.mean()], _in_units(np.array(image))])
    tiles_TF = _tile_features(layout, overview_TC, tile_TN, encoded_T)
    return StateFeatures(tiles_TF, image_G.astype(np.float32), available_T)


def _tile_features(layout: TileLayout, overview_TC: Array, tile_TN: Array, encoded_T: Mask) -> Array:
    order_T = np.argsort(np.argsort(overview_TC[:, HIGHEST], kind="stable"), kind="stable")
    encoded_TT = layout.overlaps & encoded_T
    share_T = encoded_TT.sum(axis=1) / np.maximum(layout.overlaps.sum(axis=1), 1)
    score_T = np.where(encoded_TT, tile_TN[:, 0], -np.inf).max(axis=1, initial=-np.inf)
    plain = [encoded_T, order_T / max(len(layout) - 1, 1), *layout.centres.T, share_T]
    deviations = [tile_TN, overview_TC, np.where(np.isfinite(score_T), score_T, 0)[:, None]]
    tiles_TF = np.concatenate([np.stack(plain, axis=1), _in_units(np.concatenate(deviations, axis=1))], axis=1)
    return tiles_TF.astype(np.float32)


def _in_units(deviations: NDArray[np.floating]) -> NDArray[np.floating]:
    units: NDArray[np.floating] = np.clip(deviations, -LIMIT, LIMIT) / UNIT
    return units


def image_score(distances_LP: Tensor) -> float:
    """Score of an image by the distances of its patches, as `sowa.core.scoring` has it."""
    return float(few_shot_scores(distances_LP[:, None])[0])


def logs(values: Tensor) -> Array:
    """Logarithms, that of 0 finite."""
    return np.asarray(values.clamp(min=SMALLEST).log().float().cpu().numpy())


def _log_peaks(distances_KP: Tensor, layout: TileLayout) -> Array:
    """Logarithm of the highest distance inside each tile, (K, T)."""
    return logs(distances_KP.cpu()[:, torch.from_numpy(layout.patches)].amax(dim=2))


def _log_peaks_and_means(overview_KLP: Tensor, layout: TileLayout) -> tuple[Array, Array]:
    """Logarithms of the highest and of the mean distance inside each tile, levels summed, (K, T) each."""
    summed_KP = overview_KLP.sum(dim=1).cpu()
    return _log_peaks(summed_KP, layout), logs(summed_KP[:, torch.from_numpy(layout.patches)].mean(dim=2))


def _centre_and_spread(values: Array) -> Array:
    """(2,)."""
    return np.array([values.mean(), max(float(values.std()), NARROWEST)], np.float32)


def _centres(peaks_KT: Array) -> Array:
    """Centre of each tile, (T,), drawn to the mean of all tiles."""
    centres_T = (peaks_KT.sum(axis=0) + PRIOR_IMAGES * peaks_KT.mean()) / (len(peaks_KT) + PRIOR_IMAGES)
    return np.asarray(centres_T, dtype=np.float32)


def _tile_from_overview(tiles_KTLp: Tensor, overview_KLP: Tensor) -> Array:
    """Offset and slope (L, 2) that bring two quantiles of the overviews' distances to those of the tiles."""
    pairs = []
    for level in range(overview_KLP.shape[1]):
        tile, overview = (
            np.quantile(logs(values), (TYPICAL, HIGH)) for values in (tiles_KTLp[:, :, level], overview_KLP[:, level])
        )
        slope = float(np.clip((tile[1] - tile[0]) / max(overview[1] - overview[0], NARROWEST), 0, 2))
        pairs.append((tile[0] - slope * overview[0], slope))
    return np.array(pairs, np.float32)

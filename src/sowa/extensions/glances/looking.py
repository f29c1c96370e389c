"""An image in the course of being looked at, and what there is to choose the next tile by.

Shapes: T tiles, F features of a tile, G of the whole, E pieces of evidence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sowa.extensions.glances.scale import Array, score
from sowa.extensions.glances.sight import EITHER, Sight, evidence

EVIDENCE, COARSE = 3, 7  # pieces of each
FEATURES, WHOLE = EVIDENCE + COARSE + 6, 7  # F and G
PLACE, HIGHEST = slice(2, 4), 5 + EVIDENCE + EITHER  # of a tile's features: row and column; what is strangest
LIMIT, UNIT = 10.0, 4.0  # deviations: what is beyond counts as much; so many are 1


@dataclass(frozen=True)
class View:
    """What is known at one moment: ``tiles`` (T, F) and the ``whole`` (G,), all about -2.5 to 2.5, and which tiles may
    be looked at, ``open`` (T,)."""

    tiles: Array
    whole: Array
    open: NDArray[np.bool_]


class Looking:
    """Tiles of a sight looked at one after the other, up to ``glances``; none twice.

    Raises ValueError for a tile that was looked at before or that isn't there.
    """

    def __init__(self, sight: Sight, glances: int) -> None:
        self.sight = sight
        self.at_most = min(glances, len(sight.tiles))
        self.order: list[int] = []
        self._found_TE = np.zeros((len(sight.tiles), EVIDENCE), np.float32)
        peaks_T = sight.coarse[:, EITHER]
        self._rank_T = np.argsort(np.argsort(peaks_T, kind="stable"), kind="stable") / max(len(peaks_T) - 1, 1)

    @property
    def open(self) -> NDArray[np.bool_]:
        """Which tiles may be looked at, (T,)."""
        open_T = np.full(len(self.sight.tiles), len(self.order) < self.at_most)
        open_T[self.order] = False
        return open_T

    def look(self, tile: int) -> None:
        """Looks at a tile."""
        if not 0 <= tile < len(self.sight.tiles) or not self.open[tile]:
            raise ValueError(
                f"tile {tile} was looked at already, isn't there, or no glance is left; choose an open one"
            )
        self._found_TE[tile] = evidence(self.sight.look(tile), self.sight.scale)
        self.order.append(tile)

    @property
    def standing(self) -> float:
        """The image's score as it's known now, in about standard deviations of good images."""
        centre, spread = self.sight.scale.whole
        return float((np.log(max(score(self.sight.distances), 1e-6)) - centre) / spread)

    def view(self) -> View:
        """What there is to choose the next tile by."""
        tiles, coarse_TC, found_TE, open_T = self.sight.tiles, self.sight.coarse, self._found_TE, self.open
        seen_T = np.zeros(len(tiles), bool)
        seen_T[self.order] = True
        beside_TT = tiles.beside & seen_T
        near_T = np.where(beside_TT, found_TE[:, 0], -np.inf).max(axis=1, initial=-np.inf)
        share_T = beside_TT.sum(axis=1) / np.maximum(tiles.beside.sum(axis=1), 1)
        plain = [seen_T, self._rank_T, *tiles.centres.T, share_T]
        graded = [found_TE, coarse_TC, np.where(np.isfinite(near_T), near_T, 0)[:, None]]
        tiles_TF = np.concatenate([np.stack(plain, axis=1), _graded(np.concatenate(graded, axis=1))], axis=1)
        return View(tiles_TF.astype(np.float32), self._whole(seen_T), open_T)

    def _whole(self, seen_T: NDArray[np.bool_]) -> Array:
        peaks_T, found_T = self.sight.coarse[:, EITHER], self._found_TE[self.order, 0]
        left = (self.at_most - len(self.order)) / len(seen_T)
        graded = [
            self.standing,
            peaks_T.max(),
            peaks_T[~seen_T].max(initial=-LIMIT),
            found_T.max(initial=-LIMIT) if len(found_T) else 0,
            found_T.mean() if len(found_T) else 0,
        ]
        return np.concatenate([[left, seen_T.mean()], _graded(np.array(graded))]).astype(np.float32)


def _graded(deviations: NDArray[np.floating]) -> NDArray[np.floating]:
    graded: NDArray[np.floating] = np.clip(deviations, -LIMIT, LIMIT) / UNIT
    return graded

"""Where the tiles of an image lie on its grid of patches, and what a patch's features are while only some were seen.

Shapes: T tiles, P patches of the whole image, p patches of a tile, L levels, E joint width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sowa.core.tiling import places
from sowa.model.backbone import Backbone

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Tiles:
    """The tiles of `sowa.core.tiling`, of ``window`` (h, w) patches, at ``corners`` (row, column) of a ``grid`` (h,
    w)."""

    grid: tuple[int, int]
    window: tuple[int, int]
    corners: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, image_size: tuple[int, int], backbone: Backbone) -> Self:
        """Those through which a tiled detector sees images of ``image_size`` (H, W) pixels."""
        high, wide = backbone.patch_size
        at = places(image_size, backbone.image_size, backbone.patch_size)
        return cls(
            grid=(image_size[0] // high, image_size[1] // wide),
            window=(backbone.image_size[0] // high, backbone.image_size[1] // wide),
            corners=tuple((top // high, left // wide) for top, left in at),
        )

    def __len__(self) -> int:
        return len(self.corners)

    @cached_property
    def patches(self) -> Indices:
        """Which patches of the whole image each tile shows, (T, p), row by row."""
        rows, columns = np.indices(self.window)
        corners = np.array(self.corners)
        inside = (rows.ravel() + corners[:, :1]) * self.grid[1] + columns.ravel() + corners[:, 1:]
        return np.asarray(inside, dtype=np.int64)

    @cached_property
    def bits(self) -> Indices:
        """Which of the tiles that show a patch this one is, as a power of two, (T, p)."""
        shown, bits = np.zeros(self.grid[0] * self.grid[1], np.int64), []
        for patches_p in self.patches:
            bits.append(1 << shown[patches_p])
            shown[patches_p] += 1
        return np.stack(bits)

    @cached_property
    def shown(self) -> Indices:
        """How many tiles show each patch, (P,)."""
        return np.bincount(self.patches.ravel(), minlength=self.grid[0] * self.grid[1])

    @cached_property
    def centres(self) -> NDArray[np.float32]:
        """Row and column of each tile's centre, -1..1 between the first and the last tile, 0 where there is one."""
        corners = np.array(self.corners, dtype=np.float32)
        last = corners.max(axis=0)
        return np.asarray(2 * corners / np.maximum(last, 1) - (last > 0), dtype=np.float32)

    @cached_property
    def beside(self) -> NDArray[np.bool_]:
        """Which tiles overlap which others, (T, T)."""
        corners = np.array(self.corners)
        apart = np.abs(corners[:, None] - corners)
        beside: NDArray[np.bool_] = (apart < np.array(self.window)).all(axis=2) & ~np.eye(len(self), dtype=bool)
        return beside


class Joined:
    """The features of an image's patches, each the mean over those tiles that were seen, as `sowa.core.tiling.join` has
    it once all were.
    """

    def __init__(self, tiles: Tiles) -> None:
        self.tiles = tiles
        self._sum_LPE: Tensor | None = None
        self._count_P = np.zeros(tiles.grid[0] * tiles.grid[1], np.int64)

    def add(self, tile: int, seen_LpE: Tensor) -> Tensor:
        """Takes in what a tile shows (L, p, E); returns what its patches are now, (L, p, E)."""
        patches_p = self.tiles.patches[tile]
        if self._sum_LPE is None:
            self._sum_LPE = seen_LpE.new_zeros(len(seen_LpE), len(self._count_P), seen_LpE.shape[2])
        self._sum_LPE[:, patches_p] += seen_LpE
        self._count_P[patches_p] += 1
        return self._sum_LPE[:, patches_p] / torch.from_numpy(self._count_P[patches_p, None]).to(seen_LpE)

    @property
    def whole(self) -> Tensor:
        """What all patches are, (L, P, E). Raises ValueError where a patch wasn't seen."""
        if self._sum_LPE is None or not self._count_P.all():
            raise ValueError(f"{int((self._count_P == 0).sum())} patches haven't been seen; add all tiles first")
        return self._sum_LPE / torch.from_numpy(self._count_P[:, None]).to(self._sum_LPE)

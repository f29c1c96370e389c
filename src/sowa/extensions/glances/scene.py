"""An image for the game of glances with everything computed before, so that every order of tiles is a replay.

Shapes: T tiles, P patches of the whole image, L levels, S = 2**n sets of the up to n tiles that show a patch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sowa.core.files import read_safetensors, write_safetensors
from sowa.extensions.glances.known import Known, Seen
from sowa.extensions.glances.scale import Array, Scale
from sowa.extensions.glances.sight import coarse_of
from sowa.extensions.glances.tiles import Tiles

Mask = NDArray[np.bool_]
FORMAT = "sowa-scene"
ENOUGH = 0.5  # of what the best tile shows of a defect: so much counts as having looked at it


@dataclass(frozen=True)
class Scene:
    """One image. ``coarse`` as `sowa.extensions.glances.sight.coarse_of` makes it. ``table`` float16 holds the
    distance of each patch for each set of tiles seen, a bit per tile that shows it; of none, what fills it.
    ``share`` is how much of the defect each tile shows, 0..1, all 0 for a normal image.
    """

    tiles: Tiles
    scale: Scale
    coarse: Array
    table: Tensor
    share: Array

    @property
    def anomalous(self) -> bool:
        """Whether there is a defect."""
        return bool(self.share.any())

    @property
    def shows(self) -> Mask:
        """Which tiles show the defect: at least half as much of it as the best one."""
        shows: Mask = (self.share > 0) & (self.share >= ENOUGH * self.share.max())
        return shows

    @classmethod
    @torch.inference_mode()
    def of(cls, known: Known, seen: Seen, mask: Mask | None = None) -> Self:
        """Of an image that was seen and its mask (H, W), None for a normal image."""
        coarse_LP = known.coarse(seen.overview)
        table_LPS = _table(seen, known, known.scale.filled(coarse_LP))
        coarse_TC = coarse_of(coarse_LP, known.early_distances(seen.overview), seen.overview, known)
        return cls(known.eyes.tiles, known.scale, coarse_TC, table_LPS, shares(mask, known.eyes.tiles))

    def save(self, path: Path) -> None:
        """Raises InputError where the file can't be written."""
        tiles = {"grid": self.tiles.grid, "window": self.tiles.window, "corners": self.tiles.corners}
        tensors = {name: torch.tensor(value) for name, value in tiles.items()}
        tensors |= {f"scale.{name}": tensor for name, tensor in self.scale.tensors().items()}
        tensors |= {"coarse": torch.from_numpy(self.coarse), "share": torch.from_numpy(self.share)}
        write_safetensors(path, tensors | {"table": self.table}, FORMAT, {})

    @classmethod
    def load(cls, path: Path) -> Self:
        """What `save` wrote. Raises InputError for a file that is missing, truncated or not ours."""
        tensors, _ = read_safetensors(path, FORMAT)
        grid, window = ((int(high), int(wide)) for high, wide in (tensors["grid"], tensors["window"]))
        tiles = Tiles(grid, window, tuple((int(row), int(column)) for row, column in tensors["corners"]))
        scale = {name.removeprefix("scale."): value for name, value in tensors.items() if name.startswith("scale.")}
        own = tensors["coarse"].numpy(), tensors["table"], tensors["share"].numpy()
        return cls(tiles, Scale.from_tensors(scale, len(own[1]), len(tiles)), *own)


class Replay:
    """A scene that is looked at: a `sowa.extensions.glances.sight.Sight`."""

    def __init__(self, scene: Scene) -> None:
        self.tiles, self.scale, self.coarse = scene.tiles, scene.scale, scene.coarse
        self._table_LPS = scene.table
        self._seen_P = torch.zeros(scene.table.shape[1], dtype=torch.long)

    @property
    def distances(self) -> Tensor:
        """Of all patches, (L, P)."""
        return self._at(torch.arange(len(self._seen_P)))

    def look(self, tile: int) -> Tensor:
        """As `Sight.look`."""
        patches_p = torch.from_numpy(self.tiles.patches[tile])
        self._seen_P[patches_p] |= torch.from_numpy(self.tiles.bits[tile])
        return self._at(patches_p)

    def _at(self, patches_p: Tensor) -> Tensor:
        return self._table_LPS[:, patches_p, self._seen_P[patches_p]].float()


def shares(mask: Mask | None, tiles: Tiles) -> Array:
    """How much of a mask (H, W) each tile shows, (T,)."""
    share_T = np.zeros(len(tiles), np.float32)
    if mask is None or not mask.any():
        return share_T
    high, wide = mask.shape[0] // tiles.grid[0], mask.shape[1] // tiles.grid[1]
    per_P = mask.reshape(tiles.grid[0], high, tiles.grid[1], wide).sum(axis=(1, 3)).ravel()
    return np.asarray(per_P[tiles.patches].sum(axis=1) / per_P.sum(), dtype=np.float32)


def _table(seen: Seen, known: Known, fill_LP: Tensor) -> Tensor:
    """Distances (L, P, S) of every patch for every set of tiles that show it, infinite where there is no such set."""
    tiles = known.eyes.tiles
    shown_P = tiles.shown
    table_LPS = torch.full((*fill_LP.shape, 1 << int(shown_P.max())), torch.inf, dtype=torch.float16)
    table_LPS[:, :, 0] = fill_LP.cpu()
    for bits in range(1, table_LPS.shape[2]):
        patches_p = torch.from_numpy(np.flatnonzero(bits < 1 << shown_P))
        table_LPS[:, patches_p, bits] = known.distances(_mean(seen, tiles, bits)[:, patches_p]).half().cpu()
    return table_LPS


def _mean(seen: Seen, tiles: Tiles, bits: int) -> Tensor:
    """Features (L, P, E) averaged over those of the tiles that show a patch which ``bits`` names."""
    first_LpE = seen.tiles[0]
    sum_LPE = first_LpE.new_zeros(len(first_LpE), len(tiles.shown), first_LpE.shape[2])
    for tile, seen_LpE in enumerate(seen.tiles):
        inside_p = torch.from_numpy(tiles.bits[tile] & bits != 0)
        sum_LPE[:, torch.from_numpy(tiles.patches[tile])[inside_p]] += seen_LpE[:, inside_p]
    return sum_LPE / bits.bit_count()

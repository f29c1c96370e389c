"""Choosing tiles as a game: the state of one image, encoded live or replayed from a recording, and recordings' files.

Shapes: H x W pixels, T tiles, P patches of the whole image, p patches of a tile, L levels, E joint width; C values of
overview evidence, N of tile evidence; S = 2**n sets of the up to n tiles that cover a patch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from sowa.core.files import read_safetensors, write_safetensors
from sowa.errors import InputError
from sowa.extensions.glances.features import (
    TILE_EVIDENCE,
    Array,
    ReferenceStatistics,
    StateFeatures,
    state_features,
    tile_evidence,
)
from sowa.extensions.glances.references import FittedReferences
from sowa.extensions.glances.tiles import EncodedImage, Image, JoinedTiles, Mask, TileLayout

FORMAT = "sowa-glances-recording"
STATISTICS = "statistics."  # the names of their tensors in a recording's file begin so
DEFECT_SHOWN = 0.5  # of what the best tile shows of a defect: a tile with so much of it counts as showing it


def check_glances(glances: int) -> int:
    """How many tiles may be encoded of an image. Raises InputError below 1."""
    if glances < 1:
        raise InputError(f"glances are {glances}, allowed are 1 and more: so many tiles of each image are encoded")
    return glances


class GlanceState(ABC):
    """An image of which tiles are encoded one after the other, each at most once.

    Attributes:
        layout: where the tiles lie.
        statistics: what is usual of the references.
        overview_evidence: what the overview tells of each tile, (T, C).
        glances: how many tiles may be encoded at most, 1..T.
        order: the tiles encoded so far.

    Raises:
        InputError: ``glances`` are below 1.
    """

    def __init__(
        self, layout: TileLayout, statistics: ReferenceStatistics, overview_evidence: Array, glances: int
    ) -> None:
        self.layout, self.statistics, self.overview_evidence = layout, statistics, overview_evidence
        self.glances = min(check_glances(glances), len(layout))
        self.order: list[int] = []
        self._tile_TN = np.zeros((len(layout), len(TILE_EVIDENCE)), np.float32)

    @property
    @abstractmethod
    def distances(self) -> Tensor:
        """Distances of all patches, (L, P), those in no encoded tile estimated from the overview."""

    @abstractmethod
    def _encode(self, tile: int) -> Tensor:
        """Distances of a tile's patches, (L, p), once it's encoded too; ``distances`` has them from then on."""

    @property
    def available(self) -> Mask:
        """Which tiles may be encoded next, (T,)."""
        available_T = np.full(len(self.layout), len(self.order) < self.glances)
        available_T[self.order] = False
        return available_T

    def step(self, tile: int) -> None:
        """Encodes a tile. Raises ValueError where it isn't available."""
        if not 0 <= tile < len(self.layout) or not self.available[tile]:
            raise ValueError(f"tile {tile} was encoded already, isn't there, or no glance is left; choose another one")
        self._tile_TN[tile] = tile_evidence(self.statistics, self._encode(tile))
        self.order.append(tile)

    @property
    def z_score(self) -> float:
        """The image's score by its distances so far, in about standard deviations of normal images."""
        return self.statistics.z_score(self.distances)

    def features(self) -> StateFeatures:
        """What a policy observes."""
        return state_features(
            self.layout,
            self.overview_evidence,
            self._tile_TN,
            self.order,
            self.available,
            self.glances - len(self.order),
            self.z_score,
        )


TileOrder = Callable[[GlanceState], int | None]
"""Chooses the next tile of a state, None to stop."""
State = TypeVar("State", bound=GlanceState)


@torch.inference_mode()
def play(state: State, order: TileOrder) -> State:
    """Encodes tiles until none is available or the order says to stop; returns the state."""
    while state.available.any() and (tile := order(state)) is not None:
        state.step(tile)
    return state


class LiveState(GlanceState):
    """An image whose tiles are encoded as they are chosen. With all tiles distances are those of full tiling.

    Args:
        references: what it's compared with.
        image: (H, W, 3) uint8 of the detector's size.
        glances: how many tiles may be encoded, 1 and more.
        leave_out: number of a reference that it isn't compared with.

    Raises:
        InputError: the image is of another size or type, or ``glances`` are below 1.
    """

    @torch.inference_mode()
    def __init__(self, references: FittedReferences, image: Image, glances: int, leave_out: int | None = None) -> None:
        encoder = references.encoder
        if image.shape != (*encoder.image_size, 3) or image.dtype != np.uint8:
            raise InputError(
                f"image of shape {image.shape} and type {image.dtype}, needed is {(*encoder.image_size, 3)} uint8; "
                "resize it first"
            )
        distances_LP, evidence_TC = references.compare(encoder.overview(image), leave_out)
        super().__init__(encoder.layout, references.statistics, evidence_TC, glances)
        self._references, self._image, self._leave_out = references, image, leave_out
        self._distances_LP, self._joined = distances_LP, JoinedTiles(encoder.layout)

    @property
    def distances(self) -> Tensor:
        """As `GlanceState.distances`."""
        return self._distances_LP

    @torch.inference_mode()
    def _encode(self, tile: int) -> Tensor:
        patches_LpE = self._joined.add(tile, self._references.encoder.tile(self._image, tile))
        distances_Lp = self._references.banks.tile_distances(patches_LpE, self._leave_out)
        self._distances_LP[:, self.layout.patches[tile]] = distances_Lp
        return distances_Lp


@dataclass(frozen=True)
class RecordedImage:
    """All that any order of tiles may show of an image, so that playing it needs no network.

    Attributes:
        layout: where the tiles lie.
        statistics: what is usual of the references.
        overview_evidence: what the overview tells of each tile, (T, C).
        table: distance of each patch for each set of encoded tiles that cover it, (L, P, S) float16; a set is a sum of
            `TileLayout.bits`, and for none of them the distance is estimated from the overview.
        defect_fraction: how much of the defect each tile shows, (T,), 0..1, all 0 for a normal image.
    """

    layout: TileLayout
    statistics: ReferenceStatistics
    overview_evidence: Array
    table: Tensor
    defect_fraction: Array

    @property
    def anomalous(self) -> bool:
        """Whether there is a defect."""
        return bool(self.defect_fraction.any())

    @property
    def shows_defect(self) -> Mask:
        """Which tiles show the defect, (T,): at least half as much of it as the best one."""
        most = self.defect_fraction.max()
        shows: Mask = (self.defect_fraction > 0) & (self.defect_fraction >= DEFECT_SHOWN * most)
        return shows

    @classmethod
    @torch.inference_mode()
    def of(cls, references: FittedReferences, image: EncodedImage, mask: Mask | None = None) -> Self:
        """Of an encoded image and its mask (H, W), None for a normal image."""
        layout = references.encoder.layout
        estimate_LP, evidence_TC = references.compare(image.overview)
        table_LPS = _distance_table(references, image, estimate_LP)
        return cls(layout, references.statistics, evidence_TC, table_LPS, defect_fractions(mask, layout))

    def save(self, path: Path) -> None:
        """Writes a file. Raises InputError where it can't be written."""
        layout = {"grid": self.layout.grid, "window": self.layout.window, "corners": self.layout.corners}
        tensors = {name: torch.tensor(value) for name, value in layout.items()}
        tensors |= {STATISTICS + name: tensor for name, tensor in self.statistics.tensors().items()}
        tensors |= {
            "overview_evidence": torch.from_numpy(self.overview_evidence),
            "defect_fraction": torch.from_numpy(self.defect_fraction),
            "table": self.table,
        }
        write_safetensors(path, tensors, FORMAT, {})

    @classmethod
    def load(cls, path: Path) -> Self:
        """What `save` wrote. Raises InputError for a file that is missing, truncated or not ours."""
        tensors, _ = read_safetensors(path, FORMAT)
        grid, window = ((int(high), int(wide)) for high, wide in (tensors["grid"], tensors["window"]))
        layout = TileLayout(grid, window, tuple((int(row), int(column)) for row, column in tensors["corners"]))
        own = {name.removeprefix(STATISTICS): tensors[name] for name in tensors if name.startswith(STATISTICS)}
        evidence_TC, table_LPS, fraction_T = (
            tensors[name] for name in ("overview_evidence", "table", "defect_fraction")
        )
        statistics = ReferenceStatistics.from_tensors(own, len(table_LPS), len(layout))
        return cls(layout, statistics, evidence_TC.numpy(), table_LPS, fraction_T.numpy())


class ReplayState(GlanceState):
    """A recorded image whose tiles are chosen anew, up to ``glances`` of them."""

    def __init__(self, image: RecordedImage, glances: int) -> None:
        super().__init__(image.layout, image.statistics, image.overview_evidence, glances)
        self._table_LPS = image.table
        self._encoded_P = torch.zeros(image.table.shape[1], dtype=torch.long)  # which set of tiles, for each patch

    @property
    def distances(self) -> Tensor:
        """As `GlanceState.distances`."""
        return self._at(torch.arange(len(self._encoded_P)))

    def _encode(self, tile: int) -> Tensor:
        patches_p = torch.from_numpy(self.layout.patches[tile])
        self._encoded_P[patches_p] |= torch.from_numpy(self.layout.bits[tile])
        return self._at(patches_p)

    def _at(self, patches_p: Tensor) -> Tensor:
        return self._table_LPS[:, patches_p, self._encoded_P[patches_p]].float()


def load_recordings(
    paths: Sequence[Path],
    references: Callable[[], FittedReferences],
    image: Callable[[int], tuple[Image, Mask | None]],
) -> list[RecordedImage]:
    """Recordings of images; those that aren't there yet are made first.

    Args:
        paths: their files.
        references: makes what the images are compared with; called once, where a file is missing.
        image: gives the image (H, W, 3) uint8 and the mask (H, W), None for a normal one, that belong to a path by
            its place.
    """
    missing = [index for index, path in enumerate(paths) if not path.exists()]
    if missing:
        fitted = references()
        for index in missing:
            pixels, mask = image(index)
            RecordedImage.of(fitted, fitted.encoder.encode(pixels), mask).save(paths[index])
    return [RecordedImage.load(path) for path in paths]


def defect_fractions(mask: Mask | None, layout: TileLayout) -> Array:
    """How much of a mask (H, W) each tile shows, (T,), 0..1; all 0 without a mask."""
    fraction_T = np.zeros(len(layout), np.float32)
    if mask is None or not mask.any():
        return fraction_T
    high, wide = mask.shape[0] // layout.grid[0], mask.shape[1] // layout.grid[1]
    pixels_P = mask.reshape(layout.grid[0], high, layout.grid[1], wide).sum(axis=(1, 3)).ravel()
    return np.asarray(pixels_P[layout.patches].sum(axis=1) / pixels_P.sum(), dtype=np.float32)


def _distance_table(references: FittedReferences, image: EncodedImage, estimate_LP: Tensor) -> Tensor:
    """`RecordedImage.table`, infinite for sets of tiles that no image has."""
    tiles_P = references.encoder.layout.tiles_per_patch
    table_LPS = torch.full((*estimate_LP.shape, 1 << int(tiles_P.max())), torch.inf, dtype=torch.float16)
    table_LPS[:, :, 0] = estimate_LP.cpu()
    for bits in range(1, table_LPS.shape[2]):
        patches_p = torch.from_numpy(np.flatnonzero(bits < 1 << tiles_P))
        mean_LPE = _mean_of_tiles(image, references.encoder.layout, bits)
        table_LPS[:, patches_p, bits] = references.banks.tile_distances(mean_LPE[:, patches_p]).half().cpu()
    return table_LPS


def _mean_of_tiles(image: EncodedImage, layout: TileLayout, bits: int) -> Tensor:
    """Patches (L, P, E), each the mean over those of the tiles that cover it which ``bits`` names."""
    first_LpE = image.tiles[0]
    sum_LPE = first_LpE.new_zeros(len(first_LpE), len(layout.tiles_per_patch), first_LpE.shape[2])
    for tile, patches_LpE in enumerate(image.tiles):
        named_p = torch.from_numpy(layout.bits[tile] & bits != 0)
        sum_LPE[:, torch.from_numpy(layout.patches[tile])[named_p]] += patches_LpE[:, named_p]
    return sum_LPE / bits.bit_count()

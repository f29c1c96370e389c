"""Where the tiles of a large image lie, the encoder that reads an image through them, and how their patches join.

Shapes: H x W pixels, T tiles, P patches of the whole image, p patches of a tile, q patches of the overview, L levels,
E joint width; c cells of 2 x 2 patches, G early features of a cell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sowa.core.config import SaliencyConfig, Settings
from sowa.core.tiling import window_places
from sowa.data.images import resize_image
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.errors import InputError
from sowa.model.backbone import Backbone
from sowa.model.saliency import Saliency

Image = NDArray[np.uint8]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class TileLayout:
    """Where the tiles of `sowa.core.tiling` lie, in patches.

    Attributes:
        grid: rows and columns of the whole image.
        window: rows and columns of a tile.
        corners: row and column of each tile's top left patch, T pairs.
    """

    grid: tuple[int, int]
    window: tuple[int, int]
    corners: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, image_size: tuple[int, int], backbone: Backbone) -> Self:
        """The tiles through which a tiled detector reads images of ``image_size`` (H, W) pixels."""
        high, wide = backbone.patch_size
        at = window_places(image_size, backbone.image_size, backbone.patch_size)
        return cls(
            grid=(image_size[0] // high, image_size[1] // wide),
            window=(backbone.image_size[0] // high, backbone.image_size[1] // wide),
            corners=tuple((top // high, left // wide) for top, left in at),
        )

    def __len__(self) -> int:
        return len(self.corners)

    @cached_property
    def patches(self) -> Indices:
        """Numbers of the whole image's patches that each tile covers, (T, p), row by row."""
        rows, columns = np.indices(self.window)
        corners = np.array(self.corners)
        covered = (rows.ravel() + corners[:, :1]) * self.grid[1] + columns.ravel() + corners[:, 1:]
        return np.asarray(covered, dtype=np.int64)

    @cached_property
    def tiles_per_patch(self) -> Indices:
        """How many tiles cover each patch, (P,)."""
        return np.bincount(self.patches.ravel(), minlength=self.grid[0] * self.grid[1])

    @cached_property
    def bits(self) -> Indices:
        """A power of two for each patch of each tile, (T, p), that differs between the tiles that cover a patch."""
        covered, bits = np.zeros(self.grid[0] * self.grid[1], np.int64), []
        for patches_p in self.patches:
            bits.append(1 << covered[patches_p])
            covered[patches_p] += 1
        return np.stack(bits)

    @cached_property
    def centres(self) -> NDArray[np.float32]:
        """Row and column of each tile's centre, (T, 2), -1..1 from the first to the last tile, 0 where there is one."""
        corners = np.array(self.corners, dtype=np.float32)
        last = corners.max(axis=0)
        return np.asarray(2 * corners / np.maximum(last, 1) - (last > 0), dtype=np.float32)

    @cached_property
    def overlaps(self) -> NDArray[np.bool_]:
        """Which tiles overlap which others, (T, T)."""
        corners = np.array(self.corners)
        apart = np.abs(corners[:, None] - corners)
        overlaps: NDArray[np.bool_] = (apart < np.array(self.window)).all(axis=2) & ~np.eye(len(self), dtype=bool)
        return overlaps


class JoinedTiles:
    """Patches of an image, each the mean over the tiles added so far that cover it: after all tiles what
    `sowa.core.tiling.join` has."""

    def __init__(self, layout: TileLayout) -> None:
        self.layout = layout
        self._sum_LPE: Tensor | None = None
        self._count_P = np.zeros(layout.grid[0] * layout.grid[1], np.int64)

    def add(self, tile: int, patches_LpE: Tensor) -> Tensor:
        """Adds a tile's patches (L, p, E); returns what these patches of the image are now, (L, p, E)."""
        covered_p = self.layout.patches[tile]
        if self._sum_LPE is None:
            self._sum_LPE = patches_LpE.new_zeros(len(patches_LpE), len(self._count_P), patches_LpE.shape[2])
        self._sum_LPE[:, covered_p] += patches_LpE
        self._count_P[covered_p] += 1
        return self._sum_LPE[:, covered_p] / torch.from_numpy(self._count_P[covered_p, None]).to(patches_LpE)

    @property
    def patches(self) -> Tensor:
        """All patches of the image, (L, P, E). Raises ValueError where no tile that was added covers one."""
        if self._sum_LPE is None or not self._count_P.all():
            raise ValueError(f"{int((self._count_P == 0).sum())} patches are in no tile yet; add all tiles first")
        return self._sum_LPE / torch.from_numpy(self._count_P[:, None]).to(self._sum_LPE)


@dataclass(frozen=True)
class Overview:
    """A whole image at the backbone's own size.

    Attributes:
        patches: features (L, q, E).
        saliency: how much each patch stands out of the image, (q,), in about standard deviations.
        early: features (c, G) of the backbone's first layers, which see the image at half the detector's size: mean
            and maximum of each over a cell of 2 x 2 patches, row by row.
    """

    patches: Tensor
    saliency: Tensor
    early: Tensor


@dataclass(frozen=True)
class EncodedImage:
    """An image's overview and the patches of all of its tiles, T times (L, p, E)."""

    overview: Overview
    tiles: tuple[Tensor, ...]

    def joined(self, layout: TileLayout) -> Tensor:
        """Patches of the whole image, (L, P, E), as full tiling has them."""
        joined = JoinedTiles(layout)
        for tile, patches_LpE in enumerate(self.tiles):
            joined.add(tile, patches_LpE)
        return joined.patches


class TileEncoder:
    """Encodes overviews and single tiles with the network of a tiled detector, without its prompts.

    Nothing else in this package touches a detector's encoder.

    Args:
        encoder: that of a tiled detector; images have its size.

    Raises:
        InputError: the detector isn't tiled.
    """

    def __init__(self, encoder: TorchEncoder) -> None:
        if not encoder.tiled:
            raise InputError(
                "glances choose among tiles, but images are seen whole: the detector isn't tiled; fit one with --tiled"
            )
        network = encoder.network
        self.backbone, self.config = network.backbone, network.config
        self.device, self.precision, self.image_size = encoder.device, encoder.precision, encoder.image_size
        self.layout = TileLayout.of(encoder.image_size, network.backbone)
        rows, columns = self.layout.grid
        self.cells = ((rows + 1) // 2, (columns + 1) // 2)
        settings = Settings(str(encoder.device), encoder.precision)
        self._window = TorchEncoder(network, trained=False, settings=settings)
        saliency = network.saliency or Saliency(SaliencyConfig(), network.backbone.embed_dim).to(encoder.device)
        self._saliency = saliency.eval()

    def overview(self, image: Image) -> Overview:
        """Overview of an image (H, W, 3) uint8 of any size."""
        small = resize_image(image, self.backbone.image_size)[None]
        features = self._window.encode(small, prompts=False)
        pixels = torch.from_numpy(small).to(self.device).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            saliency_Bq = self._saliency(pixels, features.patches[0], features.grid)
        return Overview(torch.stack(features.patches)[:, 0], saliency_Bq[0], self._early(image))

    def tile(self, image: Image, tile: int) -> Tensor:
        """Patches (L, p, E) of one tile of an image (H, W, 3) uint8 of ``image_size``."""
        (row, column), (high, wide) = self.layout.corners[tile], self.backbone.patch_size
        height, width = self.backbone.image_size
        top, left = row * high, column * wide
        features = self._window.encode(image[None, top : top + height, left : left + width], prompts=False)
        return torch.stack(features.patches)[:, 0]

    def encode(self, image: Image) -> EncodedImage:
        """Overview and all tiles of an image (H, W, 3) uint8 of ``image_size``."""
        return EncodedImage(self.overview(image), tuple(self.tile(image, tile) for tile in range(len(self.layout))))

    @property
    def overview_grid(self) -> tuple[int, int]:
        """Rows and columns of an overview's patches."""
        return self.backbone.grid(self.backbone.image_size)

    @property
    def early_shape(self) -> tuple[int, int]:
        """c and G of an overview's early features."""
        smallest = np.zeros((1, *self.backbone.patch_size, 3), np.uint8)
        features = self.backbone.early(self.backbone.normalise(torch.from_numpy(smallest).to(self.device)))
        return math.prod(self.cells), 2 * features.shape[1]

    def overview_to_patches(self, values_Lq: Tensor) -> Tensor:
        """Values of an overview's patches, (L, q), interpolated at the patches of the whole image, (L, P)."""
        maps = values_Lq.unflatten(1, self.overview_grid)[None]
        return F.interpolate(maps, size=self.layout.grid, mode="bilinear", align_corners=False)[0].flatten(1)

    def cells_to_patches(self, values_c: Tensor) -> Tensor:
        """Values of cells, (c,), at each of their patches, (P,)."""
        rows, columns = self.layout.grid
        values_hw: Tensor = values_c.unflatten(0, self.cells)
        return values_hw.repeat_interleave(2, dim=0).repeat_interleave(2, dim=1)[:rows, :columns].flatten()

    @torch.inference_mode()
    def _early(self, image: Image) -> Tensor:
        height, width = (side // 2 for side in self.image_size)
        half, backbone = resize_image(image, (height, width))[None], self.backbone
        pixels_13HW = backbone.normalise(torch.from_numpy(half).to(self.device))
        # A cell is as large here as a patch is in a tile; one that the image fills by half is continued.
        down, right = (cells * side for cells, side in zip(self.cells, backbone.patch_size, strict=True))
        pixels_13HW = F.pad(pixels_13HW, (0, right - width, 0, down - height), mode="replicate")
        features_1Chw = backbone.early(pixels_13HW).contiguous()  # with channels last pooling takes longer
        pooled = [pool(features_1Chw, self.cells) for pool in (F.adaptive_avg_pool2d, F.adaptive_max_pool2d)]
        early_cG: Tensor = torch.cat(pooled, dim=1)[0].flatten(1).T
        return early_cG

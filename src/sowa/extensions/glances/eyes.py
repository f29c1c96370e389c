"""How an image is seen: once as a whole at the backbone's own size, and tile by tile.

Shapes: H x W pixels, L levels, P patches of the backbone's own size, E joint width; c cells, G values of each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sowa.core.config import SaliencyConfig
from sowa.data.images import resize_image
from sowa.encoders.torch_encoder import Encoder
from sowa.errors import InputError
from sowa.extensions.glances.tiles import Tiles
from sowa.model.saliency import Saliency

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Overview:
    """A whole image at the backbone's own size: ``patches`` (L, P, E) and how much each stands out, (P,). ``early``
    (c, G) is what the backbone's first layers see of it at half the size of full tiling, row by row: the mean and the
    highest of each feature in a cell of 2 x 2 patches of the tiles."""

    patches: Tensor
    saliency: Tensor
    early: Tensor


class Eyes:
    """Sees images of the size of a tiled detector with its network, without its prompts.

    Raises InputError for a detector that isn't tiled.
    """

    def __init__(self, encoder: Encoder) -> None:
        if not encoder.tiled:
            raise InputError("glances choose among tiles, but the detector isn't tiled; fit one with --tiled")
        network = encoder.network
        self.plain = Encoder(network, trained=False, device=str(encoder.device), precision=encoder.precision)
        self.image_size = encoder.image_size
        self.tiles = Tiles.of(encoder.image_size, network.backbone)
        rows, columns = self.tiles.grid
        self.cells = ((rows + 1) // 2, (columns + 1) // 2)
        own = network.saliency or Saliency(SaliencyConfig(), network.backbone.embed_dim).to(encoder.device)
        self.saliency = own.eval()

    def overview(self, image: Image) -> Overview:
        """Of an image (H, W, 3) uint8 of any size."""
        small = resize_image(image, self.plain.image_size)[None]
        seen = self.plain.observe(small, prompts=False)
        pixels = torch.from_numpy(small).to(self.plain.device).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            saliency_BP = self.saliency(pixels, seen.patches[0], seen.grid)
        return Overview(torch.stack(seen.patches)[:, 0], saliency_BP[0], self._early(image))

    def early_shape(self) -> tuple[int, int]:
        """c and G of an overview's early features."""
        backbone = self.plain.network.backbone
        smallest = np.zeros((1, *backbone.patch_size, 3), np.uint8)
        channels = backbone.early(backbone.normalise(torch.from_numpy(smallest).to(self.plain.device))).shape[1]
        return math.prod(self.cells), 2 * channels

    def of_cells(self, values_c: Tensor) -> Tensor:
        """Values of cells for each of their patches on the grid of the whole image, (P,)."""
        rows, columns = self.tiles.grid
        values_hw: Tensor = values_c.unflatten(0, self.cells)
        return values_hw.repeat_interleave(2, dim=0).repeat_interleave(2, dim=1)[:rows, :columns].flatten()

    @torch.inference_mode()
    def _early(self, image: Image) -> Tensor:
        height, width = (side // 2 for side in self.image_size)
        half, backbone = resize_image(image, (height, width))[None], self.plain.network.backbone
        pixels_13HW = backbone.normalise(torch.from_numpy(half).to(self.plain.device))
        # A cell is as large here as a patch there; one that the image fills by half is continued.
        down, right = (cells * side for cells, side in zip(self.cells, backbone.patch_size, strict=True))
        pixels_13HW = F.pad(pixels_13HW, (0, right - width, 0, down - height), mode="replicate")
        features_1Chw = backbone.early(pixels_13HW).contiguous()  # with channels last pooling takes longer
        pooled = [pool(features_1Chw, self.cells) for pool in (F.adaptive_avg_pool2d, F.adaptive_max_pool2d)]
        early_cG: Tensor = torch.cat(pooled, dim=1)[0].flatten(1).T
        return early_cG

    def tile(self, image: Image, tile: int) -> Tensor:
        """Patches (L, P, E) of one tile of an image (H, W, 3) uint8 of the detector's size."""
        (top, left), (high, wide) = self.tiles.corners[tile], self.plain.network.backbone.patch_size
        height, width = self.plain.image_size
        top, left = top * high, left * wide
        seen = self.plain.observe(image[None, top : top + height, left : left + width], prompts=False)
        return torch.stack(seen.patches)[:, 0]

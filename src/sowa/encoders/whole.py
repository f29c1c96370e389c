"""A second, coarse look at a large image: seen small enough, how its parts are arranged shows at a glance.

Shapes: B images, H x W pixels, h x w of the small image, P patches of the large one, E joint width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sowa.core.image_size import fitted_size
from sowa.model.backbone import Backbone

LARGER = 1.2
"""Times the backbone's own pixels: an image of fewer shows nothing new when it's made smaller."""


class WholeImage(nn.Module):
    """One level of an image that is made as small as those of the backbone, at each patch of the large image.

    Small defects want pixels, arrangement wants the whole (benchmarks/results/mini.md). A patch is what the small one
    above its middle is; interpolated ones would be like none. The image is made smaller by two constant matrices, which
    any exported graph can hold.

    Args:
        backbone: That reads the small image.
        image_size: (H, W) in pixels of the large one.
        level: Number of the level that is read.
    """

    rows: Tensor
    columns: Tensor
    places: Tensor

    def __init__(self, backbone: Backbone, image_size: tuple[int, int], level: int) -> None:
        super().__init__()
        self.level = level
        small = fitted_size([image_size], round(math.sqrt(math.prod(backbone.image_size))), backbone.patch_size)
        self.register_buffer("rows", _shrinking(image_size[0], small[0]), persistent=False)
        self.register_buffer("columns", _shrinking(image_size[1], small[1]).T.contiguous(), persistent=False)
        (above, beside), (rows, columns) = backbone.grid(small), backbone.grid(image_size)
        down, right = _middles(rows, above), _middles(columns, beside)
        self.register_buffer("places", (down[:, None] * beside + right).flatten(), persistent=False)

    @classmethod
    def where_it_tells(cls, backbone: Backbone, image_size: tuple[int, int], tiled: bool) -> WholeImage | None:
        """For images that are seen at a size, None where a second look tells nothing or the backbone has none."""
        larger = math.prod(image_size) >= LARGER * math.prod(backbone.image_size)
        level = backbone.whole_level
        return cls(backbone, image_size, level) if larger and level is not None and not tiled else None

    def forward(self, backbone: Backbone, pixels: Tensor) -> Tensor:
        """Normalised pixels (B, 3, H, W) to patches (B, P, E)."""
        with torch.autocast(pixels.device.type, enabled=False):
            small = self.rows.to(pixels.dtype) @ pixels @ self.columns.to(pixels.dtype)
        levels, _ = backbone.patches(small.contiguous(memory_format=torch.channels_last))
        return levels[self.level][:, self.places]


def _shrinking(length: int, small: int) -> Tensor:
    """What each of ``small`` pixels is made of, (small, length): bilinear, with antialiasing."""
    return F.interpolate(torch.eye(length)[None, None], size=(small, length), mode="bilinear", antialias=True)[0, 0]


def _middles(count: int, others: int) -> Tensor:
    """Which of the ``others`` the middle of each of ``count`` parts of a side lies in."""
    return ((torch.arange(count) + 0.5) * others / count).long()

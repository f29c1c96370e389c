"""A network that sees images at one size, whole or through overlapping windows; what is exported is made of it.

Shapes: B images, H x W pixels, S = 2 states, E joint width, P patches.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from sowa.core.tiling import check_image_size, join_windows, window_places
from sowa.core.types import ABNORMAL, Features
from sowa.encoders.whole import WholeImage
from sowa.model.sowa import SowaNetwork


class WindowedNetwork(nn.Module):
    """A network and the size at which it sees images.

    Args:
        network: The network.
        image_size: (H, W) in pixels; None means the backbone's own.
        tiled: Whether images are seen through overlapping windows of the backbone's size.

    Attributes:
        whole: Of large images, reads one more level; None where there is none.
        patch_readers: What extensions read of each patch of a window, by their names: a module takes normalised pixels
            (B, 3, H, W) and the window's `Features`, and gives (B, P).
        batch_windows: Whether all windows are one batch: one network in an exported graph instead of many.

    Raises:
        InputError: the size doesn't fit the network's patches or tiles.
    """

    def __init__(self, network: SowaNetwork, image_size: tuple[int, int] | None = None, tiled: bool = False) -> None:
        super().__init__()
        backbone = network.backbone
        self.network = network
        self.image_size = check_image_size(image_size, backbone.image_size, backbone.patch_size, tiled)
        self.tiled = tiled
        self.whole = WholeImage.where_it_tells(backbone, self.image_size, tiled)
        self.patch_readers = nn.ModuleDict()
        self.batch_windows = False

    def normalise(self, images: Tensor) -> Tensor:
        """Images (B, H, W, 3) uint8 to what the backbone was trained on, (B, 3, H, W)."""
        return self.network.backbone.normalise(images)

    def forward(self, images: Tensor, class_text: Tensor | None) -> Features:
        """Images (B, H, W, 3) uint8; ``class_text`` (B, S, E) is what they are compared with, None for nothing."""
        pixels = self.normalise(images)
        if not self.tiled:
            return self._encode(pixels, class_text)
        backbone, height, width = self.network.backbone, *self.network.backbone.image_size
        places = window_places(self.image_size, backbone.image_size, backbone.patch_size)
        windows = (pixels[:, :, top : top + height, left : left + width] for top, left in places)
        if self.batch_windows:
            text = None if class_text is None else class_text.repeat(len(places), 1, 1)
            parts = _split_windows(self._encode(torch.cat(list(windows)), text), len(places))
        else:
            parts = [self._encode(window, class_text) for window in windows]
        return join_windows(parts, places, self.image_size, backbone.patch_size)

    def _encode(self, pixels: Tensor, class_text: Tensor | None) -> Features:
        """Of normalised pixels (B, 3, H, W) as they are."""
        size = (pixels.shape[-2], pixels.shape[-1])
        if class_text is None:
            patches, grid = self.network.backbone.patches(pixels)
            features = Features(patches, grid, size)
        else:
            output = self.network.compare(pixels, class_text)
            features = Features(
                patches=output.patches,
                grid=output.grid,
                size=size,
                level_maps=tuple(level.float() for level in output.level_maps),
                abnormal_probability=output.text_probs[:, ABNORMAL].float(),
                saliency=output.saliency,
            )
        values = {name: reader(pixels, features) for name, reader in self.patch_readers.items()}
        levels = features.patches + ((self.whole(self.network.backbone, pixels),) if self.whole else ())
        patches = tuple(level.float() for level in levels)
        return replace(features, patches=patches, patch_values=values)


def _split_windows(features: Features, count: int) -> list[Features]:
    """The features of each of ``count`` windows from those of all, the first window of every image first."""

    def window(index: int) -> Features:
        return features.map(lambda values: values.unflatten(0, (count, -1))[index])

    return [window(index) for index in range(count)]
